//! The first state of a history: a data directory becomes image layers under a timeline of its own.

use std::sync::Arc;

use super::layers::{Layers, Of};
use super::{LastRecord, cluster_facts, refused};
use crate::import::{self, ImportSource};
use crate::map::LayerMap;
use crate::timeline::{ImportFacts, NOBODY, TimelineState};
use crate::{PageStore, Result, Timeline};

impl PageStore {
    /// Makes the timeline of a cleanly stopped data directory, readable at the end of its shutdown checkpoint. The same
    /// directory imported twice is one timeline. `progress` is told bytes read and bytes in all; it ends the import by
    /// returning false.
    pub fn import(
        &self,
        source: &ImportSource,
        progress: &mut dyn FnMut(u64, u64) -> bool,
    ) -> Result<Arc<Timeline>> {
        let _hold = self.objects().hold();
        let last = LastRecord::of(source)?;
        let lsn = last.lsn();
        let mut images = Layers::new(self, Of::At(lsn), last.boundary)?;
        let imported =
            import::import(source, &mut |key, value| images.add(key, &value), progress).map_err(refused)?;
        let entries = images.finish()?;
        let id = imported.timeline_id();
        if self.contains(id) {
            return self.get(id);
        }
        let map = LayerMap::new(lsn, entries).write(self.objects())?;
        let mut state = TimelineState::new(id, NOBODY, imported.tli, lsn, cluster_facts(source));
        state.layer_map = Some(map);
        state.import = Some(ImportFacts {
            prev_record: imported.prev_record,
            digest: hex(&imported.digest),
            tli: imported.tli,
        });
        self.install(&state)?;
        self.get(id)
    }
}

fn hex(bytes: &[u8]) -> String {
    bytes.iter().map(|byte| format!("{byte:02x}")).collect()
}
