//! A run of which no position but its end is readable becomes what its end left: of each key one version, a page as its image.
//!
//! What retention drops need not have image layers above it for that, and pages of relations that were dropped meanwhile go as well.

use std::sync::Arc;

use neon_types::{Key, Lsn, PackedKey, RelTag};

use super::Merge;
use super::images::Values;
use super::need::{Run, runs};
use super::run_writer::RunWriter;
use crate::gc::Spans;
use crate::layer::{Layer, MergedCursor};
use crate::map::{LayerMap, MapEntry};
use crate::timeline::{Found, Timeline};
use crate::value::{Value, is_whole_tag};
use crate::{PageStoreError, Result};

/// Of this many versions at least one must be expected to go.
const WORTH: u64 = 4;

/// A run that may be shrunk.
#[derive(Clone, Debug)]
pub(crate) struct Shrink {
    /// Its layers.
    pub run: Merge,
    /// The first readable position that sees it: what does not exist there is not needed of it.
    pub position: Lsn,
    /// Its bytes.
    pub bytes: u64,
}

/// Returns the runs of a timeline that begins at `start` of which only the end can be read, newest first.
pub(crate) fn candidates(map: &LayerMap, start: Lsn, readable: &Spans) -> Vec<Shrink> {
    let of_run = |run: Run| {
        let (position, _) = readable.next(Lsn(run.lsns.start.0.saturating_add(1)))?;
        let fits = run.own && position >= run.lsns.end;
        fits.then_some(Shrink {
            bytes: run.bytes,
            position: position.min(map.sealed()),
            run: Merge {
                layers: run.layers,
                lsns: run.lsns,
            },
        })
    };
    runs(map, start).into_iter().filter_map(of_run).collect()
}

/// How many versions a layer has, and about how many of them would stay.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct Contents {
    pub versions: u64,
    pub stay: u64,
}

impl Contents {
    /// Returns those of a layer; `exists` says which relations do where it is read first. Told by the footer and the block index.
    pub(crate) fn of(layer: &Layer, exists: &mut dyn FnMut(RelTag) -> Result<bool>) -> Result<Contents> {
        let footer = layer.footer();
        let relation = |key: &PackedKey| match Key::unpack(key) {
            Ok(Key::Block(rel, _)) => Some(rel),
            _ => None,
        };
        let index = layer.index();
        let mut gone = 0_u64;
        let mut last: Option<(RelTag, bool)> = None;
        for (block, next) in index.iter().zip(index.iter().skip(1)) {
            let Some(rel) = relation(&block.key).filter(|rel| relation(&next.key) == Some(*rel)) else {
                continue;
            };
            let lives = match last {
                Some((known, lives)) if known == rel => lives,
                _ => exists(rel)?,
            };
            last = Some((rel, lives));
            if !lives {
                gone += u64::from(block.entries);
            }
        }
        let living = footer.entries.saturating_sub(gone);
        let share = u128::from(footer.distinct_keys) * u128::from(living) / u128::from(footer.entries.max(1));
        Ok(Contents {
            versions: footer.entries,
            stay: u64::try_from(share).unwrap_or(living),
        })
    }

    /// Returns both together.
    pub(crate) fn and(self, other: Contents) -> Contents {
        Contents {
            versions: self.versions + other.versions,
            stay: self.stay + other.stay,
        }
    }

    /// Returns true when enough goes to be worth writing the rest anew.
    pub(crate) fn is_worth_it(self) -> bool {
        self.versions.saturating_sub(self.stay) * WORTH >= self.versions.max(1)
    }
}

/// Writes the layers that stand for those of a run; `made` is told of each. None when `stop` said so, which is asked now and then.
pub(crate) fn write(
    timeline: &Timeline,
    map: &Arc<LayerMap>,
    shrink: &Shrink,
    stop: &dyn Fn() -> bool,
    made: &mut dyn FnMut(&MapEntry) -> Result<()>,
) -> Result<Option<Vec<MapEntry>>> {
    let core = timeline.core();
    let mut shrinking = Shrinking {
        timeline,
        map,
        end: shrink.run.lsns.end,
        values: Values::new(timeline, Arc::clone(map), shrink.position),
        writer: RunWriter::new(core, &shrink.run, made)?.made_here(),
    };
    let layers = shrink.run.layers.iter().map(|entry| (entry.layer, entry.keys));
    let mut cursor = MergedCursor::new(&core.cache, &core.objects, layers)?;
    let mut at: Option<PackedKey> = None;
    let mut versions: Vec<Version> = Vec::new();
    let mut count = 0_u64;
    while let Some((entry, _)) = cursor.entry() {
        if count.is_multiple_of(64) && stop() {
            return Ok(None);
        }
        count += 1;
        if at != Some(entry.key)
            && let Some(key) = at.replace(entry.key)
        {
            shrinking.key(&key, std::mem::take(&mut versions))?;
        }
        if is_whole_tag(entry.tag) && !is_kept_whole(&entry.key) {
            versions.clear();
        }
        versions.push((entry.lsn, entry.tag, entry.value.to_vec()));
        cursor.advance()?;
    }
    if let Some(key) = at {
        shrinking.key(&key, versions)?;
    }
    shrinking.writer.finish().map(Some)
}

/// LSN, tag and stored bytes.
type Version = (Lsn, u8, Vec<u8>);

/// Record boundaries: their versions tell of different records.
fn is_kept_whole(key: &PackedKey) -> bool {
    matches!(Key::unpack(key), Ok(Key::Boundaries { .. }))
}

struct Shrinking<'a> {
    timeline: &'a Timeline,
    map: &'a Arc<LayerMap>,
    /// Where the run ends.
    end: Lsn,
    values: Values<'a>,
    writer: RunWriter<'a>,
}

impl Shrinking<'_> {
    /// Writes what stays of the versions of a key: the last ones, oldest first, from a whole one on if the run has one.
    fn key(&mut self, packed: &PackedKey, versions: Vec<Version>) -> Result<()> {
        let key = Key::unpack(packed).map_err(|error| PageStoreError::damaged("a key", error))?;
        let is_page = matches!(key, Key::Block(..) | Key::SlruPage { .. });
        let last = versions
            .last()
            .map(|(lsn, tag, bytes)| (*lsn, Value::from_stored(*tag, bytes)));
        match last {
            Some((lsn, value)) if is_page && !matches!(value, Ok((Value::Absent, _))) => {
                match self.values.of(key, self.found(packed, &versions)?) {
                    Ok(Some(value)) => return self.writer.add(packed, lsn, value.stored(true)),
                    // The block, or its relation, does not exist where it could be read.
                    Ok(None) => return Ok(()),
                    // Redo does not know a record: whoever reads it says so, as before.
                    Err(PageStoreError::Unsupported { .. } | PageStoreError::Redo { .. }) => {}
                    Err(error) => return Err(error),
                }
            }
            _ => {}
        }
        for (lsn, tag, bytes) in versions {
            self.writer.add(packed, lsn, (tag, &bytes))?;
        }
        Ok(())
    }

    /// Returns what the page is made of, newest first.
    fn found(&self, key: &PackedKey, versions: &[Version]) -> Result<Vec<Found>> {
        let mut found = Vec::with_capacity(versions.len());
        let in_run = versions.first().is_some_and(|(_, tag, _)| is_whole_tag(*tag));
        if !in_run {
            // As any read: what is below an image may be gone already.
            self.timeline.collect_in(self.map, key, self.end, &mut found)?;
            return Ok(found);
        }
        for (lsn, tag, bytes) in versions.iter().rev() {
            let (value, whole) = Value::from_stored(*tag, bytes)?;
            found.push(Found {
                lsn: *lsn,
                whole,
                value,
            });
        }
        Ok(found)
    }
}
