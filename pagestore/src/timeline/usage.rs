//! What stored bytes are for: how much of the layers belongs to which relation.

use std::collections::{BTreeMap, BTreeSet};

use neon_types::{Key, LayerId, Lsn, PackedKey};

use super::Timeline;
use crate::layer::{Entries, Layer};
use crate::map::LayerMap;
use crate::{PageStoreError, Result};

/// A relation file, all forks of it: tablespace, database, file number.
pub type RelationFile = (u32, u32, u32);

/// Bytes of layers by what they hold.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Usage {
    /// Versions of the blocks and sizes of each relation, dropped ones included.
    pub relations: BTreeMap<RelationFile, u64>,
    /// Everything else: other metadata, SLRUs, indexes and filters of layers.
    pub other: u64,
}

impl Usage {
    /// Returns the sum.
    pub fn total(&self) -> u64 {
        self.relations.values().sum::<u64>() + self.other
    }

    fn add(&mut self, owner: Option<RelationFile>, bytes: u64) {
        match owner {
            Some(relation) => *self.relations.entry(relation).or_default() += bytes,
            None => self.other += bytes,
        }
    }

    /// Blocks that hold one relation are counted by the layer's index alone; of others the stored bytes are shared out by the bytes
    /// before compression.
    fn add_layer(&mut self, layer: &Layer) -> Result<()> {
        let mut blocks = 0;
        for number in 0.. {
            let Some(block) = layer.index_entry(number) else {
                break;
            };
            let (first, len) = (owner(&block.key), u64::from(block.len));
            blocks += len;
            let next = layer.index_entry(number + 1).map(|next| owner(&next.key));
            // Keys ascend: what begins and goes on with one relation's blocks holds nothing else.
            if next == Some(first) && is_block(&block.key) {
                self.add(first, len);
                continue;
            }
            let raw = layer.block(number)?;
            let mut parts: BTreeMap<Option<RelationFile>, u64> = BTreeMap::new();
            for entry in Entries(&raw) {
                let entry = entry.map_err(|reason| layer.damaged(reason))?;
                *parts.entry(owner(&entry.key)).or_default() += entry.value.len() as u64 + 1;
            }
            let all: u64 = parts.values().sum();
            let mut left = len;
            for (owner, raw) in parts {
                let share = (len * raw).checked_div(all).unwrap_or(0);
                left = left.saturating_sub(share);
                self.add(owner, share);
            }
            self.add(first, left);
        }
        self.other += layer.file_len().saturating_sub(blocks);
        Ok(())
    }
}

fn owner(key: &PackedKey) -> Option<RelationFile> {
    match Key::unpack(key) {
        Ok(Key::Block(rel, _) | Key::RelSize(rel) | Key::Unreadable(rel)) => Some((rel.spc, rel.db, rel.rel)),
        _ => None,
    }
}

fn is_block(key: &PackedKey) -> bool {
    matches!(Key::unpack(key), Ok(Key::Block(..)))
}

impl Timeline {
    /// Returns the map of the layers that a position of this timeline is read from: its own, or as long as it has none, the part of
    /// an ancestor's below the fork.
    pub fn layers_at(&self, lsn: Lsn) -> Option<LayerMap> {
        let Some(map) = self.layer_map() else {
            let ancestor = self.ancestor_timeline()?;
            return ancestor.layers_at(lsn.min(self.start()));
        };
        Some(if lsn < map.sealed() {
            map.clipped(lsn)
        } else {
            LayerMap::clone(&map)
        })
    }

    /// Returns what the layers hold that a position is read from. Reads at least their indexes; `progress` is told bytes done
    /// and in all; it ends the reading by returning false.
    pub fn usage(&self, lsn: Lsn, progress: &mut dyn FnMut(u64, u64) -> bool) -> Result<Usage> {
        let mut usage = Usage::default();
        let Some(map) = self.layers_at(lsn) else {
            return Ok(usage);
        };
        let layers: BTreeSet<(LayerId, u64)> = map.entries().map(|entry| (entry.layer, entry.len)).collect();
        let total = layers.iter().map(|(_, len)| len).sum();
        let mut done = 0;
        for (layer, len) in layers {
            usage.add_layer(&Layer::open(&self.core.objects, layer)?)?;
            done += len;
            if !progress(done, total) {
                return Err(PageStoreError::Interrupted);
            }
        }
        Ok(usage)
    }
}
