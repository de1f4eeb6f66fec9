//! Image layers: every key of a range as a read at one LSN gives it.
//!
//! A block is in its image if its relation exists, is long enough, and has a version above the block's floor. A block without one is
//! what reads make of it without any layer: a page of zeros, or of the relation that was copied.

use std::sync::Arc;

use neon_types::{Key, KeyRange, Lsn, PackedKey, RelTag};

use super::Images;
use crate::items::RelSize;
use crate::layer::LayerWriter;
use crate::map::{LayerMap, MapEntry};
use crate::store::Core;
use crate::timeline::{Found, Merge, Timeline};
use crate::value::Value;
use crate::{PageStoreError, Result};

/// What was written, and of which keys no images can be made.
#[derive(Debug, Default)]
pub(crate) struct Written {
    pub entries: Vec<MapEntry>,
    pub holes: Vec<KeyRange>,
}

/// Writes image layers of the ranges that `images` says, from the layers of `map` alone; `made` is told of each. A relation of which a page cannot
/// be rebuilt, because of a record that redo does not know, is left as it is from that page on. None when `stop` said so, which
/// is asked now and then.
pub(crate) fn write(
    timeline: &Timeline,
    map: &Arc<LayerMap>,
    images: &Images,
    stop: &dyn Fn() -> bool,
    made: &mut dyn FnMut(&MapEntry) -> Result<()>,
) -> Result<Option<Written>> {
    let mut writing = Writing {
        timeline,
        core: timeline.core(),
        lsn: images.lsn,
        values: Values::new(timeline, Arc::clone(map), images.lsn),
        written: Written::default(),
        made,
    };
    for range in &images.ranges {
        if !writing.range(map, *range, stop)? {
            return Ok(None);
        }
    }
    Ok(Some(writing.written))
}

struct Writing<'a> {
    timeline: &'a Timeline,
    core: &'a Core,
    lsn: Lsn,
    values: Values<'a>,
    written: Written,
    made: &'a mut dyn FnMut(&MapEntry) -> Result<()>,
}

impl Writing<'_> {
    fn range(&mut self, map: &Arc<LayerMap>, range: KeyRange, stop: &dyn Fn() -> bool) -> Result<bool> {
        let mut begin = range.start;
        while begin < range.end {
            match self.up_to_hole(
                map,
                KeyRange {
                    start: begin,
                    end: range.end,
                },
                stop,
            )? {
                None => return Ok(false),
                Some(next) => begin = next,
            }
        }
        Ok(true)
    }

    /// Writes images from the start of `range` to its end or to the first page that cannot be made. Returns where to go on; none when
    /// told to stop.
    fn up_to_hole(
        &mut self,
        map: &Arc<LayerMap>,
        range: KeyRange,
        stop: &dyn Fn() -> bool,
    ) -> Result<Option<PackedKey>> {
        let mut merge = Merge::of_map(self.timeline, Arc::clone(map), range, self.lsn);
        let mut writer = LayerWriter::image(&self.core.objects, self.lsn)?;
        let mut begin = range.start;
        let mut found = Vec::new();
        let mut count = 0_u64;
        while let Some(packed) = merge.next(&|_| Lsn::INVALID, &mut found)? {
            if count.is_multiple_of(64) && stop() {
                return Ok(None);
            }
            count += 1;
            let key = Key::unpack(&packed).map_err(|error| PageStoreError::damaged("a key", error))?;
            let value = match self.values.of(key, std::mem::take(&mut found)) {
                Ok(Some(value)) => value,
                Ok(None) => continue,
                Err(PageStoreError::Unsupported { .. } | PageStoreError::Redo { .. }) => {
                    let end = after_relation(&packed).min(range.end);
                    tracing::debug!(?key, lsn = %self.lsn, "no images can be made from here to the end of the relation");
                    self.written.holes.push(KeyRange { start: packed, end });
                    self.finish(writer, begin, packed)?;
                    return Ok(Some(end));
                }
                Err(error) => return Err(error),
            };
            if writer.len() >= self.core.settings.layer_bytes {
                let next = LayerWriter::image(&self.core.objects, self.lsn)?;
                self.finish(std::mem::replace(&mut writer, next), begin, packed)?;
                begin = packed;
            }
            writer.add(&packed, self.lsn, value.stored(true))?;
        }
        self.finish(writer, begin, range.end)?;
        Ok(Some(range.end))
    }

    fn finish(&mut self, writer: LayerWriter, start: PackedKey, end: PackedKey) -> Result<()> {
        if start >= end {
            return Ok(());
        }
        let sealed = writer.finish(KeyRange { start, end })?;
        let entry = MapEntry::whole(&sealed);
        (self.made)(&entry)?;
        self.written.entries.push(entry);
        Ok(())
    }
}

/// What image layers hold of keys at one LSN.
pub(crate) struct Values<'a> {
    timeline: &'a Timeline,
    map: Arc<LayerMap>,
    lsn: Lsn,
    /// The relation at hand.
    size: Option<(RelTag, Option<RelSize>)>,
}

impl<'a> Values<'a> {
    /// Begins with nothing looked up; sizes of relations are those that the layers of `map` have at `lsn`.
    pub(crate) fn new(timeline: &'a Timeline, map: Arc<LayerMap>, lsn: Lsn) -> Values<'a> {
        Values {
            timeline,
            map,
            lsn,
            size: None,
        }
    }

    /// Returns what versions, newest first, make of a key; none when it does not exist or has nothing of its own.
    pub(crate) fn of(&mut self, key: Key, mut found: Vec<Found>) -> Result<Option<Value>> {
        if let Key::Block(rel, block) = key {
            let timeline = self.timeline;
            let Some(size) = self.size_of(rel)?.filter(|size| block < size.size) else {
                return Ok(None);
            };
            let floor = size.floor(block);
            found.retain(|version| version.lsn > floor);
            if found.is_empty() {
                return Ok(None);
            }
            let page = timeline.rebuild(key, found, || timeline.copied_page(block, size, 0))?;
            return Ok(Some(Value::Image(page)));
        }
        let is_page = matches!(key, Key::SlruPage { .. });
        let Some(bytes) = self.timeline.finish_value(key, found)? else {
            return Ok(None);
        };
        if !is_page {
            return Ok(Some(Value::Item(bytes.to_vec())));
        }
        let page = neon_postgres::Page::from_bytes(&bytes);
        page.map(|page| Some(Value::Image(page)))
            .ok_or_else(|| PageStoreError::damaged(format!("{key:?}"), "it is no page"))
    }

    fn size_of(&mut self, rel: RelTag) -> Result<Option<&RelSize>> {
        if self.size.as_ref().is_none_or(|(known, _)| *known != rel) {
            self.size = Some((rel, self.timeline.rel_size_in(&self.map, rel, self.lsn)?));
        }
        Ok(self.size.as_ref().and_then(|(_, size)| size.as_ref()))
    }
}

/// Returns the first key behind the blocks of the relation fork of a block; of another key, the next one.
fn after_relation(key: &PackedKey) -> PackedKey {
    match Key::unpack(key) {
        Ok(Key::Block(rel, _)) => Key::Block(rel, u32::MAX).pack().next(),
        _ => key.next(),
    }
}
