//! INSERT into the tree of entries.

use neon_postgres::Page;
use neon_postgres::records::gin::EntryInsert;

use super::opaque::{LEAF, Opaque};
use crate::Damage;
use crate::page::{Slot, add_item, index_tuple_size, put_u16, remove_item, stored_range};

/// Adds a tuple, in place of another one if the record says so. On an inner page the tuple leads to the left half of a child
/// that was split, and the one that led to the child so far leads to `right_child` from now on.
pub(super) fn insert(page: &mut Page, right_child: Option<u32>, data: &[u8]) -> Result<(), Damage> {
    let new = EntryInsert::decode(data)?;
    Opaque::read(page)?.expect(if right_child.is_some() { 0 } else { LEAF })?;
    if let Some(block) = right_child {
        let range = stored_range(page, new.offset)?;
        if range.len() < 8 {
            return Err(Damage::Value {
                what: "an index tuple shorter than its header",
            });
        }
        put_u16(page, range.start, (block >> 16) as u16)?;
        put_u16(page, range.start + 2, block as u16)?;
        put_u16(page, range.start + 4, 0)?;
    }
    if new.replaces {
        remove_item(page, new.offset)?;
    }
    let tuple = new.tuple.get(..index_tuple_size(new.tuple)?);
    add_item(page, tuple.unwrap_or_default(), new.offset, Slot::Index)
}
