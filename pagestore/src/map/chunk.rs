//! A part of a layer map that is stored, shared and indexed by itself.

use std::cmp::Reverse;
use std::collections::HashMap;
use std::sync::{Arc, Mutex, OnceLock, PoisonError, Weak};

use neon_objects::ObjectStore;
use neon_types::{Lsn, ObjectId, PackedKey};

use super::index::KeyIndex;
use super::{MapEntry, order};
use crate::Result;
use crate::layer::LayerKind;

/// Most layers of one chunk.
pub(super) const CHUNK_LAYERS: usize = 512;
/// Most layers of a first chunk that is no object of its own: the map lists them.
pub(super) const MAX_INLINE: usize = 64;

/// Up to 512 layers in the order of a map. Never changes, so maps share it: a fork with its ancestor, a map with the one before.
#[derive(Debug)]
pub(super) struct Chunk {
    entries: Box<[MapEntry]>,
    /// Name of the object that holds it, once it is stored.
    stored: OnceLock<ObjectId>,
    index: OnceLock<Index>,
}

/// By key: numbers of entries, newest first.
#[derive(Debug)]
struct Index {
    images: KeyIndex,
    deltas: KeyIndex,
}

impl Chunk {
    /// Makes a chunk of entries that are in order.
    pub(super) fn new(entries: Vec<MapEntry>) -> Chunk {
        debug_assert!(entries.is_sorted_by_key(order) && entries.len() <= CHUNK_LAYERS);
        Chunk {
            entries: entries.into(),
            stored: OnceLock::new(),
            index: OnceLock::new(),
        }
    }

    /// Makes the chunk that an object of that name holds.
    pub(super) fn of_object(id: ObjectId, entries: Vec<MapEntry>) -> Chunk {
        Chunk {
            stored: OnceLock::from(id),
            ..Chunk::new(entries)
        }
    }

    pub(super) fn entries(&self) -> &[MapEntry] {
        &self.entries
    }

    /// Returns the name of the object that holds it, if one does.
    pub(super) fn stored(&self) -> Option<ObjectId> {
        self.stored.get().copied()
    }

    /// Returns true when a map that begins with it lists its layers by itself.
    pub(super) fn is_inline(&self) -> bool {
        self.stored().is_none() && self.entries.len() <= MAX_INLINE
    }

    /// Stores it, if that was not done or it was collected since, and returns its name.
    pub(super) fn store(&self, objects: &ObjectStore) -> Result<ObjectId> {
        if let Some(id) = self.stored.get()
            && objects.touch(*id)
        {
            return Ok(*id);
        }
        let id = objects.put(&super::codec::encode_chunk(&self.entries))?;
        Ok(*self.stored.get_or_init(|| id))
    }

    fn index(&self) -> &Index {
        self.index.get_or_init(|| {
            let of = |kind| {
                let numbered = self.entries.iter().zip(0..);
                numbered
                    .filter(move |(entry, _)| entry.kind == kind)
                    .map(|(entry, number)| (number, entry.keys))
            };
            Index {
                images: KeyIndex::new(of(LayerKind::Image)),
                deltas: KeyIndex::new(of(LayerKind::Delta)),
            }
        })
    }

    /// Returns the number of the newest image layer of `key` at or below `lsn`.
    pub(super) fn newest_image(&self, key: &PackedKey, lsn: Lsn) -> Option<u16> {
        let newest = self.index().images.holding(key).filter_map(|numbers| {
            // Ends descend with the numbers.
            let place = numbers.partition_point(|number| self.ends_above(*number, lsn));
            numbers.get(place).copied()
        });
        newest.min()
    }

    fn ends_above(&self, number: u16, lsn: Lsn) -> bool {
        let entry = self.entries.get(usize::from(number));
        entry.is_some_and(|entry| entry.lsns.end > lsn)
    }

    /// Returns the numbers of the delta layers of `key` before `end`, newest first.
    pub(super) fn deltas(&self, key: &PackedKey, end: u16) -> Vec<u16> {
        let mut found = Vec::new();
        for numbers in self.index().deltas.holding(key) {
            let before = numbers.partition_point(|number| *number < end);
            found.extend_from_slice(numbers.get(..before).unwrap_or_default());
        }
        found.sort_unstable();
        found
    }
}

/// A chunk, and how much of it a map sees.
#[derive(Clone, Debug)]
pub(super) struct Part {
    pub(super) chunk: Arc<Chunk>,
    /// Changes above this LSN belong to another timeline; [`Lsn::MAX`] when nothing of the chunk is clipped here.
    pub(super) clip: Lsn,
}

impl Part {
    pub(super) fn new(entries: Vec<MapEntry>) -> Part {
        Part {
            chunk: Arc::new(Chunk::new(entries)),
            clip: Lsn::MAX,
        }
    }

    /// Returns what the map sees, newest first.
    pub(super) fn entries(&self) -> impl DoubleEndedIterator<Item = MapEntry> + '_ {
        self.chunk
            .entries()
            .iter()
            .filter_map(|entry| entry.clipped(self.clip))
    }

    /// Returns the part as a timeline that forks at `lsn` sees it, none when it sees nothing of it.
    pub(super) fn clipped(&self, lsn: Lsn) -> Option<Part> {
        let mut changed = false;
        let mut any = false;
        for entry in self.entries() {
            let clipped = entry.clipped(lsn);
            any |= clipped.is_some();
            changed |= clipped != Some(entry);
        }
        any.then(|| Part {
            chunk: Arc::clone(&self.chunk),
            clip: if changed { self.clip.min(lsn) } else { self.clip },
        })
    }
}

/// What the order of a map means to a read: newest end first; at one LSN deltas before images, as they lead to the state
/// that the image is of.
pub(super) fn age(entry: &MapEntry) -> (Reverse<Lsn>, Reverse<LayerKind>) {
    (Reverse(entry.visible().end), Reverse(entry.kind))
}

/// The chunks that are in memory, so that maps that share one hold it once.
#[derive(Debug, Default)]
pub(crate) struct Chunks(Mutex<HashMap<ObjectId, Weak<Chunk>>>);

impl Chunks {
    /// Returns the chunk of that name, read by `load` when no map holds it.
    pub(super) fn get(&self, id: ObjectId, load: impl FnOnce() -> Result<Chunk>) -> Result<Arc<Chunk>> {
        let known = self.known().get(&id).and_then(Weak::upgrade);
        if let Some(chunk) = known {
            return Ok(chunk);
        }
        let chunk = Arc::new(load()?);
        let mut known = self.known();
        if known.len() >= 64 && known.len() == known.capacity() {
            known.retain(|_, chunk| chunk.strong_count() > 0);
        }
        known.insert(id, Arc::downgrade(&chunk));
        Ok(chunk)
    }

    fn known(&self) -> std::sync::MutexGuard<'_, HashMap<ObjectId, Weak<Chunk>>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}
