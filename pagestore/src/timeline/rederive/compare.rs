//! The versions that WAL makes, and those that delta layers hold: each must be on both sides and say the same.

use std::collections::{BTreeMap, HashSet};
use std::num::NonZero;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::sync::mpsc;
use std::thread;

use neon_postgres::Page;
use neon_postgres::wal::Record;
use neon_types::{Key, KeyRange, LayerId, Lsn, PackedKey, RelTag, with_causes};

use super::super::Timeline;
use super::super::open::{OpenVersion, Slot};
use super::super::read::{Limit, Sealed};
use super::super::sizes::Sizes;
use super::Differences;
use super::chunk::Chunk;
use crate::items::RelSize;
use crate::layer::{LayerKind, MergedCursor};
use crate::map::LayerMap;
use crate::value::{Value, is_page_tag};
use crate::{PageStoreError, Result};

/// Most threads that compare.
const MAX_WORKERS: usize = 16;
/// Parts of the keys for each thread, so that none waits long for the last.
const PARTS: usize = 4;

/// Keys that are remembered at most because their changes differ.
const MAX_UNSOUND: usize = 1 << 16;

/// What was compared.
#[derive(Debug, Default)]
pub(super) struct Compared {
    /// Versions, those that are on one side alone among them.
    pub versions: u64,
    pub differences: Differences,
    unsound: Unsound,
}

/// Keys whose changes differ: a page delta above them says nothing new.
#[derive(Debug, Default)]
pub(super) struct Unsound {
    keys: HashSet<PackedKey>,
    /// There are too many: none is judged by.
    all: bool,
}

impl Unsound {
    fn contains(&self, key: &PackedKey) -> bool {
        self.all || self.keys.contains(key)
    }

    fn take(&mut self, other: Unsound) {
        self.keys.extend(other.keys);
        self.all |= other.all || self.keys.len() > MAX_UNSOUND;
        if self.all {
            self.keys.clear();
        }
    }
}

/// Compares the versions of a chunk with those of the delta layers of `map`, by all processors at once; none when `stop` said so, which
/// is asked now and then. Pages and sizes are read from `checked`, which lists the same without images that may be wrong. `unsound` are the keys that differ below the chunk, and afterwards those in it too.
pub(super) fn compare(
    timeline: &Timeline,
    map: &LayerMap,
    checked: &LayerMap,
    chunk: &Chunk,
    unsound: &mut Unsound,
    stop: &mut dyn FnMut() -> bool,
) -> Result<Option<Compared>> {
    let workers = thread::available_parallelism()
        .map_or(1, NonZero::get)
        .min(MAX_WORKERS);
    let versions: usize = chunk.open.iter().map(|(_, versions)| versions.len()).sum();
    let parts = chunk.open.parts(versions / (workers * PARTS) + 1);
    let (next, ended) = (AtomicUsize::new(0), AtomicBool::new(false));
    let (tell, told) = mpsc::channel::<(usize, Result<Compared>)>();
    // By their place, so that what is told is in the order of the keys.
    let mut done: BTreeMap<usize, Compared> = BTreeMap::new();
    let mut failed = None;
    thread::scope(|scope| {
        for _ in 0..workers {
            let tell = tell.clone();
            let (parts, next, ended, unsound) = (&parts, &next, &ended, &*unsound);
            scope.spawn(move || {
                loop {
                    let number = next.fetch_add(1, Ordering::Relaxed);
                    let Some(keys) = parts.get(number).filter(|_| !ended.load(Ordering::Relaxed)) else {
                        return;
                    };
                    let mut comparison = Comparison::new(timeline, [map, checked], chunk, unsound);
                    let result = comparison.keys(*keys).map(|()| comparison.compared);
                    // Nobody listens any more once the comparison was ended.
                    let _ = tell.send((number, result));
                }
            });
        }
        drop(tell);
        for (number, result) in told {
            match result {
                Ok(compared) => drop(done.insert(number, compared)),
                Err(error) => failed = Some(error),
            }
            if failed.is_some() || stop() {
                ended.store(true, Ordering::Relaxed);
            }
        }
    });
    if let Some(error) = failed {
        return Err(error);
    }
    if ended.into_inner() {
        return Ok(None);
    }
    let mut all = Compared::default();
    for compared in done.into_values() {
        all.versions += compared.versions;
        all.differences.take(compared.differences);
        unsound.take(compared.unsound);
    }
    Ok(Some(all))
}

struct Comparison<'a> {
    timeline: &'a Timeline,
    /// What a reader reads by.
    map: &'a LayerMap,
    /// What is known to be right below the chunk.
    checked: &'a LayerMap,
    chunk: &'a Chunk,
    unsound: &'a Unsound,
    sizes: Sizes<'a>,
    compared: Compared,
}

/// A version as a layer holds it.
#[derive(Clone, Copy)]
struct Stored<'a> {
    layer: LayerId,
    lsn: Lsn,
    tag: u8,
    value: &'a [u8],
}

impl<'a> Comparison<'a> {
    fn new(
        timeline: &'a Timeline,
        [map, checked]: [&'a LayerMap; 2],
        chunk: &'a Chunk,
        unsound: &'a Unsound,
    ) -> Comparison<'a> {
        Comparison {
            timeline,
            map,
            checked,
            chunk,
            unsound,
            sizes: Sizes::new(timeline, &chunk.open),
            compared: Compared::default(),
        }
    }

    /// Compares all versions of the keys of a range.
    fn keys(&mut self, keys: KeyRange) -> Result<()> {
        let (timeline, chunk) = (self.timeline, self.chunk);
        let layers: Vec<_> = self
            .map
            .entries()
            .filter(|entry| entry.kind == LayerKind::Delta && entry.keys.overlaps(&keys))
            .filter(|entry| entry.visible().overlaps(&chunk.lsns))
            .collect();
        let wanted = |layer: LayerId, lsn: Lsn| {
            chunk.lsns.contains(lsn)
                && layers
                    .iter()
                    .any(|entry| entry.layer == layer && entry.visible().contains(lsn))
        };
        let part = |entry: &crate::map::MapEntry| KeyRange {
            start: entry.keys.start.max(keys.start),
            end: entry.keys.end.min(keys.end),
        };
        let mut stored = MergedCursor::new(
            &timeline.core.cache,
            &timeline.core.objects,
            layers.iter().map(|entry| (entry.layer, part(entry))),
        )?;
        let mut derived = chunk.open.within(keys).peekable();
        loop {
            let next = stored.entry().map(|(entry, layer)| (entry.key, entry.lsn, layer));
            if let Some((_, lsn, layer)) = next
                && !wanted(layer, lsn)
            {
                stored.advance()?;
                continue;
            }
            let key = match (next, derived.peek()) {
                (None, None) => return Ok(()),
                (Some((stored, ..)), Some((derived, _))) => stored.min(**derived),
                (Some((key, ..)), None) => key,
                (None, Some((key, _))) => **key,
            };
            let versions = derived.next_if(|(derived, _)| **derived == key);
            let versions = versions.map_or(&[][..], |(_, versions)| versions);
            let mut side = OneKey {
                key,
                derived: versions,
                passed: 0,
            };
            while let Some((entry, layer)) = stored.entry().filter(|(entry, _)| entry.key == key) {
                if wanted(layer, entry.lsn) {
                    let version = Stored {
                        layer,
                        lsn: entry.lsn,
                        tag: entry.tag,
                        value: entry.value,
                    };
                    side.stored(self, version)?;
                }
                stored.advance()?;
            }
            side.end(self)?;
        }
    }

    fn differs(&mut self, layer: Option<LayerId>, key: &PackedKey, lsn: Lsn, problem: &str) {
        let object = layer.map(|layer| layer.0);
        let problem = format!("{} at {lsn}: {problem}", name(key));
        self.compared.differences.add(object, problem);
        if self.compared.unsound.keys.len() <= MAX_UNSOUND {
            self.compared.unsound.keys.insert(*key);
        }
    }

    /// Returns true when earlier changes of the key differ.
    fn is_unsound(&self, key: &PackedKey) -> bool {
        self.unsound.contains(key) || self.compared.unsound.contains(key)
    }

    /// Returns true when both say the same.
    fn is_same(&mut self, key: &PackedKey, derived: &OpenVersion, stored: Stored<'_>) -> Result<bool> {
        match &derived.slot {
            Slot::Put(value) => Ok(value.stored(derived.whole) == (stored.tag, stored.value)),
            Slot::Absent => Ok(Value::Absent.stored(derived.whole) == (stored.tag, stored.value)),
            Slot::Wal { start, index } => {
                let record = self.record(*start, derived.lsn)?;
                let index = usize::from(*index);
                let slice = record.slice_for_block(index);
                if Value::Record(slice).stored(derived.whole) == (stored.tag, stored.value) {
                    return Ok(true);
                }
                if !derived.whole || !is_page_tag(stored.tag) {
                    return Ok(false);
                }
                if self.is_unsound(key) {
                    return Ok(true);
                }
                // A page in the place of a record: what counts is that it is the page that the record makes.
                let Ok(key) = Key::unpack(key) else {
                    return Ok(false);
                };
                let mut page = Page::zeroed();
                self.timeline
                    .redo_record(key, derived.lsn, &record, index, &mut page)?;
                Ok(self.page_at(key, derived.lsn)? == page)
            }
        }
    }

    fn record(&self, start: Lsn, end: Lsn) -> Result<Record> {
        let bytes = self.timeline.wal.record(start, end)?;
        Record::decode(self.timeline.version, bytes)
            .map_err(|error| PageStoreError::damaged(format!("the record at {start}"), error))
    }

    /// Returns a block as a read at `lsn` makes it from the layers.
    fn page_at(&mut self, key: Key, lsn: Lsn) -> Result<Page> {
        let Key::Block(rel, block) = key else {
            return Err(PageStoreError::WrongKind { key, lsn });
        };
        let size = self
            .size(rel, lsn)?
            .ok_or(PageStoreError::NoRelation { rel, lsn })?;
        let mut found = Vec::new();
        let timeline = self.timeline;
        timeline.sealed_by(self.checked).collect(
            &key.pack(),
            lsn,
            size.floor(block),
            Limit::NONE,
            &mut found,
        )?;
        timeline.rebuild(key, found, || timeline.copied_page(block, &size, 0))
    }

    fn sealed(&self) -> Sealed<'a> {
        self.timeline.sealed_by(self.map)
    }

    /// Returns the size of a relation at `lsn`, in the chunk, as the WAL has it.
    fn size(&mut self, rel: RelTag, lsn: Lsn) -> Result<Option<RelSize>> {
        let (timeline, checked, start) = (self.timeline, self.checked, self.chunk.lsns.start);
        self.sizes
            .at(rel, lsn, || timeline.rel_size_in(checked, rel, start))
    }

    /// Returns true when a layer has a version of `key` at or below `lsn`.
    fn is_known(&self, key: &PackedKey, lsn: Lsn) -> Result<bool> {
        let mut found = Vec::new();
        self.sealed()
            .collect(key, lsn, Lsn::INVALID, Limit::NONE, &mut found)?;
        Ok(!found.is_empty())
    }
}

/// One key on its way: what its WAL makes, against what comes from layers in order.
struct OneKey<'a> {
    key: PackedKey,
    derived: &'a [OpenVersion],
    /// How many derived versions are below the last stored one, or at it.
    passed: usize,
}

impl OneKey<'_> {
    fn kind(&self) -> Option<Key> {
        Key::unpack(&self.key).ok()
    }

    /// Takes the next version of a layer.
    fn stored(&mut self, comparison: &mut Comparison<'_>, stored: Stored<'_>) -> Result<()> {
        if matches!(self.kind(), Some(Key::Boundaries { .. })) {
            // Compared as a whole, by what they tell.
            return Ok(());
        }
        self.pass(comparison, |lsn| lsn < stored.lsn)?;
        if let Some(next) = self
            .derived
            .get(self.passed)
            .filter(|next| next.lsn == stored.lsn)
        {
            comparison.compared.versions += 1;
            self.passed += 1;
            return self.compare(comparison, next, stored);
        }
        // The same version may be in two layers that were received.
        let last = self.passed.checked_sub(1).and_then(|last| self.derived.get(last));
        if let Some(last) = last.filter(|last| last.lsn == stored.lsn) {
            return self.compare(comparison, last, stored);
        }
        comparison.compared.versions += 1;
        comparison.differs(
            Some(stored.layer),
            &self.key,
            stored.lsn,
            "the layer holds a version that the WAL does not make",
        );
        Ok(())
    }

    fn compare(
        &self,
        comparison: &mut Comparison<'_>,
        derived: &OpenVersion,
        stored: Stored<'_>,
    ) -> Result<()> {
        let problem = match comparison.is_same(&self.key, derived, stored) {
            Ok(true) => return Ok(()),
            Ok(false) => "the layer holds another version than the WAL makes".to_owned(),
            // The page cannot be made of what layers hold, or of the record.
            Err(
                error @ (PageStoreError::Damaged { .. }
                | PageStoreError::Redo { .. }
                | PageStoreError::WrongKind { .. }
                | PageStoreError::NoRelation { .. }),
            ) => format!("the layer's version leads to no page: {}", with_causes(&error)),
            Err(error) => return Err(error),
        };
        comparison.differs(Some(stored.layer), &self.key, derived.lsn, &problem);
        Ok(())
    }

    /// Passes derived versions that no layer holds.
    fn pass(&mut self, comparison: &mut Comparison<'_>, more: impl Fn(Lsn) -> bool) -> Result<()> {
        while let Some(version) = self.derived.get(self.passed).filter(|next| more(next.lsn)) {
            self.passed += 1;
            comparison.compared.versions += 1;
            // Of records that redo does not know, the first of a relation is noted.
            let is_mark = matches!(self.kind(), Some(Key::Unreadable(_)));
            if !is_mark || !comparison.is_known(&self.key, version.lsn)? {
                comparison.differs(
                    None,
                    &self.key,
                    version.lsn,
                    "no layer holds the version that the WAL makes",
                );
            }
        }
        Ok(())
    }

    /// No layer has more.
    fn end(&mut self, comparison: &mut Comparison<'_>) -> Result<()> {
        if let Some(Key::Boundaries { mebibyte }) = self.kind() {
            return comparison.boundaries(mebibyte, self.derived);
        }
        self.pass(comparison, |_| true)
    }
}

impl Comparison<'_> {
    /// Compares what layers say of the records that begin in a mebibyte.
    fn boundaries(&mut self, mebibyte: u64, derived: &[OpenVersion]) -> Result<()> {
        let sealed = self.sealed();
        let told = super::boundaries::told(self.timeline, &sealed, mebibyte, self.chunk.lsns)?;
        let made = super::boundaries::made(derived)?;
        self.compared.versions += told.versions;
        for (lsn, problem) in super::boundaries::differences(&told.records, &made) {
            let key = Key::Boundaries { mebibyte }.pack();
            self.differs(None, &key, lsn, problem);
        }
        Ok(())
    }
}

/// Returns what a key is called in a finding.
pub(crate) fn name(key: &PackedKey) -> String {
    match Key::unpack(key) {
        Ok(Key::Block(rel, block)) => format!("block {block} of relation {rel}"),
        Ok(Key::RelSize(rel)) => format!("the size of relation {rel}"),
        Ok(Key::Boundaries { mebibyte }) => format!("the record boundaries of mebibyte {mebibyte}"),
        _ => format!("{key:?}"),
    }
}
