//! One step of compaction: choose, write, take the new layers into the map. The layers that go stay objects.

use std::sync::Arc;

use neon_types::{Key, KeyRange, Lsn, RelTag};

use super::read::{Limit, ReadCost, Sealed};
use super::{Timeline, lock, read};
use crate::compact::choose::choose;
use crate::compact::stretch::{KeyCount, stretches};
use crate::compact::{Choice, images, merge};
use crate::failpoint::failpoint;
use crate::layer::{Entries, Layer, LayerCache};
use crate::map::{LayerMap, MapEntry};
use crate::store::Core;
use crate::value::is_whole_tag;
use crate::{PageStoreError, Result};

/// Returns what a block holds of each of its keys.
fn counts(cache: &LayerCache, layer: &Layer, block: usize) -> Result<Vec<KeyCount>> {
    let bytes = cache.block(layer, block)?;
    let mut counts: Vec<KeyCount> = Vec::new();
    let mut chain = 0;
    for entry in Entries(&bytes) {
        let entry = entry.map_err(|reason| layer.damaged(reason))?;
        if counts.last().is_none_or(|last| last.key != entry.key) {
            chain = 0;
            counts.push(KeyCount {
                key: entry.key,
                versions: 0,
                chain: 0,
            });
        }
        chain = if is_whole_tag(entry.tag) { 0 } else { chain + 1 };
        if let Some(last) = counts.last_mut() {
            last.versions += 1;
            last.chain = last.chain.max(chain);
        }
    }
    Ok(counts)
}

/// What a step of compaction did.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Compacted {
    /// Nothing was worth its cost.
    Nothing,
    /// It was told to stop, and changed nothing.
    Stopped,
    /// Delta layers were put together.
    Merged {
        /// Layers that went.
        from: usize,
        /// Layers that came.
        to: usize,
        /// Bytes of those.
        bytes: u64,
    },
    /// Image layers were written.
    Imaged {
        /// Layers that came.
        layers: usize,
        /// Bytes of those.
        bytes: u64,
    },
}

/// What steps remember from one to the next; lost when the timeline is closed.
#[derive(Debug, Default)]
pub(super) struct Compacting {
    /// Keys of which no images can be made.
    holes: Vec<KeyRange>,
}

impl Timeline {
    pub(crate) fn core(&self) -> &Core {
        &self.core
    }

    /// Does the next step of compaction that is worth its cost: call it again until there is none. Ingest, seals, forks and reads go on
    /// meanwhile; a second call waits for the first. `stop` is asked now and then.
    ///
    /// What any LSN returns is the same before and after. After an error nothing is lost and nothing has changed.
    pub fn compact(&self, stop: &dyn Fn() -> bool) -> Result<Compacted> {
        let mut compacting = lock(&self.compacting);
        let Some(map) = self.layer_map() else {
            return Ok(Compacted::Nothing);
        };
        let core = &self.core;
        let facts = |entry: &MapEntry| {
            let layer = core.cache.layer(&core.objects, entry.layer)?;
            stretches(layer.index(), entry.keys, &|block| {
                counts(&core.cache, &layer, block)
            })
        };
        let layer_bytes = core.settings.layer_bytes;
        let choice = choose(&map, self.start, layer_bytes, &compacting.holes, &facts)?;
        self.carry_out(&mut compacting, &map, choice, stop)
    }

    /// Does what somebody else chose.
    #[cfg(test)]
    pub(crate) fn compact_as(&self, choice: Choice, stop: &dyn Fn() -> bool) -> Result<Compacted> {
        let mut compacting = lock(&self.compacting);
        let Some(map) = self.layer_map() else {
            return Ok(Compacted::Nothing);
        };
        self.carry_out(&mut compacting, &map, choice, stop)
    }

    fn carry_out(
        &self,
        compacting: &mut Compacting,
        map: &Arc<LayerMap>,
        choice: Choice,
        stop: &dyn Fn() -> bool,
    ) -> Result<Compacted> {
        let core = &self.core;
        let _hold = core.objects.hold();
        let made = &mut |_: &MapEntry| self.compact_step("compact-after-layer");
        match choice {
            Choice::Nothing => Ok(Compacted::Nothing),
            Choice::Merge(merge) => {
                let Some(entries) = merge::merge(core, &merge, stop, made)? else {
                    return Ok(Compacted::Stopped);
                };
                let (from, to) = (merge.layers.len(), entries.len());
                let bytes = entries.iter().map(|entry| entry.len).sum();
                if self.replace_layers(&merge.layers, entries)? {
                    Ok(Compacted::Merged { from, to, bytes })
                } else {
                    Ok(Compacted::Stopped)
                }
            }
            Choice::Images(images) => {
                let Some(written) = images::write(self, map, &images, stop, made)? else {
                    return Ok(Compacted::Stopped);
                };
                for hole in written.holes {
                    if !compacting.holes.contains(&hole) {
                        compacting.holes.push(hole);
                    }
                }
                let layers = written.entries.len();
                let bytes = written.entries.iter().map(|entry| entry.len).sum();
                self.replace_layers(&[], written.entries)?;
                Ok(Compacted::Imaged { layers, bytes })
            }
        }
    }

    /// Puts layers in the place of others into the map as it is now; false when not all of those are in it any more.
    pub(super) fn replace_layers(&self, gone: &[MapEntry], more: Vec<MapEntry>) -> Result<bool> {
        // Seals and transfers change the map too; each holds this while it does.
        let _sealing = lock(&self.sealing);
        let Some(map) = self.layer_map().and_then(|map| map.replaced(gone, more)) else {
            return Ok(false);
        };
        let id = map.write(&self.core.objects)?;
        self.compact_step("compact-after-map")?;
        self.compact_step("compact-before-swap")?;
        self.point_to(Arc::new(map), id, |_| {}, |_| {})?;
        self.compact_step("compact-after-swap")?;
        Ok(true)
    }

    pub(super) fn compact_step(&self, name: &str) -> Result<()> {
        failpoint(name).map_err(PageStoreError::io("compact", &self.directory))
    }

    /// Returns what a read of a block at `lsn` takes of layers: for benches and tests of compaction. Finding its size is not counted,
    /// nor what lies in memory above them.
    pub fn read_cost(&self, rel: RelTag, block: u32, lsn: Lsn) -> Result<ReadCost> {
        self.check_readable(lsn)?;
        let size = self.rel_size_item(rel, lsn)?;
        let size = size.ok_or(PageStoreError::NoRelation { rel, lsn })?;
        let Some(map) = read(&self.memory).map.clone() else {
            return Ok(ReadCost::default());
        };
        let key = Key::Block(rel, block).pack();
        let sealed = Sealed {
            cache: &self.core.cache,
            objects: &self.core.objects,
            map: &map,
        };
        let floor = size.floor(block);
        let counted = sealed.collect_counting(&key, lsn, floor, Limit::NONE, &mut Vec::new())?;
        Ok(counted.map_or_else(ReadCost::default, |(_, cost)| cost))
    }
}
