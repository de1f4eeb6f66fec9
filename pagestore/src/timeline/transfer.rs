//! What a peer needs to read this timeline further than it can: planned from the map, then made.

use std::io::{self, Read};
use std::sync::Arc;

use neon_types::{LayerId, Lsn, LsnRange, ObjectId};

use super::wal::Pin;
use super::{Timeline, lock, read};
use crate::gc::Span;
use crate::layer::{LayerKind, slice};
use crate::map::{LayerMap, MapEntry};
use crate::{PageStoreError, Result};

/// WAL travels compressed; about this much smaller (pgbench: 6, with full-page images).
const WAL_COMPRESSION: u64 = 5;
const CHUNK: usize = 256 << 10;

/// A part that brings a peer further.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum SlicePart {
    /// A layer as it is.
    Layer {
        /// Its name.
        id: LayerId,
        /// What of it belongs here; of an image layer at L: `L..L`.
        range: LsnRange,
        /// Its length in bytes.
        len: u64,
    },
    /// A delta layer cut to a range.
    Slice {
        /// The layer to cut.
        of: LayerId,
        /// The range.
        range: LsnRange,
        /// About how many bytes it will have.
        estimate: u64,
    },
    /// Raw WAL bytes `[start, end)`.
    Wal {
        /// Both ends are ends of records.
        range: LsnRange,
    },
}

impl SlicePart {
    /// Returns the state that the part starts from and the one it leads to.
    pub fn range(&self) -> LsnRange {
        match self {
            SlicePart::Layer { range, .. } | SlicePart::Slice { range, .. } | SlicePart::Wal { range } => {
                *range
            }
        }
    }

    /// Returns its length in bytes, of a slice an estimate.
    pub fn len(&self) -> u64 {
        match self {
            SlicePart::Layer { len, .. } | SlicePart::Slice { estimate: len, .. } => *len,
            SlicePart::Wal { range } => range.end.bytes_since(range.start),
        }
    }

    /// Returns true when the part has no bytes.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }
}

/// What of the map serves the changes of `range`, oldest first: whole layers where they lie inside, slices otherwise.
fn layers_for(map: &LayerMap, range: LsnRange, base: Option<Lsn>) -> Vec<SlicePart> {
    let mut parts: Vec<SlicePart> = map
        .entries()
        .filter_map(|entry| part_of(&entry, range, base))
        .collect();
    parts.sort_by_key(|part| (part.range().end, part.range().start));
    parts
}

fn part_of(entry: &MapEntry, range: LsnRange, base: Option<Lsn>) -> Option<SlicePart> {
    if entry.kind == LayerKind::Image {
        // Images above the base are a shortcut for reads; the changes lead to the same pages.
        return (base == Some(entry.lsns.end)).then_some(SlicePart::Layer {
            id: entry.layer,
            range: entry.lsns,
            len: entry.len,
        });
    }
    let visible = entry.visible();
    let wanted = LsnRange {
        start: visible.start.max(range.start),
        end: visible.end.min(range.end),
    };
    if wanted.is_empty() {
        return None;
    }
    if wanted == entry.lsns {
        return Some(SlicePart::Layer {
            id: entry.layer,
            range: wanted,
            len: entry.len,
        });
    }
    let all = entry.lsns.end.bytes_since(entry.lsns.start).max(1);
    let share = u128::from(entry.len) * u128::from(wanted.end.bytes_since(wanted.start)) / u128::from(all);
    Some(SlicePart::Slice {
        of: entry.layer,
        range: wanted,
        estimate: u64::try_from(share).unwrap_or(u64::MAX).max(1),
    })
}

/// Chooses between WAL for all of `range` and layers up to `sealed` with WAL for the rest.
fn choose(range: LsnRange, wal_start: Lsn, sealed: Lsn, layers: Vec<SlicePart>) -> Vec<SlicePart> {
    let layer_bytes: u64 = layers.iter().map(SlicePart::len).sum();
    let sealed_part = sealed.min(range.end).bytes_since(range.start);
    let wal_is_here = wal_start <= range.start;
    if range.is_empty() || (wal_is_here && sealed_part / WAL_COMPRESSION <= layer_bytes) {
        // What is at the range's very start comes in layers only: the base of an import.
        let base = layers.into_iter().filter(|part| part.range().end <= range.start);
        let wal = (!range.is_empty()).then_some(SlicePart::Wal { range });
        return base.chain(wal).collect();
    }
    let rest = LsnRange {
        start: sealed.max(range.start),
        end: range.end,
    };
    let wal = (!rest.is_empty()).then_some(SlicePart::Wal { range: rest });
    layers.into_iter().chain(wal).collect()
}

/// Keeps what a transfer was planned with, while it lives.
pub struct PartsPin(
    #[expect(dead_code, reason = "it is its life that counts")] Pin,
    #[expect(dead_code, reason = "it is its life that counts")] Option<Arc<LayerMap>>,
);

impl Timeline {
    /// Returns the ranges of this timeline of which every key can be read at every record boundary: from its start, a
    /// readable state, to its end, but for what retention dropped. Nothing while the base of an import, or the
    /// ancestor up to the fork, has not arrived.
    pub fn served(&self) -> Vec<LsnRange> {
        if !self.is_based() {
            return Vec::new();
        }
        let own = Span {
            from: self.start,
            to: self.end(),
        };
        let readable = match &read(&self.memory).readable {
            Some(readable) => readable.and(&[own].into_iter().collect()),
            None => [own].into_iter().collect(),
        };
        let ranges = readable.iter().map(|span| LsnRange {
            start: span.from,
            end: span.to,
        });
        ranges.collect()
    }

    /// Returns the parts, oldest first, that bring a peer who can read this timeline at `from` to `to`; without `from`, one who
    /// has nothing of it: for an import its base, for a fork the state at the fork is then taken to be there.
    pub fn plan_slice(&self, from: Option<Lsn>, to: Lsn) -> Result<Vec<SlicePart>> {
        let map = read(&self.memory).map.clone();
        self.plan_by(map.as_deref(), from, to)
    }

    fn plan_by(&self, map: Option<&LayerMap>, from: Option<Lsn>, to: Lsn) -> Result<Vec<SlicePart>> {
        self.check_readable(to)?;
        let start = from.unwrap_or(self.start);
        if start < self.start || to < self.start {
            return Err(self.not_readable(start));
        }
        self.check_whole(start, to)?;
        let is_root = self.ancestor.is_none();
        let base = (is_root && from.is_none()).then_some(self.start);
        let range = LsnRange { start, end: to };
        let sealed = map.map_or(self.start, LayerMap::sealed).max(self.start);
        let layers = map.map(|map| layers_for(map, range, base)).unwrap_or_default();
        Ok(choose(range, self.wal_start(), sealed, layers))
    }

    /// Checks that nothing between two positions was dropped.
    fn check_whole(&self, start: Lsn, to: Lsn) -> Result<()> {
        let memory = read(&self.memory);
        let Some(readable) = &memory.readable else {
            return Ok(());
        };
        let whole = |span: &Span| span.from <= start && to <= span.to;
        match readable.iter().find(|span| span.from <= to && to <= span.to) {
            Some(span) if !whole(&span) => Err(PageStoreError::Dropped {
                timeline: self.id,
                lsn: start,
                from: Some(span.from),
            }),
            _ => Ok(()),
        }
    }

    /// The same, with what keeps the WAL and the layers that the parts are made of until it is dropped.
    pub fn plan_kept(&self, from: Option<Lsn>, to: Lsn) -> Result<(Vec<SlicePart>, PartsPin)> {
        let wal = self.keep_wal(from);
        let map = read(&self.memory).map.clone();
        let parts = self.plan_by(map.as_deref(), from, to)?;
        Ok((parts, PartsPin(wal, map)))
    }

    /// Keeps the WAL that parts of this timeline are made of until the pin is dropped. To be taken before they are planned, from where
    /// the plan begins.
    pub fn keep_wal(&self, from: Option<Lsn>) -> Pin {
        self.wal
            .pin_from(from.unwrap_or(self.start).max(self.wal_start()))
    }

    /// Returns the objects that whoever may read this timeline up to `to` may have as they are: its layer map and the chunks of that, and
    /// the layers that hold nothing above `to` and nothing that belongs to another timeline.
    pub fn objects_up_to(&self, to: Lsn) -> Vec<ObjectId> {
        let map = read(&self.memory).map.clone();
        let named = lock(&self.state).layer_map.map(|map| map.0);
        let mut objects: Vec<ObjectId> = named.into_iter().collect();
        if let Some(map) = map {
            let inside = |entry: &MapEntry| entry.lsns.end <= entry.clip.min(to);
            objects.extend(map.objects());
            objects.extend(map.entries().filter(inside).map(|entry| entry.layer.0));
        }
        objects
    }

    /// Makes the bytes of a part exist and returns their BLAKE3 and length. A layer or slice is an object then; WAL is read by
    /// [`Timeline::wal_reader`]. The same part gives the same bytes. Once `stop` says so, [`PageStoreError::Stopped`].
    pub fn materialize(&self, part: &SlicePart, stop: &dyn Fn() -> bool) -> Result<(ObjectId, u64)> {
        match part {
            SlicePart::Layer { id, len, .. } => Ok((id.0, *len)),
            SlicePart::Slice { of, range, .. } => {
                let layer = self.core.cache.layer(&self.core.objects, *of)?;
                let sealed = slice(&self.core.objects, layer, *range, stop)?;
                Ok((sealed.id.0, sealed.len))
            }
            SlicePart::Wal { range } => {
                let _pin = self.wal.pin_from(range.start);
                let mut hasher = blake3::Hasher::new();
                let mut at = range.start;
                let mut chunk = vec![0; CHUNK];
                while at < range.end {
                    if stop() {
                        return Err(PageStoreError::Stopped("nobody waits for the WAL".to_owned()));
                    }
                    let len = CHUNK.min(usize::try_from(range.end.bytes_since(at)).unwrap_or(CHUNK));
                    let bytes = chunk.get_mut(..len).unwrap_or_default();
                    self.read_wal(at, bytes)?;
                    hasher.update(bytes);
                    at = at + len as u64;
                }
                let id = ObjectId::from_bytes(*hasher.finalize().as_bytes());
                Ok((id, range.end.bytes_since(range.start)))
            }
        }
    }

    /// Returns a reader of the WAL bytes `[range.start, range.end)`.
    pub fn wal_reader(self: &Arc<Timeline>, range: LsnRange) -> Result<WalReader> {
        if range.end > self.end() {
            return Err(self.not_readable(range.end));
        }
        let pin = self.wal.pin_from(range.start);
        if range.start < self.wal_start() {
            return Err(PageStoreError::WalGone {
                timeline: self.id,
                at: range.start,
                start: self.wal_start(),
            });
        }
        Ok(WalReader {
            timeline: Arc::clone(self),
            at: range.start,
            end: range.end,
            _pin: pin,
        })
    }
}

/// Reads a stretch of WAL.
pub struct WalReader {
    timeline: Arc<Timeline>,
    at: Lsn,
    end: Lsn,
    _pin: Pin,
}

impl Read for WalReader {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        let left = usize::try_from(self.end.bytes_since(self.at)).unwrap_or(usize::MAX);
        let len = buffer.len().min(left).min(CHUNK);
        let part = buffer.get_mut(..len).unwrap_or_default();
        self.timeline.read_wal(self.at, part).map_err(io::Error::other)?;
        self.at = self.at + len as u64;
        Ok(len)
    }
}

#[cfg(test)]
mod tests {
    use neon_types::KeyRange;

    use super::*;

    fn range(start: u64, end: u64) -> LsnRange {
        LsnRange {
            start: Lsn(start),
            end: Lsn(end),
        }
    }

    fn entry(number: u8, kind: LayerKind, lsns: LsnRange, len: u64) -> MapEntry {
        MapEntry {
            layer: LayerId(ObjectId::from_bytes([number; 32])),
            kind,
            keys: KeyRange::ALL,
            lsns,
            clip: Lsn::MAX,
            len,
        }
    }

    fn map() -> LayerMap {
        LayerMap::new(
            Lsn(3000),
            vec![
                entry(1, LayerKind::Image, range(1000, 1000), 5000),
                entry(2, LayerKind::Delta, range(1000, 2000), 400),
                entry(3, LayerKind::Delta, range(2000, 3000), 100),
            ],
        )
    }

    fn told(parts: &[SlicePart]) -> Vec<(&'static str, u64, u64)> {
        let kind = |part: &SlicePart| match part {
            SlicePart::Layer { .. } => "layer",
            SlicePart::Slice { .. } => "slice",
            SlicePart::Wal { .. } => "wal",
        };
        parts
            .iter()
            .map(|part| (kind(part), part.range().start.0, part.range().end.0))
            .collect()
    }

    #[test]
    fn layers_are_cut_where_they_reach_outside() {
        let parts = layers_for(&map(), range(1500, 2500), None);
        assert_eq!(told(&parts), [("slice", 1500, 2000), ("slice", 2000, 2500)]);
        assert_eq!(parts[0].len(), 200);
        assert_eq!(
            told(&layers_for(&map(), range(1000, 2000), None)),
            [("layer", 1000, 2000)]
        );
        let all = layers_for(&map(), range(1000, 3000), Some(Lsn(1000)));
        assert_eq!(
            told(&all),
            [
                ("layer", 1000, 1000),
                ("layer", 1000, 2000),
                ("layer", 2000, 3000)
            ]
        );
        let clipped = map().clipped(Lsn(2500));
        assert_eq!(
            told(&layers_for(&clipped, range(2000, 9000), None)),
            [("slice", 2000, 2500)]
        );
    }

    #[test]
    fn wal_goes_when_it_is_here_and_smaller() {
        let base = Some(Lsn(1000));
        let plan = |range: LsnRange, wal_start: u64, base| {
            told(&choose(
                range,
                Lsn(wal_start),
                Lsn(3000),
                layers_for(&map(), range, base),
            ))
        };
        assert_eq!(
            plan(range(1500, 1600), 1000, None),
            [("wal", 1500, 1600)],
            "20 bytes against 40"
        );
        assert_eq!(
            plan(range(2000, 3000), 1000, None),
            [("layer", 2000, 3000)],
            "200 bytes against 100"
        );
        assert_eq!(
            plan(range(1500, 1600), 1550, None),
            [("slice", 1500, 1600)],
            "the WAL is gone"
        );
        assert_eq!(plan(range(3000, 3500), 2000, None), [("wal", 3000, 3500)]);
        assert_eq!(
            plan(range(2500, 3500), 3000, None),
            [("slice", 2500, 3000), ("wal", 3000, 3500)]
        );
        assert_eq!(plan(range(1000, 1000), 1000, base), [("layer", 1000, 1000)]);
        assert_eq!(
            plan(range(1000, 1300), 1000, base),
            [("layer", 1000, 1000), ("wal", 1000, 1300)]
        );
    }
}
