//! Open layers and decompressed blocks, bounded.

use std::collections::{HashMap, VecDeque};
use std::hash::Hash;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use neon_objects::ObjectStore;
use neon_types::LayerId;

use super::Layer;
use crate::Result;
use crate::open_files::OpenFiles;

/// A map that forgets what was not used for longest (second chance) when its weight exceeds the limit.
#[derive(Debug)]
struct Bounded<K, V> {
    entries: HashMap<K, (V, usize, bool)>,
    order: VecDeque<K>,
    weight: usize,
    limit: usize,
}

impl<K: Copy + Eq + Hash, V: Clone> Bounded<K, V> {
    fn new(limit: usize) -> Bounded<K, V> {
        Bounded {
            entries: HashMap::new(),
            order: VecDeque::new(),
            weight: 0,
            limit,
        }
    }

    fn get(&mut self, key: &K) -> Option<V> {
        let (value, _, used) = self.entries.get_mut(key)?;
        *used = true;
        Some(value.clone())
    }

    fn remove(&mut self, key: &K) {
        if let Some((_, weight, _)) = self.entries.remove(key) {
            self.weight -= weight;
            self.order.retain(|other| other != key);
        }
    }

    fn remove_all(&mut self, gone: impl Fn(&K) -> bool) {
        self.entries.retain(|key, (_, weight, _)| {
            let gone = gone(key);
            if gone {
                self.weight -= *weight;
            }
            !gone
        });
        self.order.retain(|key| !gone(key));
    }

    fn put(&mut self, key: K, value: V, weight: usize) {
        if weight > self.limit || self.entries.contains_key(&key) {
            return;
        }
        self.weight += weight;
        self.entries.insert(key, (value, weight, false));
        self.order.push_back(key);
        while self.weight > self.limit {
            let Some(oldest) = self.order.pop_front() else {
                break;
            };
            match self.entries.get_mut(&oldest) {
                Some((_, _, used)) if *used => {
                    *used = false;
                    self.order.push_back(oldest);
                }
                _ => {
                    if let Some((_, weight, _)) = self.entries.remove(&oldest) {
                        self.weight -= weight;
                    }
                }
            }
        }
    }
}

/// A layer and the number of a block in it.
type BlockId = (LayerId, usize);

/// The open layers and recent blocks of one page store, shared by its timelines.
#[derive(Debug)]
pub(crate) struct LayerCache {
    layers: Mutex<Bounded<LayerId, Arc<Layer>>>,
    blocks: Mutex<Bounded<BlockId, Arc<Vec<u8>>>>,
    files: Arc<OpenFiles>,
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

impl LayerCache {
    pub(crate) fn new(layer_bytes: usize, block_bytes: usize, files: Arc<OpenFiles>) -> LayerCache {
        LayerCache {
            files,
            layers: Mutex::new(Bounded::new(layer_bytes)),
            blocks: Mutex::new(Bounded::new(block_bytes)),
        }
    }

    /// Returns the layer of that name, opened.
    pub(crate) fn layer(&self, objects: &ObjectStore, id: LayerId) -> Result<Arc<Layer>> {
        if let Some(layer) = lock(&self.layers).get(&id) {
            return Ok(layer);
        }
        let layer = Arc::new(Layer::open_shared(objects, id, &self.files)?);
        lock(&self.layers).put(id, Arc::clone(&layer), layer.memory());
        Ok(layer)
    }

    /// Forgets a layer that was deleted or replaced: an open file would keep the old bytes.
    pub(crate) fn forget(&self, objects: &ObjectStore, id: LayerId) {
        self.files.forget(&objects.path(id.0));
        lock(&self.layers).remove(&id);
        lock(&self.blocks).remove_all(|(layer, _)| *layer == id);
    }

    /// Returns a decompressed block.
    pub(crate) fn block(&self, layer: &Layer, block: usize) -> Result<Arc<Vec<u8>>> {
        let key = (layer.id(), block);
        if let Some(bytes) = lock(&self.blocks).get(&key) {
            return Ok(bytes);
        }
        let bytes = Arc::new(layer.block(block)?);
        lock(&self.blocks).put(key, Arc::clone(&bytes), bytes.len());
        Ok(bytes)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_weight_stays_bounded_and_what_is_used_stays() {
        let mut cache = Bounded::new(10);
        cache.put(0, 'a', 4);
        cache.put(1, 'b', 4);
        assert_eq!(cache.get(&0), Some('a'));
        cache.put(2, 'c', 4);
        assert_eq!(
            (cache.get(&0), cache.get(&1), cache.get(&2)),
            (Some('a'), None, Some('c'))
        );
        cache.put(3, 'd', 11);
        assert_eq!(cache.get(&3), None);
        assert!(cache.weight <= 10);
        cache.remove(&0);
        cache.remove_all(|key| *key == 0);
        cache.put(4, 'e', 6);
        assert_eq!(
            (cache.get(&0), cache.get(&2), cache.get(&4)),
            (None, Some('c'), Some('e'))
        );
    }
}
