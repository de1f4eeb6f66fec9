//! Compaction: fewer delta layers, newer image layers, the same history.
//!
//! A seal writes a *run*: delta layers of one LSN range that together answer for every key. A read goes through every run above the
//! newest image layer of its key. [`choose`] says, from the map and from where in the layers versions are ([`stretch`]), what is worth
//! doing next: to *merge* runs that follow each other into one ([`merge`]), or to write *images* of key ranges that were changed enough
//! ([`images`]). Versions are carried over as they are, and image layers are a shortcut for reads: at no LSN does anything change.
//!
//! [`Timeline::compact`](crate::Timeline::compact) does one such step.

pub(crate) mod choose;
pub(crate) mod images;
pub(crate) mod merge;
pub(crate) mod need;
mod run_writer;
pub(crate) mod shrink;
pub(crate) mod stretch;
#[cfg(test)]
mod tests;

use neon_types::{Key, KeyRange, LsnRange, PackedKey};

use crate::map::MapEntry;

/// What is to be done next.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Choice {
    /// Nothing is worth its cost.
    Nothing,
    /// Put delta layers together.
    Merge(Merge),
    /// Write image layers.
    Images(Images),
}

/// Runs that become one.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Merge {
    /// The layers, whole runs that follow each other.
    pub layers: Vec<MapEntry>,
    /// The changes that they answer for, of all keys.
    pub lsns: LsnRange,
}

/// Key ranges of which image layers are worth their cost.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Images {
    /// In order, none touches another.
    pub ranges: Vec<KeyRange>,
    /// The state to write.
    pub lsn: neon_types::Lsn,
}

/// Returns the keys of which compaction writes images: all but the checkpoint state, whose newest version is always in the newest
/// layer, and record boundaries, whose versions tell of different records and are found by their LSN.
pub(crate) fn imaged() -> KeyRange {
    KeyRange {
        start: Key::File { path_hash: 0 }.pack(),
        end: PackedKey::MAX,
    }
}
