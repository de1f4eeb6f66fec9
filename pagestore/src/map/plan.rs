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

/// A layer to look into for the keys of a range.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct RangeVisit {
    /// What to look for in it.
    pub visit: Visit,
    /// The keys to look for: a part of the layer's and of the range.
    pub keys: KeyRange,
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
        // Nor have newer ones that reach below it.
        if let Some(image) = visits.last().filter(|visit| visit.entry.kind == LayerKind::Image) {
            let image = image.lsns;
            visits.retain_mut(|visit| {
                if visit.entry.kind == LayerKind::Delta {
                    visit.lsns.start = visit.lsns.start.max(image.end);
                }
                !visit.lsns.is_empty()
            });
        }
        visits
    }

    /// Returns the layers that may hold versions of keys in `range` at or below `lsn`, images first. Of the deltas, versions may be
    /// found that an image makes unnecessary.
    pub(crate) fn plan_range(&self, range: KeyRange, lsn: Lsn) -> Vec<RangeVisit> {
        let images = self.newest_images(range, lsn);
        let mut visits: Vec<RangeVisit> = images
            .iter()
            .filter_map(|(keys, image)| {
                let entry = (*image)?;
                let lsns = wanted(&entry, lsn, Lsn::INVALID)?;
                Some(RangeVisit {
                    visit: Visit { entry, lsns },
                    keys: *keys,
                })
            })
            .collect();
        let lowest = images.iter().map(|(_, image)| base_of(image.as_ref())).min();
        let deltas = self
            .entries()
            .take_while(|entry| Some(entry.visible().end) > lowest)
            .filter(|entry| entry.kind == LayerKind::Delta && entry.keys.overlaps(&range));
        for entry in deltas {
            let Some(lsns) = wanted(&entry, lsn, Lsn::INVALID) else {
                continue;
            };
            // From the first to the last key of which the layer has something to add.
            let mut keys: Option<KeyRange> = None;
            let first = images.partition_point(|(keys, _)| keys.end <= entry.keys.start);
            for (part, image) in images.iter().skip(first) {
                if part.start >= entry.keys.end {
                    break;
                }
                if base_of(image.as_ref()) < lsns.end {
                    let start = keys.map_or(part.start.max(entry.keys.start), |keys| keys.start);
                    let end = part.end.min(entry.keys.end);
                    keys = Some(KeyRange { start, end });
                }
            }
            if let Some(keys) = keys {
                visits.push(RangeVisit {
                    visit: Visit { entry, lsns },
                    keys,
                });
            }
        }
        visits
    }

    /// Returns the newest image layer at or below `lsn` of every key of `range`, none where there is none: parts that follow each
    /// other without gaps.
    pub(crate) fn newest_images(&self, range: KeyRange, lsn: Lsn) -> Vec<(KeyRange, Option<MapEntry>)> {
        let mut found: Vec<(KeyRange, Option<MapEntry>)> = Vec::new();
        let mut open = vec![range];
        for entry in self.entries() {
            if open.is_empty() {
                break;
            }
            if entry.kind != LayerKind::Image || entry.visible().end > lsn || !entry.keys.overlaps(&range) {
                continue;
            }
            let first = open.partition_point(|part| part.end <= entry.keys.start);
            let last = open.partition_point(|part| part.start < entry.keys.end);
            let mut rest = Vec::new();
            for part in open.get(first..last).unwrap_or_default() {
                let start = part.start.max(entry.keys.start);
                let end = part.end.min(entry.keys.end);
                found.push((KeyRange { start, end }, Some(entry)));
                let before = KeyRange {
                    start: part.start,
                    end: start,
                };
                let after = KeyRange {
                    start: end,
                    end: part.end,
                };
                rest.extend([before, after].into_iter().filter(|part| part.start < part.end));
            }
            if first < last {
                open.splice(first..last, rest);
            }
        }
        found.extend(open.into_iter().map(|part| (part, None)));
        found.sort_unstable_by_key(|(keys, _)| keys.start);
        found
    }
}

/// Returns the LSN at and below which an image answers.
fn base_of(image: Option<&MapEntry>) -> Lsn {
    image.map_or(Lsn::INVALID, |image| image.lsns.end)
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
