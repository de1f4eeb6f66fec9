//! One block on both sides.

use neon_postgres::page::PD_ALL_VISIBLE;
use neon_postgres::wal::rmgr;
use neon_postgres::{BLCKSZ, Page};
use neon_types::{Fork, Lsn, RelTag};

use super::Peer;
use super::report::{Class, Difference, Report, is_map};

/// Bytes of a page header (`SizeOfPageHeaderData`).
const HEADER: usize = 24;
/// Bytes that a difference shows.
const SHOWN: usize = 8;

/// Compares a block and counts it.
pub(super) fn compare(
    rel: RelTag,
    block: u32,
    mut ours: Page,
    theirs: &Page,
    peer: &Peer,
    report: &mut Report,
) {
    if is_map(rel) {
        report.tally(Class::VisibilityMap).pages += 1;
        return map(rel, block, &ours, theirs, peer, report);
    }
    if ours.is_new() || theirs.is_new() {
        return empty(rel, block, &ours, theirs, report);
    }
    let rmid = owner(theirs);
    let class = Class::of_rmgr(rmid);
    report.tally(class).pages += 1;
    // Postgres writes the empty pages of an unlogged index first and logs them then.
    let written_first = rel.fork == Fork::Init && theirs.lsn() == Lsn::INVALID;
    if class == Class::of_rmgr(rmgr::HEAP) && is_frozen_only(&ours, theirs, peer) {
        report.allowed.lsns_behind += 1;
        ours.set_lsn(theirs.lsn());
    }
    if ours.lsn() != theirs.lsn() && !written_first {
        let difference = Difference {
            ours: format!("LSN {}", ours.lsn()),
            theirs: format!("LSN {}", theirs.lsn()),
            ..at(rel, block, 0)
        };
        return report.differs(class, difference);
    }
    if (ours.flags() ^ theirs.flags()) & PD_ALL_VISIBLE != 0 {
        let difference = Difference {
            ours: format!("flags {:#x}", ours.flags()),
            theirs: format!("flags {:#x}", theirs.flags()),
            ..at(rel, block, 10)
        };
        return report.differs(class, difference);
    }
    let (mut mine, mut other) = (ours, theirs.clone());
    match peer {
        Peer::Wrote { .. } => {
            if let Err(damage) = mask(rmid, block, &mut mine, &mut other, report) {
                let difference = Difference {
                    offset: None,
                    ours: damage,
                    theirs: "the same, or a page in order".to_owned(),
                    ..at(rel, block, 0)
                };
                return report.differs(class, difference);
            }
        }
        Peer::Replayed => {
            unused(rmid, &mut mine);
            unused(rmid, &mut other);
        }
    }
    if let Some(difference) = bytes(rel, block, &mine, &other) {
        report.differs(class, difference);
    }
}

/// Returns true when the directory may lack the last change of a heap page, which is of its LSN alone: a vacuum that finds a page all
/// frozen whose bit in the map says visible sets the LSN and does not mark the page dirty (`lazy_scan_prune`). What is in the page is
/// compared besides.
fn is_frozen_only(ours: &Page, theirs: &Page, peer: &Peer) -> bool {
    matches!(peer, Peer::Wrote { .. })
        && ours.lsn() > theirs.lsn()
        && ours.flags() & theirs.flags() & PD_ALL_VISIBLE != 0
}

/// Makes equal what the server that wrote the WAL may have done without it.
fn mask(rmid: u8, block: u32, ours: &mut Page, theirs: &mut Page, report: &mut Report) -> Result<(), String> {
    let loose = not_logged(rmid, block, theirs);
    let part = |page: &Page| page.as_bytes().get(loose.clone()).map(<[u8]>::to_vec);
    if rmid == rmgr::SEQ && part(ours) != part(theirs) {
        report.allowed.sequences_ahead += 1;
    }
    for page in [ours, theirs] {
        if let Some(bytes) = page.as_bytes_mut().get_mut(loose.clone()) {
            bytes.fill(0);
        }
        neon_redo::mask::mask(rmid, page, block).map_err(|damage| damage.to_string())?;
    }
    Ok(())
}

/// Clears the checksum and what nobody reads: the bytes between line pointers and items, and those that align tuples. Postgres leaves
/// there what it had, when it compacts a page.
fn unused(rmid: u8, page: &mut Page) {
    page.set_stored_checksum(0);
    let (lower, upper) = (usize::from(page.lower()), usize::from(page.upper()));
    if !(HEADER..=upper).contains(&lower) || upper > BLCKSZ {
        return;
    }
    if rmid == rmgr::HEAP {
        for number in 1..=page.item_count() {
            if let Some(item) = page.item(number).filter(|item| item.has_storage()) {
                let end = usize::from(item.offset()) + usize::from(item.length());
                if let Some(padding) = page.as_bytes_mut().get_mut(end..end.next_multiple_of(8)) {
                    padding.fill(0);
                }
            }
        }
    }
    if let Some(free) = page.as_bytes_mut().get_mut(lower..upper) {
        free.fill(0);
    }
}

/// Returns the bytes of a page that are not logged at every change, so that the directory of who wrote them may be elsewhere.
fn not_logged(rmid: u8, block: u32, page: &Page) -> std::ops::Range<usize> {
    match rmid {
        // last_value, log_cnt, is_called behind a tuple header: WAL is written for 32 values at once.
        rmgr::SEQ => {
            let start = usize::from(page.upper()) + 24;
            start..start + 17
        }
        // The pages that a meta page recommends for insertion.
        rmgr::SPGIST if block == 0 => 28..92,
        _ => 0..0,
    }
}

fn map(rel: RelTag, block: u32, ours: &Page, theirs: &Page, peer: &Peer, report: &mut Report) {
    let bits = |page: &Page| page.as_bytes().get(HEADER..).unwrap_or_default().to_vec();
    let (mine, other) = (bits(ours), bits(theirs));
    // A map page that was made without WAL and has no bit.
    let unset = ours.is_all_zero() && other.iter().all(|byte| *byte == 0);
    if unset || ours.as_bytes() == theirs.as_bytes() {
        return;
    }
    // Missing bits are safe. A record that clears one moves the LSN only where it was set.
    if let Peer::Wrote { copied_by_wal } = peer
        && copied_by_wal.contains(&rel.db)
        && mine.iter().zip(&other).all(|(ours, theirs)| ours & !theirs == 0)
    {
        report.allowed.maps_behind += 1;
        return;
    }
    if let Some(difference) = bytes(rel, block, ours, theirs) {
        report.differs(Class::VisibilityMap, difference);
    }
}

/// One side at least has nothing there: a page that Postgres added and formatted without WAL is no difference.
fn empty(rel: RelTag, block: u32, ours: &Page, theirs: &Page, report: &mut Report) {
    report.tally(Class::Empty).pages += 1;
    if ours.as_bytes() == theirs.as_bytes() {
        return;
    }
    if is_bare(ours) && is_bare(theirs) {
        report.allowed.unlogged_blocks += 1;
        return;
    }
    let show = |page: &Page| if page.is_new() { "nothing" } else { "a page" }.to_owned();
    let difference = Difference {
        offset: None,
        ours: show(ours),
        theirs: show(theirs),
        ..at(rel, block, 0)
    };
    report.differs(Class::Empty, difference);
}

/// Returns true for a page that holds nothing: all zeros, or a header and zeros.
pub(super) fn is_bare(page: &Page) -> bool {
    let body = page
        .as_bytes()
        .get(HEADER..usize::from(page.special()).clamp(HEADER, BLCKSZ));
    page.is_new()
        || (usize::from(page.lower()) == HEADER && body.unwrap_or_default().iter().all(|byte| *byte == 0))
}

/// Returns the difference of two pages byte by byte.
pub(super) fn bytes(rel: RelTag, block: u32, ours: &Page, theirs: &Page) -> Option<Difference> {
    let (offset, mine, other) = first_difference(ours.as_bytes(), theirs.as_bytes())?;
    Some(Difference {
        ours: mine,
        theirs: other,
        ..at(rel, block, offset)
    })
}

/// Returns the first byte that differs, with what is there on both sides in hex.
pub(super) fn first_difference(ours: &[u8], theirs: &[u8]) -> Option<(usize, String, String)> {
    let offset = ours
        .iter()
        .zip(theirs)
        .position(|(ours, theirs)| ours != theirs)?;
    let show = |bytes: &[u8]| {
        let shown = bytes.iter().skip(offset).take(SHOWN);
        shown.map(|byte| format!("{byte:02x}")).collect::<String>()
    };
    Some((offset, show(ours), show(theirs)))
}

fn at(rel: RelTag, block: u32, offset: usize) -> Difference {
    Difference {
        place: rel.to_string(),
        block: Some(u64::from(block)),
        offset: Some(offset),
        ours: String::new(),
        theirs: String::new(),
    }
}

/// Returns the resource manager of a page, by the size of its special space and by what Postgres puts there to tell them apart.
fn owner(page: &Page) -> u8 {
    let special = usize::from(page.special());
    let bytes = page.as_bytes();
    let last = bytes
        .last_chunk()
        .map_or(0, |bytes: &[u8; 2]| u16::from_le_bytes(*bytes));
    match (special, last) {
        (BLCKSZ, _) => rmgr::HEAP,
        (8176, 0xFF80) => rmgr::HASH,
        (8176, 0xFF81) => rmgr::GIST,
        (8176, _) => rmgr::BTREE,
        (8184, 0xFF82) => rmgr::SPGIST,
        (8184, 0xF091..=0xF093) => rmgr::BRIN,
        (8184, _) if bytes.get(8184..8188) == Some(&[0x17, 0x17, 0, 0]) => rmgr::SEQ,
        _ => rmgr::GIN,
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use neon_postgres::page::{ItemFlags, ItemId};

    use super::*;

    const REL: RelTag = RelTag {
        spc: 1663,
        db: 5,
        rel: 16384,
        fork: Fork::Main,
    };

    fn heap_page() -> Page {
        let mut page = Page::zeroed();
        page.init(0);
        page.set_lsn(Lsn(0x100));
        page
    }

    fn found_by(peer: &Peer, rel: RelTag, ours: Page, theirs: &Page) -> Vec<String> {
        let mut report = Report::default();
        compare(rel, 7, ours, theirs, peer, &mut report);
        assert_eq!(report.total().pages, 1);
        report.differences.iter().map(ToString::to_string).collect()
    }

    fn found(rel: RelTag, ours: Page, theirs: &Page) -> Vec<String> {
        found_by(&Peer::Replayed, rel, ours, theirs)
    }

    #[test]
    fn lsn_and_visibility_are_compared_and_hints_of_a_recovery_too() {
        let theirs = heap_page();
        let mut hinted = heap_page();
        hinted.set_prune_xid(0x700);
        hinted.set_stored_checksum(9);
        let wrote = Peer::Wrote {
            copied_by_wal: BTreeSet::new(),
        };
        assert_eq!(
            found_by(&wrote, REL, hinted.clone(), &theirs),
            Vec::<String>::new()
        );
        assert_eq!(
            found(REL, hinted, &theirs),
            ["1663/5/16384 block 7 byte 21: 0700000000000000, in the directory 0000000000000000"]
        );
        let mut late = heap_page();
        late.set_lsn(Lsn(0x108));
        assert_eq!(
            found(REL, late, &theirs),
            ["1663/5/16384 block 7 byte 0: LSN 0/108, in the directory LSN 0/100"]
        );
        let mut visible = heap_page();
        visible.set_flags(PD_ALL_VISIBLE);
        assert_eq!(
            found(REL, visible, &theirs),
            ["1663/5/16384 block 7 byte 10: flags 0x4, in the directory flags 0x0"]
        );
    }

    #[test]
    fn only_the_lsn_of_an_all_visible_page_may_be_behind() {
        let wrote = Peer::Wrote {
            copied_by_wal: BTreeSet::new(),
        };
        let mut theirs = heap_page();
        theirs.set_flags(PD_ALL_VISIBLE);
        let mut ours = theirs.clone();
        ours.set_lsn(Lsn(0x108));
        assert_eq!(found_by(&wrote, REL, ours.clone(), &theirs), Vec::<String>::new());
        assert_eq!(found(REL, ours.clone(), &theirs).len(), 1, "a recovery writes it");
        assert_eq!(found_by(&wrote, REL, theirs.clone(), &ours).len(), 1, "not ahead");
        ours.set_lower(28);
        assert_eq!(found_by(&wrote, REL, ours, &theirs).len(), 1, "not another page");
        let mut late = heap_page();
        late.set_lsn(Lsn(0x108));
        assert_eq!(
            found_by(&wrote, REL, late, &heap_page()).len(),
            1,
            "not one that may change"
        );
    }

    #[test]
    fn the_first_byte_that_differs_is_shown() {
        let mut ours = heap_page();
        // A line pointer to 29 bytes, with 3 of padding behind them.
        ours.set_lower(28);
        ours.set_upper(8160);
        ours.set_item(1, ItemId::new(8160, ItemFlags::Normal, 29))
            .expect("an item");
        let mut theirs = ours.clone();
        theirs.as_bytes_mut()[8189] = 1;
        theirs.as_bytes_mut()[100] = 1;
        assert_eq!(found(REL, ours.clone(), &theirs), Vec::<String>::new());
        theirs.as_bytes_mut()[8160] = 1;
        assert_eq!(
            found(REL, ours, &theirs),
            ["1663/5/16384 block 7 byte 8160: 0000000000000000, in the directory 0100000000000000"]
        );
    }

    #[test]
    fn every_bit_of_a_map_is_compared() {
        let rel = REL.with_fork(Fork::VisibilityMap);
        let mut theirs = heap_page();
        theirs.as_bytes_mut()[4000] = 1;
        assert_eq!(
            found(rel, heap_page(), &theirs),
            ["1663/5/16384_vm block 7 byte 4000: 0000000000000000, in the directory 0100000000000000"]
        );
        // Made without WAL, and without a bit.
        assert_eq!(found(rel, Page::zeroed(), &heap_page()), Vec::<String>::new());
        assert_eq!(found(rel, Page::zeroed(), &theirs).len(), 1);
    }

    #[test]
    fn blocks_that_were_added_without_wal_are_empty() {
        let mut full = heap_page();
        full.set_lower(28);
        assert_eq!(found(REL, Page::zeroed(), &heap_page()), Vec::<String>::new());
        assert_eq!(
            found(REL, Page::zeroed(), &full),
            ["1663/5/16384 block 7: nothing, in the directory a page"]
        );
    }
}
