//! The layer maps that somebody in this process may read by.

use std::sync::{Arc, Mutex, MutexGuard, PoisonError, Weak};

use crate::map::LayerMap;

/// Every map that a timeline has used since the process began and that somebody still holds: a read that began before a map was replaced
/// finds its layers as long as it holds the map.
#[derive(Debug, Default)]
pub(crate) struct LiveMaps(Mutex<Vec<Weak<LayerMap>>>);

impl LiveMaps {
    fn lock(&self) -> MutexGuard<'_, Vec<Weak<LayerMap>>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Notes a map, before anybody can read by it.
    pub(crate) fn add(&self, map: &Arc<LayerMap>) {
        let mut maps = self.lock();
        if maps.len() == maps.capacity() {
            maps.retain(|map| map.strong_count() > 0);
        }
        maps.push(Arc::downgrade(map));
    }

    /// Returns the maps that somebody holds.
    pub(crate) fn all(&self) -> Vec<Arc<LayerMap>> {
        self.lock().iter().filter_map(Weak::upgrade).collect()
    }
}

#[cfg(test)]
mod tests {
    use neon_types::Lsn;

    use super::*;

    #[test]
    fn a_map_lives_as_long_as_somebody_holds_it() {
        let live = LiveMaps::default();
        let held = Arc::new(LayerMap::new(Lsn(8), Vec::new()));
        live.add(&held);
        for _ in 0..100 {
            live.add(&Arc::new(LayerMap::new(Lsn(16), Vec::new())));
        }
        assert_eq!(live.all(), [Arc::clone(&held)]);
        assert!(live.lock().capacity() < 50, "what is gone makes room");
        drop(held);
        assert!(live.all().is_empty());
    }
}
