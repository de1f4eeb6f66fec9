//! A data directory that went on without us: what it has changed becomes layers of a timeline that forks where we stopped.

use std::sync::Arc;

use neon_types::LsnRange;

use super::changes::Changes;
use super::layers::{Layers, Of};
use super::{LastRecord, cluster_facts, refused};
use crate::import::{self, ImportSource};
use crate::map::MapEntry;
use crate::{NewTimeline, PageStore, PageStoreError, Result, Timeline};

impl PageStore {
    /// Makes a timeline that forks at a position, and reaches to the end of the shutdown checkpoint of a data directory that went on from there.
    /// There it is what the directory is; between fork and end it has no position. `progress` is told bytes read and bytes in all; it ends
    /// the work by returning false.
    ///
    /// Errors: [`PageStoreError::Refused`] for a directory of another cluster, or one that is not ahead of the position. What is refused leaves
    /// nothing.
    pub fn resync(
        &self,
        new: NewTimeline,
        source: &ImportSource,
        progress: &mut dyn FnMut(u64, u64) -> bool,
    ) -> Result<Arc<Timeline>> {
        let _hold = self.objects().hold();
        let last = LastRecord::of(source)?;
        let refuse = |reason: String| PageStoreError::Refused {
            timeline: new.id,
            reason,
        };
        if self.get(new.ancestor.timeline)?.state().cluster() != cluster_facts(source) {
            return Err(refuse("the directory is of another cluster".to_owned()));
        }
        if last.span.start < new.ancestor.lsn {
            return Err(refuse(format!(
                "the directory ends at {}, and {} is held",
                last.lsn(),
                new.ancestor.lsn
            )));
        }
        let end = last.lsn();
        // Until it is whole it is nobody's, and garbage if we die.
        let timeline = self.create(NewTimeline {
            branch: None,
            provisional: false,
            ..new.clone()
        })?;
        let taken = self
            .changes(&timeline, last, source, progress)
            .and_then(|entries| timeline.take_layers(entries, end));
        if let Err(error) = taken {
            drop(timeline);
            self.remove(new.id)?;
            return Err(error);
        }
        timeline.update_state(|state| {
            state.branch = new.branch;
            state.provisional = new.provisional;
        })?;
        Ok(timeline)
    }

    fn changes(
        &self,
        timeline: &Timeline,
        last: LastRecord,
        source: &ImportSource,
        progress: &mut dyn FnMut(u64, u64) -> bool,
    ) -> Result<Vec<MapEntry>> {
        let lsns = LsnRange {
            start: timeline.start(),
            end: last.lsn(),
        };
        let layers = Layers::new(self, Of::Range(lsns), last.boundary)?;
        let mut changes = Changes::new(timeline, lsns.start, last.span.start, layers)?;
        import::import(source, &mut |key, value| changes.take(key, value), progress).map_err(refused)?;
        changes.finish()?.finish()
    }
}
