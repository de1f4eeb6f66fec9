//! Layouts, by example.

use super::super::testing::{record, refuses_prefixes};
use super::*;
use crate::PgVersion::{self, *};
use crate::wal::rmgr::SPGIST;

const STATE: [u8; 8] = [9, 0, 0, 0, 1, 7, 7, 7];
const BUILD: State = State {
    redirect_xid: 9,
    is_build: true,
};
const LINK: ParentLink = ParentLink { offset: 3, node: 4 };

fn leaf(size: u8) -> Vec<u8> {
    let mut tuple = vec![0; size.into()];
    tuple[0] = size << 2;
    tuple
}

fn inner(size: u8) -> Vec<u8> {
    let mut tuple = vec![0; size.into()];
    tuple[4] = size;
    tuple
}

/// Decodes the record made of `parts`; none of its prefixes may be taken.
fn check(version: PgVersion, info: u8, parts: &[&[u8]], expected: SpgistRecord<'_>) {
    let main = parts.concat();
    let record = record(version, SPGIST, info, 0, &main);
    refuses_prefixes(&record, |record| SpgistRecord::decode(record).map(|_| ()));
    assert_eq!(SpgistRecord::decode(&record), Ok(expected));
}

#[test]
fn leaves_follow_their_places() {
    let (a, b) = (leaf(16), leaf(24));
    let add = AddLeaf {
        new_page: true,
        nulls: false,
        leaf: 1,
        head: 2,
        parent: LINK,
        tuple: &a,
    };
    check(
        V17,
        0x10,
        &[&[1, 0, 1, 0, 2, 0, 3, 0, 4, 0], &a],
        SpgistRecord::AddLeaf(add),
    );
    let mut moved = MoveLeafs {
        new_page: false,
        nulls: true,
        parent: LINK,
        state: BUILD,
        deleted: vec![5],
        inserted: vec![(6, &a), (7, &b)],
    };
    let head = |dead| [1, 0, 0, dead, 1, 7, 3, 0, 4, 0, 7, 7];
    check(
        V17,
        0x20,
        &[&head(0), &STATE, &[5, 0, 6, 0, 7, 0], &a, &b],
        SpgistRecord::MoveLeafs(moved.clone()),
    );
    moved.inserted.pop();
    check(
        V17,
        0x20,
        &[&head(1), &STATE, &[5, 0, 6, 0], &a],
        SpgistRecord::MoveLeafs(moved),
    );
}

#[test]
fn inner_tuples_say_their_own_size() {
    let (a, b) = (inner(16), inner(24));
    let mut add = AddNode {
        offset: 1,
        new_offset: 2,
        new_page: true,
        parent_id: Some(2),
        parent: LINK,
        state: BUILD,
        tuple: &a,
    };
    let head = |parent| [1, 0, 2, 0, 1, parent, 3, 0, 4, 0, 7, 7];
    check(V17, 0x30, &[&head(2), &STATE, &a], SpgistRecord::AddNode(add));
    add.parent_id = None;
    check(V17, 0x30, &[&head(255), &STATE, &a], SpgistRecord::AddNode(add));
    let bad = [&head(3)[..], &STATE, &a].concat();
    assert!(SpgistRecord::decode(&record(V17, SPGIST, 0x30, 0, &bad)).is_err());
    let split = SplitTuple {
        prefix_offset: 1,
        postfix_offset: 2,
        new_page: false,
        same_page: true,
        prefix: &a,
        postfix: &b,
    };
    check(
        V17,
        0x40,
        &[&[1, 0, 2, 0, 0, 1], &a, &b],
        SpgistRecord::SplitTuple(split),
    );
    let head = [1, 7, 1, 0, 2, 0, 0, 1, 8, 0, 1, 0, 1, 7, 3, 0, 4, 0, 7, 7];
    let (c, d) = (leaf(16), leaf(24));
    let placed = |on_destination, offset, tuple| PlacedLeaf {
        on_destination,
        offset,
        tuple,
    };
    let pick = PickSplit {
        init_source: false,
        init_destination: true,
        init_inner: true,
        nulls: false,
        inner_is_parent: true,
        parent: LINK,
        state: BUILD,
        deleted: vec![5],
        inner_offset: 8,
        inner: &a,
        inserted: vec![placed(true, 6, &c), placed(false, 7, &d)],
    };
    check(
        V17,
        0x50,
        &[&head, &STATE, &[5, 0, 6, 0, 7, 0, 1, 0], &a, &c, &d],
        SpgistRecord::PickSplit(pick),
    );
}

#[test]
fn vacuum_lists_offsets() {
    let leaf = VacuumLeaf {
        state: BUILD,
        dead: vec![1],
        placeholders: vec![2],
        moved: vec![(3, 4)],
        chained: vec![(5, 6)],
    };
    let offsets = [1, 0, 2, 0, 3, 0, 4, 0, 5, 0, 6, 0];
    check(
        V17,
        0x60,
        &[&[1, 0, 1, 0, 1, 0, 1, 0], &STATE, &offsets],
        SpgistRecord::VacuumLeaf(leaf),
    );
    let root = SpgistRecord::VacuumRoot { deleted: vec![1, 2] };
    check(V17, 0x70, &[&[2, 0, 7, 7], &STATE, &offsets[..4]], root);
    let redirect = || SpgistRecord::VacuumRedirect {
        redirects: vec![1, 2],
        first_placeholder: 9,
    };
    let head = [2, 0, 9, 0, 1, 1, 1, 1, 1, 7];
    check(V15, 0x80, &[&head[..8], &offsets[..4]], redirect());
    check(V16, 0x80, &[&head, &offsets[..4]], redirect());
    assert!(SpgistRecord::decode(&record(V17, SPGIST, 0x00, 0, &head)).is_err());
}

#[test]
fn a_tuple_smaller_than_its_header_is_refused() {
    let main = [&[1, 0, 1, 0, 2, 0, 3, 0, 4, 0][..], &[8 << 2], &[0; 15]].concat();
    let record = record(V17, SPGIST, 0x10, 0, &main);
    assert!(SpgistRecord::decode(&record).is_err());
}
