//! What a timeline changed after some LSN: every version, in order of keys and LSNs, from one pass over its layers.

use std::cmp::Reverse;
use std::collections::BinaryHeap;
use std::sync::Arc;

use neon_types::{KeyRange, Lsn, PackedKey};

use super::open::{OpenLayer, OpenVersion};
use super::read::Found;
use super::{Timeline, read};
use crate::layer::{LayerCursor, LayerKind};
use crate::value::Value;
use crate::{PageStoreError, Result};

/// A version.
pub(crate) struct Changed<'a> {
    pub key: PackedKey,
    pub lsn: Lsn,
    timeline: &'a Timeline,
    place: &'a Place,
}

impl Changed<'_> {
    /// Reads what it is; of a WAL record the whole record.
    pub(crate) fn value(&self) -> Result<Found> {
        match self.place {
            Place::Memory(versions) => match versions.as_slice().first() {
                Some((_, version)) => self.timeline.resolve(version.clone()),
                None => Err(PageStoreError::NoRecord(self.lsn)),
            },
            Place::Layer(cursor) => {
                let entry = cursor.entry().ok_or(PageStoreError::NoRecord(self.lsn))?;
                let (value, whole) = Value::from_stored(entry.tag, entry.value)?;
                Ok(Found {
                    lsn: self.lsn,
                    whole,
                    value,
                })
            }
        }
    }
}

/// Versions in order, from one place.
enum Place {
    Memory(std::vec::IntoIter<(PackedKey, OpenVersion)>),
    Layer(LayerCursor),
}

impl Place {
    fn of(layer: &OpenLayer, from: Lsn) -> Place {
        let versions = layer
            .iter()
            .flat_map(|(key, versions)| versions.iter().map(|version| (*key, version.clone())));
        let above: Vec<_> = versions.filter(|(_, version)| version.lsn > from).collect();
        Place::Memory(above.into_iter())
    }

    /// Goes to the first version above `from`, this one included, and returns which it is.
    fn settle(&mut self, from: Lsn) -> Result<Option<(PackedKey, Lsn)>> {
        let cursor = match self {
            Place::Memory(versions) => {
                return Ok(versions
                    .as_slice()
                    .first()
                    .map(|(key, version)| (*key, version.lsn)));
            }
            Place::Layer(cursor) => cursor,
        };
        while let Some((key, lsn)) = cursor.entry().map(|entry| (entry.key, entry.lsn)) {
            if lsn > from {
                return Ok(Some((key, lsn)));
            }
            cursor.advance()?;
        }
        Ok(None)
    }

    fn advance(&mut self) -> Result<()> {
        match self {
            Place::Memory(versions) => {
                versions.next();
                Ok(())
            }
            Place::Layer(cursor) => cursor.advance(),
        }
    }
}

impl Timeline {
    /// Calls `f` with each version of this timeline above `from`, which is not below its start, by key and LSN. Record boundaries that are not
    /// sealed are left out.
    pub(crate) fn for_each_change(
        &self,
        from: Lsn,
        f: &mut dyn FnMut(&Changed<'_>) -> Result<()>,
    ) -> Result<()> {
        let (mut places, map) = {
            let memory = read(&self.memory);
            let frozen = memory.frozen.as_deref().map(|frozen| Place::of(frozen, from));
            let open = Place::of(&memory.open, from);
            let places: Vec<Place> = frozen.into_iter().chain([open]).collect();
            (places, memory.map.clone())
        };
        for entry in map.iter().flat_map(|map| map.entries()) {
            if entry.kind == LayerKind::Delta && entry.visible().end > from {
                let layer = Arc::clone(&self.core.cache.layer(&self.core.objects, entry.layer)?);
                places.push(Place::Layer(
                    LayerCursor::seek(layer, None, KeyRange::ALL)?.frugal(),
                ));
            }
        }
        let mut heap = BinaryHeap::new();
        for (index, place) in places.iter_mut().enumerate() {
            heap.extend(place.settle(from)?.map(|at| Reverse((at, index))));
        }
        while let Some(Reverse(((key, lsn), index))) = heap.pop() {
            let Some(place) = places.get_mut(index) else {
                continue;
            };
            f(&Changed {
                key,
                lsn,
                timeline: self,
                place,
            })?;
            place.advance()?;
            heap.extend(place.settle(from)?.map(|at| Reverse((at, index))));
        }
        Ok(())
    }
}
