//! Layer maps: which layers serve one timeline here. Immutable objects; a timeline's state names the current one.
//!
//! A map answers for a whole path: it lists the layers of the timeline and those of its ancestors, each clipped at the fork.

mod codec;
mod cover;
mod plan;

use neon_types::{KeyRange, LayerId, Lsn, LsnRange};

use crate::layer::{LayerFooter, LayerKind, SealedLayer};

pub(crate) use cover::gap;
pub(crate) use plan::Visit;

/// A layer and what of it may be seen.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct MapEntry {
    /// The layer.
    pub layer: LayerId,
    /// Its kind.
    pub kind: LayerKind,
    /// Its keys.
    pub keys: KeyRange,
    /// Its changes; of an image layer, start and end are the LSN of the images.
    pub lsns: LsnRange,
    /// Changes above this LSN belong to another timeline; [`Lsn::MAX`] when nothing is clipped.
    pub clip: Lsn,
    /// Its length in bytes.
    pub len: u64,
}

impl MapEntry {
    /// Returns the entry of a layer of which everything may be seen.
    pub fn whole(sealed: &SealedLayer) -> MapEntry {
        MapEntry::of(sealed.id, &sealed.footer, sealed.len)
    }

    pub(crate) fn of(layer: LayerId, footer: &LayerFooter, len: u64) -> MapEntry {
        MapEntry {
            layer,
            kind: footer.kind,
            keys: footer.keys,
            lsns: footer.lsns,
            clip: Lsn::MAX,
            len,
        }
    }

    /// Returns the changes of the layer that may be seen.
    pub fn visible(&self) -> LsnRange {
        LsnRange {
            start: self.lsns.start,
            end: self.lsns.end.min(self.clip),
        }
    }
}

/// The layers that serve one timeline up to [`LayerMap::sealed`].
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct LayerMap {
    sealed: Lsn,
    /// Newest end first, then by key: [`order`].
    entries: Vec<MapEntry>,
}

fn order(
    entry: &MapEntry,
) -> (
    std::cmp::Reverse<Lsn>,
    std::cmp::Reverse<LayerKind>,
    neon_types::PackedKey,
    Lsn,
    LayerId,
) {
    let visible = entry.visible();
    // At one LSN deltas come before images: they lead to the state that the image is of.
    (
        std::cmp::Reverse(visible.end),
        std::cmp::Reverse(entry.kind),
        entry.keys.start,
        visible.start,
        entry.layer,
    )
}

impl LayerMap {
    /// Returns the map of these layers, which serve everything up to `sealed`.
    pub fn new(sealed: Lsn, mut entries: Vec<MapEntry>) -> LayerMap {
        entries.sort_by_key(order);
        entries.dedup();
        LayerMap { sealed, entries }
    }

    /// Returns the LSN up to which the map serves everything.
    pub fn sealed(&self) -> Lsn {
        self.sealed
    }

    /// Returns the layers, newest first.
    pub fn entries(&self) -> &[MapEntry] {
        &self.entries
    }

    /// Returns the map with more layers, serving everything up to `sealed`.
    pub fn with(&self, sealed: Lsn, more: impl IntoIterator<Item = MapEntry>) -> LayerMap {
        let mut entries = self.entries.clone();
        entries.extend(more);
        LayerMap::new(sealed, entries)
    }

    /// Returns what a timeline that forks at `lsn` sees of this map; `lsn` is not above [`LayerMap::sealed`].
    pub fn clipped(&self, lsn: Lsn) -> LayerMap {
        let visible = |entry: &MapEntry| match entry.kind {
            LayerKind::Image => entry.lsns.end <= lsn,
            LayerKind::Delta => entry.lsns.start < lsn,
        };
        let clip = |entry: &MapEntry| MapEntry {
            clip: if entry.lsns.end > lsn {
                entry.clip.min(lsn)
            } else {
                entry.clip
            },
            ..*entry
        };
        LayerMap::new(
            lsn,
            self.entries
                .iter()
                .filter(|entry| visible(entry))
                .map(clip)
                .collect(),
        )
    }
}

#[cfg(test)]
mod tests;
