//! Which keys a timeline changed, without what they became.

use std::cmp::Reverse;
use std::collections::BinaryHeap;
use std::sync::Arc;

use neon_types::{KeyRange, Lsn, PackedKey};

use super::open::OpenLayer;
use super::{Timeline, read};
use crate::Result;
use crate::layer::{LayerCursor, LayerKind};

/// Keys in order, from one place.
enum Keys {
    Memory(std::vec::IntoIter<PackedKey>),
    Layer(LayerCursor),
}

impl Keys {
    /// Returns the next key with a version above `from`.
    fn next(&mut self, from: Lsn) -> Result<Option<PackedKey>> {
        let cursor = match self {
            Keys::Memory(keys) => return Ok(keys.next()),
            Keys::Layer(cursor) => cursor,
        };
        let mut found = None;
        while let Some((key, lsn)) = cursor.entry().map(|entry| (entry.key, entry.lsn)) {
            if found.is_some_and(|found| found != key) {
                break;
            }
            if lsn > from {
                found = Some(key);
            }
            cursor.advance()?;
        }
        Ok(found)
    }
}

/// Returns the keys of an index that have a version above `from`.
fn keys_of(layer: &OpenLayer, from: Lsn) -> Keys {
    let touched = layer
        .iter()
        .filter(|(_, versions)| versions.iter().any(|version| version.lsn > from));
    let keys: Vec<PackedKey> = touched.map(|(key, _)| *key).collect();
    Keys::Memory(keys.into_iter())
}

impl Timeline {
    /// Calls `f` with each key that has a version of this timeline above `from`, which is not below its start, in key order, until it
    /// returns false. Record boundaries that are not sealed are left out.
    pub(crate) fn for_each_touched(
        &self,
        from: Lsn,
        f: &mut dyn FnMut(PackedKey) -> Result<bool>,
    ) -> Result<()> {
        let (mut places, map) = {
            let memory = read(&self.memory);
            let frozen = memory.frozen.as_deref().map(|frozen| keys_of(frozen, from));
            let open = keys_of(&memory.open, from);
            let places: Vec<Keys> = frozen.into_iter().chain([open]).collect();
            (places, memory.map.clone())
        };
        for entry in map.iter().flat_map(|map| map.entries()) {
            if entry.kind == LayerKind::Delta && entry.visible().end > from {
                let layer = Arc::clone(&self.core.cache.layer(&self.core.objects, entry.layer)?);
                places.push(Keys::Layer(
                    LayerCursor::seek(layer, None, KeyRange::ALL)?.frugal(),
                ));
            }
        }
        let mut heap = BinaryHeap::new();
        for (index, place) in places.iter_mut().enumerate() {
            heap.extend(place.next(from)?.map(|key| Reverse((key, index))));
        }
        let mut last = None;
        while let Some(Reverse((key, index))) = heap.pop() {
            if let Some(place) = places.get_mut(index) {
                heap.extend(place.next(from)?.map(|next| Reverse((next, index))));
            }
            if last != Some(key) && !f(key)? {
                return Ok(());
            }
            last = Some(key);
        }
        Ok(())
    }
}
