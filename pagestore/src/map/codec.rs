//! The bytes of a layer map, little-endian: docs/format/layer-map.md.
//!
//! ```text
//! "NEONLMAP" 8 | version u32 = 1 | entries u32 | sealed u64 | entry 112 ...
//! entry: layer 32 | kind u32 | first key 18 | end key 18 | LSNs start u64, end u64 | clip u64 | length u64 | zero u64
//! ```

use neon_objects::ObjectStore;
use neon_types::{KeyRange, LayerId, LayerMapId, LsnRange, ObjectId};

use super::{LayerMap, MapEntry};
use crate::layer::{Fields, LayerKind};
use crate::{PageStoreError, Result};

const MAGIC: [u8; 8] = *b"NEONLMAP";
const VERSION: u32 = 1;
const HEADER: usize = 24;
const ENTRY: usize = 112;
/// Most layers of one map.
const MAX_ENTRIES: usize = 1 << 20;
/// Longest map, in bytes.
const MAX_MAP: u64 = (HEADER + ENTRY * MAX_ENTRIES) as u64;

impl LayerMap {
    /// Returns the map's bytes.
    pub fn encode(&self) -> Vec<u8> {
        let mut out = Vec::with_capacity(HEADER + ENTRY * self.entries.len());
        out.extend_from_slice(&MAGIC);
        out.extend_from_slice(&VERSION.to_le_bytes());
        out.extend_from_slice(
            &u32::try_from(self.entries.len())
                .unwrap_or(u32::MAX)
                .to_le_bytes(),
        );
        out.extend_from_slice(&self.sealed.0.to_le_bytes());
        for entry in &self.entries {
            out.extend_from_slice(&entry.layer.0.to_bytes());
            out.extend_from_slice(&(entry.kind as u32).to_le_bytes());
            out.extend_from_slice(&entry.keys.start.0);
            out.extend_from_slice(&entry.keys.end.0);
            for field in [entry.lsns.start.0, entry.lsns.end.0, entry.clip.0, entry.len, 0] {
                out.extend_from_slice(&field.to_le_bytes());
            }
        }
        out
    }

    /// Returns the map of these bytes, or what is wrong with them. Whether its layers exist is not looked at.
    pub fn decode(bytes: &[u8]) -> std::result::Result<LayerMap, String> {
        let mut fields = Fields(bytes);
        let cut = || "it is cut".to_owned();
        if fields.array() != Some(MAGIC) {
            return Err("it does not begin as a layer map".to_owned());
        }
        let version = fields.u32().ok_or_else(cut)?;
        if version != VERSION {
            return Err(format!(
                "its format version is {version}, this program reads {VERSION}"
            ));
        }
        let count = fields.u32().ok_or_else(cut)? as usize;
        let sealed = fields.lsn().ok_or_else(cut)?;
        if count > MAX_ENTRIES || fields.0.len() != count * ENTRY {
            return Err(format!("{count} layers do not fit its {} bytes", bytes.len()));
        }
        let mut entries = Vec::with_capacity(count);
        while !fields.0.is_empty() {
            let entry = entry(&mut fields).ok_or_else(cut)?;
            let kind =
                LayerKind::from_number(entry.0).ok_or_else(|| format!("a layer is of kind {}", entry.0))?;
            let entry = MapEntry { kind, ..entry.1 };
            let lsns_fit = match kind {
                LayerKind::Image => entry.lsns.start == entry.lsns.end && entry.clip >= entry.lsns.end,
                LayerKind::Delta => entry.lsns.start < entry.lsns.end && entry.clip > entry.lsns.start,
            };
            if entry.keys.start >= entry.keys.end || !lsns_fit || entry.visible().end > sealed {
                return Err(format!(
                    "the ranges of layer {} make no sense",
                    entry.layer.short()
                ));
            }
            entries.push(entry);
        }
        let map = LayerMap::new(sealed, entries.clone());
        if map.entries == entries {
            Ok(map)
        } else {
            Err("its layers are out of order".to_owned())
        }
    }

    /// Stores the map and returns its name.
    pub fn write(&self, objects: &ObjectStore) -> Result<LayerMapId> {
        Ok(LayerMapId(objects.put(&self.encode())?))
    }

    /// Returns the map of that name, verified.
    pub fn read(objects: &ObjectStore, id: LayerMapId) -> Result<LayerMap> {
        let bytes = objects.read(id.0, MAX_MAP)?;
        LayerMap::decode(&bytes).map_err(|reason| PageStoreError::DamagedMap { map: id, reason })
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
