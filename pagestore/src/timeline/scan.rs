//! Many keys at one LSN, in key order: a merge over everything that may hold versions of them.

use std::cmp::Reverse;
use std::collections::BinaryHeap;
use std::ops::Range;
use std::sync::Arc;

use neon_postgres::Page;
use neon_types::{Fork, Key, KeyRange, Lsn, PackedKey, RelTag};

use super::history::first_block_key;
use super::open::{KeyVersions, OpenLayer};
use super::read::Found;
use super::wal::Pin;
use super::{Timeline, read};
use crate::items::RelSize;
use crate::layer::LayerCursor;
use crate::map::{LayerMap, RangeVisit};
use crate::value::{Value, is_whole_tag};
use crate::{PageStoreError, Result};

/// A place among the versions of one layer or of memory.
enum Source<'a> {
    Memory {
        timeline: &'a Timeline,
        versions: std::vec::IntoIter<(PackedKey, KeyVersions)>,
        next: Option<(PackedKey, KeyVersions)>,
    },
    /// A layer that the merge has not reached.
    Waiting(RangeVisit),
    Layer {
        visit: RangeVisit,
        cursor: LayerCursor,
    },
    /// It has nothing more, and takes no memory.
    Done,
}

/// The keys of a range with their versions at or below an LSN.
pub(crate) struct Merge<'a> {
    timeline: &'a Timeline,
    range: KeyRange,
    sources: Vec<Source<'a>>,
    /// (Lower bound of) the next key of each source.
    heap: BinaryHeap<Reverse<(PackedKey, usize)>>,
    _pins: Vec<Pin>,
    /// A layer that was not opened yet stays as long as a map that lists it is held.
    _maps: Vec<Arc<LayerMap>>,
}

impl<'a> Merge<'a> {
    pub(crate) fn new(timeline: &'a Timeline, range: KeyRange, lsn: Lsn) -> Merge<'a> {
        let mut merge = Merge::empty(timeline, range);
        merge.add_sources(timeline, lsn);
        merge
    }

    /// The keys of a range as the layers of a map have them; what is in memory is not looked at.
    pub(crate) fn of_map(timeline: &'a Timeline, map: Arc<LayerMap>, range: KeyRange, lsn: Lsn) -> Merge<'a> {
        let mut merge = Merge::empty(timeline, range);
        merge.add_layers(map, lsn);
        merge
    }

    /// The same, with the versions of an index over WAL above it.
    pub(crate) fn above_map(
        timeline: &'a Timeline,
        open: &OpenLayer,
        map: Arc<LayerMap>,
        range: KeyRange,
        lsn: Lsn,
    ) -> Merge<'a> {
        let mut merge = Merge::of_map(timeline, map, range, lsn);
        let versions = open.snapshot(range.start..range.end, Lsn::MAX);
        merge.add_memory(timeline, versions);
        merge
    }

    fn empty(timeline: &'a Timeline, range: KeyRange) -> Merge<'a> {
        Merge {
            timeline,
            range,
            sources: Vec::new(),
            heap: BinaryHeap::new(),
            _pins: Vec::new(),
            _maps: Vec::new(),
        }
    }

    fn add_layers(&mut self, map: Arc<LayerMap>, lsn: Lsn) {
        for visit in map.plan_range(self.range, lsn) {
            self.add(visit.keys.start, Source::Waiting(visit));
        }
        self._maps.push(map);
    }

    fn add_sources(&mut self, timeline: &'a Timeline, lsn: Lsn) {
        self._pins.push(timeline.wal.pin());
        let (open, frozen, map) = {
            let memory = read(&timeline.memory);
            let keys = self.range.start..self.range.end;
            let open = memory.open.snapshot(keys.clone(), lsn);
            let frozen = memory.frozen.clone();
            (
                open,
                frozen.map(|frozen| frozen.snapshot(keys, lsn)),
                memory.map.clone(),
            )
        };
        for versions in [Some(open), frozen].into_iter().flatten() {
            self.add_memory(timeline, versions);
        }
        match (map, &timeline.ancestor) {
            (Some(map), _) => self.add_layers(map, lsn),
            (None, Some(ancestor)) => self.add_sources(ancestor, lsn.min(timeline.start())),
            (None, None) => {}
        }
    }

    fn add_memory(&mut self, timeline: &'a Timeline, versions: Vec<(PackedKey, KeyVersions)>) {
        let mut versions = versions.into_iter();
        if let Some(next) = versions.next() {
            let key = next.0;
            let source = Source::Memory {
                timeline,
                versions,
                next: Some(next),
            };
            self.add(key, source);
        }
    }

    fn add(&mut self, key: PackedKey, source: Source<'a>) {
        self.heap.push(Reverse((key, self.sources.len())));
        self.sources.push(source);
    }

    /// Returns the next key and its versions above what `floor` says of it: newest first, down to the first whole one.
    pub(crate) fn next(
        &mut self,
        floor: &dyn Fn(&PackedKey) -> Lsn,
        found: &mut Vec<Found>,
    ) -> Result<Option<PackedKey>> {
        found.clear();
        let mut current: Option<PackedKey> = None;
        let mut at_floor = Lsn::INVALID;
        while let Some(Reverse((key, index))) = self.heap.peek().copied() {
            if current.is_some_and(|current| current != key) {
                break;
            }
            self.heap.pop();
            let Some(source) = self.sources.get_mut(index) else {
                continue;
            };
            if let Source::Waiting(visit) = source {
                let core = &self.timeline.core;
                let layer = core.cache.layer(&core.objects, visit.visit.entry.layer)?;
                let cursor = LayerCursor::seek(layer, Some(&core.cache), visit.keys)?;
                let visit = *visit;
                *source = Source::Layer { visit, cursor };
                match source.key() {
                    Some(key) => self.heap.push(Reverse((key, index))),
                    None => *source = Source::Done,
                }
                continue;
            }
            if current.is_none() {
                at_floor = floor(&key);
                current = Some(key);
            }
            source.take(&key, at_floor, found)?;
            match source.key() {
                Some(key) => self.heap.push(Reverse((key, index))),
                None => *source = Source::Done,
            }
        }
        // An image has the LSN of the last change that it holds, perhaps.
        found.sort_by_key(|version| (Reverse(version.lsn), !version.whole));
        found.dedup_by_key(|version| version.lsn);
        if let Some(whole) = found.iter().position(|version| version.whole) {
            found.truncate(whole + 1);
        }
        Ok(current)
    }
}

impl Source<'_> {
    fn key(&self) -> Option<PackedKey> {
        match self {
            Source::Memory { next, .. } => next.as_ref().map(|(key, _)| *key),
            Source::Waiting(_) | Source::Done => None,
            Source::Layer { cursor, .. } => cursor.key(),
        }
    }

    /// Moves the versions of `key` above `floor` to `found` and goes on to the next key.
    fn take(&mut self, key: &PackedKey, floor: Lsn, found: &mut Vec<Found>) -> Result<()> {
        match self {
            Source::Memory {
                timeline,
                versions,
                next,
            } => {
                if let Some((_, here)) = next.take() {
                    for version in here.as_slice().iter().filter(|version| version.lsn > floor) {
                        found.push(timeline.resolve(version.clone())?);
                    }
                }
                *next = versions.next();
            }
            Source::Waiting(_) | Source::Done => {}
            Source::Layer { visit, cursor } => {
                let begin = found.len();
                while let Some(entry) = cursor.entry().filter(|entry| entry.key == *key) {
                    if visit.visit.lsns.contains(entry.lsn) && entry.lsn > floor {
                        if is_whole_tag(entry.tag) {
                            found.truncate(begin);
                        }
                        let (value, whole) = Value::from_stored(entry.tag, entry.value)?;
                        found.push(Found {
                            lsn: entry.lsn,
                            whole,
                            value,
                        });
                    }
                    cursor.advance()?;
                }
            }
        }
        Ok(())
    }
}

impl Timeline {
    /// Calls `f` with each metadata item, and each SLRU page as its 8192 bytes, that exists in `range` at `lsn`, in key order.
    /// Blocks of relations are left out: [`Timeline::scan_pages`] reads those.
    pub fn scan_items(
        &self,
        range: KeyRange,
        lsn: Lsn,
        f: &mut dyn FnMut(Key, &[u8]) -> Result<()>,
    ) -> Result<()> {
        self.check_readable(lsn)?;
        let range = KeyRange {
            start: range.start,
            end: range.end.min(first_block_key()),
        };
        if range.start >= range.end {
            return Ok(());
        }
        let mut merge = Merge::new(self, range, lsn);
        let mut found = Vec::new();
        while let Some(packed) = merge.next(&|_| Lsn::INVALID, &mut found)? {
            let key = Key::unpack(&packed).map_err(|error| PageStoreError::damaged("a key", error))?;
            if let Some(bytes) = self.finish_value(key, std::mem::take(&mut found))? {
                f(key, &bytes)?;
            }
        }
        Ok(())
    }

    /// Calls `f` with each relation fork that exists at `lsn`, in key order.
    pub fn scan_relations(&self, lsn: Lsn, f: &mut dyn FnMut(RelTag, &RelSize)) -> Result<()> {
        let first = RelTag {
            spc: 0,
            db: 0,
            rel: 0,
            fork: Fork::Main,
        };
        let range = KeyRange {
            start: Key::RelSize(first).pack(),
            end: Key::Unreadable(first).pack(),
        };
        self.scan_items(range, lsn, &mut |key, bytes| {
            if let Key::RelSize(rel) = key {
                let size = RelSize::decode(bytes)
                    .map_err(|error| PageStoreError::damaged(format!("the size of relation {rel}"), error))?;
                f(rel, &size);
            }
            Ok(())
        })
    }

    /// Calls `f` with each of `blocks` of a relation fork as it is at `lsn`, in order, zero pages included; blocks beyond its
    /// end are left out. `pd_checksum` is 0.
    ///
    /// Reads every layer once from front to back: the way to make a data directory.
    pub fn scan_pages(
        &self,
        rel: RelTag,
        blocks: Range<u32>,
        lsn: Lsn,
        f: &mut dyn FnMut(u32, &Page) -> Result<()>,
    ) -> Result<()> {
        self.check_readable(lsn)?;
        let size = self
            .rel_size_item(rel, lsn)?
            .ok_or(PageStoreError::NoRelation { rel, lsn })?;
        let blocks = blocks.start..blocks.end.min(size.size);
        if blocks.is_empty() {
            return Ok(());
        }
        let range = KeyRange {
            start: Key::Block(rel, blocks.start).pack(),
            end: Key::Block(rel, blocks.end).pack(),
        };
        let floor = |packed: &PackedKey| match Key::unpack(packed) {
            Ok(Key::Block(_, block)) => size.floor(block),
            _ => Lsn::INVALID,
        };
        let zero = Page::zeroed();
        let unwritten = |blocks: Range<u32>, f: &mut dyn FnMut(u32, &Page) -> Result<()>| -> Result<()> {
            for block in blocks {
                match self.copied_page(block, &size, 0)? {
                    Some(page) => f(block, &page)?,
                    None => f(block, &zero)?,
                }
            }
            Ok(())
        };
        let mut merge = Merge::new(self, range, lsn);
        let mut found = Vec::new();
        let mut next = blocks.start;
        while let Some(packed) = merge.next(&floor, &mut found)? {
            let key = Key::unpack(&packed).map_err(|error| PageStoreError::damaged("a key", error))?;
            let Key::Block(_, block) = key else {
                continue;
            };
            unwritten(next..block, f)?;
            next = block + 1;
            let page = self.rebuild(key, std::mem::take(&mut found), || {
                self.copied_page(block, &size, 0)
            })?;
            f(block, &page)?;
        }
        unwritten(next..blocks.end, f)
    }
}
