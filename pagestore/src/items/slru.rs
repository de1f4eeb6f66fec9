//! Which pages of an SLRU exist.

use super::ItemError;
use super::codec::{Reader, Writer};

const ITEM: &str = "SLRU segments";
const HAS_IMPLICIT: u8 = 1;
/// Most runs of an item: each wraparound or activation adds one, each truncation takes some away.
pub const MAX_RUNS: usize = 4096;

/// Pages of one SLRU file (`SLRU_PAGES_PER_SEGMENT`).
pub const PAGES_PER_SEGMENT: u64 = 32;

/// The item of [`Key::SlruSegments`](neon_types::Key::SlruSegments): the pages that exist, as runs, because page numbers
/// wrap around and because commit timestamps can begin anywhere.
#[derive(Clone, Debug, PartialEq, Eq, Hash, Default)]
pub struct SlruSegments {
    /// First and last page of each run, ascending; runs neither overlap nor touch.
    runs: Vec<(u64, u64)>,
    /// A page of multixact offsets that began to exist because an older minor version stored an offset there before it
    /// logged the page: the record that zeroes it is still to come, and must not.
    pub implicit: Option<u64>,
}

impl SlruSegments {
    /// Returns true when nothing exists.
    pub fn is_empty(&self) -> bool {
        self.runs.is_empty()
    }

    /// Returns first and last page of each run, ascending.
    pub fn runs(&self) -> &[(u64, u64)] {
        &self.runs
    }

    /// Returns true when the page exists.
    pub fn contains(&self, page: u64) -> bool {
        self.runs
            .iter()
            .any(|(first, last)| (*first..=*last).contains(&page))
    }

    /// Returns the pages, ascending.
    pub fn pages(&self) -> impl Iterator<Item = u64> + '_ {
        self.runs.iter().flat_map(|(first, last)| *first..=*last)
    }

    /// Returns the number of each file and how many pages long it is, ascending. Pages of a file that do not exist, in
    /// front of some that do, are holes: zeros.
    pub fn files(&self) -> Vec<(u64, u64)> {
        let mut files: Vec<(u64, u64)> = Vec::new();
        for (first, last) in &self.runs {
            for segment in first / PAGES_PER_SEGMENT..=last / PAGES_PER_SEGMENT {
                let pages = (last + 1 - segment * PAGES_PER_SEGMENT).min(PAGES_PER_SEGMENT);
                match files.last_mut() {
                    Some(file) if file.0 == segment => file.1 = pages,
                    _ => files.push((segment, pages)),
                }
            }
        }
        files
    }

    /// Adds a page. Returns false when it existed.
    pub fn insert(&mut self, page: u64) -> bool {
        if self.contains(page) {
            return false;
        }
        // The usual case is the page after the last one.
        if let Some(last) = self.runs.last_mut()
            && last.1.checked_add(1) == Some(page)
        {
            last.1 = page;
            return true;
        }
        self.runs.push((page, page));
        self.normalize();
        true
    }

    /// Removes every page that `gone` names, and returns them, ascending.
    pub fn remove(&mut self, mut gone: impl FnMut(u64) -> bool) -> Vec<u64> {
        let mut removed = Vec::new();
        let mut kept: Vec<(u64, u64)> = Vec::new();
        for page in self.pages() {
            if gone(page) {
                removed.push(page);
                continue;
            }
            match kept.last_mut() {
                Some(run) if run.1 + 1 == page => run.1 = page,
                _ => kept.push((page, page)),
            }
        }
        self.runs = kept;
        removed
    }

    fn normalize(&mut self) {
        self.runs.sort_unstable();
        let mut joined: Vec<(u64, u64)> = Vec::with_capacity(self.runs.len());
        for run in &self.runs {
            match joined.last_mut() {
                Some(last) if run.0 <= last.1.saturating_add(1) => last.1 = last.1.max(run.1),
                _ => joined.push(*run),
            }
        }
        self.runs = joined;
    }

    /// Returns the item's bytes.
    pub fn encode(&self) -> Vec<u8> {
        let mut out = Writer::new().u8(if self.implicit.is_some() { HAS_IMPLICIT } else { 0 });
        if let Some(page) = self.implicit {
            out = out.u64(page);
        }
        for (first, last) in &self.runs {
            out = out.u64(*first).u64(*last);
        }
        out.done()
    }

    /// Returns the item that these bytes encode.
    pub fn decode(bytes: &[u8]) -> Result<SlruSegments, ItemError> {
        /// The last page of the largest SLRU, commit timestamps: 2^32 transactions, 819 on a page.
        const MAX_PAGE: u64 = u32::MAX as u64 / 819;
        let mut fields = Reader::new(ITEM, bytes)?;
        let flags = fields.u8()?;
        if flags & !HAS_IMPLICIT != 0 {
            return Err(fields.bad("flag"));
        }
        let implicit = if flags & HAS_IMPLICIT != 0 {
            Some(fields.u64()?)
        } else {
            None
        };
        let (pairs, rest) = fields.rest().as_chunks::<16>();
        if !rest.is_empty() || pairs.len() > MAX_RUNS {
            return Err(ItemError::Length {
                item: ITEM,
                length: bytes.len(),
            });
        }
        let runs: Vec<(u64, u64)> = pairs
            .iter()
            .map(|[first @ .., a, b, c, d, e, f, g, h]| {
                (
                    u64::from_le_bytes(*first),
                    u64::from_le_bytes([*a, *b, *c, *d, *e, *f, *g, *h]),
                )
            })
            .collect();
        let apart = |(low, high): (&(u64, u64), &(u64, u64))| low.1 + 1 < high.0;
        if !runs
            .iter()
            .all(|(first, last)| first <= last && *last <= MAX_PAGE)
            || !runs.iter().zip(runs.iter().skip(1)).all(apart)
        {
            return Err(ItemError::Field {
                item: ITEM,
                field: "run of pages",
            });
        }
        Ok(SlruSegments { runs, implicit })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn of(pages: &[u64]) -> SlruSegments {
        let mut segments = SlruSegments::default();
        for page in pages {
            segments.insert(*page);
        }
        segments
    }

    #[test]
    fn pages_become_runs_and_files() {
        let mut segments = of(&[31, 32, 33, 5, 70, 69]);
        assert_eq!(segments.runs(), [(5, 5), (31, 33), (69, 70)]);
        assert_eq!(segments.files(), [(0, 32), (1, 2), (2, 7)]);
        assert!(!segments.insert(32), "page 32 exists");
        assert!(segments.insert(34));
        assert!(segments.contains(34) && !segments.contains(35));
    }

    #[test]
    fn removal_returns_what_it_removed() {
        let mut segments = of(&[0, 1, 2, 3, 40]);
        assert_eq!(segments.remove(|page| page == 1 || page == 40), [1, 40]);
        assert_eq!(segments.runs(), [(0, 0), (2, 3)]);
    }

    #[test]
    fn items_round_trip_and_damage_is_refused() {
        let mut segments = of(&[0, 9, 10]);
        assert_eq!(SlruSegments::decode(&segments.encode()), Ok(segments.clone()));
        segments.implicit = Some(11);
        let bytes = segments.encode();
        assert_eq!(SlruSegments::decode(&bytes), Ok(segments));
        assert!(SlruSegments::decode(&bytes[..bytes.len() - 1]).is_err());
        let touching = SlruSegments {
            runs: vec![(0, 1), (2, 3)],
            implicit: None,
        };
        assert!(SlruSegments::decode(&touching.encode()).is_err());
        let last = of(&[u64::from(u32::MAX / 819)]);
        assert_eq!(SlruSegments::decode(&last.encode()), Ok(last));
        let huge = SlruSegments {
            runs: vec![(0, u64::MAX)],
            implicit: None,
        };
        assert!(
            SlruSegments::decode(&huge.encode()).is_err(),
            "pages without end were taken"
        );
    }
}
