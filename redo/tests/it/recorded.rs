//! What the oracle checked once stays right, and the check can fail.

use std::collections::BTreeSet;

use neon_postgres::page::ItemFlags;
use neon_postgres::records::gin::{SegmentChange, decode_actions};
use neon_postgres::records::gist::finished_split;
use neon_postgres::wal::rmgr;
use neon_postgres::{Page, PgVersion};
use neon_redo::oracle::fixture::{self, Fixture};
use neon_redo::oracle::kinds;
use neon_types::Fork;

use crate::fixtures;

pub(crate) fn name(fixture: &Fixture) -> String {
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
        let moves = rmgr::describe(&fixture.record) != "Heap2/VISIBLE"
            && !is_map(&fixture)
            && !is_unchanged(&fixture);
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

/// Returns true for pages that hash records name for the sake of a lock.
fn is_unchanged(fixture: &Fixture) -> bool {
    let record = &fixture.record;
    match (rmgr::describe(record).as_str(), record.blocks[fixture.index].id) {
        ("Hash/DELETE" | "Hash/MOVE_PAGE_CONTENTS" | "Hash/SQUEEZE_PAGE", 0) => true,
        ("Hash/SQUEEZE_PAGE", 1) if fixture.cluster.version >= PgVersion::V17 => {
            record.block_data(fixture.index).is_empty() && record.main_data()[11] == 0
        }
        _ => false,
    }
}

/// Returns false for pages that are not made of line pointers and items: an extension's page may be such, and BRIN's meta page
/// and range map and all but the buckets of a hash index are.
fn has_items(fixture: &Fixture) -> bool {
    match fixture.record.rmid {
        rmgr::GENERIC => false,
        rmgr::HASH => fixture.after.as_bytes()[8188] & 3 != 0,
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
        // A free page of a hash index is masked whole.
        let is_free = fixture.record.rmid == rmgr::HASH && fixture.after.as_bytes()[8188] == 0;
        let is_known = !is_free && fixture.record.rmid != rmgr::GENERIC;
        return if is_known { vec![18, 24] } else { vec![18] };
    }
    if fixture.record.rmid == rmgr::GIN {
        return gin_fixed_bytes(&fixture.after);
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

/// The page's size and version, since when it is deleted, its flags; unless it is deleted, what follows its header (a line
/// pointer, the largest TID or the meta page's content) and its right link.
fn gin_fixed_bytes(after: &Page) -> Vec<usize> {
    const DELETED: u8 = 1 << 2;
    let mut fixed = vec![18, 20, 8191];
    if after.as_bytes()[8190] & DELETED == 0 {
        fixed.push(8184);
        fixed.extend((after.lower() > 24).then_some(24));
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

/// Kinds of records whose blocks always come as images that are restored.
const RESTORED: [&str; 4] = [
    "Gin/VACUUM_PAGE",
    "Hash/SPLIT_PAGE",
    "XLOG/FPI",
    "XLOG/FPI_FOR_HINT",
];

#[test]
fn every_kind_of_record_was_recorded_in_every_version() {
    let fixtures = fixtures();
    for version in PgVersion::ALL {
        let of_version = fixtures
            .iter()
            .filter(|fixture| fixture.cluster.version == version);
        let recorded: BTreeSet<String> = of_version
            .map(|fixture| rmgr::describe(&fixture.record))
            .collect();
        let mut missing = kinds(version.major());
        missing.retain(|kind| !recorded.contains(kind) && !RESTORED.contains(&kind.as_str()));
        assert!(missing.is_empty(), "not of PostgreSQL {version}: {missing:?}");
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
    // By 17.11 and 18.6; those before do not name them.
    let of = |version| expected.iter().map(move |(kind, id)| (version, *kind, *id));
    for (version, kind, id) in of(PgVersion::V17).chain(of(PgVersion::V18)) {
        let found = fixtures.iter().any(|fixture| {
            let reference = &fixture.record.blocks[fixture.index];
            rmgr::describe(&fixture.record) == kind
                && fixture.cluster.version == version
                && reference.id == id
                && is_map(fixture)
        });
        assert!(found, "no {kind} with map reference {id} of PostgreSQL {version}");
    }
}

#[test]
fn every_change_of_a_gin_page_was_recorded() {
    let fixtures = fixtures();
    for version in PgVersion::ALL {
        let gin = fixtures
            .iter()
            .filter(|fixture| fixture.record.rmid == rmgr::GIN && fixture.cluster.version == version);
        let (mut references, mut actions) = (BTreeSet::new(), BTreeSet::new());
        for fixture in gin {
            let record = &fixture.record;
            let kind = match (record.opcode(), record.main_data().first()) {
                (0x20, Some(flags)) => format!("INSERT {flags}"),
                (0x60, _) => format!("UPDATE_META_PAGE {}", record.main_data()[80].min(1)),
                (opcode, _) => format!("{opcode:#x}"),
            };
            references.insert(format!("{kind}: {}", record.blocks[fixture.index].id.min(3)));
            let recompresses = record.opcode() == 0x90 || kind == "INSERT 3";
            if recompresses {
                let decoded = decode_actions(record.block_data(fixture.index)).expect("was replayed");
                actions.extend(decoded.iter().map(|action| match action.change {
                    SegmentChange::Delete => "delete",
                    SegmentChange::Insert(_) => "insert",
                    SegmentChange::Replace(_) => "replace",
                    SegmentChange::AddItems(_) => "add",
                }));
            }
        }
        // INSERT by its flags: 0 and 2 the tree of entries, 1 and 3 a posting tree, 2 and 3 leaves; child 1.
        for expected in [
            "INSERT 0: 0",
            "INSERT 0: 1",
            "INSERT 1: 0",
            "INSERT 1: 1",
            "INSERT 2: 0",
            "INSERT 3: 0",
            "UPDATE_META_PAGE 0: 1",
            "UPDATE_META_PAGE 1: 1",
            "0x30: 3",
            "0x50: 0",
            "0x50: 1",
            "0x50: 2",
            "0x80: 0",
            "0x80: 1",
        ] {
            assert!(
                references.contains(expected),
                "no {expected} of PostgreSQL {version}: {references:?}"
            );
        }
        assert_eq!(actions.len(), 4, "PostgreSQL {version} has only {actions:?}");
    }
}

/// Flags and count of a GIN page are its last bytes.
#[test]
fn changes_of_gin_leaves_from_before_9_4_were_recorded() {
    const KIND: u8 = 0x83;
    const UNCOMPRESSED_LEAF: u8 = 0x03;
    let mut found = BTreeSet::new();
    for fixture in fixtures() {
        let is_gin = fixture.record.rmid == rmgr::GIN;
        let Some(base) = fixture.base.filter(|_| is_gin) else {
            continue;
        };
        let last = |page: &Page| {
            [
                page.as_bytes()[8188],
                page.as_bytes()[8189],
                page.as_bytes()[8190],
            ]
        };
        let [low, high, flags] = last(&base);
        if flags & KIND == UNCOMPRESSED_LEAF {
            let empty = u16::from_le_bytes([low, high]) == 0;
            let becomes = last(&fixture.after);
            assert_eq!(becomes, [0, 0, flags | 0x80]);
            found.insert((rmgr::describe(&fixture.record), empty));
        }
    }
    let expected = [
        ("Gin/INSERT", false),
        ("Gin/INSERT", true),
        ("Gin/VACUUM_DATA_LEAF_PAGE", false),
    ];
    assert_eq!(
        found,
        expected.map(|(kind, empty)| (kind.to_owned(), empty)).into()
    );
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
