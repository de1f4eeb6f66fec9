//! Layers: round trips, limits, damage, and the bytes of the format.

use std::sync::Arc;

use neon_objects::ObjectStore;
use neon_types::{Key, KeyRange, LayerId, Lsn, LsnRange, PackedKey};

use super::fixture::*;
use crate::layer::LayerCursor;
use crate::{Layer, LayerWriter, PageStoreError, SealedLayer, Value};

fn objects() -> (tempfile::TempDir, ObjectStore) {
    let directory = tempfile::tempdir().unwrap();
    let objects = ObjectStore::open(directory.path().join("objects")).unwrap();
    (directory, objects)
}

const LSNS: LsnRange = LsnRange {
    start: Lsn(1000),
    end: Lsn(90_000),
};

/// Many versions of some keys, one of others, some values longer than a block.
fn sample(objects: &ObjectStore) -> (SealedLayer, Vec<(PackedKey, Lsn, Value)>) {
    let mut random = Random(7);
    let mut versions = Vec::new();
    for mebibyte in 0..300 {
        let key = Key::Boundaries { mebibyte }.pack();
        let count = if mebibyte % 50 == 0 {
            700
        } else {
            1 + random.below(3)
        };
        let mut lsn = 1000;
        for _ in 0..count {
            lsn += 8 + random.below(100);
            let value = match random.below(20) {
                0 => Value::Image(page(&mut random)),
                1 => Value::Absent,
                2 if mebibyte % 100 == 3 => Value::Item(random.bytes(200_000)),
                3..10 => Value::Item(random.bytes(100)),
                _ => Value::Record(random.bytes(90)),
            };
            versions.push((key, Lsn(lsn), value));
        }
    }
    let mut writer = LayerWriter::delta(objects, LSNS).unwrap();
    for (key, lsn, value) in &versions {
        writer
            .add(key, *lsn, value.stored(matches!(value, Value::Image(_))))
            .unwrap();
    }
    (writer.finish(KeyRange::ALL).unwrap(), versions)
}

#[test]
fn what_goes_in_comes_out_in_order() {
    let (_directory, objects) = objects();
    let (sealed, versions) = sample(&objects);
    let layer = Arc::new(Layer::open(&objects, sealed.id).unwrap());
    assert_eq!(layer.verify().unwrap(), sealed.len);
    assert_eq!(layer.footer(), &sealed.footer);
    assert_eq!(
        (sealed.footer.entries, sealed.footer.distinct_keys),
        (versions.len() as u64, 300)
    );
    let mut cursor = LayerCursor::seek(Arc::clone(&layer), None, KeyRange::ALL).unwrap();
    for (key, lsn, value) in &versions {
        let entry = cursor.entry().unwrap();
        assert_eq!((entry.key, entry.lsn), (*key, *lsn));
        assert_eq!(Value::from_stored(entry.tag, entry.value).unwrap().0, *value);
        cursor.advance().unwrap();
    }
    assert!(cursor.entry().is_none());
    for mebibyte in [0, 1, 49, 50, 51, 299] {
        let key = Key::Boundaries { mebibyte }.pack();
        let range = KeyRange {
            start: key,
            end: key.next(),
        };
        let cursor = LayerCursor::seek(Arc::clone(&layer), None, range).unwrap();
        let first = versions.iter().find(|(k, _, _)| *k == key).unwrap();
        assert_eq!(
            cursor.entry().map(|entry| (entry.key, entry.lsn)),
            Some((first.0, first.1))
        );
    }
}

#[test]
fn order_range_and_size_are_enforced_when_writing() {
    let (_directory, objects) = objects();
    let key = |mebibyte| Key::Boundaries { mebibyte }.pack();
    let item = Value::Item(vec![1]);
    let mut writer = LayerWriter::delta(&objects, LSNS).unwrap();
    writer.add(&key(5), Lsn(2000), item.stored(true)).unwrap();
    for (at, lsn) in [(5, 2000), (5, 1992), (4, 3000), (6, 1000), (6, 90_008)] {
        assert!(
            writer.add(&key(at), Lsn(lsn), item.stored(true)).is_err(),
            "{at} at {lsn}"
        );
    }
    let long = Value::Item(vec![0; crate::MAX_VALUE + 1]);
    assert!(matches!(
        writer.add(&key(7), Lsn(2000), long.stored(true)),
        Err(PageStoreError::TooLarge { .. })
    ));
    writer.add(&key(5), Lsn(2008), item.stored(true)).unwrap();
    assert_eq!(writer.finish(KeyRange::ALL).unwrap().footer.entries, 2);
}

#[test]
fn every_damaged_byte_is_found() {
    let (_directory, objects) = objects();
    let mut writer = LayerWriter::delta(&objects, LSNS).unwrap();
    for mebibyte in 0..3 {
        let key = Key::Boundaries { mebibyte }.pack();
        writer
            .add(
                &key,
                Lsn(2000),
                Value::Item(vec![mebibyte as u8; 20]).stored(true),
            )
            .unwrap();
    }
    let sealed = writer.finish(KeyRange::ALL).unwrap();
    let bytes = objects.read(sealed.id.0, 1 << 20).unwrap();
    for at in 0..bytes.len() {
        let mut damaged = bytes.clone();
        damaged[at] ^= 0x10;
        let id = LayerId(objects.put(&damaged).unwrap());
        let result = Layer::open(&objects, id).and_then(|layer| layer.verify());
        assert!(
            matches!(result, Err(PageStoreError::DamagedLayer { .. })),
            "byte {at}: {result:?}"
        );
    }
    for len in 0..bytes.len() {
        let id = LayerId(objects.put(&bytes[..len]).unwrap());
        assert!(Layer::open(&objects, id).is_err(), "{len} bytes were taken");
    }
}

/// The format may not drift: these bytes must be read for ever, and written the same.
#[test]
fn the_golden_layer_is_read_and_written_the_same() {
    let (_directory, objects) = objects();
    let mut writer = LayerWriter::delta(&objects, LSNS).unwrap();
    let mut random = Random(3);
    let block = |block| Key::Block(rel(0), block).pack();
    writer
        .add(
            &Key::Checkpoint.pack(),
            Lsn(1008),
            Value::Item(b"item".to_vec()).stored(true),
        )
        .unwrap();
    writer
        .add(&Key::Checkpoint.pack(), Lsn(1016), Value::Absent.stored(true))
        .unwrap();
    writer
        .add(&block(0), Lsn(1024), Value::Image(page(&mut random)).stored(true))
        .unwrap();
    writer
        .add(
            &block(0),
            Lsn(1032),
            Value::Record(random.bytes(60)).stored(false),
        )
        .unwrap();
    writer
        .add(&block(0), Lsn(1040), Value::Record(random.bytes(70)).stored(true))
        .unwrap();
    writer
        .add(&block(1), Lsn(90_000), Value::Change(vec![9; 5]).stored(false))
        .unwrap();
    let sealed = writer
        .finish(KeyRange {
            start: PackedKey::MIN,
            end: block(2),
        })
        .unwrap();
    let golden = std::path::Path::new(env!("CARGO_MANIFEST_DIR")).join("fixtures/delta-1.layer");
    if std::env::var_os("NEON_WRITE_FIXTURES").is_some() {
        std::fs::write(&golden, objects.read(sealed.id.0, 1 << 20).unwrap()).unwrap();
    }
    let bytes = std::fs::read(&golden).unwrap();
    let id = LayerId(objects.put(&bytes).unwrap());
    let layer = Layer::open(&objects, id).unwrap();
    layer.verify().unwrap();
    assert_eq!((layer.footer().entries, layer.footer().distinct_keys), (6, 3));
    let ours = objects.read(sealed.id.0, 1 << 20).unwrap();
    let index_at =
        |bytes: &[u8]| u64::from_le_bytes(bytes[bytes.len() - 136..][..8].try_into().unwrap()) as usize;
    // Another zstd may compress otherwise; all else is ours.
    assert_eq!(ours[..16], bytes[..16]);
    assert_eq!(
        layer.block(0).unwrap(),
        Layer::open(&objects, sealed.id).unwrap().block(0).unwrap()
    );
    assert_eq!(ours[index_at(&ours)..].len(), bytes[index_at(&bytes)..].len());
}
