//! `fsck --deep`: sealed history is derived again from the WAL that is still kept.

use neon_types::{LsnRange, TimelineId};

use super::Finding;
use crate::PageStore;
use crate::timeline::Rederived;

/// What was derived again, and what differs.
#[derive(Debug, Default)]
pub struct Deep {
    /// Bytes of WAL that were taken in again.
    pub wal_bytes: u64,
    /// Versions in delta layers that were compared with what the WAL makes, on whichever side they are.
    pub versions: u64,
    /// Values in image layers that were compared with what the changes lead to.
    pub images: u64,
    /// Sealed history that was not derived again.
    pub skipped: Vec<Skipped>,
    /// What differs.
    pub findings: Vec<Finding>,
    /// It was ended before it was through.
    pub ended: bool,
}

/// Sealed history that was not derived again.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Skipped {
    /// The timeline.
    pub timeline: TimelineId,
    /// The changes.
    pub range: LsnRange,
    /// Why.
    pub reason: String,
}

/// Derives the layers of all timelines again, as far as their WAL is kept, and compares. Memory: some 100 MiB beside the store's caches,
/// however long the history is. Timelines and layers that cannot be read are [`fsck`](super::fsck)'s business: here they are skipped.
///
/// `progress` is told bytes of WAL done and in all, and ends it by returning false.
pub fn fsck_deep(store: &PageStore, progress: &mut dyn FnMut(u64, u64) -> bool) -> Deep {
    let timelines: Vec<_> = store
        .list()
        .into_iter()
        .filter_map(|id| store.get(id).ok())
        .collect();
    let total = timelines.iter().map(|timeline| timeline.rederivable()).sum();
    let mut deep = Deep::default();
    for timeline in timelines {
        let before = deep.wal_bytes;
        let found = timeline.rederive(&mut |bytes| {
            deep.ended = deep.ended || !progress(before + bytes, total);
            !deep.ended
        });
        deep.take(timeline.id(), found);
        if deep.ended {
            break;
        }
    }
    deep
}

impl Deep {
    fn take(&mut self, timeline: TimelineId, found: Rederived) {
        self.wal_bytes += found.wal_bytes;
        self.versions += found.versions;
        self.images += found.images;
        let skipped = found.skipped.into_iter().map(|(range, reason)| Skipped {
            timeline,
            range,
            reason,
        });
        self.skipped.extend(skipped);
        let more = found.differences.more;
        let more = (more > 0).then(|| {
            (
                None,
                format!("{more} more versions differ from what the WAL makes"),
            )
        });
        for (object, problem) in found.differences.named.into_iter().chain(more) {
            self.findings.push(Finding {
                timeline: Some(timeline),
                object,
                problem,
            });
        }
    }
}
