//! One key at one LSN: find its versions, rebuild its value.

use std::cmp::Ordering;
use std::sync::Arc;

use neon_postgres::Page;
use neon_postgres::checkpoint::CheckpointState;
use neon_postgres::wal::Record;
use neon_redo::RedoError;
use neon_redo::change::Change;
use neon_types::{Key, Lsn, LsnRange, PackedKey, RelTag};

use super::open::{OpenVersion, Slot};
use super::{Timeline, read};
use crate::items::RelSize;
use crate::layer::{Entries, Layer, LayerCache};
use crate::map::LayerMap;
use crate::page_delta;
use crate::value::{Value, is_whole_tag};
use crate::{PageStoreError, Result};

/// Copies of copies of relations that are followed.
const MAX_COPIES: u32 = 256;

/// What it takes to read a key from layers.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct ReadCost {
    /// Layers that had to be asked: their filters, in memory.
    pub asked: u32,
    /// Layers of which blocks had to be read: those whose filter did not deny the key.
    pub layers: u32,
    /// Versions to be applied to the one that needs no older one.
    pub records: u32,
}

/// A version that was found, with its value.
#[derive(Clone, Debug)]
pub(crate) struct Found {
    pub lsn: Lsn,
    pub whole: bool,
    pub value: Value,
}

impl Timeline {
    /// Appends the versions of `key` above `floor` and at or below `lsn`, newest first, down to the first one that needs no
    /// older one; true if there was such a one.
    pub(crate) fn collect(
        &self,
        key: &PackedKey,
        lsn: Lsn,
        floor: Lsn,
        found: &mut Vec<Found>,
    ) -> Result<bool> {
        let _pin = self.wal.pin();
        let mut slots = Vec::new();
        let map = {
            let memory = read(&self.memory);
            let mut whole = false;
            for layer in [Some(&memory.open), memory.frozen.as_deref()]
                .into_iter()
                .flatten()
            {
                if whole {
                    break;
                }
                layer.newest_first(key, lsn, floor, |version| {
                    slots.push(version.clone());
                    whole = version.whole;
                    !whole
                });
            }
            memory.map.clone()
        };
        for version in slots {
            let resolved = self.resolve(version)?;
            let whole = resolved.whole;
            found.push(resolved);
            if whole {
                return Ok(true);
            }
        }
        match (map, &self.ancestor) {
            (Some(map), _) => {
                collect_sealed(&self.core.cache, &self.core.objects, &map, key, lsn, floor, found)
            }
            (None, Some(ancestor)) => ancestor.collect(key, lsn.min(self.start()), floor, found),
            (None, None) => Ok(false),
        }
    }

    /// Returns the value of a version in memory; of a WAL record the whole record.
    pub(crate) fn resolve(&self, version: OpenVersion) -> Result<Found> {
        let value = match version.slot {
            Slot::Put(value) => Arc::unwrap_or_clone(value),
            Slot::Absent => Value::Absent,
            Slot::Wal { start, .. } => Value::Record(self.wal.record(start, version.lsn)?),
        };
        Ok(Found {
            lsn: version.lsn,
            whole: version.whole,
            value,
        })
    }

    /// Returns the newest version of `key` at or below `lsn`, as it is stored.
    pub(crate) fn newest(&self, key: Key, lsn: Lsn) -> Result<Option<(Lsn, Value)>> {
        let mut found = Vec::new();
        self.collect(&key.pack(), lsn, Lsn::INVALID, &mut found)?;
        Ok(found.into_iter().next().map(|found| (found.lsn, found.value)))
    }

    /// Returns the value of a metadata item or SLRU page at `lsn`, which is not checked.
    pub(crate) fn value(&self, key: Key, lsn: Lsn) -> Result<Option<Arc<[u8]>>> {
        let mut found = Vec::new();
        self.collect(&key.pack(), lsn, Lsn::INVALID, &mut found)?;
        self.finish_value(key, found)
    }

    /// Returns the bytes that versions, newest first, make of a key without floors.
    pub(crate) fn finish_value(&self, key: Key, mut found: Vec<Found>) -> Result<Option<Arc<[u8]>>> {
        match found.first().map(|found| &found.value) {
            None | Some(Value::Absent) => return Ok(None),
            Some(Value::Item(_)) => {
                if let Value::Item(bytes) = found.swap_remove(0).value {
                    return Ok(Some(bytes.into()));
                }
            }
            Some(_) => {}
        }
        let page = self.rebuild(key, found, || Ok(None))?;
        Ok(Some(page.as_bytes().as_slice().into()))
    }

    /// Returns the page that versions, newest first, make; `base` is what was there before the oldest of them.
    pub(crate) fn rebuild(
        &self,
        key: Key,
        found: Vec<Found>,
        base: impl FnOnce() -> Result<Option<Page>>,
    ) -> Result<Page> {
        let mut page = if found.last().is_some_and(|oldest| oldest.whole) {
            Page::zeroed()
        } else {
            base()?.unwrap_or_else(Page::zeroed)
        };
        for Found { lsn, value, .. } in found.into_iter().rev() {
            self.apply(key, lsn, value, &mut page)?;
        }
        Ok(page)
    }

    /// Turns the page before a version into the page after it.
    pub(crate) fn apply(&self, key: Key, lsn: Lsn, value: Value, page: &mut Page) -> Result<()> {
        match value {
            Value::Image(image) => *page = image,
            Value::Record(bytes) => self.redo(key, lsn, bytes, page)?,
            Value::Change(bytes) => {
                let change = Change::decode(&bytes).map_err(|error| {
                    PageStoreError::damaged(format!("the change of {key:?} at {lsn}"), error)
                })?;
                change.apply(lsn, page);
            }
            Value::Delta(delta) => page_delta::apply(&delta, page).map_err(|reason| {
                PageStoreError::damaged(format!("the page delta of {key:?} at {lsn}"), reason)
            })?,
            Value::Absent => *page = Page::zeroed(),
            Value::Item(_) => return Err(PageStoreError::WrongKind { key, lsn }),
        }
        Ok(())
    }

    fn redo(&self, key: Key, lsn: Lsn, bytes: Vec<u8>, page: &mut Page) -> Result<()> {
        let record = Record::decode(self.version, bytes)
            .map_err(|error| PageStoreError::damaged(format!("the record of {key:?} at {lsn}"), error))?;
        let index = record
            .blocks
            .iter()
            .position(|block| Key::Block(block.rel, block.block) == key)
            .ok_or_else(|| {
                PageStoreError::damaged(
                    format!("the record of {key:?} at {lsn}"),
                    "it does not name the block",
                )
            })?;
        self.redo_record(key, lsn, &record, index, page)
    }

    /// Replays the record that ends at `lsn` on the page of its block reference `index`, which is that of `key`.
    pub(super) fn redo_record(
        &self,
        key: Key,
        lsn: Lsn,
        record: &Record,
        index: usize,
        page: &mut Page,
    ) -> Result<()> {
        neon_redo::redo(&self.redo_cluster(), record, lsn, index, page).map_err(|error| match error {
            RedoError::Unsupported { name, .. } => PageStoreError::Unsupported { key, name, lsn },
            error => PageStoreError::Redo {
                key,
                lsn,
                reason: error.to_string(),
            },
        })
    }

    /// Returns a block as it is after the last record that ends at or below `lsn`; `pd_checksum` is 0.
    ///
    /// Errors: [`PageStoreError::NoRelation`], [`PageStoreError::NoBlock`]; [`PageStoreError::Unsupported`] if it takes a
    /// record that redo does not know.
    pub fn get_page(&self, rel: RelTag, block: u32, lsn: Lsn) -> Result<Page> {
        self.check_readable(lsn)?;
        let size = self
            .rel_size_item(rel, lsn)?
            .ok_or(PageStoreError::NoRelation { rel, lsn })?;
        if block >= size.size {
            return Err(PageStoreError::NoBlock {
                rel,
                block,
                size: size.size,
                lsn,
            });
        }
        self.page(rel, block, lsn, &size, 0)
    }

    /// Returns a block of a relation that has this size at `lsn`; the block is in it. `copies`: through how many copies of databases it was
    /// found.
    pub(crate) fn page(
        &self,
        rel: RelTag,
        block: u32,
        lsn: Lsn,
        size: &RelSize,
        copies: u32,
    ) -> Result<Page> {
        let key = Key::Block(rel, block);
        let mut found = Vec::new();
        self.collect(&key.pack(), lsn, size.floor(block), &mut found)?;
        self.rebuild(key, found, || self.copied_page(block, size, copies))
    }

    /// Returns the page that a block was copied from when its relation was made, if it was.
    pub(crate) fn copied_page(&self, block: u32, size: &RelSize, copies: u32) -> Result<Option<Page>> {
        let Some((source, lsn)) = size.source(block) else {
            return Ok(None);
        };
        let Some(size) = self.rel_size_item(source, lsn)? else {
            return Ok(None);
        };
        if block >= size.size {
            return Ok(None);
        }
        if copies >= MAX_COPIES {
            return Err(PageStoreError::damaged(
                format!("block {block} of relation {source}"),
                format!("it is a copy of a copy, more than {MAX_COPIES} times"),
            ));
        }
        self.page(source, block, lsn, &size, copies + 1).map(Some)
    }

    pub(crate) fn rel_size_item(&self, rel: RelTag, lsn: Lsn) -> Result<Option<RelSize>> {
        decode_size(rel, self.value(Key::RelSize(rel), lsn)?)
    }

    /// Returns the value of a metadata item at `lsn`, as the layers of a map have it.
    pub(crate) fn item_in(&self, map: &LayerMap, key: Key, lsn: Lsn) -> Result<Option<Arc<[u8]>>> {
        let mut found = Vec::new();
        self.sealed_by(map)
            .collect(&key.pack(), lsn, Lsn::INVALID, Limit::NONE, &mut found)?;
        self.finish_value(key, found)
    }

    /// As [`Timeline::collect`] without a floor, from the layers of a map.
    pub(crate) fn collect_in(
        &self,
        map: &LayerMap,
        key: &PackedKey,
        lsn: Lsn,
        found: &mut Vec<Found>,
    ) -> Result<()> {
        self.sealed_by(map)
            .collect(key, lsn, Lsn::INVALID, Limit::NONE, found)
            .map(|_| ())
    }

    /// Returns the size of a relation fork at `lsn`, as the layers of a map have it.
    pub(crate) fn rel_size_in(&self, map: &LayerMap, rel: RelTag, lsn: Lsn) -> Result<Option<RelSize>> {
        decode_size(rel, self.item_in(map, Key::RelSize(rel), lsn)?)
    }

    /// Returns what a map says is sealed.
    pub(super) fn sealed_by<'a>(&'a self, map: &'a LayerMap) -> Sealed<'a> {
        Sealed {
            cache: &self.core.cache,
            objects: &self.core.objects,
            map,
        }
    }

    /// Returns the number of blocks of a relation fork at `lsn`, none if it does not exist.
    pub fn rel_size(&self, rel: RelTag, lsn: Lsn) -> Result<Option<u32>> {
        self.check_readable(lsn)?;
        Ok(self.rel_size_item(rel, lsn)?.map(|size| size.size))
    }

    /// Returns a metadata item or the 8192 bytes of an SLRU page at `lsn`, none if it does not exist.
    pub fn get_item(&self, key: Key, lsn: Lsn) -> Result<Option<Arc<[u8]>>> {
        self.check_readable(lsn)?;
        if let Key::Block(rel, block) = key {
            return Ok(Some(self.get_page(rel, block, lsn)?.as_bytes().as_slice().into()));
        }
        self.value(key, lsn)
    }

    /// Returns the checkpoint state after the last record that ends at or below `lsn`; `last_record` is that record's start.
    pub fn checkpoint_state(&self, lsn: Lsn) -> Result<CheckpointState> {
        let bytes = self
            .get_item(Key::Checkpoint, lsn)?
            .ok_or_else(|| self.not_readable(lsn))?;
        let (_, mut state) = CheckpointState::decode(&bytes)
            .map_err(|error| PageStoreError::damaged(format!("the checkpoint state at {lsn}"), error))?;
        // The item changes only when more than this field does.
        state.last_record = self.record_at_or_before(lsn)?.start;
        Ok(state)
    }
}

fn decode_size(rel: RelTag, item: Option<Arc<[u8]>>) -> Result<Option<RelSize>> {
    item.map(|bytes| RelSize::decode(&bytes))
        .transpose()
        .map_err(|error| PageStoreError::damaged(format!("the size of relation {rel}"), error))
}

/// As [`Timeline::collect`], from the layers of a map.
pub(crate) fn collect_sealed(
    cache: &LayerCache,
    objects: &neon_objects::ObjectStore,
    map: &LayerMap,
    key: &PackedKey,
    lsn: Lsn,
    floor: Lsn,
    found: &mut Vec<Found>,
) -> Result<bool> {
    let sealed = Sealed { cache, objects, map };
    let whole = sealed.collect(key, lsn, floor, Limit::NONE, found)?;
    Ok(whole.unwrap_or(false))
}

/// How much a read may take.
#[derive(Clone, Copy, Debug)]
pub(super) struct Limit {
    /// Versions.
    pub versions: usize,
    /// Layers that hold some.
    pub layers: usize,
}

impl Limit {
    pub(super) const NONE: Limit = Limit {
        versions: usize::MAX,
        layers: usize::MAX,
    };
}

/// What is sealed of a history.
#[derive(Clone, Copy)]
pub(super) struct Sealed<'a> {
    pub cache: &'a LayerCache,
    pub objects: &'a neon_objects::ObjectStore,
    pub map: &'a LayerMap,
}

impl Sealed<'_> {
    /// As [`Timeline::collect`]; none, and `found` is of no use, where it would take more than `limit`.
    pub(super) fn collect(
        &self,
        key: &PackedKey,
        lsn: Lsn,
        floor: Lsn,
        limit: Limit,
        found: &mut Vec<Found>,
    ) -> Result<Option<bool>> {
        let counted = self.collect_counting(key, lsn, floor, limit, found)?;
        Ok(counted.map(|(whole, _)| whole))
    }

    /// The same; returns also what it took.
    pub(super) fn collect_counting(
        &self,
        key: &PackedKey,
        lsn: Lsn,
        floor: Lsn,
        limit: Limit,
        found: &mut Vec<Found>,
    ) -> Result<Option<(bool, ReadCost)>> {
        let begin = found.len();
        let mut cost = ReadCost::default();
        let mut whole: Option<Lsn> = None;
        let mut layers = 0;
        for visit in self.map.plan(key, lsn, floor) {
            if whole.is_some_and(|whole| visit.lsns.end <= whole) {
                break;
            }
            let layer = self.cache.layer(self.objects, visit.entry.layer)?;
            cost.asked += 1;
            if !layer.may_hold(key) {
                continue;
            }
            cost.layers += 1;
            let before = found.len();
            if let Some(lsn) = versions_in_layer(self.cache, &layer, key, visit.lsns, limit.versions, found)?
            {
                whole = whole.max(Some(lsn));
            }
            layers += usize::from(found.len() > before);
            if layers > limit.layers || found.len() - begin > limit.versions {
                return Ok(None);
            }
        }
        // Received layers may overlap others: one version at one LSN, and nothing below the newest whole one.
        let tail = found.get_mut(begin..).unwrap_or_default();
        if !tail.is_sorted_by(|newer, older| newer.lsn > older.lsn) {
            let mut sorted = found.split_off(begin);
            sorted.sort_by_key(|version| (std::cmp::Reverse(version.lsn), !version.whole));
            sorted.dedup_by_key(|version| version.lsn);
            found.extend(sorted);
        }
        if let Some(place) = found.iter().skip(begin).position(|version| version.whole) {
            found.truncate(begin + place + 1);
        }
        let versions = found.len() - begin - usize::from(whole.is_some());
        cost.records = u32::try_from(versions).unwrap_or(u32::MAX);
        Ok(Some((whole.is_some(), cost)))
    }
}

/// Appends the versions of `key` in `lsns` that a layer holds, newest first, down to the first whole one, whose LSN it returns.
/// Begins no further block when there are more than `limit`.
fn versions_in_layer(
    cache: &LayerCache,
    layer: &Layer,
    key: &PackedKey,
    lsns: LsnRange,
    limit: usize,
    found: &mut Vec<Found>,
) -> Result<Option<Lsn>> {
    let mut block = layer.seek(key, lsns.end);
    loop {
        let Some(first) = layer.index_entry(block) else {
            return Ok(None);
        };
        if first.key > *key {
            return Ok(None);
        }
        let bytes = cache.block(layer, block)?;
        let mut here = Vec::new();
        for entry in Entries(&bytes) {
            let entry = entry.map_err(|reason| layer.damaged(reason))?;
            match entry.key.cmp(key) {
                Ordering::Less => {}
                Ordering::Greater => break,
                Ordering::Equal if lsns.contains(entry.lsn) => {
                    if is_whole_tag(entry.tag) {
                        here.clear();
                    }
                    here.push(entry);
                }
                Ordering::Equal => {}
            }
        }
        for entry in here.iter().rev() {
            let (value, whole) =
                Value::from_stored(entry.tag, entry.value).map_err(|error| layer.damaged(error))?;
            found.push(Found {
                lsn: entry.lsn,
                whole,
                value,
            });
            if whole {
                return Ok(Some(entry.lsn));
            }
        }
        // Older versions of the key may be at the end of the block before.
        let no_more = first.key < *key || first.lsn <= lsns.start || block == 0;
        if no_more || found.len() > limit {
            return Ok(None);
        }
        block -= 1;
    }
}
