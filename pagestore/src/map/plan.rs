//! What to read for one key: decided from the map alone.

use neon_types::{KeyRange, Lsn, LsnRange, PackedKey};

use super::chunk::Part;
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
    /// Costs O(log n) for each chunk of 512 layers down to the newest image layer, beside what is returned.
    pub(crate) fn plan(&self, key: &PackedKey, lsn: Lsn, floor: Lsn) -> Vec<Visit> {
        let mut visits = Vec::new();
        for part in &self.parts {
            // Every key of an image layer is in it, or does not exist: older layers have nothing to add.
            if plan_part(part, key, lsn, floor, &mut visits) {
                break;
            }
        }
        visits
    }

    /// Returns the layers that may hold versions of keys in `range` at or below `lsn`, in no special order.
    pub(crate) fn plan_range(&self, range: KeyRange, lsn: Lsn) -> Vec<Visit> {
        let mut visits = Vec::new();
        for entry in self.entries().filter(|entry| entry.keys.overlaps(&range)) {
            let Some(lsns) = wanted(&entry, lsn, Lsn::INVALID) else {
                continue;
            };
            visits.push(Visit { entry, lsns });
            let holds_all = entry.keys.start <= range.start && range.end <= entry.keys.end;
            if entry.kind == LayerKind::Image && holds_all {
                break;
            }
        }
        visits
    }
}

/// Adds what is to be visited of one part; true when nothing older can matter.
fn plan_part(part: &Part, key: &PackedKey, lsn: Lsn, floor: Lsn, visits: &mut Vec<Visit>) -> bool {
    let chunk = &part.chunk;
    // The oldest entry has the lowest end of all, here and in the parts before.
    let newest_end = chunk
        .entries()
        .first()
        .map_or(Lsn::INVALID, |entry| entry.visible().end);
    if newest_end.min(part.clip) <= floor {
        return true;
    }
    let image = chunk.newest_image(key, lsn.min(part.clip));
    let entry_at = |number: u16| {
        chunk
            .entries()
            .get(usize::from(number))
            .and_then(|entry| entry.clipped(part.clip))
    };
    for number in chunk.deltas(key, image.unwrap_or(u16::MAX)) {
        if let Some(entry) = entry_at(number)
            && let Some(lsns) = wanted(&entry, lsn, floor)
        {
            visits.push(Visit { entry, lsns });
        }
    }
    let Some(entry) = image.and_then(entry_at) else {
        return false;
    };
    if let Some(lsns) = wanted(&entry, lsn, floor) {
        visits.push(Visit { entry, lsns });
    }
    true
}

pub(super) fn wanted(entry: &MapEntry, lsn: Lsn, floor: Lsn) -> Option<LsnRange> {
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
