//! Tuples come and go.

use neon_postgres::{Cursor, Page};

use super::opaque::{HAS_DEAD_TUPLES, change};
use crate::Damage;
use crate::page::{Slot, add_item, align, delete_items, index_tuple_size, take_offsets};

/// Adds the `count` tuples that moved here. Data: their offset numbers, then the tuples, each padded.
pub(super) fn add_moved(page: &mut Page, count: u16, data: &[u8]) -> Result<(), Damage> {
    let mut cursor = Cursor::new(data);
    for offset in take_offsets(&mut cursor, count.into())?.iter() {
        let size = align(index_tuple_size(cursor.rest())?);
        add_item(page, cursor.take(size)?, offset, Slot::Index)?;
    }
    if cursor.remaining() > 0 {
        return Err(Damage::Value {
            what: "more tuples that move to a page than there are places for them",
        });
    }
    Ok(())
}

/// Removes the tuples whose offset numbers are the data.
pub(super) fn delete_listed(page: &mut Page, data: &[u8]) -> Result<(), Damage> {
    if !data.len().is_multiple_of(2) {
        return Err(Damage::OffsetList);
    }
    delete_items(page, take_offsets(&mut Cursor::new(data), data.len() / 2)?.iter())
}

/// Notes that no tuple of the page is known to be dead.
pub(super) fn clear_dead(page: &mut Page) -> Result<(), Damage> {
    change(page, |opaque| opaque.flags &= !HAS_DEAD_TUPLES)
}
