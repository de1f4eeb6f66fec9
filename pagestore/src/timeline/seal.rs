//! From open to sealed: sort by (key, LSN), write delta layers, then a layer map, then move the pointer.

use std::sync::{Arc, TryLockError};

use neon_objects::Mode;
use neon_types::{KeyRange, Lsn, LsnRange, PackedKey};

use super::images::Images;
use super::open::{OpenLayer, OpenVersion, Slot};
use super::{Memory, Timeline, lock, read, write};
use crate::failpoint::failpoint;
use crate::layer::LayerWriter;
use crate::map::{LayerMap, MapEntry};
use crate::value::Value;
use crate::{PageStoreError, Result};
use neon_postgres::wal::Record;

/// How many times what makes a seal may be waiting for one before page deltas, which take half of its time, are left out.
const BEHIND: u64 = 2;

impl Timeline {
    /// Returns true when enough WAL is indexed and not sealed.
    pub fn wants_seal(&self) -> bool {
        let memory = read(&self.memory);
        let open = memory.open.range();
        let settings = &self.core.settings;
        memory.frozen.is_none()
            && (open.end.bytes_since(open.start) >= settings.seal_wal_bytes
                || memory.open.memory() >= settings.index_memory / 2)
    }

    /// Returns true when so much was indexed since a seal began that the next one should not wait long.
    pub(super) fn is_behind(&self) -> bool {
        let memory = read(&self.memory);
        let open = memory.open.range();
        let settings = &self.core.settings;
        open.end.bytes_since(open.start) / BEHIND > settings.seal_wal_bytes
            || memory.open.memory() + frozen_memory(&memory) >= settings.index_memory
    }

    /// Returns true when nothing more may be indexed before a seal, which may be running, has made room.
    pub(super) fn is_full(&self) -> bool {
        let memory = read(&self.memory);
        let open = memory.open.memory();
        // Where nothing is written, nothing is sealed: then it takes what it takes.
        let may_seal = self.core.mode() == Mode::Writing;
        may_seal && open > 0 && open + frozen_memory(&memory) >= self.core.settings.index_memory
    }

    /// Writes everything that is indexed, and durable, into layers and returns the LSN up to which the layer map now serves
    /// everything; none when there was nothing to do. Ingest and reads go on meanwhile; a second call waits for the first.
    ///
    /// After an error nothing is lost and nothing has changed: call it again.
    pub fn seal(&self) -> Result<Option<Lsn>> {
        // What is written is named by the state at the end.
        let _hold = self.core.objects.hold();
        // The map lists what lies below the fork too, so that must be sealed first.
        self.seal_ancestor()?;
        let _sealing = lock(&self.sealing);
        self.adopt_map()?;
        // What is below must be listed before anything is put above it.
        let Some(base) = read(&self.memory).map.clone() else {
            return if self.end() == self.start() {
                Ok(None)
            } else {
                Err(self.not_readable(self.start()))
            };
        };
        let Some(frozen) = self.freeze()? else {
            return Ok(None);
        };
        let sealed = frozen.range().end;
        let entries = self.write_layers(&frozen, &base)?;
        let map = base.with(sealed, entries);
        let id = map.write(&self.core.objects)?;
        self.step("seal-after-map")?;
        lock(&self.indexer).ladder.write(sealed)?;
        self.step("seal-before-swap")?;
        self.swap_map(Arc::new(map), id, sealed, frozen.significant(), None)?;
        self.step("seal-after-swap")?;
        self.children_adopt();
        self.trim()?;
        Ok(Some(sealed))
    }

    fn step(&self, name: &str) -> Result<()> {
        failpoint(name).map_err(PageStoreError::io("seal", &self.directory))
    }

    pub(super) fn seal_ancestor(&self) -> Result<()> {
        let Some(ancestor) = &self.ancestor else {
            return Ok(());
        };
        if read(&self.memory).map.is_some() {
            return Ok(());
        }
        let reaches = |map: &Arc<LayerMap>| map.sealed() >= self.start();
        if !read(&ancestor.memory).map.as_ref().is_some_and(reaches) {
            ancestor.seal()?;
        }
        Ok(())
    }

    /// Takes the ancestor's layers, clipped at the fork, as this timeline's first map. Nothing to do if it has one, or if the
    /// ancestor is not sealed as far. The caller holds `sealing`.
    pub(super) fn adopt_map(&self) -> Result<()> {
        let Some(ancestor) = &self.ancestor else {
            return Ok(());
        };
        if read(&self.memory).map.is_some() {
            return Ok(());
        }
        let (theirs, readable) = {
            let memory = read(&ancestor.memory);
            (memory.map.clone(), memory.readable.clone())
        };
        let readable = readable.map(|readable| readable.of_fork(self.start()));
        let Some(theirs) = theirs.filter(|map| map.sealed() >= self.start()) else {
            return Ok(());
        };
        let _hold = self.core.objects.hold();
        let map = Arc::new(theirs.clipped(self.start()));
        if self.core.mode() == Mode::Reading {
            let mut memory = write(&self.memory);
            (memory.map, memory.readable) = (Some(map), readable.map(Arc::new));
            return Ok(());
        }
        let id = map.write(&self.core.objects)?;
        self.point_to(
            map,
            id,
            |state| state.readable = readable.clone(),
            |memory| memory.readable = readable.clone().map(Arc::new),
        )
    }

    /// Gives timelines that fork from this one their own map where it reaches far enough now.
    fn children_adopt(&self) {
        let (map, readable) = {
            let memory = read(&self.memory);
            (memory.map.clone(), memory.readable.clone())
        };
        let (Some(registry), Some(map)) = (self.registry.upgrade(), map) else {
            return;
        };
        for child in registry.open_children(self.id) {
            // One that is sealing does it by itself; waiting for it here could be waiting for each other.
            let result = match child.sealing.try_lock() {
                Ok(_sealing) => child.adopt_map(),
                Err(TryLockError::Poisoned(poisoned)) => {
                    let _sealing = poisoned.into_inner();
                    child.adopt_map()
                }
                Err(TryLockError::WouldBlock) => Ok(()),
            };
            child.warn_not_adopted(result);
        }
        self.warn_not_adopted(registry.closed_children_adopt(self.id, &map, readable.as_deref()));
    }

    fn warn_not_adopted(&self, result: Result<()>) {
        if let Err(error) = result {
            tracing::warn!(timeline = %self.id, %error, "a fork could not take over the layer map: it goes on reading through its ancestor");
        }
    }

    /// Sets what is open aside, durable, to be written; again what an earlier seal that failed had set aside.
    fn freeze(&self) -> Result<Option<Arc<OpenLayer>>> {
        if let Some(frozen) = read(&self.memory).frozen.clone() {
            return Ok(Some(frozen));
        }
        // Nobody indexes while the WAL is made durable: what is sealed must not be more than what the disk has.
        let mut indexer = lock(&self.indexer);
        let durable = self.sync_wal()?;
        let mut memory = write(&self.memory);
        let range = memory.open.range();
        if range.is_empty() {
            return Ok(None);
        }
        if durable < range.end {
            return Err(PageStoreError::Poisoned(self.id));
        }
        let mut open = std::mem::replace(&mut memory.open, OpenLayer::new(range.end));
        open.freeze();
        let frozen = Arc::new(open);
        memory.frozen = Some(Arc::clone(&frozen));
        drop(memory);
        indexer.forget_marks();
        Ok(Some(frozen))
    }

    /// Writes the layers of `frozen`, which lie above those of `below`.
    fn write_layers(&self, frozen: &OpenLayer, below: &LayerMap) -> Result<Vec<MapEntry>> {
        let lsns = frozen.range();
        let target = self.core.settings.layer_bytes;
        let mut layers = Layers {
            timeline: self,
            lsns,
            entries: Vec::new(),
            begin: PackedKey::MIN,
        };
        let mut writer = LayerWriter::delta(&self.core.objects, lsns)?;
        let mut images = Images::new(self, frozen, below);
        for (key, versions) in frozen.iter() {
            if writer.len() >= target && writer.last_key().is_some_and(|last| last < *key) {
                layers.finish(writer, *key)?;
                writer = LayerWriter::delta(&self.core.objects, lsns)?;
            }
            let mut block = images.block(key, versions);
            self.worked();
            for OpenVersion { lsn, whole, slot } in versions {
                match slot {
                    Slot::Put(value) => {
                        block.put(*lsn, *whole, value);
                        writer.add(key, *lsn, value.stored(*whole))?;
                    }
                    Slot::Absent => {
                        block.put(*lsn, *whole, &Value::Absent);
                        writer.add(key, *lsn, Value::Absent.stored(*whole))?;
                    }
                    Slot::Wal { start, index } => {
                        let bytes = self.wal.record(*start, *lsn)?;
                        let record = Record::decode(self.version, bytes).map_err(|error| {
                            PageStoreError::damaged(format!("the record at {start}"), error)
                        })?;
                        let index = usize::from(*index);
                        let slice = record.slice_for_block(index);
                        let (value, whole) = match block.record(*lsn, *whole, &record, index, slice.len()) {
                            Some(delta) => (Value::Delta(delta), false),
                            None => (Value::Record(slice), *whole),
                        };
                        writer.add(key, *lsn, value.stored(whole))?;
                    }
                }
            }
        }
        layers.finish(writer, PackedKey::MAX)?;
        Ok(layers.entries)
    }

    /// Makes `map`, of that name, the one that reads use; what was frozen is served by it, and its last record that makes history ends at
    /// `significant`. With `wal_base`, WAL begins there.
    pub(crate) fn swap_map(
        &self,
        map: Arc<LayerMap>,
        id: neon_types::LayerMapId,
        sealed: Lsn,
        significant: Option<Lsn>,
        wal_base: Option<Lsn>,
    ) -> Result<()> {
        self.point_to(
            map,
            id,
            |state| {
                state.sealed = sealed;
                state.significant = significant.or(state.significant);
                state.wal_base = wal_base.unwrap_or(state.wal_base);
            },
            |memory| memory.frozen = None,
        )?;
        self.wal.sealed(sealed);
        Ok(())
    }

    /// Deletes WAL in whole segments that is sealed and beyond what is to be kept, unless a fork still reads through here.
    pub(crate) fn trim(&self) -> Result<u64> {
        let (sealed, keep) = {
            let state = lock(&self.state);
            (state.sealed, self.core.keep_wal(state.branch.as_deref()))
        };
        let keep_from = Lsn(self.end().0.saturating_sub(keep));
        let forks = self
            .registry
            .upgrade()
            .and_then(|registry| registry.uncovered_forks(self.id).into_iter().min());
        let limit = sealed.min(keep_from).min(forks.unwrap_or(Lsn::MAX));
        if limit <= self.wal.start() {
            return Ok(0);
        }
        self.wal.trim(limit)
    }
}

fn frozen_memory(memory: &Memory) -> usize {
    memory.frozen.as_ref().map_or(0, |frozen| frozen.memory())
}

struct Layers<'a> {
    timeline: &'a Timeline,
    lsns: LsnRange,
    entries: Vec<MapEntry>,
    begin: PackedKey,
}

impl Layers<'_> {
    /// Ends a layer; together they answer for every key, so that a map can be checked for gaps.
    fn finish(&mut self, writer: LayerWriter, end: PackedKey) -> Result<()> {
        let keys = KeyRange {
            start: self.begin,
            end,
        };
        let sealed = writer.finish(keys)?;
        debug_assert_eq!(sealed.footer.lsns, self.lsns);
        self.begin = end;
        self.entries.push(MapEntry::whole(&sealed));
        self.timeline.step("seal-after-layer")
    }
}
