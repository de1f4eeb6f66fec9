//! Dropping history that nobody retains.

use std::sync::Arc;

use neon_types::{Key, KeyRange, LayerId, Lsn, LsnRange, ObjectId, PackedKey};

use super::{Timeline, lock, read};
use crate::failpoint::failpoint;
use crate::gc::{Span, Spans, unneeded};
use crate::layer::{LayerKind, LayerWriter};
use crate::map::{LayerMap, MapEntry};
use crate::{PageStoreError, Result};

/// Layers that a timeline does not list any more, or would not.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Dropped {
    /// Which, with their bytes; other timelines may list them.
    pub layers: Vec<(LayerId, u64)>,
    /// Bytes of layers that [`Timeline::shrink`] would write anew then.
    pub shrinkable: u64,
}

impl Timeline {
    /// Takes out of the layer map what no position of `wanted` needs; positions that are not among them cannot be read afterwards, nor
    /// is any that could not be read before. Kept besides is what forks read through here and what copied databases were copied from;
    /// when it `grows` also everything from the sealed LSN on, else it is sealed. With `dry_run` nothing is changed, nor is when nothing would
    /// become smaller.
    ///
    /// What a retained position returns is the same before and after. The layers stay objects until they are collected.
    pub fn retain(&self, wanted: &Spans, grows: bool, dry_run: bool) -> Result<Dropped> {
        let _hold = self.core.objects.hold();
        if !grows && !dry_run && self.end() > self.sealed() {
            // What is not sealed would have to be indexed again, by what goes.
            self.seal()?;
        }
        let _sealing = lock(&self.sealing);
        let (map, before) = {
            let memory = read(&self.memory);
            (memory.map.clone(), memory.readable.as_deref().cloned())
        };
        let Some(map) = map else {
            return Ok(Dropped::default());
        };
        let before = before.unwrap_or_else(Spans::all);
        let mut retained = wanted.or(self.uncovered_forks().into_iter().map(Span::at));
        if grows || (!dry_run && self.end() > map.sealed()) {
            retained = retained.or([Span::since(map.sealed())]);
        }
        let retained = self.with_copied(retained.and(&before), &before)?;
        let images = self.small_images(&map, &retained, &before);
        let mut planned: Vec<MapEntry> = map.entries().collect();
        planned.extend(images.iter().map(|lsn| small_image(*lsn)));
        let mut gone = unneeded(&LayerMap::new(map.sealed(), planned), &retained);
        for entry in self.images_of_nothing(&map, &retained)? {
            if !gone.contains(&entry) {
                gone.push(entry);
            }
        }
        gone.retain(|entry| !images.contains(&entry.lsns.end) || *entry != small_image(entry.lsns.end));
        let mut entries: Vec<MapEntry> = map.entries().filter(|entry| !gone.contains(entry)).collect();
        let left = LayerMap::new(map.sealed(), entries.clone());
        let shrinks = self.worth_shrinking(&left, &retained)?;
        let dropped = Dropped {
            layers: gone.iter().map(|entry| (entry.layer, entry.len)).collect(),
            shrinkable: shrinks.iter().map(|shrink| shrink.bytes).sum(),
        };
        if dry_run || (gone.is_empty() && shrinks.is_empty()) {
            return Ok(dropped);
        }
        if !gone.is_empty() {
            for lsn in images {
                entries.push(self.write_small_image(lsn)?);
            }
        }
        self.take_retained(LayerMap::new(map.sealed(), entries), retained)?;
        Ok(dropped)
    }

    /// Returns the image layers of relations that exist at no retained position that would see them.
    fn images_of_nothing(&self, map: &LayerMap, retained: &Spans) -> Result<Vec<MapEntry>> {
        let mut useless = Vec::new();
        for entry in map.entries().filter(|entry| entry.kind == LayerKind::Image) {
            let (Ok(Key::Block(first, _)), Ok(Key::Block(last, _))) =
                (Key::unpack(&entry.keys.start), Key::unpack(&entry.keys.end))
            else {
                continue;
            };
            // What came to exist later has nothing to do with the image.
            let next = retained.next(entry.visible().end);
            let Some((position, _)) = next.filter(|(position, _)| *position <= self.end()) else {
                continue;
            };
            let sizes = KeyRange {
                start: Key::RelSize(first).pack(),
                end: Key::RelSize(last).pack().next(),
            };
            let mut exists = false;
            self.scan_items(sizes, position, &mut |key, _| {
                exists |= matches!(key, Key::RelSize(_));
                Ok(())
            })?;
            if !exists {
                useless.push(entry);
            }
        }
        Ok(useless)
    }

    fn take_retained(&self, map: LayerMap, readable: Spans) -> Result<()> {
        let step = |name| failpoint(name).map_err(PageStoreError::io("drop history in", &self.directory));
        let map = Arc::new(map);
        let id = map.write(&self.core.objects)?;
        step("retain-before-swap")?;
        self.point_to(
            map,
            id,
            |state| state.readable = Some(readable.clone()),
            |memory| memory.readable = Some(Arc::new(readable.clone())),
        )
    }

    /// Returns the forks of timelines that read through here, having no map of their own.
    fn uncovered_forks(&self) -> Vec<Lsn> {
        let registry = self.registry.upgrade();
        registry.map_or_else(Vec::new, |registry| registry.uncovered_forks(self.id))
    }

    /// Adds the positions at which relations were copied that exist at a retained position: their blocks are read there until they are
    /// written.
    fn with_copied(&self, mut retained: Spans, before: &Spans) -> Result<Spans> {
        let mut looked: Vec<Lsn> = Vec::new();
        loop {
            // What came to exist inside a span was copied inside it.
            let starts = retained.iter().map(|span| span.from);
            let Some(start) = starts
                .filter(|lsn| *lsn <= self.end())
                .find(|lsn| !looked.contains(lsn))
            else {
                return Ok(retained);
            };
            looked.push(start);
            let sources = self.copied_at(start)?;
            let lost = sources.iter().find(|lsn| !before.contains(**lsn));
            if let Some(lsn) = lost {
                return Err(self
                    .check_position(*lsn)
                    .err()
                    .unwrap_or_else(|| self.not_readable(*lsn)));
            }
            retained = retained.or(sources.into_iter().map(Span::at));
        }
    }

    fn copied_at(&self, lsn: Lsn) -> Result<Vec<Lsn>> {
        let mut sources = Vec::new();
        self.scan_relations(lsn.max(self.root().start), &mut |_, size| {
            if let Some(copied) = size.copied_from
                && !sources.contains(&copied.lsn)
            {
                sources.push(copied.lsn);
            }
        })?;
        Ok(sources)
    }

    /// Returns the LSNs at which the small keys need image layers, so that deltas below retained positions can go.
    fn small_images(&self, map: &LayerMap, retained: &Spans, before: &Spans) -> Vec<Lsn> {
        let mut lsns: Vec<Lsn> = retained
            .iter()
            .map(|span| span.from.min(map.sealed()))
            .filter(|lsn| *lsn > self.root().start && before.contains(*lsn))
            .collect();
        lsns.dedup();
        let has = |lsn: Lsn| {
            map.entries().any(|entry| {
                entry.kind == LayerKind::Image && entry.lsns.end == lsn && entry.keys.start == PackedKey::MIN
            })
        };
        lsns.retain(|lsn| !has(*lsn));
        lsns
    }

    /// Writes the checkpoint state, and which record ends at or before `lsn`: keys of which compaction makes no images.
    fn write_small_image(&self, lsn: Lsn) -> Result<MapEntry> {
        let mut writer = LayerWriter::image(&self.core.objects, lsn)?;
        let last = self.record_at_or_before(lsn)?;
        let boundaries = (last.start.0 >> 20..=lsn.0 >> 20).map(|mebibyte| Key::Boundaries { mebibyte });
        for key in [Key::Checkpoint].into_iter().chain(boundaries) {
            if let Some((_, value)) = self.newest(key, lsn)? {
                writer.add(&key.pack(), lsn, value.stored(true))?;
            }
        }
        Ok(MapEntry::whole(&writer.finish(small_keys())?))
    }
}

/// Returns the keys before those of which compaction makes images: the checkpoint state and record boundaries.
fn small_keys() -> KeyRange {
    KeyRange {
        start: PackedKey::MIN,
        end: Key::File { path_hash: 0 }.pack(),
    }
}

/// Stands for an image layer of the small keys that is not written yet.
fn small_image(lsn: Lsn) -> MapEntry {
    MapEntry {
        layer: LayerId(ObjectId::from_bytes([0; 32])),
        kind: LayerKind::Image,
        keys: small_keys(),
        lsns: LsnRange { start: lsn, end: lsn },
        clip: Lsn::MAX,
        len: 0,
    }
}
