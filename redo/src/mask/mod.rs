//! What Postgres ignores when it compares a page with its image in the log (`rm_mask`): LSN, checksum, hint bits, free space.
//! The rules are the same in 14 to 18.

mod common;
mod heap;
mod index;

use neon_postgres::Page;
use neon_postgres::wal::rmgr;

use crate::Damage;

/// Clears everything on a page that records of resource manager `rmid` may leave different. `block` is the page's number.
/// Pages of resource managers that Postgres does not check, and all-zero pages, stay as they are.
///
/// # Errors
/// The page's header or items contradict each other.
pub fn mask(rmid: u8, page: &mut Page, block: u32) -> Result<(), Damage> {
    if page.is_all_zero() {
        return Ok(());
    }
    match rmid {
        rmgr::HEAP | rmgr::HEAP2 => heap::mask(page, block),
        rmgr::BTREE => index::btree(page),
        rmgr::HASH => index::hash(page),
        rmgr::GIN => index::gin(page),
        rmgr::GIST => index::gist(page),
        rmgr::SPGIST => index::spgist(page),
        rmgr::BRIN => index::brin(page),
        rmgr::SEQ | rmgr::GENERIC => {
            common::lsn_and_checksum(page);
            common::free_space(page)
        }
        _ => Ok(()),
    }
}

/// Clears only LSN and checksum, as all of a visibility map page is fixed by its records though Postgres masks it.
pub fn mask_lsn(page: &mut Page) {
    common::lsn_and_checksum(page);
}
