//! INSERT_*, NEWROOT, and pages that come whole with the record.

use neon_postgres::{Cursor, Page};

use super::opaque::{LEAF, Opaque, ROOT};
use super::tuple::IndexTuple;
use crate::Damage;
use crate::page::{Slot, add_item, align, bytes_at, copy_to, index_tuple_size, stored_range};

/// Adds one tuple.
pub(super) fn insert(page: &mut Page, offset: u16, data: &[u8]) -> Result<(), Damage> {
    add_item(page, data, offset, Slot::Index)
}

/// Adds one tuple whose TID belongs into the posting list in front of it: the list takes that TID, and the new tuple the last
/// one of the list. Data: u16 place in the list, then the tuple.
pub(super) fn insert_posting(page: &mut Page, offset: u16, data: &[u8]) -> Result<(), Damage> {
    let mut cursor = Cursor::new(data);
    let place = cursor.u16()?;
    let mut new = IndexTuple::read(cursor.rest())?;
    let range = stored_range(page, offset.saturating_sub(1))?;
    let old = IndexTuple::read(bytes_at(page, range.clone())?)?;
    let changed = old.swap_in(&mut new, place)?;
    copy_to(page, range.start, changed.bytes())?;
    add_item(page, new.bytes(), offset, Slot::Index)
}

/// Makes the new root; an inner one comes with its tuples.
pub(super) fn new_root(page: &mut Page, level: u32, data: &[u8]) -> Result<(), Damage> {
    let flags = if level == 0 { ROOT | LEAF } else { ROOT };
    Opaque {
        level,
        flags,
        ..Opaque::default()
    }
    .make_page(page)?;
    if level == 0 {
        Ok(())
    } else {
        restore_items(page, data)
    }
}

/// Adds the tuples of a whole page to an empty one (`_bt_restore_page`). They come as they lie on the page: the last one
/// first, each padded to 8 bytes.
pub(super) fn restore_items(page: &mut Page, data: &[u8]) -> Result<(), Damage> {
    let mut items = Vec::new();
    let mut rest = data;
    while !rest.is_empty() {
        let size = align(index_tuple_size(rest)?);
        let (item, behind) = rest.split_at_checked(size).ok_or(Damage::Value {
            what: "an index tuple without its padding",
        })?;
        items.push(item);
        rest = behind;
    }
    for (item, offset) in items.into_iter().rev().zip(1..) {
        add_item(page, item, offset, Slot::Index)?;
    }
    Ok(())
}
