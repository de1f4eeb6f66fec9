//! The oracle bites: whatever byte of a page comes out wrong is reported, but for those that Postgres leaves open.
//!
//! What is left open is said here once more, from the page's layout alone, so that a mask that hides more than it should is seen.

use std::collections::BTreeSet;

use neon_postgres::page::ItemFlags;
use neon_postgres::wal::rmgr;
use neon_postgres::{BLCKSZ, Page};
use neon_redo::oracle::fixture::Fixture;
use neon_types::Fork;

use crate::fixtures;
use crate::recorded::name;

/// For each byte of a page, the bits that may differ.
struct Open([u8; BLCKSZ]);

impl Open {
    fn hide(&mut self, bytes: std::ops::Range<usize>) {
        self.0[bytes].fill(0xFF);
    }

    fn u16(&mut self, at: usize, bits: u16) {
        for (byte, bits) in self.0[at..at + 2].iter_mut().zip(bits.to_le_bytes()) {
            *byte |= bits;
        }
    }

    /// State of the line pointers: bits 15 and 16 of four bytes.
    fn item_states(&mut self, page: &Page) {
        for item in 0..usize::from(page.item_count()) {
            self.0[24 + 4 * item + 1] |= 0x80;
            self.0[24 + 4 * item + 2] |= 0x01;
        }
    }

    fn free_space(&mut self, page: &Page) {
        self.hide(page.lower().into()..page.upper().into());
    }

    fn all_content(&mut self) {
        self.hide(12..16);
        self.hide(24..BLCKSZ);
    }

    fn heap(&mut self, page: &Page) {
        self.free_space(page);
        for number in 1..=page.item_count() {
            let item = page.item(number).expect("is one of them");
            let (at, len) = (usize::from(item.offset()), usize::from(item.length()));
            if item.has_storage() {
                self.hide(at + len..(at + len).next_multiple_of(8));
            }
            if item.flags() != ItemFlags::Normal {
                continue;
            }
            let infomask = u16_at(page, at + 20);
            // Of a frozen row, what is known of xmax; else what is known of either, and the locks.
            self.u16(
                at + 20,
                if infomask & 0x0300 == 0x0300 {
                    0x0C00
                } else {
                    0xFFF0
                },
            );
            self.hide(at + 8..at + 12); // command ids
            if u16_at(page, at + 16) == 0xFFFE {
                self.hide(at + 12..at + 18); // a speculative insertion's token
            }
        }
    }
}

fn u16_at(page: &Page, at: usize) -> u16 {
    u16::from_le_bytes([page.as_bytes()[at], page.as_bytes()[at + 1]])
}

fn open(fixture: &Fixture) -> Open {
    let page = &fixture.after;
    let special = usize::from(page.special());
    let mut open = Open([0; BLCKSZ]);
    open.hide(0..10); // LSN, checksum
    if fixture.record.blocks[fixture.index].rel.fork == Fork::VisibilityMap {
        return open;
    }
    let rmid = fixture.record.rmid;
    if matches!(rmid, rmgr::SEQ | rmgr::GENERIC) {
        open.free_space(page);
        return open;
    }
    let is_heap = matches!(rmid, rmgr::HEAP | rmgr::HEAP2);
    open.u16(10, if is_heap { 0x0003 } else { 0x0007 });
    open.hide(20..24); // pd_prune_xid
    match rmid {
        rmgr::HEAP | rmgr::HEAP2 => open.heap(page),
        rmgr::BTREE => {
            open.free_space(page);
            if u16_at(page, special + 12) & 1 != 0 {
                open.item_states(page);
            }
            open.u16(special + 12, 1 << 5 | 1 << 6);
            open.hide(special + 14..special + 16); // cycle id of a vacuum
        }
        rmgr::HASH => match u16_at(page, special + 12) & 0x0F {
            0 => open.all_content(),
            kind => {
                open.free_space(page);
                if kind <= 2 {
                    open.item_states(page);
                }
                open.u16(special + 12, 1 << 7);
            }
        },
        rmgr::GIN if u16_at(page, special + 6) & 1 << 2 != 0 => open.all_content(),
        rmgr::GIN if page.lower() > 24 => open.free_space(page),
        rmgr::GIN => {}
        rmgr::GIST => {
            open.free_space(page);
            open.hide(special..special + 8); // NSN
            if u16_at(page, special + 12) & 1 != 0 {
                open.item_states(page);
            }
            open.u16(special + 12, 1 << 3 | 1 << 4);
        }
        rmgr::SPGIST => open.free_space(page),
        rmgr::BRIN => {
            if u16_at(page, special + 6) != 0xF092 {
                open.free_space(page); // any but a page of the range map
            }
            open.u16(special + 4, 1);
        }
        other => panic!("pages of resource manager {other}"),
    }
    open
}

/// Returns the bytes whose value decides what a mask hides: two of them are never flipped at once.
fn steering(fixture: &Fixture) -> Vec<bool> {
    let page = &fixture.after;
    let mut bytes = vec![false; BLCKSZ];
    let mut add = |range: std::ops::Range<usize>| bytes[range].fill(true);
    add(10..24);
    let is_map = fixture.record.blocks[fixture.index].rel.fork == Fork::VisibilityMap;
    if is_map || matches!(fixture.record.rmid, rmgr::SEQ | rmgr::GENERIC) {
        return bytes;
    }
    add(usize::from(page.special())..BLCKSZ);
    if matches!(fixture.record.rmid, rmgr::HEAP | rmgr::HEAP2) {
        add(24..24 + 4 * usize::from(page.item_count()));
        for item in (1..=page.item_count()).filter_map(|number| page.item(number)) {
            let at = usize::from(item.offset());
            if item.flags() == ItemFlags::Normal {
                add(at + 16..at + 18);
                add(at + 20..at + 22);
            }
        }
    }
    bytes
}

/// A page after and the page that replay gives.
struct Bench {
    fixture: Fixture,
    page: Page,
}

impl Bench {
    /// Returns how many bytes are reported when bits of the page after are flipped; `None` when it cannot be masked any more, which
    /// is reported, too.
    fn reported(&mut self, places: &[(usize, u8)]) -> Option<usize> {
        self.flip(places);
        let found = self.fixture.difference(&self.page);
        self.flip(places);
        Some(found.ok()?.map_or(0, |difference| difference.bytes))
    }

    fn flip(&mut self, places: &[(usize, u8)]) {
        for (at, bits) in places {
            self.fixture.after.as_bytes_mut()[*at] ^= bits;
        }
    }

    /// Flips all of them at once, or one after the other where that leaves no page to mask.
    fn demand(&mut self, places: &[(usize, u8)]) {
        match self.reported(places) {
            Some(bytes) => assert_eq!(bytes, places.len(), "of {places:?}: {}", name(&self.fixture)),
            None => self.demand_each(places),
        }
    }

    fn demand_each(&mut self, places: &[(usize, u8)]) {
        for place in places {
            let found = self.reported(&[*place]);
            assert_ne!(found, Some(0), "byte and bits {place:?}: {}", name(&self.fixture));
        }
    }
}

#[test]
fn every_byte_that_is_fixed_is_compared() {
    let mut seen = BTreeSet::new();
    let mut flipped = 0;
    for fixture in fixtures() {
        let id = fixture.record.blocks[fixture.index].id;
        let version = fixture.cluster.version;
        if !seen.insert((version, fixture.record.rmid, fixture.record.opcode(), id)) {
            continue;
        }
        let open = open(&fixture);
        let steering = steering(&fixture);
        let page = fixture.replay().expect("was replayed when it was recorded");
        let mut bench = Bench { fixture, page };
        let of_byte = |at: usize| (0..8).map(move |bit| (at, 1u8 << bit));
        let fixed = |(at, bit): &(usize, u8)| open.0[*at] & bit == 0;
        let whole = |at: &usize| open.0[*at] == 0;
        let (steers, plain): (Vec<usize>, Vec<usize>) = (0..BLCKSZ).partition(|at| steering[*at]);
        bench.demand(
            &plain
                .iter()
                .filter(|at| whole(at))
                .map(|at| (*at, 0xFF))
                .collect::<Vec<_>>(),
        );
        for bit in (0..8).map(|bit| 1 << bit) {
            let partly = plain.iter().filter(|at| !whole(at)).map(|at| (*at, bit));
            bench.demand(&partly.filter(fixed).collect::<Vec<_>>());
        }
        let steers = steers.into_iter().flat_map(|at| {
            if whole(&at) {
                vec![(at, 0xFF)]
            } else {
                of_byte(at).filter(fixed).collect()
            }
        });
        bench.demand_each(&steers.collect::<Vec<_>>());
        flipped += open.0.iter().filter(|bits| **bits != 0xFF).count();
    }
    assert!(
        seen.len() > 300 && flipped > 1000 * seen.len(),
        "{flipped} bytes of {} pages",
        seen.len()
    );
}
