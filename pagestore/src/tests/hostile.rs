//! Damage that carries the right checksums: errors, never panics, never more memory than the file's size calls for.

use std::sync::Arc;

use neon_objects::ObjectStore;
use neon_types::{Key, KeyRange, LayerId, LayerMapId, Lsn, LsnRange};

use super::fixture::*;
use crate::boundaries::{Boundaries, RecordSpan, Run};
use crate::layer::{LayerCursor, LayerKind};
use crate::{Layer, LayerMap, LayerWriter, MapEntry, Value};

const FOOTER: usize = 136;

fn layer_bytes(objects: &ObjectStore) -> Vec<u8> {
    let lsns = LsnRange {
        start: Lsn(1000),
        end: Lsn(90_000),
    };
    let mut writer = LayerWriter::delta(objects, lsns).unwrap();
    let mut random = Random(1);
    for mebibyte in 0..40 {
        let key = Key::Boundaries { mebibyte }.pack();
        for version in 0..3 {
            let value = Value::Item(random.bytes(3000));
            writer
                .add(&key, Lsn(2000 + version * 8), value.stored(true))
                .unwrap();
        }
    }
    let sealed = writer.finish(KeyRange::ALL).unwrap();
    objects.read(sealed.id.0, u64::MAX).unwrap()
}

/// Sets the checksums of index, filter and footer to what the bytes call for, where they can be found.
fn mend(bytes: &mut [u8]) {
    let footer = bytes.len() - FOOTER;
    let field = |bytes: &[u8], at: usize| {
        usize::try_from(u64::from_le_bytes(bytes[footer + at..][..8].try_into().unwrap()))
            .unwrap_or(usize::MAX)
    };
    let (index, filter) = (field(bytes, 0), field(bytes, 16));
    for (from, to, at) in [(index, filter, 12), (filter, footer, 28)] {
        if let Some(section) = bytes.get(from..to) {
            let crc = crc32c::crc32c(section);
            bytes[footer + at..][..4].copy_from_slice(&crc.to_le_bytes());
        }
    }
    let crc = crc32c::crc32c_append(crc32c::crc32c(&bytes[..16]), &bytes[footer..footer + 124]);
    bytes[footer + 124..][..4].copy_from_slice(&crc.to_le_bytes());
}

#[test]
fn forged_layers_are_errors() {
    let directory = tempfile::tempdir().unwrap();
    let objects = ObjectStore::open(directory.path().join("objects")).unwrap();
    let good = layer_bytes(&objects);
    let mut random = Random(2);
    let mut refused = 0;
    for _ in 0..500 {
        let mut bytes = good.clone();
        // Mostly the footer and the index, which are believed first.
        let tail = if random.below(2) == 0 { FOOTER } else { 1000 };
        for _ in 0..1 + random.below(3) {
            let at = bytes.len() - 1 - usize::try_from(random.below(tail as u64)).unwrap();
            bytes[at] = match random.below(3) {
                0 => 0xff,
                1 => 0,
                _ => (random.next() & 0xff) as u8,
            };
        }
        mend(&mut bytes);
        let id = LayerId(objects.put(&bytes).unwrap());
        let read = Layer::open(&objects, id).and_then(|layer| {
            let mut cursor = LayerCursor::seek(Arc::new(layer), None, KeyRange::ALL)?;
            while cursor.entry().is_some() {
                cursor.advance()?;
            }
            Layer::open(&objects, id)?.verify()
        });
        refused += u32::from(read.is_err());
        objects.remove(id.0).unwrap();
    }
    assert!(refused > 300, "{refused} of 500");
}

#[test]
fn random_boundaries_are_errors() {
    let mut random = Random(3);
    let mut run = Run::default();
    let mut at = 0x100_0028;
    for record in 0..50 {
        let len = 8 * (4 + random.below(100));
        run.push(
            RecordSpan {
                start: Lsn(at),
                end: Lsn(at + len),
            },
            (record % 3 == 0).then_some(record),
        );
        at += len;
    }
    let good = run.encode();
    for _ in 0..20_000 {
        let mut bytes = good.clone();
        for _ in 0..1 + random.below(4) {
            let place = usize::try_from(random.below(bytes.len() as u64)).unwrap();
            bytes[place] = (random.next() & 0xff) as u8;
        }
        if let Ok(boundaries) = Boundaries::decode(&bytes) {
            assert!(
                boundaries
                    .spans
                    .windows(2)
                    .all(|pair| pair[0].end <= pair[1].start)
            );
        }
    }
}

/// A map whose name is right and whose bytes are not: an error, or a map that is written the same.
#[test]
fn random_maps_are_errors() {
    let directory = tempfile::tempdir().unwrap();
    let objects = ObjectStore::open(directory.path().join("objects")).unwrap();
    let entry = |number: u64| MapEntry {
        layer: LayerId(neon_types::ObjectId::from_bytes([7; 32])),
        kind: LayerKind::Delta,
        keys: KeyRange::ALL,
        lsns: LsnRange {
            start: Lsn(number * 8),
            end: Lsn(number * 8 + 8),
        },
        clip: Lsn::MAX,
        len: 100,
    };
    let good = LayerMap::new(Lsn(8 * 517), (0..515).map(entry).collect());
    let id = good.write(&objects).unwrap();
    let good = objects.read(id.0, 1 << 20).unwrap();
    let mut random = Random(3);
    let mut refused = 0;
    for _ in 0..2000 {
        let mut bytes = good.clone();
        for _ in 0..1 + random.below(3) {
            let place = usize::try_from(random.below(bytes.len() as u64)).unwrap();
            bytes[place] = (random.next() & 0xff) as u8;
        }
        let id = LayerMapId(objects.put(&bytes).unwrap());
        match LayerMap::read(&objects, id) {
            Ok(map) => assert_eq!(map.write(&objects).unwrap(), id),
            Err(_) => refused += 1,
        }
    }
    assert!(refused > 800, "{refused} of 2000");
}

/// The format may not drift.
#[test]
fn the_golden_boundaries_are_written_the_same() {
    let mut run = Run::default();
    run.push(
        RecordSpan {
            start: Lsn(0x10_0028),
            end: Lsn(0x10_0050),
        },
        None,
    );
    run.push(
        RecordSpan {
            start: Lsn(0x10_0050),
            end: Lsn(0x10_2000),
        },
        Some(-1),
    );
    run.push(
        RecordSpan {
            start: Lsn(0x10_2018),
            end: Lsn(0x10_2040),
        },
        Some(300),
    );
    let golden = [
        1, 3, 0, 0, 0, 2, 0, 0, 0, 0x28, 0, 0x10, 0, 0, 0, 0, 0, // version, counts, first start
        0, 5, 0, 0xf6, 7, 3, 5, // gap and length in eights: (0, 5), (0, 1014), (3, 5)
        1, 1, 1, 0xda, 4, // ordinals 1 and 2, times -1 and +301
    ];
    assert_eq!(run.encode(), golden);
}
