//! Taking in what a peer sent: a claim, believed only as far as it can be checked (law 6).

use std::io::Read;
use std::sync::Arc;

use neon_types::{Key, LayerId, Lsn, LsnRange, ObjectId};

use super::open::OpenLayer;
use super::read::collect_sealed;
use super::{Timeline, lock, read, write};
use crate::boundaries::Boundaries;
use crate::layer::{LayerKind, REDO_VERSION, slice};
use crate::map::{LayerMap, MapEntry, gap};
use crate::trial::Going;
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

/// WAL that arrived, from where on it is needed.
struct Stretch {
    id: ObjectId,
    range: LsnRange,
    from: Lsn,
}

impl Timeline {
    /// Makes this timeline readable up to `to` from parts that follow on what is held, and forgets the objects that WAL came in. Nothing that
    /// is held is replaced: with `to` held already, it is only made durable.
    ///
    /// Errors: [`PageStoreError::Refused`] when the parts leave a gap, contradict what is held, or are not what their footers
    /// or records say; the layer map is then as before.
    pub fn accept(&self, to: Lsn, parts: &[AcceptPart]) -> Result<()> {
        self.take_in(to, parts, &mut |_, _| true)?;
        for part in parts {
            if let AcceptPart::Wal { id, .. } = part {
                self.core.objects.remove(*id)?;
            }
        }
        Ok(())
    }

    /// As [`Timeline::accept`], and keeps the objects. Ends with [`PageStoreError::Interrupted`] between two stretches of WAL when `going` says
    /// so; what was taken in by then stays.
    pub(crate) fn take_in(&self, to: Lsn, parts: &[AcceptPart], going: Going<'_>) -> Result<()> {
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
        let held = self.end();
        let mut entries = Vec::new();
        let mut wal = Vec::new();
        for part in parts {
            match *part {
                AcceptPart::Layer { id, range } => entries.extend(self.claimed(id, range, held)?),
                AcceptPart::Wal { range, .. } if range.end <= held => {}
                AcceptPart::Wal { id, range } => wal.push(Stretch {
                    id,
                    range,
                    from: range.start.max(held),
                }),
            }
        }
        // Without the base of an import its images must come; of what is above the base, the changes.
        let needs_base = self.ancestor.is_none() && read(&self.memory).map.is_none();
        let layers_to = entries
            .iter()
            .map(|entry| entry.visible().end)
            .max()
            .unwrap_or(held);
        self.check_cover(&entries, held, layers_to, needs_base)?;
        wal.sort_by_key(|stretch| stretch.from);
        self.check_wal(&wal, layers_to, to)?;
        if !entries.is_empty() {
            self.take_layers(entries, layers_to)?;
        }
        for stretch in &wal {
            self.take_wal(stretch, to, going)?;
        }
        if self.end() != to {
            return Err(self.refused(format!(
                "{to} is not the end of a record: the last one ends at {}",
                self.end()
            )));
        }
        Ok(())
    }

    fn refused(&self, reason: String) -> PageStoreError {
        PageStoreError::Refused {
            timeline: self.id,
            reason,
        }
    }

    /// Returns the map entry of a layer whose footer bears out the claim; of what begins below the end of what is held one of the rest, none
    /// when there is no rest.
    fn claimed(&self, id: LayerId, range: LsnRange, held: Lsn) -> Result<Option<MapEntry>> {
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
        if footer.kind == LayerKind::Delta && range.start < held {
            // Another transfer was faster.
            if range.end <= held {
                return Ok(None);
            }
            let rest = LsnRange {
                start: held,
                end: range.end,
            };
            return Ok(Some(MapEntry::whole(&slice(
                &self.core.objects,
                layer,
                rest,
                &|| false,
            )?)));
        }
        let mut entry = MapEntry::of(id, footer, layer.file_len());
        if range.end < footer.lsns.end {
            entry.clip = range.end;
        }
        Ok(Some(entry))
    }

    fn check_cover(&self, entries: &[MapEntry], held: Lsn, layers_to: Lsn, needs_base: bool) -> Result<()> {
        let rectangles = |kind: LayerKind| -> Vec<_> {
            entries
                .iter()
                .filter(|entry| entry.kind == kind)
                .map(|entry| (entry.keys, entry.visible()))
                .collect()
        };
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

    fn check_wal(&self, wal: &[Stretch], from: Lsn, to: Lsn) -> Result<()> {
        let mut at = from;
        for Stretch { id, range, from } in wal {
            let len = self.core.objects.len(*id)?;
            if *from != at || *from >= range.end || len != range.end.bytes_since(range.start) {
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

    /// Hangs layers above the end of what is held, which then is `to`; WAL begins anew there.
    pub(crate) fn take_layers(&self, entries: Vec<MapEntry>, to: Lsn) -> Result<()> {
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

    /// Appends and indexes a stretch of WAL. What of it is held must be the same.
    fn take_wal(&self, stretch: &Stretch, to: Lsn, going: Going<'_>) -> Result<()> {
        let Stretch { id, range, from } = *stretch;
        let mut file = self.core.objects.open_object(id)?;
        let mut at = range.start;
        let mut chunk = vec![0; CHUNK];
        loop {
            // A chunk does not reach over the end of what is held.
            let most = if at < from {
                CHUNK.min(usize::try_from(from.bytes_since(at)).unwrap_or(CHUNK))
            } else {
                CHUNK
            };
            let read = file
                .read(chunk.get_mut(..most).unwrap_or_default())
                .map_err(PageStoreError::io("read", self.core.objects.path(id)))?;
            let bytes = chunk.get(..read).unwrap_or_default();
            if bytes.is_empty() {
                break;
            }
            if at < from {
                self.check_same_wal(at, bytes)?;
            } else {
                self.append_wal(at, bytes)?;
                self.index_wal()?;
            }
            at = at + read as u64;
            if !going(at.bytes_since(range.start), to.bytes_since(range.start)) {
                return Err(PageStoreError::Interrupted);
            }
        }
        self.sync_wal()?;
        Ok(())
    }

    fn check_same_wal(&self, at: Lsn, bytes: &[u8]) -> Result<()> {
        let range = LsnRange {
            start: at,
            end: at + bytes.len() as u64,
        };
        match self.wal_digest(range)? {
            Some(ours) if ours != *blake3::hash(bytes).as_bytes() => {
                Err(self.refused(format!("the WAL of {range} is another one here")))
            }
            // What is not kept as WAL cannot be compared: it came, or went, as layers.
            Some(_) | None => Ok(()),
        }
    }
}
