//! What to read for one key: decided from the map alone.

use neon_types::{KeyRange, Lsn, LsnRange, PackedKey};

use super::{LayerMap, MapEntry};
use crate::layer::LayerKind;

/// A layer to look into, and for which versions.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Visit {
    /// The layer.
    pub entry: MapEntry,
    /// The versions to look for: above `start`, at or below `end`.
    pub lsns: LsnRange,
}

impl LayerMap {
    /// Returns the layers that may hold versions of `key` above `floor` and at or below `lsn`, newest first. Whoever finds a
    /// version that needs no older one may stop at the first visit whose `lsns.end` is not above it.
    ///
    /// Linear in the number of layers; an index by key and LSN can take its place without a change to callers.
    pub(crate) fn plan(&self, key: &PackedKey, lsn: Lsn, floor: Lsn) -> Vec<Visit> {
        let mut visits = Vec::new();
        for entry in self.entries.iter().filter(|entry| entry.keys.contains(key)) {
            let Some(lsns) = wanted(entry, lsn, floor) else {
                continue;
            };
            visits.push(Visit { entry: *entry, lsns });
            if entry.kind == LayerKind::Image {
                // Every key of the range is in it, or does not exist: older layers have nothing to add.
                break;
            }
        }
        visits
    }

    /// Returns the layers that may hold versions of keys in `range` at or below `lsn`, in no special order.
    pub(crate) fn plan_range(&self, range: KeyRange, lsn: Lsn) -> Vec<Visit> {
        self.entries
            .iter()
            .filter(|entry| entry.keys.overlaps(&range))
            .filter_map(|entry| wanted(entry, lsn, Lsn::INVALID).map(|lsns| Visit { entry: *entry, lsns }))
            .collect()
    }
}

fn wanted(entry: &MapEntry, lsn: Lsn, floor: Lsn) -> Option<LsnRange> {
    let visible = entry.visible();
    match entry.kind {
        LayerKind::Image => (visible.end <= lsn && visible.end > floor).then_some(LsnRange {
            start: Lsn(visible.end.0.saturating_sub(1)),
            end: visible.end,
        }),
        LayerKind::Delta => {
            let lsns = LsnRange {
                start: visible.start.max(floor),
                end: visible.end.min(lsn),
            };
            (!lsns.is_empty()).then_some(lsns)
        }
    }
}
