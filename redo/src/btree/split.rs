//! SPLIT_L and SPLIT_R.

use neon_postgres::Page;
use neon_postgres::records::btree::Split;

use super::insert::restore_items;
use super::opaque::{INCOMPLETE_SPLIT, LEAF, Opaque};
use super::tuple::IndexTuple;
use crate::Damage;
use crate::page::{Slot, add_item, align, bytes_at, init_like, layout, stored_range};
use crate::target::Target;

/// Replays a split onto the left page (0), the right page (1), the right page's right sibling (2) or the child whose split
/// made this one necessary (3).
pub(super) fn redo(target: &Target<'_>, page: &mut Page, split: Split) -> Result<(), Damage> {
    let leaf = if split.level == 0 { LEAF } else { 0 };
    let data = target.data();
    match target.id() {
        0 => split_left(page, split, leaf, target.block_of(1)?, data),
        1 => {
            let opaque = Opaque {
                prev: target.block_of(0)?,
                next: target.find_block(2).unwrap_or(0),
                level: split.level,
                flags: leaf,
                cycle_id: 0,
            };
            opaque.make_page(page)?;
            restore_items(page, data)
        }
        2 => {
            let mut opaque = Opaque::read(page)?;
            opaque.prev = target.block_of(1)?;
            opaque.write(page)
        }
        3 if split.level > 0 => super::finish_split(page),
        _ => Err(target.unexpected()),
    }
}

/// Builds the left page from what stays, the new high key, and the new tuple if that went left. Data: the new tuple (if it
/// went left or splits a posting list), then the high key, each padded.
fn split_left(page: &mut Page, split: Split, leaf: u16, right: u32, data: &[u8]) -> Result<(), Damage> {
    let mut rest = data;
    let mut new_item = None;
    let mut replaced = None;
    if split.new_item_on_left || split.posting_offset != 0 {
        let mut tuple = next_tuple(&mut rest)?;
        if split.posting_offset != 0 {
            let offset = split.new_item.saturating_sub(1);
            let posting = IndexTuple::read(bytes_at(page, stored_range(page, offset)?)?)?;
            replaced = Some((
                offset,
                posting.swap_in(&mut tuple, split.posting_offset)?.padded(),
            ));
        }
        new_item = Some(tuple.padded()).filter(|_| split.new_item_on_left);
    }
    let high_key = next_tuple(&mut rest)?.padded();
    if !rest.is_empty() {
        return Err(Damage::Value {
            what: "bytes behind the high key of a split",
        });
    }

    let original = page.clone();
    let old = Opaque::read(&original)?;
    init_like(page, &original)?;
    let mut added = 0;
    let mut add = |item: &[u8]| {
        added += 1;
        add_item(page, item, added, Slot::Index)
    };
    add(&high_key)?;
    let first = if old.is_rightmost() { 1 } else { 2 };
    if split.first_right > layout(&original)?.items() + 1 {
        return Err(Damage::OffsetList);
    }
    for offset in first..split.first_right {
        if let Some((_, posting)) = replaced.as_ref().filter(|(place, _)| *place == offset) {
            add(posting)?;
            continue;
        }
        if let Some(item) = new_item.as_ref().filter(|_| offset == split.new_item) {
            add(item)?;
        }
        add(bytes_at(&original, stored_range(&original, offset)?)?)?;
    }
    if let Some(item) = new_item
        .as_ref()
        .filter(|_| split.new_item == split.first_right.max(first))
    {
        add(item)?;
    }
    let opaque = Opaque {
        flags: INCOMPLETE_SPLIT | leaf,
        next: right,
        cycle_id: 0,
        ..old
    };
    opaque.write(page)
}

/// Takes a tuple and its padding from the front of `rest`.
fn next_tuple(rest: &mut &[u8]) -> Result<IndexTuple, Damage> {
    let tuple = IndexTuple::read(rest)?;
    *rest = rest.get(align(tuple.bytes().len())..).ok_or(Damage::Value {
        what: "an index tuple without its padding",
    })?;
    Ok(tuple)
}
