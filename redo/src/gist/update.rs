//! PAGE_UPDATE: tuples of one page are exchanged.

use neon_postgres::records::gist::PageUpdate;
use neon_postgres::{Cursor, Page};

use super::opaque::{LEAF, Opaque, TUPLES_DELETED};
use crate::Damage;
use crate::page::{Slot, add_item, delete_items, index_tuple_size, layout, overwrite_item, take_offsets};

/// Removes tuples and appends others; a tuple that is exchanged for one other keeps its place. Data: offset numbers of what
/// goes, then the new tuples.
pub(super) fn update(page: &mut Page, update: PageUpdate, data: &[u8]) -> Result<(), Damage> {
    let mut cursor = Cursor::new(data);
    let doomed = take_offsets(&mut cursor, update.deleted.into())?;
    let mut rest = cursor.rest();
    let mut inserted = 0;
    if let (1, 1, Some(offset)) = (update.deleted, update.inserted, doomed.iter().next()) {
        overwrite_item(page, offset, next_tuple(&mut rest)?)?;
        inserted = 1;
    } else if update.deleted > 0 {
        delete_items(page, doomed.iter())?;
        let mut opaque = Opaque::read(page)?;
        if opaque.flags & LEAF != 0 {
            opaque.flags |= TUPLES_DELETED;
            opaque.write(page)?;
        }
    }
    inserted += append(page, rest)?;
    if inserted == i64::from(update.inserted) {
        Ok(())
    } else {
        Err(Damage::Value {
            what: "another number of tuples than the record says",
        })
    }
}

/// Adds tuples behind the last one of the page (`gistfillbuffer`); returns how many.
pub(super) fn append(page: &mut Page, tuples: &[u8]) -> Result<i64, Damage> {
    let last = layout(page)?.items();
    let mut rest = tuples;
    let mut offset = last;
    while !rest.is_empty() {
        offset += 1; // a page holds no more than 2042 items
        add_item(page, next_tuple(&mut rest)?, offset, Slot::Index)?;
    }
    Ok(i64::from(offset - last))
}

/// Takes a tuple from the front of `rest`.
fn next_tuple<'a>(rest: &mut &'a [u8]) -> Result<&'a [u8], Damage> {
    let size = index_tuple_size(rest)?;
    let (tuple, behind) = rest.split_at_checked(size).unwrap_or_default();
    *rest = behind;
    Ok(tuple)
}
