//! Replay of `Hash` records.

mod bitmap;
mod chain;
mod meta;
pub(crate) mod opaque;
mod split_point;
mod tuples;

use neon_postgres::Page;
use neon_postgres::records::hash::{HashRecord, SplitAllocatePage};

use self::opaque::{NEEDS_SPLIT_CLEANUP, NONE, Opaque, change};
use crate::Damage;
use crate::page::{Slot, add_item, delete_items};
use crate::target::{Target, Touch};

/// Replays a record of resource manager `Hash` onto one of its blocks.
pub(crate) fn redo(target: &Target<'_>, page: &mut Page) -> Result<Touch, Damage> {
    let data = target.data();
    match (HashRecord::decode(target.record)?, target.id()) {
        (HashRecord::InitMetaPage(init), 0) => meta::make(page, init)?,
        (HashRecord::InitBitmapPage { bitmap_size }, 0) => bitmap::make(page, bitmap_size)?,
        (HashRecord::InitBitmapPage { .. }, 1) => meta::add_first_bitmap(page)?,
        (HashRecord::Insert { offset }, 0) => add_item(page, data, offset, Slot::Index)?,
        (HashRecord::Insert { .. }, 1) => meta::add_tuples(page, 1.0)?,
        (HashRecord::AddOverflowPage(add), _) => chain::add_overflow_page(target, page, add)?,
        (HashRecord::SplitAllocatePage(split), _) => split_allocate_page(target, page, split)?,
        (HashRecord::SplitPage, 0) => return Err(Damage::MissingImage),
        (HashRecord::SplitComplete { old_flags, .. }, 0) => change(page, |opaque| opaque.flags = old_flags)?,
        (HashRecord::SplitComplete { new_flags, .. }, 1) => change(page, |opaque| opaque.flags = new_flags)?,
        (HashRecord::MovePageContents { .. }, 0) => return Ok(Touch::Unchanged),
        (HashRecord::MovePageContents { tuples }, 1) => tuples::add_moved(page, tuples, data)?,
        (HashRecord::MovePageContents { .. }, 2) => tuples::delete_listed(page, data)?,
        (HashRecord::SqueezePage(squeeze), _) => return chain::squeeze(target, page, squeeze),
        (HashRecord::Delete { .. }, 0) => return Ok(Touch::Unchanged),
        (HashRecord::Delete { clear_dead }, 1) => {
            tuples::delete_listed(page, data)?;
            if clear_dead {
                tuples::clear_dead(page)?;
            }
        }
        (HashRecord::SplitCleanup, 0) => change(page, |opaque| opaque.flags &= !NEEDS_SPLIT_CLEANUP)?,
        (HashRecord::UpdateMetaPage { tuples }, 0) => meta::set_tuples(page, tuples)?,
        (HashRecord::VacuumOnePage { offsets }, 0) => {
            delete_items(page, offsets.iter().copied())?;
            tuples::clear_dead(page)?;
        }
        (HashRecord::VacuumOnePage { offsets }, 1) => meta::add_tuples(page, -(offsets.len() as f64))?,
        _ => return Err(target.unexpected()),
    }
    Ok(Touch::Changed)
}

/// Replays SPLIT_ALLOCATE_PAGE. Recovery sets the old page's flags again where the record carries an image of it; as the image
/// was taken after the change it holds them.
fn split_allocate_page(target: &Target<'_>, page: &mut Page, split: SplitAllocatePage) -> Result<(), Damage> {
    match target.id() {
        0 => change(page, |opaque| {
            opaque.flags = split.old_flags;
            opaque.prev = split.new_bucket;
        }),
        1 => Opaque {
            prev: split.new_bucket,
            next: NONE,
            bucket: split.new_bucket,
            flags: split.new_flags,
        }
        .make_page(page),
        2 => meta::add_bucket(page, split, target.data()),
        _ => Err(target.unexpected()),
    }
}
