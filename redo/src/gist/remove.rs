//! DELETE and PAGE_DELETE: tuples and pages go.

use neon_postgres::Page;
use neon_postgres::page::PAGE_HEADER_SIZE;
use neon_postgres::records::gist::PageDelete;

use super::opaque::{DELETED, HAS_GARBAGE, Opaque};
use crate::Damage;
use crate::page::{delete_items, put_u64, remove_item};
use crate::target::Target;

/// Removes tuples of a leaf that scans found dead. Recovery also sets [`super::opaque::TUPLES_DELETED`], which the server that
/// writes the record does not: what the page was is right, and nothing reads the flag.
pub(super) fn delete(page: &mut Page, offsets: &[u16]) -> Result<(), Damage> {
    delete_items(page, offsets.iter().copied())?;
    let mut opaque = Opaque::read(page)?;
    opaque.flags &= !HAS_GARBAGE;
    opaque.write(page)
}

/// Replays PAGE_DELETE onto the page (0) or its parent (1).
pub(super) fn page_delete(target: &Target<'_>, page: &mut Page, delete: PageDelete) -> Result<(), Damage> {
    match target.id() {
        0 => set_deleted(page, delete.delete_xid),
        1 => remove_item(page, delete.downlink),
        _ => Err(target.unexpected()),
    }
}

/// Turns an empty page into a deleted one that names the transaction that deleted it (`GistPageSetDeleted`).
fn set_deleted(page: &mut Page, xid: u64) -> Result<(), Damage> {
    let mut opaque = Opaque::read(page)?;
    opaque.flags |= DELETED;
    opaque.write(page)?;
    let lower = PAGE_HEADER_SIZE as u16 + 8;
    if page.upper() < lower {
        return Err(Damage::NoSpace { len: 8, free: 0 });
    }
    page.set_lower(lower);
    put_u64(page, PAGE_HEADER_SIZE, xid)
}
