//! The bytes of a layer map and of its chunks, little-endian: docs/format/layer-map.md.
//!
//! ```text
//! map    "NEONLMAP" 8 | version u32 = 2 | layers u32 | sealed u64 | chunks u32 | zero u32 | layer 112 ... | chunk 48 ...
//! chunk  "NEONLMCH" 8 | version u32 = 1 | layers u32 | layer 112 ...
//! layer 112: name 32 | kind u32 | first key 18 | end key 18 | LSNs start u64, end u64 | clip u64 | length u64 | zero u64
//! chunk 48:  name 32 | clip u64 | layers u32 | zero u32
//! ```

use neon_objects::ObjectStore;
use neon_types::{KeyRange, LayerId, LayerMapId, Lsn, LsnRange, ObjectId};

use super::chunk::{CHUNK_LAYERS, Chunk, Chunks, MAX_INLINE, Part, age};
use super::{LayerMap, MapEntry, order};
use crate::layer::{Fields, LayerKind};
use crate::{PageStoreError, Result};

const MAGIC: [u8; 8] = *b"NEONLMAP";
const VERSION: u32 = 2;
const HEADER: usize = 32;
const CHUNK_MAGIC: [u8; 8] = *b"NEONLMCH";
/// First bytes of layer maps and of their chunks.
pub(crate) const MAGICS: [[u8; 8]; 2] = [MAGIC, CHUNK_MAGIC];
const CHUNK_VERSION: u32 = 1;
const CHUNK_HEADER: usize = 16;
const ENTRY: usize = 112;
const REFERENCE: usize = 48;
/// Most layers of one map.
const MAX_ENTRIES: u64 = 1 << 20;
/// Most chunks of one map.
const MAX_CHUNKS: usize = 1 << 16;
/// Longest map and longest chunk, in bytes.
const MAX_MAP: u64 = (HEADER + ENTRY * MAX_INLINE + REFERENCE * MAX_CHUNKS) as u64;
const MAX_CHUNK: u64 = (CHUNK_HEADER + ENTRY * CHUNK_LAYERS) as u64;

/// What is wrong with bytes.
pub(super) type Refusal = String;

/// What a map says of a chunk of it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Reference {
    id: ObjectId,
    clip: Lsn,
    layers: u32,
}

impl LayerMap {
    /// Stores the map and what of its chunks is not stored yet; returns its name.
    pub fn write(&self, objects: &ObjectStore) -> Result<LayerMapId> {
        let (inline, chunks) = self.split();
        let mut references = Vec::with_capacity(chunks.len());
        for part in chunks {
            references.push(Reference {
                id: part.chunk.store(objects)?,
                clip: part.clip,
                layers: u32::try_from(part.chunk.entries().len()).unwrap_or(u32::MAX),
            });
        }
        let inline: Vec<MapEntry> = inline.iter().flat_map(Part::entries).collect();
        Ok(LayerMapId(objects.put(&encode(
            self.sealed,
            &inline,
            &references,
        ))?))
    }

    /// Returns the parts whose layers the map lists by itself, the first at most, and those that are chunks.
    fn split(&self) -> (&[Part], &[Part]) {
        let lists_first = self.parts.first().is_some_and(|part| part.chunk.is_inline());
        self.parts
            .split_at_checked(usize::from(lists_first))
            .unwrap_or_default()
    }

    /// Returns the map of that name, verified, with its chunks.
    pub fn read(objects: &ObjectStore, id: LayerMapId) -> Result<LayerMap> {
        LayerMap::read_sharing(objects, id, &Chunks::default())
    }

    /// The same, sharing with other maps the chunks that `chunks` knows.
    pub(crate) fn read_sharing(objects: &ObjectStore, id: LayerMapId, chunks: &Chunks) -> Result<LayerMap> {
        let damaged = |reason| PageStoreError::DamagedMap { map: id, reason };
        let bytes = objects.read(id.0, MAX_MAP)?;
        let (sealed, inline, references) = decode(&bytes).map_err(damaged)?;
        let mut parts = Vec::with_capacity(references.len() + 1);
        if !inline.is_empty() {
            parts.push(Part::new(inline));
        }
        for reference in references {
            let chunk = chunks.get(reference.id, || {
                let bytes = objects.read(reference.id, MAX_CHUNK)?;
                let entries = decode_chunk(&bytes).map_err(damaged)?;
                Ok(Chunk::of_object(reference.id, entries))
            })?;
            if chunk.entries().len() as u64 != u64::from(reference.layers) {
                return Err(damaged(
                    "a chunk has another number of layers than it says".to_owned(),
                ));
            }
            parts.push(Part {
                chunk,
                clip: reference.clip,
            });
        }
        let map = LayerMap { sealed, parts };
        map.check().map_err(damaged)?;
        Ok(map)
    }

    /// Checks what no chunk can tell by itself.
    fn check(&self) -> std::result::Result<(), Refusal> {
        if !self.entries().is_sorted_by_key(|entry| age(&entry)) {
            return Err("its layers are out of order".to_owned());
        }
        match self.entries().next() {
            Some(newest) if newest.visible().end > self.sealed => Err(format!(
                "layer {} reaches beyond {}",
                newest.layer.short(),
                self.sealed
            )),
            _ => Ok(()),
        }
    }
}

fn encode(sealed: Lsn, inline: &[MapEntry], chunks: &[Reference]) -> Vec<u8> {
    let mut out = Vec::with_capacity(HEADER + ENTRY * inline.len() + REFERENCE * chunks.len());
    out.extend_from_slice(&MAGIC);
    out.extend_from_slice(&VERSION.to_le_bytes());
    out.extend_from_slice(&length(inline).to_le_bytes());
    out.extend_from_slice(&sealed.0.to_le_bytes());
    out.extend_from_slice(&length(chunks).to_le_bytes());
    out.extend_from_slice(&[0; 4]);
    put_entries(&mut out, inline);
    for chunk in chunks {
        out.extend_from_slice(&chunk.id.to_bytes());
        out.extend_from_slice(&chunk.clip.0.to_le_bytes());
        out.extend_from_slice(&chunk.layers.to_le_bytes());
        out.extend_from_slice(&[0; 4]);
    }
    out
}

/// Returns the bytes of a chunk.
pub(super) fn encode_chunk(entries: &[MapEntry]) -> Vec<u8> {
    let mut out = Vec::with_capacity(CHUNK_HEADER + ENTRY * entries.len());
    out.extend_from_slice(&CHUNK_MAGIC);
    out.extend_from_slice(&CHUNK_VERSION.to_le_bytes());
    out.extend_from_slice(&length(entries).to_le_bytes());
    put_entries(&mut out, entries);
    out
}

fn length<T>(list: &[T]) -> u32 {
    u32::try_from(list.len()).unwrap_or(u32::MAX)
}

fn put_entries(out: &mut Vec<u8>, entries: &[MapEntry]) {
    for entry in entries {
        out.extend_from_slice(&entry.layer.0.to_bytes());
        out.extend_from_slice(&(entry.kind as u32).to_le_bytes());
        out.extend_from_slice(&entry.keys.start.0);
        out.extend_from_slice(&entry.keys.end.0);
        for field in [entry.lsns.start.0, entry.lsns.end.0, entry.clip.0, entry.len, 0] {
            out.extend_from_slice(&field.to_le_bytes());
        }
    }
}

/// Returns what a map holds by itself. Whether its chunks and layers exist is not looked at.
pub(super) fn decode(bytes: &[u8]) -> std::result::Result<(Lsn, Vec<MapEntry>, Vec<Reference>), Refusal> {
    let mut fields = expect(bytes, MAGIC, VERSION, "a layer map")?;
    let mut head = || {
        let inline = fields.u32()? as usize;
        let sealed = fields.lsn()?;
        let chunks = fields.u32()? as usize;
        (fields.u32()? == 0).then_some((inline, sealed, chunks))
    };
    let (inline, sealed, chunks) = head().ok_or_else(cut)?;
    if inline > MAX_INLINE || chunks > MAX_CHUNKS || fields.0.len() != inline * ENTRY + chunks * REFERENCE {
        return Err(format!(
            "{inline} layers and {chunks} chunks do not fit its {} bytes",
            bytes.len()
        ));
    }
    let inline = take_entries(&mut fields, inline)?;
    let mut references = Vec::with_capacity(chunks);
    let mut layers = inline.len() as u64;
    for _ in 0..chunks {
        let reference = reference(&mut fields).ok_or_else(cut)?;
        layers += u64::from(reference.layers);
        references.push(reference);
    }
    if layers > MAX_ENTRIES {
        return Err(format!("it claims {layers} layers"));
    }
    Ok((sealed, inline, references))
}

fn cut() -> Refusal {
    "it is cut".to_owned()
}

/// Checks magic and version; returns what follows.
fn expect<'a>(
    bytes: &'a [u8],
    magic: [u8; 8],
    version: u32,
    what: &str,
) -> std::result::Result<Fields<'a>, Refusal> {
    let mut fields = Fields(bytes);
    if fields.array() != Some(magic) {
        return Err(format!("it does not begin as {what}"));
    }
    let found = fields.u32().ok_or_else(cut)?;
    if found != version {
        return Err(format!(
            "its format version is {found}, this program reads {version}"
        ));
    }
    Ok(fields)
}

fn reference(fields: &mut Fields<'_>) -> Option<Reference> {
    let reference = Reference {
        id: ObjectId::from_bytes(fields.array()?),
        clip: fields.lsn()?,
        layers: fields.u32()?,
    };
    (fields.u32()? == 0).then_some(reference)
}

pub(super) fn decode_chunk(bytes: &[u8]) -> std::result::Result<Vec<MapEntry>, Refusal> {
    let mut fields = expect(bytes, CHUNK_MAGIC, CHUNK_VERSION, "a chunk of a layer map")?;
    let count = fields.u32().ok_or_else(cut)? as usize;
    if count == 0 || count > CHUNK_LAYERS || fields.0.len() != count * ENTRY {
        return Err(format!("a chunk of {count} layers has {} bytes", bytes.len()));
    }
    take_entries(&mut fields, count)
}

/// Takes layers, which must be in order and make sense.
fn take_entries(fields: &mut Fields<'_>, count: usize) -> std::result::Result<Vec<MapEntry>, Refusal> {
    let mut entries = Vec::with_capacity(count);
    for _ in 0..count {
        let (kind, entry) = entry(fields).ok_or_else(cut)?;
        let kind = LayerKind::from_number(kind).ok_or_else(|| format!("a layer is of kind {kind}"))?;
        let entry = MapEntry { kind, ..entry };
        let lsns_fit = match kind {
            LayerKind::Image => entry.lsns.start == entry.lsns.end && entry.clip >= entry.lsns.end,
            LayerKind::Delta => entry.lsns.start < entry.lsns.end && entry.clip > entry.lsns.start,
        };
        if entry.keys.start >= entry.keys.end || !lsns_fit {
            return Err(format!(
                "the ranges of layer {} make no sense",
                entry.layer.short()
            ));
        }
        entries.push(entry);
    }
    if entries.is_sorted_by(|a, b| order(a) < order(b)) {
        Ok(entries)
    } else {
        Err("its layers are out of order".to_owned())
    }
}

fn entry(fields: &mut Fields<'_>) -> Option<(u32, MapEntry)> {
    let layer = LayerId(ObjectId::from_bytes(fields.array()?));
    let kind = fields.u32()?;
    let entry = MapEntry {
        layer,
        kind: LayerKind::Delta,
        keys: KeyRange {
            start: fields.key()?,
            end: fields.key()?,
        },
        lsns: LsnRange {
            start: fields.lsn()?,
            end: fields.lsn()?,
        },
        clip: fields.lsn()?,
        len: fields.u64()?,
    };
    (fields.u64()? == 0).then_some((kind, entry))
}
