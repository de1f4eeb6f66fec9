//! MARK_PAGE_HALFDEAD and UNLINK_PAGE: a page leaves the tree.

use neon_postgres::Page;
use neon_postgres::records::btree::{MarkHalfDead, UnlinkPage};

use super::opaque::{HALF_DEAD, LEAF, Opaque, set_deleted};
use super::tuple::IndexTuple;
use crate::Damage;
use crate::page::{Slot, add_item, bytes_at, put_u16, remove_item, stored_range};
use crate::target::Target;

/// Replays MARK_PAGE_HALFDEAD onto the leaf (0) or its parent (1).
pub(super) fn mark_half_dead(
    target: &Target<'_>,
    page: &mut Page,
    record: MarkHalfDead,
) -> Result<(), Damage> {
    match target.id() {
        0 => half_dead_leaf(page, record.left, record.right, record.top_parent),
        1 => drop_downlink(page, record.parent_offset),
        _ => Err(target.unexpected()),
    }
}

/// Makes the downlink at `offset` lead where the next one leads, and removes that one.
fn drop_downlink(page: &mut Page, offset: u16) -> Result<(), Damage> {
    let next = offset.checked_add(1).ok_or(Damage::OffsetList)?;
    let right = IndexTuple::read(bytes_at(page, stored_range(page, next)?)?)?.block();
    let range = stored_range(page, offset)?;
    if range.len() < 8 {
        return Err(Damage::Value {
            what: "an index tuple shorter than its header",
        });
    }
    put_u16(page, range.start, (right >> 16) as u16)?;
    put_u16(page, range.start + 2, right as u16)?;
    remove_item(page, next)
}

/// Makes a half-dead leaf, whose only tuple names the top of the branch that is being deleted.
fn half_dead_leaf(page: &mut Page, prev: u32, next: u32, top_parent: u32) -> Result<(), Damage> {
    let opaque = Opaque {
        prev,
        next,
        level: 0,
        flags: HALF_DEAD | LEAF,
        cycle_id: 0,
    };
    opaque.make_page(page)?;
    add_item(page, IndexTuple::top_parent(top_parent).bytes(), 1, Slot::Index)
}

/// Replays UNLINK_PAGE onto the page (0), its siblings (1 left, 2 right), or the half-dead leaf below it (3).
pub(super) fn unlink_page(target: &Target<'_>, page: &mut Page, record: UnlinkPage) -> Result<(), Damage> {
    match target.id() {
        0 => {
            let opaque = Opaque {
                prev: record.left,
                next: record.right,
                level: record.level,
                flags: if record.level == 0 { LEAF } else { 0 },
                cycle_id: 0,
            };
            opaque.make_page(page)?;
            set_deleted(page, record.safe_xid)
        }
        1 => {
            let mut opaque = Opaque::read(page)?;
            opaque.next = record.right;
            opaque.write(page)
        }
        2 => {
            let mut opaque = Opaque::read(page)?;
            opaque.prev = record.left;
            opaque.write(page)
        }
        3 => half_dead_leaf(page, record.leaf_left, record.leaf_right, record.leaf_top_parent),
        _ => Err(target.unexpected()),
    }
}
