//! Replay of `Btree` records.

mod dedup;
mod delete;
mod insert;
pub(crate) mod opaque;
mod split;
mod tuple;
mod unlink;

use neon_postgres::Page;
use neon_postgres::records::btree::{BtreeRecord, InsertKind, Metadata};

use self::opaque::{INCOMPLETE_SPLIT, Opaque};
use crate::Damage;
use crate::target::{Target, Touch};

/// Replays a record of resource manager `Btree` onto one of its blocks.
pub(crate) fn redo(target: &Target<'_>, page: &mut Page) -> Result<Touch, Damage> {
    let record = BtreeRecord::decode(target.record)?;
    let data = target.data();
    let id = target.id();
    match record {
        BtreeRecord::Insert {
            kind: InsertKind::Posting,
            offset,
        } if id == 0 => {
            insert::insert_posting(page, offset, data)?;
        }
        BtreeRecord::Insert { offset, .. } if id == 0 => insert::insert(page, offset, data)?,
        BtreeRecord::Insert {
            kind: InsertKind::Upper | InsertKind::Meta,
            ..
        } if id == 1 => finish_split(page)?,
        BtreeRecord::Insert {
            kind: InsertKind::Meta,
            ..
        } if id == 2 => make_meta(page, data)?,
        BtreeRecord::Split(split) => split::redo(target, page, split)?,
        BtreeRecord::Dedup { intervals } if id == 0 => dedup::dedup(page, intervals, data)?,
        BtreeRecord::Delete(delete) if id == 0 => delete::delete(page, target.version(), delete, data)?,
        BtreeRecord::MarkHalfDead(half_dead) => unlink::mark_half_dead(target, page, half_dead)?,
        BtreeRecord::UnlinkPage { meta: true, .. } if id == 4 => make_meta(page, data)?,
        BtreeRecord::UnlinkPage { unlink, .. } => unlink::unlink_page(target, page, unlink)?,
        BtreeRecord::NewRoot { level } if id == 0 => insert::new_root(page, level, data)?,
        BtreeRecord::NewRoot { .. } if id == 1 => finish_split(page)?,
        BtreeRecord::NewRoot { .. } if id == 2 => make_meta(page, data)?,
        BtreeRecord::MetaCleanup if id == 0 => make_meta(page, data)?,
        _ => return Err(target.unexpected()),
    }
    Ok(Touch::Changed)
}

/// Notes on a child that its right sibling's downlink is in the parent now.
fn finish_split(page: &mut Page) -> Result<(), Damage> {
    let mut opaque = Opaque::read(page)?;
    opaque.flags &= !INCOMPLETE_SPLIT;
    opaque.write(page)
}

fn make_meta(page: &mut Page, data: &[u8]) -> Result<(), Damage> {
    opaque::make_meta(page, Metadata::decode(data)?)
}
