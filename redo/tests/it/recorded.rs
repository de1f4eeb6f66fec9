//! What the oracle checked once stays right, and the check can fail.

use std::collections::BTreeSet;

use neon_postgres::page::ItemFlags;
use neon_postgres::wal::rmgr;
use neon_postgres::{Page, PgVersion};
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

/// Returns places of the page after that no mask may hide.
fn fixed_bytes(fixture: &Fixture) -> Vec<usize> {
    if is_map(fixture) {
        return vec![18, 24, 8191];
    }
    // The page's size and version; the first byte of each item: xmin of a tuple, the TID of an index tuple.
    let after = &fixture.after;
    let items = (1..=after.item_count()).filter_map(|number| after.item(number));
    let stored = items.filter(|item| item.flags() == ItemFlags::Normal && item.has_storage());
    std::iter::once(18)
        .chain(stored.map(|item| item.offset().into()))
        .collect()
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

#[test]
fn every_kind_of_record_with_a_handler_was_recorded() {
    let fixtures = fixtures();
    let recorded = |version: PgVersion| -> BTreeSet<String> {
        let of_version = fixtures
            .iter()
            .filter(|fixture| fixture.cluster.version == version);
        of_version
            .map(|fixture| rmgr::describe(&fixture.record))
            .collect()
    };
    let common = [
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
        "Heap/DELETE",
        "Heap/HEAP_CONFIRM",
        "Heap/HOT_UPDATE",
        "Heap/INPLACE",
        "Heap/INSERT",
        "Heap/INSERT+INIT",
        "Heap/LOCK",
        "Heap/UPDATE",
        "Heap/UPDATE+INIT",
        "Heap2/MULTI_INSERT",
        "Heap2/MULTI_INSERT+INIT",
        "Heap2/VISIBLE",
        "Sequence/LOG",
    ];
    let prune_17 = [
        "Heap2/PRUNE_ON_ACCESS",
        "Heap2/PRUNE_VACUUM_CLEANUP",
        "Heap2/PRUNE_VACUUM_SCAN",
    ];
    let expected: BTreeSet<String> = common
        .iter()
        .chain(&prune_17)
        .map(|name| (*name).to_owned())
        .collect();
    let missing: Vec<_> = expected.difference(&recorded(PgVersion::V17)).cloned().collect();
    assert!(missing.is_empty(), "{missing:?} are not among the fixtures");
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

#[test]
fn replay_of_one_record_twice_gives_one_result() {
    for fixture in fixtures() {
        let pages: [Page; 2] = [(); 2].map(|()| fixture.replay().expect("was replayed when it was recorded"));
        assert!(pages[0] == pages[1], "{}", name(&fixture));
    }
}
