//! Taking out of layers what retention leaves unread in them.

use std::collections::HashMap;

use neon_types::{LsnRange, RelTag};

use super::{Timeline, lock};
use crate::Result;
use crate::compact::shrink::{Contents, Part, Shrink, candidates, write};
use crate::gc::Spans;
use crate::map::LayerMap;

/// Bytes of layers before and after.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Shrunk {
    /// Of those that went.
    pub from: u64,
    /// Of those that came.
    pub to: u64,
}

impl Timeline {
    /// Writes runs of layers anew of which not everything can be read: see [`Timeline::retain`]. `stop` is asked now and then. The layers
    /// that go stay objects until they are collected.
    ///
    /// What a readable position returns is the same before and after. After an error nothing is lost.
    pub fn shrink(&self, stop: &dyn Fn() -> bool) -> Result<Shrunk> {
        let _compacting = lock(&self.compacting);
        let _hold = self.core.objects.hold();
        let mut shrunk = Shrunk::default();
        while let (Some(map), Some(readable)) = (self.layer_map(), self.readable()) {
            let next = self.worth_shrinking(&map, &readable)?.into_iter().next();
            let Some(shrink) = next else { break };
            let made = &mut |_: &_| self.compact_step("shrink-after-layer");
            let Some(entries) = write(self, &map, &shrink, stop, made)? else {
                break;
            };
            let to: u64 = entries.iter().map(|entry| entry.len).sum();
            if to >= shrink.bytes {
                let mut dense = lock(&self.dense);
                dense.retain(|(lsns, _)| *lsns != shrink.run.lsns);
                dense.push((shrink.run.lsns, shrink.parts));
            } else if self.replace_layers(&shrink.run.layers, entries)? {
                shrunk.from += shrink.bytes;
                shrunk.to += to;
            }
        }
        Ok(shrunk)
    }

    /// Returns the runs of `map` that are worth being written anew when no more than `readable` can be read.
    pub(super) fn worth_shrinking(&self, map: &LayerMap, readable: &Spans) -> Result<Vec<Shrink>> {
        let mut worth = Vec::new();
        for shrink in candidates(map, self.start, readable) {
            let is_dense = |(lsns, parts): &(LsnRange, Vec<Part>)| {
                (*lsns, parts.as_slice()) == (shrink.run.lsns, shrink.parts.as_slice())
            };
            if lock(&self.dense).iter().any(is_dense) {
                continue;
            }
            let mut known: HashMap<RelTag, bool> = HashMap::new();
            let mut contents = Contents::default();
            for entry in &shrink.run.layers {
                let layer = self.core.cache.layer(&self.core.objects, entry.layer)?;
                let of_layer = Contents::of(&layer, &shrink, &mut |rel| {
                    if let Some(exists) = known.get(&rel) {
                        return Ok(*exists);
                    }
                    let mut exists = false;
                    for position in shrink.positions() {
                        exists = exists || self.rel_size_in(map, rel, position)?.is_some();
                    }
                    known.insert(rel, exists);
                    Ok(exists)
                })?;
                contents = contents.and(of_layer);
            }
            if contents.is_worth_it(&shrink) {
                worth.push(shrink);
            }
        }
        Ok(worth)
    }
}
