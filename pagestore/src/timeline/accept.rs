//! Taking in what a peer sent: a claim, believed only as far as it can be checked (law 6).

use std::io::Read;
use std::sync::Arc;

use neon_types::{Key, LayerId, Lsn, LsnRange, ObjectId};

use super::open::OpenLayer;
use super::read::collect_sealed;
use super::{Timeline, lock, read, write};
use crate::boundaries::Boundaries;
use crate::layer::{LayerKind, REDO_VERSION};
use crate::map::{LayerMap, MapEntry, gap};
use crate::value::Value;
use crate::{PageStoreError, Result};

const CHUNK: usize = 1 << 20;

/// A part that arrived; its bytes are an object here, verified.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum AcceptPart {
    /// A layer.
    Layer {
        /// Its name.
        id: LayerId,
        /// What of it belongs to this timeline.
        range: LsnRange,
    },
    /// WAL bytes `[start, end)`.
    Wal {
        /// BLAKE3 of the bytes.
        id: ObjectId,
        /// Where they belong.
        range: LsnRange,
    },
}

impl Timeline {
    /// Makes this timeline readable up to `to` from parts that follow on what is held. Nothing that is held is replaced: with `to`
    /// held already, it is only made durable.
    ///
    /// Errors: [`PageStoreError::Refused`] when the parts leave a gap, overlap what is held, or are not what their footers
    /// or records say; the layer map is then as before.
    pub fn accept(&self, to: Lsn, parts: &[AcceptPart]) -> Result<()> {
        if self.wal.is_poisoned() {
            // What an earlier attempt could not make durable is not held (law 10).
            self.index_wal()?;
        }
        if self.is_based() && to <= self.end() {
            return self.make_durable(to);
        }
        if self.ancestor.is_some() && !self.is_based() {
            return Err(self.refused(format!("its ancestor is not held up to {}", self.start)));
        }
        let _hold = self.core.objects.hold();
        let mut entries = Vec::new();
        let mut wal = Vec::new();
        for part in parts {
            match part {
                AcceptPart::Layer { id, range } => entries.push(self.claimed(*id, *range)?),
                AcceptPart::Wal { id, range } => wal.push((*id, *range)),
            }
        }
        let held = self.end();
        // Without the base of an import its images must come; of what is above the base, the changes.
        let needs_base = self.ancestor.is_none() && read(&self.memory).map.is_none();
        let layers_to = entries
            .iter()
            .map(|entry| entry.visible().end)
            .max()
            .unwrap_or(held);
        self.check_cover(&entries, held, layers_to, needs_base)?;
        wal.sort_by_key(|(_, range)| range.start);
        self.check_wal(&wal, layers_to, to)?;
        if !entries.is_empty() {
            self.take_layers(entries, layers_to)?;
        }
        for (id, range) in &wal {
            self.take_wal(*id, *range)?;
        }
        if self.end() != to {
            return Err(self.refused(format!(
                "{to} is not the end of a record: the last one ends at {}",
                self.end()
            )));
        }
        for (id, _) in wal {
            self.core.objects.remove(id)?;
        }
        Ok(())
    }

    fn refused(&self, reason: String) -> PageStoreError {
        PageStoreError::Refused {
            timeline: self.id,
            reason,
        }
    }

    /// Returns the map entry of a layer whose footer bears out the claim.
    fn claimed(&self, id: LayerId, range: LsnRange) -> Result<MapEntry> {
        let layer = self.core.cache.layer(&self.core.objects, id)?;
        let footer = layer.footer();
        if footer.redo_version > REDO_VERSION {
            return Err(self.refused(format!(
                "layer {} was made with redo version {}, this program has {REDO_VERSION}",
                id.short(),
                footer.redo_version
            )));
        }
        let inside = match footer.kind {
            LayerKind::Image => footer.lsns == range,
            LayerKind::Delta => {
                footer.lsns.start == range.start
                    && footer.lsns.start < range.end
                    && range.end <= footer.lsns.end
            }
        };
        if !inside {
            return Err(self.refused(format!(
                "layer {} holds {}, not {range} as it was said to",
                id.short(),
                footer.lsns
            )));
        }
        let mut entry = MapEntry::of(id, footer, layer.file_len());
        if range.end < footer.lsns.end {
            entry.clip = range.end;
        }
        Ok(entry)
    }

    fn check_cover(&self, entries: &[MapEntry], held: Lsn, layers_to: Lsn, needs_base: bool) -> Result<()> {
        let rectangles = |kind: LayerKind| -> Vec<_> {
            entries
                .iter()
                .filter(|entry| entry.kind == kind)
                .map(|entry| (entry.keys, entry.visible()))
                .collect()
        };
        if let Some(entry) = entries
            .iter()
            .find(|entry| entry.kind == LayerKind::Delta && entry.lsns.start < held)
        {
            return Err(self.refused(format!(
                "layer {} begins at {}, and everything up to {held} is here already",
                entry.layer.short(),
                entry.lsns.start
            )));
        }
        let images = rectangles(LayerKind::Image);
        if needs_base {
            // An image layer answers for all changes up to its LSN.
            let answers: Vec<_> = images
                .iter()
                .filter(|(_, lsns)| lsns.end == self.start)
                .map(|(keys, lsns)| {
                    (
                        *keys,
                        LsnRange {
                            start: Lsn(lsns.end.0 - 1),
                            end: lsns.end,
                        },
                    )
                })
                .collect();
            let base = LsnRange {
                start: Lsn(self.start.0 - 1),
                end: self.start,
            };
            if answers.len() != images.len() {
                return Err(self.refused(format!(
                    "images that are not of the import at {} are among them",
                    self.start
                )));
            }
            if let Some(gap) = gap(&answers, base) {
                return Err(self.refused(format!(
                    "no image layer of {} answers for {:?}",
                    self.start, gap.key
                )));
            }
        } else if !images.is_empty() {
            return Err(self.refused("image layers are among them, and the base is here already".to_owned()));
        }
        let wanted = LsnRange {
            start: held,
            end: layers_to,
        };
        if let Some(gap) = gap(&rectangles(LayerKind::Delta), wanted) {
            return Err(self.refused(format!(
                "the changes of {:?} after {} are missing",
                gap.key, gap.from
            )));
        }
        Ok(())
    }

    fn check_wal(&self, wal: &[(ObjectId, LsnRange)], from: Lsn, to: Lsn) -> Result<()> {
        let mut at = from;
        for (id, range) in wal {
            let len = self.core.objects.len(*id)?;
            if range.start != at || range.is_empty() || len != range.end.bytes_since(range.start) {
                return Err(self.refused(format!("the WAL of {range} does not follow {at}")));
            }
            at = range.end;
        }
        if at == to {
            Ok(())
        } else {
            Err(self.refused(format!("they lead to {at}, not to {to}")))
        }
    }

    fn take_layers(&self, entries: Vec<MapEntry>, to: Lsn) -> Result<()> {
        // Layers hang above a map that ends where they begin.
        if self.ancestor.is_some() || read(&self.memory).map.is_some() {
            self.seal()?;
        }
        self.seal_ancestor()?;
        let _sealing = lock(&self.sealing);
        self.adopt_map()?;
        let mut indexer = lock(&self.indexer);
        let base = read(&self.memory).map.clone();
        if self.ancestor.is_some() && base.is_none() {
            return Err(self.refused(format!("its ancestor is not held up to {}", self.start)));
        }
        let map = match base {
            Some(map) if map.sealed() == self.end() => map.with(to, entries),
            Some(_) => return Err(self.refused("WAL arrived meanwhile".to_owned())),
            None => LayerMap::new(to, entries),
        };
        self.check_boundary(&map, to)?;
        indexer.ladder.write(self.end())?;
        let id = map.write(&self.core.objects)?;
        crate::failpoint::failpoint("accept-before-swap")
            .map_err(PageStoreError::io("accept layers in", &self.directory))?;
        // WAL does not follow on what is held as WAL any more. Above an import alone it does.
        let gap = to > self.end();
        let map = Arc::new(map);
        // Whatever was received is history: it was committed where it was written.
        self.swap_map(Arc::clone(&map), id, to, Some(to), gap.then_some(to))?;
        write(&self.memory).open = OpenLayer::new(to);
        self.set_end(to);
        indexer.reset(self.new_versions());
        if gap {
            self.wal.restart(to)?;
            indexer.ladder.restart(to);
        }
        Ok(())
    }

    /// Checks that a record ends at `to` and that the checkpoint state is there, by the new map alone.
    fn check_boundary(&self, map: &LayerMap, to: Lsn) -> Result<()> {
        let value = |key: Key| -> Result<Option<Value>> {
            let mut found = Vec::new();
            collect_sealed(
                &self.core.cache,
                &self.core.objects,
                map,
                &key.pack(),
                to,
                Lsn::INVALID,
                &mut found,
            )?;
            Ok(found.into_iter().next().map(|found| found.value))
        };
        if !matches!(value(Key::Checkpoint)?, Some(Value::Item(_))) {
            return Err(self.refused(format!("they hold no checkpoint state at {to}")));
        }
        // The last record may begin long before its end, but not more than a gigabyte.
        let last = to.0 >> 20;
        for mebibyte in (last.saturating_sub(1100)..=last).rev() {
            if let Some(Value::Item(bytes)) = value(Key::Boundaries { mebibyte })?
                && let Some(span) = Boundaries::decode(&bytes)?.at_or_before(to)
            {
                if span.end == to {
                    return Ok(());
                }
                break;
            }
        }
        Err(self.refused(format!("no record ends at {to}")))
    }

    fn take_wal(&self, id: ObjectId, range: LsnRange) -> Result<()> {
        let mut file = self.core.objects.open_object(id)?;
        let mut at = range.start;
        let mut chunk = vec![0; CHUNK];
        loop {
            let read = file
                .read(&mut chunk)
                .map_err(PageStoreError::io("read", self.core.objects.path(id)))?;
            if read == 0 {
                break;
            }
            self.append_wal(at, chunk.get(..read).unwrap_or_default())?;
            at = at + read as u64;
            self.index_wal()?;
        }
        self.sync_wal()?;
        Ok(())
    }
}
