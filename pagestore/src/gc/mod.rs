//! What a collector of garbage must know of timelines, and how they go.

mod live;
mod prune;
mod references;
mod spans;

pub(crate) use live::LiveMaps;
pub(crate) use prune::unneeded;
pub use references::{References, TimelineNode};
pub use spans::{Span, Spans};

/// What an object of the page store is, by its first bytes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum StoredKind {
    /// A layer.
    Layer,
    /// A layer map, or a chunk of one.
    Map,
}

impl StoredKind {
    /// Returns the kind of an object that begins with these eight bytes, none of one that is not ours.
    pub fn of(head: &[u8]) -> Option<StoredKind> {
        if head == crate::layer::MAGIC {
            Some(StoredKind::Layer)
        } else {
            crate::map::MAGICS
                .iter()
                .any(|magic| head == magic)
                .then_some(StoredKind::Map)
        }
    }
}
