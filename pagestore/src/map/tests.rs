use std::collections::BTreeSet;

use neon_objects::ObjectStore;
use neon_types::{Key, KeyRange, LayerMapId, Lsn, LsnRange, ObjectId, PackedKey};
use proptest::prelude::*;

use super::plan::Visit;
use super::*;
use crate::PageStoreError;
use crate::tests::map_entry as entry;

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
        [(4, 200, 250), (5, 199, 200)],
        "what leads to the image is not looked into"
    );
    assert_eq!(visited(&newer, 7, 199, 0), [(2, 100, 199), (1, 99, 100)]);
    let merged = LayerMap::new(
        Lsn(300),
        vec![
            entry(1, LayerKind::Image, (0, 99), (100, 100)),
            entry(6, LayerKind::Delta, (0, 99), (100, 300)),
            entry(5, LayerKind::Image, (0, 50), (200, 200)),
        ],
    );
    assert_eq!(visited(&merged, 7, 250, 0), [(6, 200, 250), (5, 199, 200)]);
    assert_eq!(visited(&merged, 60, 250, 0), [(6, 100, 250), (1, 99, 100)]);
}

#[test]
fn layers_are_replaced_if_they_are_there() {
    let merged = entry(7, LayerKind::Delta, (0, 99), (100, 300));
    let gone: Vec<MapEntry> = map()
        .entries()
        .filter(|entry| entry.kind == LayerKind::Delta)
        .collect();
    let replaced = map().replaced(&gone, [merged]).unwrap();
    let image = entry(1, LayerKind::Image, (0, 99), (100, 100));
    assert_eq!(replaced, LayerMap::new(Lsn(300), vec![merged, image]));
    assert_eq!(replaced.replaced(&gone, [merged]), None, "they went before");
    assert_eq!(map().replaced(&[merged], []), None);

    // Of many, little is written anew.
    let (_directory, objects) = store();
    let many = seals(2000);
    many.write(&objects).unwrap();
    let of_last: Vec<MapEntry> = many.entries().take(8).collect();
    let replaced = many.replaced(&of_last, [merged_of(&of_last)]).unwrap();
    let stored: BTreeSet<ObjectId> = many.objects().collect();
    replaced.write(&objects).unwrap();
    let news = replaced.objects().filter(|id| !stored.contains(id)).count();
    assert!(news <= 2, "{news} chunks are new");
    let all: Vec<MapEntry> = many.entries().skip(8).chain([merged_of(&of_last)]).collect();
    assert_eq!(replaced, LayerMap::new(many.sealed(), all));
}

#[test]
fn a_map_that_shrinks_again_and_again_has_few_chunks() {
    let mut map = seals(1500);
    while map.entries().count() > 40 {
        let all: Vec<MapEntry> = map
            .entries()
            .filter(|entry| entry.kind == LayerKind::Delta)
            .collect();
        let from = all.len() / 3;
        let some = all[from..(from + 12).min(all.len())].to_vec();
        if some.len() < 2 {
            break;
        }
        map = map.replaced(&some, [merged_of(&some)]).unwrap();
        assert!(map.entries().is_sorted_by_key(|entry| age(&entry)));
        let fewest = map.entries().count() / CHUNK_LAYERS;
        assert!(map.parts.len() <= 2 * fewest + 3, "{} chunks", map.parts.len());
    }
}

/// A layer of the LSNs and keys of all of these.
fn merged_of(layers: &[MapEntry]) -> MapEntry {
    let start = layers.iter().map(|entry| entry.lsns.start).min().unwrap();
    let end = layers.iter().map(|entry| entry.lsns.end).max().unwrap();
    entry(99, LayerKind::Delta, (0, 99), (start.0, end.0))
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

fn store() -> (tempfile::TempDir, ObjectStore) {
    let directory = tempfile::tempdir().unwrap();
    let objects = ObjectStore::open(directory.path()).unwrap();
    (directory, objects)
}

#[test]
fn a_map_round_trips_and_damage_is_an_error() {
    let (_directory, objects) = store();
    for map in [
        map(),
        map().clipped(Lsn(150)),
        seals(700),
        seals(700).clipped(Lsn(40_005)),
    ] {
        let id = map.write(&objects).unwrap();
        assert_eq!(LayerMap::read(&objects, id).unwrap(), map);
        let bytes = objects.read(id.0, 1 << 20).unwrap();
        for len in 0..bytes.len() {
            assert!(codec::decode(&bytes[..len]).is_err());
        }
        for claim in [12..16, 24..28] {
            let mut claims = bytes.clone();
            claims[claim].copy_from_slice(&u32::MAX.to_le_bytes());
            assert!(codec::decode(&claims).is_err());
        }
    }
    let bytes = objects.read(map().write(&objects).unwrap().0, 1 << 20).unwrap();
    let mut swapped = bytes.clone();
    let (first, second) = swapped[32..].split_at_mut(112);
    first.swap_with_slice(&mut second[..112]);
    assert!(codec::decode(&swapped).is_err(), "order is part of the format");
    let mut beyond = bytes;
    beyond[16..24].copy_from_slice(&299u64.to_le_bytes());
    let id = LayerMapId(objects.put(&beyond).unwrap());
    assert!(
        LayerMap::read(&objects, id).is_err(),
        "it serves more than it says"
    );
}

#[test]
fn a_damaged_or_missing_chunk_is_an_error_that_names_the_map() {
    let (_directory, objects) = store();
    let map = seals(700);
    let id = map.write(&objects).unwrap();
    let chunk = map.objects().next().unwrap();
    let bytes = objects.read(chunk, 1 << 20).unwrap();
    for len in 0..bytes.len() {
        assert!(codec::decode_chunk(&bytes[..len]).is_err());
    }
    objects.remove(chunk).unwrap();
    assert!(LayerMap::read(&objects, id).is_err());
    objects.put(&bytes).unwrap();
    // Another chunk in its place, good in itself.
    let other = objects
        .put(&codec::encode_chunk(&map.parts[0].chunk.entries()[..1]))
        .unwrap();
    let mut names_other = objects.read(id.0, 1 << 20).unwrap();
    let at = names_other.len() - 48;
    names_other[at..at + 32].copy_from_slice(&other.to_bytes());
    let id = LayerMapId(objects.put(&names_other).unwrap());
    assert!(matches!(LayerMap::read(&objects, id), Err(PageStoreError::DamagedMap { map, .. }) if map == id));
}

#[test]
fn the_bytes_of_a_map_are_the_documented_ones() {
    let (_directory, objects) = store();
    let empty = LayerMap::new(Lsn(0x1_0000_0028), Vec::new())
        .write(&objects)
        .unwrap();
    let mut expected = b"NEONLMAP\x02\0\0\0\0\0\0\0\x28\0\0\0\x01\0\0\0".to_vec();
    expected.extend_from_slice(&[0; 8]);
    assert_eq!(objects.read(empty.0, 1 << 20).unwrap(), expected);
    let names = [map().clipped(Lsn(150)), seals(700)].map(|map| map.write(&objects).unwrap().to_string());
    assert_eq!(
        names,
        [
            "deae95f312310900884f3c7fb9698a00f0f037fca96c3e8b132ca976fe723e86",
            "d58d271132975864b104bb24bf8872f34fd20834c7465b408eb1b8ed57a3b418"
        ]
    );
}

/// A map of that many seals of two layers each, with an image layer of all keys in front of every hundredth.
fn seals(count: u64) -> LayerMap {
    let mut map = LayerMap::new(Lsn(100), vec![entry(0, LayerKind::Image, (0, 99), (100, 100))]);
    for seal in 1..=count {
        let (start, end) = (seal * 100, seal * 100 + 100);
        let number = (seal % 251) as u8;
        let cut = 1 + seal % 97;
        let mut layers = vec![
            entry(number, LayerKind::Delta, (0, cut), (start, end)),
            entry(number, LayerKind::Delta, (cut, 99), (start, end)),
        ];
        if seal % 100 == 0 {
            layers.push(entry(number, LayerKind::Image, (10, 50), (end, end)));
        }
        map = map.with(Lsn(end), layers);
    }
    map
}

#[test]
fn a_seal_and_a_fork_write_little_however_many_layers_there_are() {
    let (directory, objects) = store();
    let stored = || -> (usize, u64) {
        let sizes = objects.iter().unwrap().map(|id| objects.len(id).unwrap());
        sizes.fold((0, 0), |(count, bytes), size| (count + 1, bytes + size))
    };
    let many = seals(2000);
    many.write(&objects).unwrap();
    let before = stored();
    let next = many.with(
        Lsn(300_000),
        [entry(9, LayerKind::Delta, (0, 99), (200_100, 300_000))],
    );
    next.write(&objects).unwrap();
    let after = stored();
    let chunk = 16 + 112 * CHUNK_LAYERS as u64;
    assert!(
        after.0 - before.0 <= 2 && after.1 - before.1 < chunk + 2000,
        "a map and one chunk: {before:?} {after:?}"
    );
    next.clipped(Lsn(100_050)).write(&objects).unwrap();
    let fork = stored();
    assert!(
        fork.0 - after.0 == 1 && fork.1 - after.1 < 1000,
        "a map of names: {after:?} {fork:?}"
    );
    drop(directory);
}

#[test]
fn maps_share_their_chunks_in_memory() {
    let (_directory, objects) = store();
    let map = seals(700);
    let ids = [
        map.write(&objects).unwrap(),
        map.clipped(Lsn(40_005)).write(&objects).unwrap(),
    ];
    let chunks = Chunks::default();
    let [all, fork] = ids.map(|id| LayerMap::read_sharing(&objects, id, &chunks).unwrap());
    let last = |map: &LayerMap| std::sync::Arc::as_ptr(&map.parts.last().unwrap().chunk);
    assert_eq!(last(&all), last(&fork));
}

/// As [`LayerMap::plan`], from the list.
fn naive_plan(map: &LayerMap, key: &PackedKey, lsn: Lsn, floor: Lsn) -> Vec<Visit> {
    let mut visits = Vec::new();
    for entry in map.entries().filter(|entry| entry.keys.contains(key)) {
        if let Some(lsns) = plan::wanted(&entry, lsn, floor) {
            visits.push(Visit { entry, lsns });
            if entry.kind == LayerKind::Image {
                let image = lsns;
                for visit in visits
                    .iter_mut()
                    .filter(|visit| visit.entry.kind == LayerKind::Delta)
                {
                    visit.lsns.start = visit.lsns.start.max(image.end);
                }
                visits.retain(|visit| !visit.lsns.is_empty());
                break;
            }
        }
    }
    visits
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 60, failure_persistence: None, ..ProptestConfig::default() })]

    /// Batches of layers in any order, with forks in between: a plan is what a walk through the list gives, and a map that is
    /// made at once is the same.
    #[test]
    fn plans_are_those_of_the_list(
        batches in proptest::collection::vec(
            (proptest::collection::vec((0u64..98, 1u64..60, 0u64..2000, 0u64..300), 0..200), proptest::option::of(0u64..2500)),
            1..12,
        ),
        reads in proptest::collection::vec((0u64..99, 0u64..2500, 0u64..2500), 40),
        ranges in proptest::collection::vec((0u64..90, 1u64..9, 0u64..2500), 8),
    ) {
        let mut map = LayerMap::new(Lsn(3000), Vec::new());
        let mut listed: Vec<MapEntry> = Vec::new();
        let mut number = 0u8;
        for (batch, fork) in batches {
            let layers: Vec<MapEntry> = batch.into_iter().map(|(key, keys, start, len)| {
                number = number.wrapping_add(1);
                let kind = if len < 60 { LayerKind::Image } else { LayerKind::Delta };
                let start = if kind == LayerKind::Image { start + len } else { start };
                entry(number, kind, (key, (key + keys).min(99)), (start, if kind == LayerKind::Image { start } else { start + len }))
            }).collect();
            listed.extend(&layers);
            map = map.with(Lsn(3000), layers);
            if let Some(fork) = fork {
                map = map.clipped(Lsn(fork));
                listed = listed.iter().filter_map(|entry| entry.clipped(Lsn(fork))).collect();
            }
        }
        prop_assert!(map.entries().is_sorted_by_key(|entry| age(&entry)));
        let sorted = |entries: Vec<MapEntry>| {
            let mut entries = entries;
            entries.sort_by_key(order);
            entries.dedup();
            entries
        };
        prop_assert_eq!(sorted(map.entries().collect()), sorted(listed.clone()));
        for (key, lsn, floor) in reads {
            let key = Key::Boundaries { mebibyte: key }.pack();
            let (lsn, floor) = (Lsn(lsn.max(floor)), Lsn(lsn.min(floor)));
            prop_assert_eq!(map.plan(&key, lsn, floor), naive_plan(&map, &key, lsn, floor));
        }
        // A range is looked for in what its keys are looked for, and images are looked into for the keys that need them.
        for (from, keys, lsn) in ranges {
            let key = |mebibyte| Key::Boundaries { mebibyte }.pack();
            let range = KeyRange { start: key(from), end: key(from + keys) };
            let visits = map.plan_range(range, Lsn(lsn));
            for mebibyte in from..from + keys {
                let key = key(mebibyte);
                let here = visits.iter().filter(|visit| visit.keys.contains(&key));
                let (deltas, images): (Vec<_>, Vec<_>) =
                    here.map(|visit| visit.visit).partition(|visit| visit.entry.kind == LayerKind::Delta);
                let (wanted, image): (Vec<_>, Vec<_>) = naive_plan(&map, &key, Lsn(lsn), Lsn::INVALID)
                    .into_iter()
                    .partition(|visit| visit.entry.kind == LayerKind::Delta);
                prop_assert_eq!(images, image);
                for visit in wanted {
                    prop_assert!(deltas.iter().any(|delta| delta.entry == visit.entry && delta.lsns.end == visit.lsns.end));
                }
            }
            for visit in &visits {
                prop_assert!(visit.keys.start < visit.keys.end && visit.visit.entry.keys.overlaps(&visit.keys));
                prop_assert!(range.start <= visit.keys.start && visit.keys.end <= range.end);
            }
        }
    }

    /// The sweep finds the first hole that looking at every cell finds.
    #[test]
    fn a_gap_is_the_first_one(rectangles in proptest::collection::vec((0u64..20, 1u64..20, 0u64..20, 1u64..12), 0..30)) {
        let rectangles: Vec<(KeyRange, LsnRange)> = rectangles
            .into_iter()
            .map(|(key, keys, start, len)| {
                let entry = entry(1, LayerKind::Delta, (key, key + keys), (start, start + len));
                (entry.keys, entry.lsns)
            })
            .collect();
        let wanted = LsnRange { start: Lsn(5), end: Lsn(15) };
        let mut expected = None;
        let keys = rectangles.iter().flat_map(|(keys, _)| [keys.start, keys.end]).chain([PackedKey::MIN]);
        let mut keys: Vec<PackedKey> = keys.filter(|key| *key < PackedKey::MAX).collect();
        keys.sort_unstable();
        'keys: for key in keys {
            for lsn in 6..=15 {
                if !rectangles.iter().any(|(keys, lsns)| keys.contains(&key) && lsns.contains(Lsn(lsn))) {
                    expected = Some((key, Lsn(lsn - 1)));
                    break 'keys;
                }
            }
        }
        prop_assert_eq!(gap(&rectangles, wanted).map(|gap| (gap.key, gap.from)), expected);
    }
}

#[test]
fn gaps_in_a_claim_are_found() {
    let rectangles =
        |entries: &[MapEntry]| -> Vec<_> { entries.iter().map(|entry| (entry.keys, entry.lsns)).collect() };
    let range = |start, end| LsnRange {
        start: Lsn(start),
        end: Lsn(end),
    };
    let all = rectangles(&map().entries().collect::<Vec<_>>());
    assert_eq!(gap(&all, range(100, 300)), None);
    assert_eq!(gap(&all, range(100, 301)).map(|gap| gap.from), Some(Lsn(300)));
    assert_eq!(gap(&all, range(99, 300)).map(|gap| gap.from), Some(Lsn(99)));
    let without: Vec<MapEntry> = map().entries().filter(|e| e.layer.0.to_bytes()[0] != 3).collect();
    let found = gap(&rectangles(&without), range(100, 300)).unwrap();
    assert_eq!(
        (found.key, found.from),
        (Key::Boundaries { mebibyte: 50 }.pack(), Lsn(100))
    );
    assert!(gap(&[], range(1, 2)).is_some());
}
