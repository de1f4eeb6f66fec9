//! Layer maps: which layers serve one timeline here. Immutable objects; a timeline's state names the current one.
//!
//! A map answers for a whole path: it lists the layers of the timeline and those of its ancestors, each clipped at the fork. It is
//! made of chunks that maps share, so that a seal writes little and a fork next to nothing, however many layers there are.

mod chunk;
mod codec;
mod cover;
mod index;
mod plan;

use std::collections::HashSet;

use neon_types::{KeyRange, LayerId, Lsn, LsnRange, ObjectId};

use crate::layer::{LayerFooter, LayerKind, SealedLayer};

use chunk::{CHUNK_LAYERS, Part, age};

pub(crate) use chunk::Chunks;
pub(crate) use codec::MAGICS;
pub(crate) use cover::gap;
pub(crate) use plan::RangeVisit;

/// A layer and what of it may be seen.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
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

    /// Returns what a timeline that forks at `lsn` sees of the layer, none when nothing: an image at or below the fork, of
    /// deltas the changes up to it.
    pub(crate) fn clipped(&self, lsn: Lsn) -> Option<MapEntry> {
        let visible = match self.kind {
            LayerKind::Image => self.lsns.end <= lsn,
            LayerKind::Delta => self.lsns.start < lsn,
        };
        let clip = if self.lsns.end > lsn {
            self.clip.min(lsn)
        } else {
            self.clip
        };
        visible.then_some(MapEntry { clip, ..*self })
    }
}

/// The layers that serve one timeline up to [`LayerMap::sealed`].
#[derive(Clone, Debug)]
pub struct LayerMap {
    sealed: Lsn,
    /// Newest first, by [`age`], within them and from one to the next.
    parts: Vec<Part>,
}

/// The order within a chunk: by age, then by key.
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
    let (end, kind) = age(entry);
    (end, kind, entry.keys.start, visible.start, entry.layer)
}

fn sorted(mut entries: Vec<MapEntry>) -> Vec<MapEntry> {
    entries.sort_by_key(order);
    entries
}

/// Cuts entries into chunks, in order. What does not fill one is at the front, where more is added.
fn parts_of(mut entries: Vec<MapEntry>) -> Vec<Part> {
    entries.sort_by_key(order);
    entries.dedup();
    let first = entries.len() % CHUNK_LAYERS;
    let (front, full) = entries.split_at_checked(first).unwrap_or_default();
    let full = full.chunks(CHUNK_LAYERS);
    [front]
        .into_iter()
        .chain(full)
        .filter(|entries| !entries.is_empty())
        .map(|entries| Part::new(entries.to_vec()))
        .collect()
}

impl LayerMap {
    /// Returns the map of these layers, which serve everything up to `sealed`.
    pub fn new(sealed: Lsn, entries: Vec<MapEntry>) -> LayerMap {
        LayerMap {
            sealed,
            parts: parts_of(entries),
        }
    }

    /// Returns the LSN up to which the map serves everything.
    pub fn sealed(&self) -> Lsn {
        self.sealed
    }

    /// Returns the layers, newest first.
    pub fn entries(&self) -> impl Iterator<Item = MapEntry> + '_ {
        self.parts.iter().flat_map(Part::entries)
    }

    /// Returns the names of the objects, beside its own, that hold it: those of its chunks. Empty for what is not stored yet.
    pub fn objects(&self) -> impl Iterator<Item = ObjectId> + '_ {
        self.parts.iter().filter_map(|part| part.chunk.stored())
    }

    /// Returns the map with more layers, serving everything up to `sealed`. Chunks that get none are shared.
    pub fn with(&self, sealed: Lsn, more: impl IntoIterator<Item = MapEntry>) -> LayerMap {
        let mut more: Vec<MapEntry> = more.into_iter().collect();
        more.sort_by_key(order);
        let mut rest = more.into_iter().peekable();
        let mut parts = Vec::with_capacity(self.parts.len() + 1);
        for (number, part) in self.parts.iter().enumerate() {
            let is_last = number + 1 == self.parts.len();
            let oldest = part.entries().next_back().map(|entry| age(&entry));
            let mut here = Vec::new();
            while let Some(entry) = rest.next_if(|entry| is_last || Some(age(entry)) <= oldest) {
                here.push(entry);
            }
            let newest = part.entries().next().map(|entry| age(&entry));
            let in_front = here.last().is_some_and(|entry| Some(age(entry)) < newest);
            let full = part.clip < Lsn::MAX || part.chunk.entries().len() + here.len() > CHUNK_LAYERS;
            if here.is_empty() {
                parts.push(part.clone());
            } else if in_front && full {
                parts.extend(parts_of(here));
                parts.push(part.clone());
            } else {
                here.extend(part.entries());
                parts.extend(parts_of(here));
            }
        }
        // Only where the map was empty.
        parts.extend(parts_of(rest.collect()));
        LayerMap { sealed, parts }
    }

    /// Returns the map with `more` in place of `gone`; none when not all of those are in it. Chunks without any of them are shared.
    pub fn replaced(&self, gone: &[MapEntry], more: impl IntoIterator<Item = MapEntry>) -> Option<LayerMap> {
        let mut missing: HashSet<MapEntry> = gone.iter().copied().collect();
        let mut parts: Vec<(Part, bool)> = Vec::with_capacity(self.parts.len());
        for part in &self.parts {
            let mut left: Vec<MapEntry> = part.entries().collect();
            let before = left.len();
            left.retain(|entry| !missing.remove(entry));
            if left.len() == before {
                parts.push((part.clone(), false));
            } else if !left.is_empty() {
                parts.push((Part::new(sorted(left)), true));
            }
        }
        if !missing.is_empty() {
            return None;
        }
        // What shrank joins its neighbour, so that no map comes to be of many chunks of little.
        let mut joined: Vec<(Part, bool)> = Vec::with_capacity(parts.len());
        for (part, shrank) in parts {
            match joined.last_mut() {
                Some((last, last_shrank))
                    if (shrank || *last_shrank)
                        && last.clip.min(part.clip) == Lsn::MAX
                        && last.chunk.entries().len() + part.chunk.entries().len() <= CHUNK_LAYERS =>
                {
                    let both = last.entries().chain(part.entries()).collect();
                    (*last, *last_shrank) = (Part::new(sorted(both)), true);
                }
                _ => joined.push((part, shrank)),
            }
        }
        let map = LayerMap {
            sealed: self.sealed,
            parts: joined.into_iter().map(|(part, _)| part).collect(),
        };
        Some(map.with(self.sealed, more))
    }

    /// Returns what a timeline that forks at `lsn` sees of this map; `lsn` is not above [`LayerMap::sealed`].
    pub fn clipped(&self, lsn: Lsn) -> LayerMap {
        let mut parts: Vec<Part> = self.parts.iter().filter_map(|part| part.clipped(lsn)).collect();
        // A chunk that is not worth an object of its own is not shared.
        if let Some(first) = parts
            .first_mut()
            .filter(|part| part.clip < Lsn::MAX && part.chunk.is_inline())
        {
            let mut entries: Vec<MapEntry> = first.entries().collect();
            entries.sort_by_key(order);
            *first = Part::new(entries);
        }
        LayerMap { sealed: lsn, parts }
    }
}

impl PartialEq for LayerMap {
    fn eq(&self, other: &LayerMap) -> bool {
        self.sealed == other.sealed && self.entries().eq(other.entries())
    }
}

impl Eq for LayerMap {}

#[cfg(test)]
mod tests;
