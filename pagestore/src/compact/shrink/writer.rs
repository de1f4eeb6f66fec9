//! Writes what stays of a run.

use std::sync::Arc;

use neon_types::{Key, Lsn, PackedKey};

use super::{Part, Shrink};
use crate::compact::images::Values;
use crate::compact::run_writer::RunWriter;
use crate::layer::MergedCursor;
use crate::map::{LayerMap, MapEntry};
use crate::timeline::{Found, Timeline};
use crate::value::{Value, is_whole_tag};
use crate::{PageStoreError, Result};

/// Writes the layers that stand for those of a run; `made` is told of each. None when `stop` said so, which is asked now and then.
pub(crate) fn write(
    timeline: &Timeline,
    map: &Arc<LayerMap>,
    shrink: &Shrink,
    stop: &dyn Fn() -> bool,
    made: &mut dyn FnMut(&MapEntry) -> Result<()>,
) -> Result<Option<Vec<MapEntry>>> {
    let core = timeline.core();
    let of_part = |part: &Part| {
        let seen = part.seen_at.map(|at| Values::new(timeline, Arc::clone(map), at));
        (part.to, seen)
    };
    let mut shrinking = Shrinking {
        timeline,
        map,
        parts: shrink.parts.iter().map(of_part).collect(),
        writer: RunWriter::new(core, &shrink.run, made)?.made_here(),
        key: PackedKey::MIN,
        part: 0,
        versions: Vec::new(),
    };
    let layers = shrink.run.layers.iter().map(|entry| (entry.layer, entry.keys));
    let mut cursor = MergedCursor::new(&core.cache, &core.objects, layers)?;
    let mut count = 0_u64;
    while let Some((entry, _)) = cursor.entry() {
        if count.is_multiple_of(64) && stop() {
            return Ok(None);
        }
        count += 1;
        shrinking.version(&entry.key, entry.lsn, (entry.tag, entry.value))?;
        cursor.advance()?;
    }
    shrinking.finish()
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
    /// Up to where each part goes, and what tells the values at its end if only that can be read.
    parts: Vec<(Lsn, Option<Values<'a>>)>,
    writer: RunWriter<'a>,
    /// The key at hand, and the part of the run.
    key: PackedKey,
    part: usize,
    /// What may stay of the versions of this key in this part: the last ones, oldest first, from a whole one on if the part has one.
    versions: Vec<Version>,
}

impl Shrinking<'_> {
    /// Takes the next version, by key and LSN.
    fn version(&mut self, key: &PackedKey, lsn: Lsn, stored: (u8, &[u8])) -> Result<()> {
        let first = if *key == self.key { self.part } else { 0 };
        let rest = self.parts.get(first..).unwrap_or_default();
        let part = first + rest.partition_point(|(to, _)| *to < lsn);
        if (*key, part) != (self.key, self.part) {
            self.close_part()?;
            (self.key, self.part) = (*key, part);
        }
        if !matches!(self.parts.get(part), Some((_, Some(_)))) {
            return self.writer.add(key, lsn, stored);
        }
        if is_whole_tag(stored.0) && !is_kept_whole(key) {
            self.versions.clear();
        }
        self.versions.push((lsn, stored.0, stored.1.to_vec()));
        Ok(())
    }

    fn finish(mut self) -> Result<Option<Vec<MapEntry>>> {
        self.close_part()?;
        self.writer.finish().map(Some)
    }

    /// Writes what the end of the part has of the key.
    fn close_part(&mut self) -> Result<()> {
        let versions = std::mem::take(&mut self.versions);
        let Some((end, Some(values))) = self.parts.get_mut(self.part) else {
            return Ok(());
        };
        let Some((lsn, tag, bytes)) = versions.last() else {
            return Ok(());
        };
        let key = Key::unpack(&self.key).map_err(|error| PageStoreError::damaged("a key", error))?;
        let is_page = matches!(key, Key::Block(..) | Key::SlruPage { .. });
        if is_page && !matches!(Value::from_stored(*tag, bytes), Ok((Value::Absent, _))) {
            let found = found(self.timeline, self.map, &self.key, *end, &versions)?;
            match values.of(key, found) {
                Ok(Some(value)) => return self.writer.add(&self.key, *lsn, value.stored(true)),
                // The block, or its relation, does not exist where it could be read.
                Ok(None) => return Ok(()),
                // Redo does not know a record: whoever reads it says so, as before.
                Err(PageStoreError::Unsupported { .. } | PageStoreError::Redo { .. }) => {}
                Err(error) => return Err(error),
            }
        }
        for (lsn, tag, bytes) in &versions {
            self.writer.add(&self.key, *lsn, (*tag, bytes))?;
        }
        Ok(())
    }
}

/// Returns what a page is made of at `end`, newest first, by the `versions` that may stay.
fn found(
    timeline: &Timeline,
    map: &Arc<LayerMap>,
    key: &PackedKey,
    end: Lsn,
    versions: &[Version],
) -> Result<Vec<Found>> {
    let mut found = Vec::with_capacity(versions.len());
    let is_whole = versions.first().is_some_and(|(_, tag, _)| is_whole_tag(*tag));
    if !is_whole {
        // As any read: what is below an image may be gone already.
        timeline.collect_in(map, key, end, &mut found)?;
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
