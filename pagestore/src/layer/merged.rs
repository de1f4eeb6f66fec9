//! Walks through the versions of many layers at once, in the order of (key, LSN).
//!
//! Memory: for each layer that the walk is in, a block or a few small ones; a layer is opened when its keys are reached.

use std::cmp::Reverse;
use std::collections::BinaryHeap;

use neon_objects::ObjectStore;
use neon_types::{KeyRange, LayerId, Lsn, PackedKey};

use super::format::Entry;
use super::{LayerCache, LayerCursor};
use crate::Result;

/// Where the walk is in one layer.
enum Source {
    /// It has not reached the layer's keys.
    Waiting(KeyRange),
    Open(LayerCursor),
    Done,
}

/// A place among the versions of layers, at a version or at the end.
pub(crate) struct MergedCursor<'a> {
    cache: &'a LayerCache,
    objects: &'a ObjectStore,
    sources: Vec<(LayerId, Source)>,
    /// Where each source is that has something left, or a place at or before that.
    heap: BinaryHeap<Reverse<(PackedKey, Lsn, usize)>>,
}

impl<'a> MergedCursor<'a> {
    /// Returns a cursor at the first version of the layers, of each the keys that are said.
    pub(crate) fn new(
        cache: &'a LayerCache,
        objects: &'a ObjectStore,
        layers: impl Iterator<Item = (LayerId, KeyRange)>,
    ) -> Result<MergedCursor<'a>> {
        let sources: Vec<(LayerId, Source)> = layers
            .map(|(layer, keys)| (layer, Source::Waiting(keys)))
            .collect();
        let places = sources.iter().enumerate();
        let heap = places.filter_map(|(number, (_, source))| match source {
            Source::Waiting(keys) => Some(Reverse((keys.start, Lsn::INVALID, number))),
            _ => None,
        });
        let mut cursor = MergedCursor {
            cache,
            objects,
            heap: heap.collect(),
            sources,
        };
        cursor.settle()?;
        Ok(cursor)
    }

    /// Returns the version at the cursor with the layer that holds it, none at the end.
    pub(crate) fn entry(&self) -> Option<(Entry<'_>, LayerId)> {
        let Reverse((_, _, number)) = self.heap.peek()?;
        match self.sources.get(*number)? {
            (layer, Source::Open(cursor)) => cursor.entry().map(|entry| (entry, *layer)),
            _ => None,
        }
    }

    /// Goes to the next version.
    pub(crate) fn advance(&mut self) -> Result<()> {
        if let Some(Reverse((_, _, number))) = self.heap.pop() {
            if let Some((_, Source::Open(cursor))) = self.sources.get_mut(number) {
                cursor.advance()?;
            }
            self.push(number);
        }
        self.settle()
    }

    /// Opens layers until the first place is that of a version.
    fn settle(&mut self) -> Result<()> {
        while let Some(Reverse((_, _, number))) = self.heap.peek().copied() {
            let Some((id, source)) = self.sources.get_mut(number) else {
                return Ok(());
            };
            let Source::Waiting(keys) = source else {
                return Ok(());
            };
            let layer = self.cache.layer(self.objects, *id)?;
            *source = Source::Open(LayerCursor::seek(layer, None, *keys)?.frugal());
            self.heap.pop();
            self.push(number);
        }
        Ok(())
    }

    fn push(&mut self, number: usize) {
        let Some((_, source)) = self.sources.get_mut(number) else {
            return;
        };
        let place = match source {
            Source::Open(cursor) => cursor.entry().map(|entry| (entry.key, entry.lsn)),
            _ => None,
        };
        match place {
            Some((key, lsn)) => self.heap.push(Reverse((key, lsn, number))),
            None => *source = Source::Done,
        }
    }
}
