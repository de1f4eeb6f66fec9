//! The pending list: its pages, and the meta page that knows where it begins and ends.

use neon_postgres::Page;
use neon_postgres::page::PAGE_HEADER_SIZE;
use neon_postgres::records::gin::{META_SIZE, TailChange};

use super::opaque::{LIST, LIST_FULL_ROW, META, Opaque, make_page as make_gin_page};
use crate::Damage;
use crate::page::{Slot, add_item, copy_to, index_tuple_size, layout};
use crate::target::Target;

/// Makes the meta page.
pub(super) fn make_meta(page: &mut Page, metadata: &[u8; META_SIZE]) -> Result<(), Damage> {
    make_gin_page(page, META)?;
    copy_to(page, PAGE_HEADER_SIZE, metadata)?;
    page.set_lower((PAGE_HEADER_SIZE + META_SIZE) as u16);
    Ok(())
}

/// Makes a page of the list. The last of a row that fills several counts as its one row.
pub(super) fn make_page(page: &mut Page, right_link: u32, tuples: u32, data: &[u8]) -> Result<(), Damage> {
    let is_tail = right_link == u32::MAX;
    make_gin_page(page, if is_tail { LIST | LIST_FULL_ROW } else { LIST })?;
    let mut opaque = Opaque::read(page)?;
    opaque.right_link = right_link;
    opaque.count = is_tail.into();
    opaque.write(page)?;
    append(page, tuples, data)
}

/// Replays UPDATE_META_PAGE onto the last page of the list.
pub(super) fn change_tail(target: &Target<'_>, page: &mut Page, change: TailChange) -> Result<(), Damage> {
    let mut opaque = Opaque::read(page)?;
    match change {
        TailChange::None => return Err(target.unexpected()),
        TailChange::Link(block) => opaque.right_link = block,
        TailChange::Tuples(tuples) => {
            append(page, tuples, target.data())?;
            opaque.count = opaque.count.checked_add(1).ok_or(Damage::Value {
                what: "a page of the pending list with more heap rows than it can hold",
            })?;
        }
    }
    opaque.write(page)
}

/// Adds tuples behind those that are there.
fn append(page: &mut Page, tuples: u32, data: &[u8]) -> Result<(), Damage> {
    let mut rest = data;
    for _ in 0..tuples {
        let (tuple, behind) = rest.split_at(index_tuple_size(rest)?);
        let last = layout(page)?.items();
        add_item(page, tuple, last + 1, Slot::Index)?;
        rest = behind;
    }
    if rest.is_empty() {
        return Ok(());
    }
    Err(Damage::Value {
        what: "bytes behind the last tuple",
    })
}
