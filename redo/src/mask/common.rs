//! Masks that several kinds of page share (`bufmask.c`).

use neon_postgres::page::{
    ItemFlags, ItemId, PAGE_HEADER_SIZE, PD_ALL_VISIBLE, PD_HAS_FREE_LINES, PD_PAGE_FULL,
};
use neon_postgres::{BLCKSZ, Page};
use neon_types::Lsn;

use crate::Damage;
use crate::page::{change_flags, item, layout, put_item, zero};

pub(super) fn lsn_and_checksum(page: &mut Page) {
    page.set_lsn(Lsn::INVALID);
    page.set_stored_checksum(0);
}

/// Clears what is set without being logged, and `PD_ALL_VISIBLE`.
pub(super) fn header_hints(page: &mut Page) {
    page.set_prune_xid(0);
    change_flags(page, PD_PAGE_FULL | PD_HAS_FREE_LINES | PD_ALL_VISIBLE, 0);
}

/// Clears the bytes between line pointers and items.
pub(super) fn free_space(page: &mut Page) -> Result<(), Damage> {
    let layout = layout(page)?;
    zero(page, layout.lower..layout.upper)
}

/// Makes all line pointers look unused but for place and length.
pub(super) fn item_flags(page: &mut Page) -> Result<(), Damage> {
    for offset in 1..=layout(page)?.items() {
        let found = item(page, offset)?;
        put_item(
            page,
            offset,
            ItemId::new(found.offset(), ItemFlags::Unused, found.length()),
        )?;
    }
    Ok(())
}

/// Clears everything behind the header, and where free space begins and ends.
pub(super) fn content(page: &mut Page) -> Result<(), Damage> {
    page.set_lower(0);
    page.set_upper(0);
    zero(page, PAGE_HEADER_SIZE..BLCKSZ)
}
