use neon_types::{Key, KeyRange, LayerId, Lsn, LsnRange, ObjectId, PackedKey};

use super::*;

fn entry(number: u8, kind: LayerKind, keys: (u64, u64), lsns: (u64, u64)) -> MapEntry {
    let key = |mebibyte| match mebibyte {
        0 => PackedKey::MIN,
        99 => PackedKey::MAX,
        _ => Key::Boundaries { mebibyte }.pack(),
    };
    MapEntry {
        layer: LayerId(ObjectId::from_bytes([number; 32])),
        kind,
        keys: KeyRange {
            start: key(keys.0),
            end: key(keys.1),
        },
        lsns: LsnRange {
            start: Lsn(lsns.0),
            end: Lsn(lsns.1),
        },
        clip: Lsn::MAX,
        len: 1000,
    }
}

fn map() -> LayerMap {
    LayerMap::new(
        Lsn(300),
        vec![
            entry(1, LayerKind::Image, (0, 99), (100, 100)),
            entry(2, LayerKind::Delta, (0, 50), (100, 200)),
            entry(3, LayerKind::Delta, (50, 99), (100, 200)),
            entry(4, LayerKind::Delta, (0, 99), (200, 300)),
        ],
    )
}

fn visited(map: &LayerMap, mebibyte: u64, lsn: u64, floor: u64) -> Vec<(u8, u64, u64)> {
    map.plan(&Key::Boundaries { mebibyte }.pack(), Lsn(lsn), Lsn(floor))
        .iter()
        .map(|visit| {
            (
                visit.entry.layer.0.to_bytes()[0],
                visit.lsns.start.0,
                visit.lsns.end.0,
            )
        })
        .collect()
}

#[test]
fn a_plan_goes_from_new_to_old_and_ends_at_an_image() {
    let map = map();
    assert_eq!(
        visited(&map, 7, 250, 0),
        [(4, 200, 250), (2, 100, 200), (1, 99, 100)]
    );
    assert_eq!(visited(&map, 60, 200, 0), [(3, 100, 200), (1, 99, 100)]);
    assert_eq!(visited(&map, 60, 250, 150), [(4, 200, 250), (3, 150, 200)]);
    assert_eq!(visited(&map, 60, 99, 0), []);
    let newer = map.with(Lsn(300), [entry(5, LayerKind::Image, (0, 99), (200, 200))]);
    assert_eq!(
        visited(&newer, 7, 250, 0),
        [(4, 200, 250), (2, 100, 200), (5, 199, 200)],
        "deltas first at one LSN"
    );
}

#[test]
fn a_fork_sees_nothing_above_it() {
    let fork = map().clipped(Lsn(150));
    assert_eq!(fork.sealed(), Lsn(150));
    assert_eq!(visited(&fork, 7, 1000, 0), [(2, 100, 150), (1, 99, 100)]);
    assert_eq!(
        visited(&fork.clipped(Lsn(120)), 7, 1000, 0),
        [(2, 100, 120), (1, 99, 100)]
    );
    assert_eq!(visited(&map().clipped(Lsn(100)), 7, 1000, 0), [(1, 99, 100)]);
}

#[test]
fn a_map_round_trips_and_damage_is_an_error() {
    for map in [map(), map().clipped(Lsn(150))] {
        let bytes = map.encode();
        assert_eq!(LayerMap::decode(&bytes), Ok(map));
        for len in 0..bytes.len() {
            assert!(LayerMap::decode(&bytes[..len]).is_err());
        }
        let mut claims = bytes.clone();
        claims[12..16].copy_from_slice(&u32::MAX.to_le_bytes());
        assert!(LayerMap::decode(&claims).is_err());
        let mut swapped = bytes;
        let (first, second) = swapped[24..].split_at_mut(112);
        first.swap_with_slice(&mut second[..112]);
        assert!(LayerMap::decode(&swapped).is_err(), "order is part of the format");
    }
}

#[test]
fn the_bytes_of_a_map_are_the_documented_ones() {
    let hash = blake3::hash(&map().clipped(Lsn(150)).encode());
    assert_eq!(
        hash.to_hex().as_str(),
        "afc4470481a7a2db60aa00d02f7f62c3be0bc4b324948b157793214ac9b9a1a2"
    );
}

#[test]
fn gaps_in_a_claim_are_found() {
    let rectangles =
        |entries: &[MapEntry]| -> Vec<_> { entries.iter().map(|entry| (entry.keys, entry.lsns)).collect() };
    let range = |start, end| LsnRange {
        start: Lsn(start),
        end: Lsn(end),
    };
    let all = rectangles(map().entries());
    assert_eq!(gap(&all, range(100, 300)), None);
    assert_eq!(gap(&all, range(100, 301)).map(|gap| gap.from), Some(Lsn(300)));
    assert_eq!(gap(&all, range(99, 300)).map(|gap| gap.from), Some(Lsn(99)));
    let without: Vec<MapEntry> = map()
        .entries()
        .iter()
        .filter(|e| e.layer.0.to_bytes()[0] != 3)
        .copied()
        .collect();
    let found = gap(&rectangles(&without), range(100, 300)).unwrap();
    assert_eq!(
        (found.key, found.from),
        (Key::Boundaries { mebibyte: 50 }.pack(), Lsn(100))
    );
    assert!(gap(&[], range(1, 2)).is_some());
}
