//! Questions about records: where they end, when they committed, which of them redo does not know.

use neon_types::{Key, KeyRange, Lsn, LsnRange, RelTag};

use super::{Timeline, lock, read};
use crate::boundaries::{Boundaries, RecordSpan};
use crate::layer::Fields;
use crate::value::Value;
use crate::{PageStoreError, Result};

/// The item of `Key::Unreadable`: version u8 = 1 | end of the record u64 | its name, UTF-8, little-endian.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Mark {
    pub lsn: Lsn,
    pub name: String,
}

const MARK_VERSION: u8 = 1;
const MAX_NAME: usize = 256;

impl Mark {
    pub(crate) fn encode(&self) -> Vec<u8> {
        let mut out = vec![MARK_VERSION];
        out.extend_from_slice(&self.lsn.0.to_le_bytes());
        out.extend_from_slice(self.name.as_bytes());
        out
    }

    pub(crate) fn decode(bytes: &[u8]) -> Result<Mark> {
        let mut fields = Fields(bytes);
        let mark = || {
            let version = fields.u8()?;
            let lsn = fields.lsn()?;
            let name = std::str::from_utf8(fields.0).ok()?;
            (version == MARK_VERSION && name.len() <= MAX_NAME).then(|| Mark {
                lsn,
                name: name.to_owned(),
            })
        };
        let mut mark = mark;
        mark().ok_or_else(|| {
            PageStoreError::damaged("the mark of an unreadable relation", "its bytes make no sense")
        })
    }
}

impl Timeline {
    /// Returns the last record that ends at or below `lsn`, on this timeline or where it came from. The end of an import is
    /// the end of its last record.
    pub fn record_at_or_before(&self, lsn: Lsn) -> Result<RecordSpan> {
        let lsn = lsn.min(self.end());
        let first = self.root_record().start.0 >> 20;
        let mut mebibyte = lsn.0 >> 20;
        loop {
            if let Some((version, Value::Item(item))) = self.newest(Key::Boundaries { mebibyte }, lsn)?
                && let Some(span) = Boundaries::decode(&item)?.at_or_before(self.seen_of(version, lsn))
            {
                return Ok(span);
            }
            if mebibyte <= first {
                return Err(PageStoreError::NoRecord(lsn));
            }
            mebibyte -= 1;
        }
    }

    /// Returns `lsn`, or the fork that it lies behind for the timeline that made a version at `version`: what that one wrote later is
    /// not part of this history, though the version tells of it.
    fn seen_of(&self, version: Lsn, lsn: Lsn) -> Lsn {
        let (mut timeline, mut seen) = (self, lsn);
        while let Some(ancestor) = &timeline.ancestor
            && version <= timeline.start
        {
            seen = seen.min(timeline.start);
            timeline = ancestor;
        }
        seen
    }

    /// Returns the end of the last commit record at or before that time on this timeline, none if there is none. `time` is in
    /// microseconds since 2000-01-01 UTC. Times are taken to rise with the WAL.
    pub fn lsn_at_time(&self, time: i64) -> Result<Option<Lsn>> {
        let (first, last) = (self.start().0 >> 20, self.end().0 >> 20);
        // The highest mebibyte that has a commit at or before the time.
        let (mut low, mut high) = (first, last + 1);
        let mut found = None;
        while low < high {
            let middle = low + (high - low) / 2;
            // The next mebibyte at or below the middle that has commits at all.
            let mut probe = middle;
            let commits = loop {
                let commits = self.commits_in_mebibyte(probe)?;
                if !commits.is_empty() || probe == low {
                    break commits;
                }
                probe -= 1;
            };
            match commits.iter().rev().find(|(_, committed)| *committed <= time) {
                Some((lsn, _)) => {
                    found = Some(*lsn);
                    low = middle + 1;
                }
                None if commits.is_empty() => low = middle + 1,
                None => high = probe,
            }
        }
        Ok(found)
    }

    /// Returns end and time of the commits of this timeline whose records begin in a mebibyte.
    fn commits_in_mebibyte(&self, mebibyte: u64) -> Result<Vec<(Lsn, i64)>> {
        let mut runs = Vec::new();
        let mut upto = self.end();
        // Each seal that fell inside the mebibyte began another version.
        while upto > self.start() {
            let Some((lsn, value)) = self.newest(Key::Boundaries { mebibyte }, upto)? else {
                break;
            };
            if lsn <= self.start() {
                break;
            }
            if let Value::Item(bytes) = value {
                runs.push(Boundaries::decode(&bytes)?.commits);
            }
            upto = Lsn(lsn.0 - 1);
        }
        let own = LsnRange {
            start: self.start(),
            end: self.end(),
        };
        Ok(runs
            .into_iter()
            .rev()
            .flatten()
            .filter(|(lsn, _)| own.contains(*lsn))
            .collect())
    }

    /// Returns the end of the last record of this timeline that makes history (law 3): everything behind it is housekeeping. It does not depend on
    /// how much WAL is kept. The start of the timeline when nothing makes history.
    pub fn last_significant(&self) -> Lsn {
        let open = {
            let memory = read(&self.memory);
            let frozen = memory.frozen.as_ref().and_then(|frozen| frozen.significant());
            memory.open.significant().or(frozen)
        };
        let state = || {
            let state = lock(&self.state);
            state.significant.unwrap_or(state.sealed)
        };
        open.unwrap_or_else(state)
    }

    /// Returns the number of transactions of this timeline whose commit record ends in `range`. Once `stop` says so,
    /// [`PageStoreError::Stopped`].
    pub fn commits_in(&self, range: LsnRange, stop: &dyn Fn() -> bool) -> Result<u64> {
        let range = LsnRange {
            start: range.start.max(self.start()),
            end: range.end.min(self.end()),
        };
        if range.is_empty() {
            return Ok(0);
        }
        let mut count = 0;
        // A record that ends in the range may begin before it.
        let first = self
            .record_at_or_before(range.start)
            .map_or(range.start, |span| span.start);
        for mebibyte in first.0 >> 20..=range.end.0 >> 20 {
            if stop() {
                return Err(PageStoreError::Stopped("nobody waits for the number".to_owned()));
            }
            let commits = self.commits_in_mebibyte(mebibyte)?;
            count += commits.iter().filter(|(lsn, _)| range.contains(*lsn)).count() as u64;
        }
        Ok(count)
    }

    /// Returns the relation forks that exist at `lsn` and have had, since they were created, a record that redo does not
    /// know, with the name and end of the first one. A start or export at `lsn` would need pages of them.
    pub fn unsupported_records(&self, lsn: Lsn) -> Result<Vec<(RelTag, String, Lsn)>> {
        let range = KeyRange {
            start: Key::Unreadable(RelTag {
                spc: 0,
                db: 0,
                rel: 0,
                fork: neon_types::Fork::Main,
            })
            .pack(),
            end: first_block_key(),
        };
        let mut marks = Vec::new();
        self.scan_items(range, lsn, &mut |key, bytes| {
            if let Key::Unreadable(rel) = key {
                marks.push((rel, Mark::decode(bytes)?));
            }
            Ok(())
        })?;
        let mut found = Vec::new();
        for (rel, mark) in marks {
            if let Some(size) = self.rel_size_item(rel, lsn)?
                && mark.lsn > size.floor(0)
            {
                found.push((rel, mark.name, mark.lsn));
            }
        }
        Ok(found)
    }
}

/// Returns the key below which there are only metadata items and SLRU pages.
pub(crate) fn first_block_key() -> neon_types::PackedKey {
    Key::Block(
        RelTag {
            spc: 0,
            db: 0,
            rel: 0,
            fork: neon_types::Fork::Main,
        },
        0,
    )
    .pack()
}
