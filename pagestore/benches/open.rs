//! What a layer map of 100,000 layers costs, a thousand seals of a hundred layers each: to open a page store and read it, to look a
//! key up, to add a layer.
#![expect(clippy::unwrap_used, reason = "a bench that cannot begin has nothing to say")]

use std::sync::Arc;
use std::time::Duration;

use criterion::{Criterion, criterion_group, criterion_main};
use neon_objects::ObjectStore;
use neon_pagestore::{LayerKind, LayerMap, MapEntry, PageStore, dissect};
use neon_types::{Fork, Key, KeyRange, LayerId, Lsn, LsnRange, ObjectId, PackedKey, RelTag};

const LAYERS: u64 = 100_000;
const A_SEAL: u64 = 100;
/// WAL of a seal, in bytes.
const WAL: u64 = 256 << 20;
const START: Lsn = Lsn(1 << 24);

/// Returns the first key of a layer of a seal.
fn key(number: u64) -> PackedKey {
    let rel = u32::try_from(number).unwrap();
    match rel {
        0 => PackedKey::MIN,
        _ if number == A_SEAL => PackedKey::MAX,
        rel => Key::Block(
            RelTag {
                spc: 1663,
                db: 5,
                rel,
                fork: Fork::Main,
            },
            0,
        )
        .pack(),
    }
}

fn map() -> LayerMap {
    let layers = (0..LAYERS).map(|number| {
        let (seal, place) = (number / A_SEAL, number % A_SEAL);
        let at = START + seal * WAL;
        let name = blake3::hash(&number.to_le_bytes());
        MapEntry {
            layer: LayerId(ObjectId::from_bytes(*name.as_bytes())),
            kind: LayerKind::Delta,
            keys: KeyRange {
                start: key(place),
                end: key(place + 1),
            },
            lsns: LsnRange {
                start: at,
                end: at + WAL,
            },
            clip: Lsn::MAX,
            len: 1 << 20,
        }
    });
    LayerMap::new(START + LAYERS / A_SEAL * WAL, layers.collect())
}

fn benches(criterion: &mut Criterion) {
    let directory = tempfile::tempdir().unwrap();
    let objects = ObjectStore::open(directory.path().join("objects")).unwrap();
    let id = map().write(&objects).unwrap();
    let key = Key::Checkpoint.pack();
    // Opening a page store reads no map; the first use of a timeline reads its own, and looks up its end.
    criterion.bench_function("read a map of 100,000 layers, first lookup", |bencher| {
        bencher.iter(|| {
            let objects = Arc::new(ObjectStore::open(directory.path().join("objects")).unwrap());
            let store = PageStore::open(directory.path(), Arc::clone(&objects)).unwrap();
            let map = LayerMap::read(&objects, id).unwrap();
            assert_eq!(dissect::lookup(&map, &key, map.sealed()) as u64, LAYERS / A_SEAL);
            (store, map)
        });
    });
    let map = LayerMap::read(&objects, id).unwrap();
    criterion.bench_function("another lookup, newest seal", |bencher| {
        bencher.iter(|| dissect::lookup(&map, &key, map.sealed()));
    });
    let newer = map.sealed() + WAL;
    criterion.bench_function("write the map that a seal makes of it", |bencher| {
        bencher.iter(|| {
            let layer = MapEntry {
                lsns: LsnRange {
                    start: map.sealed(),
                    end: newer,
                },
                keys: KeyRange::ALL,
                ..map.entries().next().unwrap()
            };
            map.with(newer, [layer]).write(&objects).unwrap()
        });
    });
}

criterion_group! {
    name = all;
    config = Criterion::default().sample_size(20).measurement_time(Duration::from_secs(5));
    targets = benches
}
criterion_main!(all);
