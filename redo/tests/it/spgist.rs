//! Every way that a record of SP-GiST can go was recorded, or is gone here.

use std::collections::BTreeSet;

use neon_postgres::records::spgist::SpgistRecord;
use neon_postgres::wal::{NewBlock, Record, RecordBuilder, rmgr};
use neon_postgres::{Page, PgVersion};
use neon_redo::{Cluster, redo};
use neon_types::Lsn;

use crate::fixtures;
use crate::rules::REL;

/// Returns what is special about the record.
fn ways(record: &Record) -> Vec<(&'static str, bool)> {
    match SpgistRecord::decode(record).expect("was recorded") {
        SpgistRecord::AddLeaf(add) => vec![
            ("a leaf on a new page", add.new_page),
            ("a null", add.nulls),
            ("a leaf in place of a dead one", add.leaf == add.head),
            (
                "a leaf behind the head of its chain",
                add.head != 0 && add.leaf != add.head,
            ),
            ("a leaf that begins a chain", add.parent.offset != 0),
        ],
        SpgistRecord::MoveLeafs(moved) => vec![
            ("a chain moves to a new page", moved.new_page),
            ("a chain of nulls moves", moved.nulls),
            (
                "a chain that was dead begins elsewhere",
                moved.deleted.len() == moved.inserted.len(),
            ),
            ("a chain leaves a redirect", !moved.state.is_build),
        ],
        SpgistRecord::AddNode(add) => vec![
            ("an inner tuple grows in place", add.parent_id.is_none()),
            (
                "an inner tuple moves away from its parent",
                add.parent_id == Some(0),
            ),
            (
                "an inner tuple moves, its parent is elsewhere",
                add.parent_id == Some(2),
            ),
            ("an inner tuple moves to a new page", add.new_page),
        ],
        SpgistRecord::SplitTuple(split) => vec![
            ("an inner tuple is split in place", split.same_page),
            ("an inner tuple is split over pages", !split.same_page),
        ],
        SpgistRecord::PickSplit(split) => vec![
            (
                "a leaf root is split",
                record.blocks.iter().all(|reference| reference.id != 0),
            ),
            ("an inner tuple beside its parent", split.inner_is_parent),
            ("an inner tuple on a new page", split.init_inner),
            ("leaves on a new page", split.init_destination),
            (
                "leaves stay",
                split.inserted.iter().any(|leaf| !leaf.on_destination),
            ),
            ("a chain of nulls is split", split.nulls),
        ],
        SpgistRecord::VacuumLeaf(vacuum) => vec![
            ("a chain dies", !vacuum.dead.is_empty()),
            ("tuples of a chain go", !vacuum.placeholders.is_empty()),
            ("a head of a chain is replaced", !vacuum.moved.is_empty()),
            ("tuples are chained anew", !vacuum.chained.is_empty()),
        ],
        SpgistRecord::VacuumRoot { .. } => vec![],
        SpgistRecord::VacuumRedirect {
            redirects,
            first_placeholder,
        } => vec![
            ("redirects end", !redirects.is_empty()),
            ("placeholders at the end of a page go", first_placeholder != 0),
        ],
    }
}

#[test]
fn every_way_was_recorded_in_every_version() {
    let fixtures = fixtures();
    for version in PgVersion::ALL {
        let (mut all, mut gone) = (BTreeSet::new(), BTreeSet::new());
        for fixture in &fixtures {
            if fixture.record.rmid == rmgr::SPGIST && fixture.cluster.version == version {
                for (way, taken) in ways(&fixture.record) {
                    all.insert(way);
                    gone.extend(taken.then_some(way));
                }
            }
        }
        assert_eq!(all.len(), 27, "{all:?}");
        let missing: Vec<_> = all.difference(&gone).collect();
        assert!(missing.is_empty(), "PostgreSQL {version}: {missing:?}");
    }
}

/// An inner tuple of one node that leads to `to`.
fn inner(to: [u8; 6]) -> Vec<u8> {
    [&[8, 0, 0, 0, 16, 0, 0, 0][..], &to, &[8, 0]].concat()
}

/// A page with inner tuples that lead nowhere.
fn page(tuples: u16) -> Page {
    let mut page = Page::zeroed();
    page.init(8);
    page.as_bytes_mut()[8190..].copy_from_slice(&[0x82, 0xff]);
    for number in 1..=tuples {
        let at = 8184 - 16 * number;
        page.as_bytes_mut()[at.into()..][..16].copy_from_slice(&inner([255; 6]));
        page.set_lower(24 + 4 * number);
        page.set_upper(at);
        page.set_item(
            number,
            neon_postgres::page::ItemId::new(at, neon_postgres::page::ItemFlags::Normal, 16),
        );
    }
    page
}

/// The place of a parent is free: Postgres never chose the page to which the tuple moves in the corpora.
#[test]
fn an_inner_tuple_moves_to_its_parents_page() {
    let xid = [9, 0, 0, 0];
    let state = [&xid[..], &[0; 4]].concat();
    let main = [&[1, 0, 2, 0, 0, 1, 1, 0, 0, 0, 0, 0][..], &state, &inner([7; 6])].concat();
    let blocks = [NewBlock::new(0, REL, 3), NewBlock::new(1, REL, 0x5_0004)];
    let builder = RecordBuilder::new(PgVersion::V17, rmgr::SPGIST, 0x30).main(&main);
    let builder = blocks.into_iter().fold(builder, RecordBuilder::block);
    let record = Record::decode(PgVersion::V17, builder.build()).expect("the builder makes whole records");
    let cluster = Cluster {
        version: PgVersion::V17,
        hints_logged: true,
    };
    let after = |index, mut page: Page| {
        let sliced = Record::decode(PgVersion::V17, record.slice_for_block(index)).expect("a slice is whole");
        redo(&cluster, &sliced, Lsn(0x5000), index, &mut page).expect("page and record fit");
        page
    };
    let tuple = |page: &Page, offset| {
        let item = page.item(offset).expect("exists");
        page.tuple(item).expect("is on the page").to_vec()
    };
    let place = [5, 0, 4, 0, 2, 0];
    let source = after(0, page(1));
    let redirect = [&[16 << 2 | 1, 0, 0, 0, 0, 0][..], &place, &xid].concat();
    assert_eq!(tuple(&source, 1), redirect);
    assert_eq!(source.as_bytes()[8184..8190], [0, 0, 1, 0, 0, 0], "one redirect");
    let destination = after(1, page(1));
    assert_eq!(
        tuple(&destination, 1),
        inner(place),
        "the parent leads to the tuple"
    );
    assert_eq!(tuple(&destination, 2), inner([7; 6]));
}
