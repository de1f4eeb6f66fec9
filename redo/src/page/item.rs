//! Line pointers, checked against the page that they are on.

use std::ops::Range;

use neon_postgres::page::{ItemFlags, ItemId};
use neon_postgres::{BLCKSZ, Page};

use super::header::layout;
use crate::Damage;

/// A line pointer that is free for reuse.
pub(crate) const UNUSED: ItemId = ItemId(0);
/// A line pointer whose tuple is gone but which indexes may still name.
pub(crate) const DEAD: ItemId = ItemId((ItemFlags::Dead as u32) << 15);

/// Returns a line pointer that stands for item `target`.
pub(crate) fn redirect_to(target: u16) -> ItemId {
    ItemId::new(target, ItemFlags::Redirect, 0)
}

/// Returns line pointer `offset` (from 1), which must exist.
pub(crate) fn item(page: &Page, offset: u16) -> Result<ItemId, Damage> {
    page.item(offset).ok_or(Damage::NoSuchItem {
        offset,
        count: page.item_count(),
    })
}

/// Overwrites line pointer `offset` (from 1), which must exist.
pub(crate) fn put_item(page: &mut Page, offset: u16, item: ItemId) -> Result<(), Damage> {
    let count = page.item_count();
    page.set_item(offset, item)
        .ok_or(Damage::NoSuchItem { offset, count })
}

/// Returns the size of the index tuple (`IndexTupleData`: 8 bytes, then keys) that `bytes` begins with, without padding: at
/// least 8, at most all of them.
pub(crate) fn index_tuple_size(bytes: &[u8]) -> Result<usize, Damage> {
    /// `INDEX_SIZE_MASK`, in the last of the header's four 16-bit words.
    const SIZE_MASK: u16 = 0x1fff;
    let word = bytes.get(6..).and_then(|rest| rest.first_chunk());
    let size = word.map_or(0, |word| usize::from(u16::from_le_bytes(*word) & SIZE_MASK));
    if (8..=bytes.len()).contains(&size) {
        Ok(size)
    } else {
        Err(Damage::Value {
            what: "an index tuple shorter than it says",
        })
    }
}

/// Returns the damage of an item that lies where it must not.
pub(super) fn misplaced(offset: u16, item: ItemId) -> Damage {
    Damage::ItemPlace {
        offset,
        at: item.offset(),
        len: item.length(),
    }
}

/// Returns where the item's bytes are: behind `pd_lower`, inside the page. The item may be dead but must have storage.
pub(crate) fn stored_range(page: &Page, offset: u16) -> Result<Range<usize>, Damage> {
    let found = item(page, offset)?;
    if !found.has_storage() {
        return Err(Damage::ItemState {
            offset,
            expected: "stored",
        });
    }
    let start = usize::from(found.offset());
    let end = start + usize::from(found.length());
    if start < layout(page)?.lower || end > BLCKSZ {
        return Err(misplaced(offset, found));
    }
    Ok(start..end)
}
