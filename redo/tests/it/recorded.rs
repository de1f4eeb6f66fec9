//! What the oracle checked once stays right, and the check can fail.

use std::collections::BTreeSet;

use neon_postgres::PgVersion;
use neon_postgres::page::ItemFlags;
use neon_postgres::records::gist::finished_split;
use neon_postgres::wal::rmgr;
use neon_redo::oracle::fixture::{self, Fixture};
use neon_types::Fork;

use crate::fixtures;

fn name(fixture: &Fixture) -> String {
    let reference = &fixture.record.blocks[fixture.index];
    format!(
        "{} of PostgreSQL {} ending at {}, reference {}",
        rmgr::describe(&fixture.record),
        fixture.cluster.version,
        fixture.end,
        reference.id
    )
}

#[test]
fn every_recorded_reference_gives_the_recorded_page() {
    for fixture in fixtures() {
        let name = name(&fixture);
        let page = fixture
            .replay()
            .unwrap_or_else(|error| panic!("{name}: {error:?}"));
        let difference = fixture
            .difference(&page)
            .unwrap_or_else(|error| panic!("{name}: {error}"));
        assert_eq!(difference, None, "{name}");
        let moves = rmgr::describe(&fixture.record) != "Heap2/VISIBLE" && !is_map(&fixture);
        assert!(
            page.lsn() == fixture.end || !moves,
            "{name} left the LSN at {}",
            page.lsn()
        );
    }
}

fn is_map(fixture: &Fixture) -> bool {
    fixture.record.blocks[fixture.index].rel.fork == Fork::VisibilityMap
}

/// Returns false for pages that are not made of line pointers and items: an extension's page may be such, and BRIN's meta page
/// and range map are.
fn has_items(fixture: &Fixture) -> bool {
    match fixture.record.rmid {
        rmgr::GENERIC => false,
        rmgr::BRIN => fixture.after.as_bytes().ends_with(&[0x93, 0xf0]),
        _ => true,
    }
}

/// Returns places of the page after that no mask may hide.
fn fixed_bytes(fixture: &Fixture) -> Vec<usize> {
    if is_map(fixture) {
        return vec![18, 24, 8191];
    }
    if !has_items(fixture) {
        return vec![18];
    }
    // The page's size and version; the first byte of the first and last items: xmin of a tuple, the TID of an index tuple.
    let after = &fixture.after;
    let items = (1..=after.item_count()).filter_map(|number| after.item(number));
    let mut stored = items.filter(|item| item.flags() == ItemFlags::Normal && item.has_storage());
    let ends = [stored.next(), stored.next_back()].into_iter().flatten();
    let mut fixed: Vec<usize> = std::iter::once(18)
        .chain(ends.map(|item| item.offset().into()))
        .collect();
    let reference = &fixture.record.blocks[fixture.index];
    let finished = finished_split(fixture.record.opcode());
    if fixture.record.rmid == rmgr::GIST && finished != Some(reference.id) {
        fixed.push(8180); // in the NSN
    }
    fixed
}

#[test]
fn one_wrong_byte_is_reported() {
    for mut fixture in fixtures() {
        let page = fixture.replay().expect("was replayed when it was recorded");
        for at in fixed_bytes(&fixture) {
            fixture.after.as_bytes_mut()[at] ^= 0x10;
            let difference = fixture.difference(&page);
            fixture.after.as_bytes_mut()[at] ^= 0x10;
            let found = difference
                .expect("can be masked")
                .map(|difference| (difference.at, difference.bytes));
            assert_eq!(found, Some((at, 1)), "{}", name(&fixture));
        }
    }
}

#[test]
fn hints_and_free_space_are_not_compared() {
    let fixtures = fixtures();
    let heap = fixtures
        .iter()
        .find(|fixture| fixture.record.rmid == rmgr::HEAP && !is_map(fixture));
    let mut fixture = heap.expect("heap was recorded").clone();
    let page = fixture.replay().expect("was replayed when it was recorded");
    let free = usize::from(fixture.after.lower());
    assert!(
        free < usize::from(fixture.after.upper()),
        "the page has no free space"
    );
    for at in [0, 8, 20, free] {
        fixture.after.as_bytes_mut()[at] ^= 0xff;
    }
    assert_eq!(fixture.difference(&page).expect("can be masked"), None);
}

/// Kinds of records that change blocks, with a handler, the same in 14 to 18.
const KINDS: [&str; 49] = [
    "BRIN/CREATE_INDEX",
    "BRIN/DESUMMARIZE",
    "BRIN/INSERT",
    "BRIN/INSERT+INIT",
    "BRIN/REVMAP_EXTEND",
    "BRIN/SAMEPAGE_UPDATE",
    "BRIN/UPDATE",
    "BRIN/UPDATE+INIT",
    "Btree/DEDUP",
    "Btree/DELETE",
    "Btree/INSERT_LEAF",
    "Btree/INSERT_META",
    "Btree/INSERT_POST",
    "Btree/INSERT_UPPER",
    "Btree/MARK_PAGE_HALFDEAD",
    "Btree/META_CLEANUP",
    "Btree/NEWROOT",
    "Btree/SPLIT_L",
    "Btree/SPLIT_R",
    "Btree/UNLINK_PAGE",
    "Btree/UNLINK_PAGE_META",
    "Btree/VACUUM",
    "Generic/Generic",
    "Gist/DELETE",
    "Gist/PAGE_DELETE",
    "Gist/PAGE_SPLIT",
    "Gist/PAGE_UPDATE",
    "Heap/DELETE",
    "Heap/HEAP_CONFIRM",
    "Heap/HOT_UPDATE",
    "Heap/INPLACE",
    "Heap/INSERT",
    "Heap/INSERT+INIT",
    "Heap/LOCK",
    "Heap/UPDATE",
    "Heap/UPDATE+INIT",
    "Heap2/LOCK_UPDATED",
    "Heap2/MULTI_INSERT",
    "Heap2/MULTI_INSERT+INIT",
    "Heap2/VISIBLE",
    "SPGist/ADD_LEAF",
    "SPGist/ADD_NODE",
    "SPGist/MOVE_LEAFS",
    "SPGist/PICKSPLIT",
    "SPGist/SPLIT_TUPLE",
    "SPGist/VACUUM_LEAF",
    "SPGist/VACUUM_REDIRECT",
    "SPGist/VACUUM_ROOT",
    "Sequence/LOG",
];

#[test]
fn every_kind_of_record_with_a_handler_was_recorded_in_every_version() {
    let fixtures = fixtures();
    for version in PgVersion::ALL {
        let prunes = if version >= PgVersion::V17 {
            [
                "Heap2/PRUNE_ON_ACCESS",
                "Heap2/PRUNE_VACUUM_CLEANUP",
                "Heap2/PRUNE_VACUUM_SCAN",
            ]
        } else {
            ["Heap2/PRUNE", "Heap2/VACUUM", "Heap2/FREEZE_PAGE"]
        };
        let of_version = fixtures
            .iter()
            .filter(|fixture| fixture.cluster.version == version);
        let recorded: BTreeSet<String> = of_version
            .map(|fixture| rmgr::describe(&fixture.record))
            .collect();
        for kind in KINDS.iter().chain(&prunes) {
            assert!(recorded.contains(*kind), "no {kind} of PostgreSQL {version}");
        }
    }
}

#[test]
fn every_reference_to_the_visibility_map_was_recorded() {
    let fixtures = fixtures();
    let expected = [
        ("Heap/INSERT", 1),
        ("Heap/DELETE", 1),
        ("Heap/LOCK", 1),
        ("Heap/UPDATE", 2),
        ("Heap/UPDATE", 3),
        ("Heap2/MULTI_INSERT", 1),
        ("Heap2/VISIBLE", 0),
    ];
    for (kind, id) in expected {
        let found = fixtures.iter().any(|fixture| {
            let reference = &fixture.record.blocks[fixture.index];
            rmgr::describe(&fixture.record) == kind && reference.id == id && is_map(fixture)
        });
        assert!(found, "no {kind} with map reference {id}");
    }
}

#[test]
fn fixture_files_round_trip_and_damage_is_refused() {
    let fixtures: Vec<Fixture> = fixtures().into_iter().take(5).collect();
    let mut bytes = Vec::new();
    fixture::write(&fixtures, &mut bytes).expect("memory does not fail");
    let read = fixture::read(bytes.as_slice()).expect("was just written");
    assert_eq!(read.len(), 5);
    for (one, other) in fixtures.iter().zip(&read) {
        assert_eq!(one.record, other.record);
        assert_eq!(
            (one.end, one.index, one.cluster),
            (other.end, other.index, other.cluster)
        );
        assert!(one.base == other.base && one.after == other.after);
    }
    assert!(fixture::read(&bytes[..bytes.len() / 2]).is_err());
    assert!(fixture::read(&b"no fixtures"[..]).is_err());
}
