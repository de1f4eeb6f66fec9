//! A layer whose checksums are right, from bytes that are not.
//!
//! ```text
//! u8 0: a whole layer follows; the checksums of its blocks, index, filter, header and footer are set where those can be found
//! u8 1: one block follows, not compressed; a layer with that block is written around it
//! ```
//! The format is described in `docs/format/layer.md`.

use std::sync::OnceLock;

use neon_objects::ObjectStore;
use neon_pagestore::Layer;
use neon_types::LayerId;

use crate::scratch;

const HEADER: usize = 16;
const FOOTER: usize = 136;
const INDEX_ENTRY: usize = 52;
const KEY: usize = 18;
/// Bytes before the value of an entry.
const ENTRY_HEADER: usize = KEY + 1 + 8 + 4;

/// Opens the layer and reads all of it.
pub fn run(data: &[u8]) {
    static OBJECTS: OnceLock<ObjectStore> = OnceLock::new();
    let objects = OBJECTS.get_or_init(|| {
        ObjectStore::open(scratch::empty().join("objects")).expect("an empty store can be opened")
    });
    let bytes = match data {
        [mode, block @ ..] if mode & 1 == 1 => around(block),
        [_, layer @ ..] => mended(layer),
        [] => return,
    };
    let id = objects.put(&bytes).expect("can be stored");
    if let Ok(layer) = Layer::open(objects, LayerId(id)) {
        assert_eq!(layer.file_len(), bytes.len() as u64);
        let _ = layer.verify();
    }
    objects.remove(id).expect("can be removed");
}

fn field<const N: usize>(bytes: &[u8], at: usize) -> Option<[u8; N]> {
    bytes.get(at..)?.first_chunk().copied()
}

fn long(bytes: &[u8], at: usize) -> Option<usize> {
    usize::try_from(u64::from_le_bytes(field(bytes, at)?)).ok()
}

fn word(bytes: &[u8], at: usize) -> Option<usize> {
    Some(u32::from_le_bytes(field(bytes, at)?) as usize)
}

fn put(bytes: &mut [u8], at: usize, value: u32) {
    if let Some(place) = bytes.get_mut(at..at + 4) {
        place.copy_from_slice(&value.to_le_bytes());
    }
}

/// Returns the layer with its checksums set.
fn mended(layer: &[u8]) -> Vec<u8> {
    let mut bytes = layer.to_vec();
    let Some(footer) = bytes.len().checked_sub(FOOTER).filter(|at| *at >= HEADER) else {
        return bytes;
    };
    let (index, filter) = (long(&bytes, footer), long(&bytes, footer + 16));
    if let (Some(index), Some(filter)) = (index, filter) {
        for at in (index..filter.min(footer)).step_by(INDEX_ENTRY) {
            let place = long(&bytes, at + 28).zip(word(&bytes, at + 36));
            let block = place.and_then(|(from, length)| bytes.get(from..from.checked_add(length)?));
            if let Some(crc) = block.map(crc32c::crc32c) {
                put(&mut bytes, at + 48, crc);
            }
        }
        for (from, to, at) in [(index, filter, 12), (filter, footer, 28)] {
            if let Some(crc) = bytes.get(from..to).map(crc32c::crc32c) {
                put(&mut bytes, footer + at, crc);
            }
        }
    }
    seal(&mut bytes, footer);
    bytes
}

/// Sets the checksum of header and footer.
fn seal(bytes: &mut [u8], footer: usize) {
    let crc = crc32c::crc32c_append(crc32c::crc32c(&bytes[..HEADER]), &bytes[footer..footer + 124]);
    put(bytes, footer + 124, crc);
}

/// Returns a delta layer of all keys and LSNs with that block.
fn around(block: &[u8]) -> Vec<u8> {
    let packed = zstd::bulk::compress(block, 1).unwrap_or_default();
    let mut out = b"NEONLAYR".to_vec();
    out.extend_from_slice(&[1, 0, 0, 0, 2, 0, 0, 0]);
    out.extend_from_slice(&packed);
    let index = out.len();
    let (entries, keys) = counts(block);
    let mut first = block.get(..KEY).unwrap_or_default().to_vec();
    first.resize(KEY + 2, 0);
    out.extend_from_slice(&first);
    out.extend_from_slice(&field::<8>(block, KEY + 1).unwrap_or_default());
    out.extend_from_slice(&(HEADER as u64).to_le_bytes());
    for value in [
        packed.len() as u32,
        block.len() as u32,
        entries as u32,
        crc32c::crc32c(&packed),
    ] {
        out.extend_from_slice(&value.to_le_bytes());
    }
    let filter = out.len();
    out.extend_from_slice(&[0xFF; 32]);
    let footer = out.len();
    let crcs = (
        crc32c::crc32c(&out[index..filter]),
        crc32c::crc32c(&out[filter..footer]),
    );
    out.extend_from_slice(&(index as u64).to_le_bytes());
    out.extend_from_slice(&1_u32.to_le_bytes());
    out.extend_from_slice(&crcs.0.to_le_bytes());
    out.extend_from_slice(&(filter as u64).to_le_bytes());
    out.extend_from_slice(&32_u32.to_le_bytes());
    out.extend_from_slice(&crcs.1.to_le_bytes());
    out.extend_from_slice(&[0; KEY]);
    out.extend_from_slice(&[0xFF; KEY]);
    out.extend_from_slice(&[0; 4]);
    for value in [0, u64::MAX, entries, keys, block.len() as u64] {
        out.extend_from_slice(&value.to_le_bytes());
    }
    for value in [1_u32, 2, 1, 0] {
        out.extend_from_slice(&value.to_le_bytes());
    }
    out.extend_from_slice(b"NEONLEND");
    seal(&mut out, footer);
    out
}

/// Returns the number of entries and of different keys of a block, as far as they can be told.
fn counts(block: &[u8]) -> (u64, u64) {
    let (mut entries, mut keys, mut at, mut last) = (0, 0, 0, None);
    while let Some((key, length)) = field::<KEY>(block, at).zip(word(block, at + ENTRY_HEADER - 4)) {
        entries += 1;
        keys += u64::from(last != Some(key));
        last = Some(key);
        at += ENTRY_HEADER + length;
    }
    (entries.max(1), keys.max(1))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn opens(bytes: &[u8]) -> bool {
        let objects = ObjectStore::open(scratch::empty().join("objects")).expect("a store");
        let id = objects.put(bytes).expect("stored");
        Layer::open(&objects, LayerId(id)).is_ok_and(|layer| layer.verify().is_ok())
    }

    #[test]
    fn layers_are_mended_and_written_around_blocks() {
        let golden = include_bytes!("../../pagestore/fixtures/delta-1.layer");
        assert!(opens(golden), "the golden layer");
        let mut broken = golden.to_vec();
        let footer = broken.len() - FOOTER;
        for at in [12, 28, 124] {
            broken[footer + at] ^= 1;
        }
        assert!(!opens(&broken));
        assert_eq!(mended(&broken), golden);
        let mut block = neon_types::Key::Checkpoint.pack().0.to_vec();
        block.push(4);
        block.extend_from_slice(&9_u64.to_le_bytes());
        block.extend_from_slice(&2_u32.to_le_bytes());
        block.extend_from_slice(&[7, 7]);
        assert!(opens(&around(&block)));
        block[KEY] = 99;
        assert!(!opens(&around(&block)), "an unknown tag");
    }
}
