//! Replay of `Gin` records.
//!
//! An index is a tree of entries, whose leaves hold a key with its heap TIDs or with the root of a posting tree of them; posting
//! trees; and a list of pages with entries that are in no tree yet (the pending list). Splits come as images.

mod entry;
mod item;
mod leaf;
pub(crate) mod opaque;
mod pending;
mod posting;

use neon_postgres::Page;
use neon_postgres::records::gin::{DeletePage, GinRecord, Insert, decode_actions};

use self::opaque::{DELETED, INCOMPLETE_SPLIT, Opaque};
use crate::Damage;
use crate::target::{Target, Touch};

/// Replays a record of resource manager `Gin` onto one of its blocks.
pub(crate) fn redo(target: &Target<'_>, page: &mut Page) -> Result<Touch, Damage> {
    let data = target.data();
    match (GinRecord::decode(target.record)?, target.id()) {
        (GinRecord::CreatePostingTree { segments }, 0) => leaf::make_root(page, segments)?,
        (GinRecord::Insert(insert), 0) => insert_into(page, insert, data)?,
        (GinRecord::Insert(_), 1) | (GinRecord::Split, 3) => finish_split(page)?,
        (GinRecord::Split, 0..=2) | (GinRecord::VacuumPage, 0) => return Err(Damage::MissingImage),
        (GinRecord::VacuumDataLeafPage, 0) => leaf::recompress(page, &decode_actions(data)?)?,
        (GinRecord::DeletePage(delete), id) => delete_page(target, page, id, delete)?,
        (GinRecord::UpdateMetaPage(update), 0) => pending::make_meta(page, &update.metadata)?,
        (GinRecord::UpdateMetaPage(update), 1) => pending::change_tail(target, page, update.tail)?,
        (GinRecord::InsertListPage { right_link, tuples }, 0) => {
            pending::make_page(page, right_link, tuples, data)?;
        }
        (GinRecord::DeleteListPages { metadata }, 0) => pending::make_meta(page, &metadata)?,
        (GinRecord::DeleteListPages { .. }, _) => opaque::make_page(page, DELETED)?,
        _ => return Err(target.unexpected()),
    }
    Ok(Touch::Changed)
}

fn insert_into(page: &mut Page, insert: Insert, data: &[u8]) -> Result<(), Damage> {
    match (insert.is_data, insert.right_child) {
        (true, Some(right_child)) => item::insert(page, right_child, data),
        (true, None) => leaf::recompress(page, &decode_actions(data)?),
        (false, right_child) => entry::insert(page, right_child, data),
    }
}

/// Notes on a child that its parent leads to its right sibling now.
fn finish_split(page: &mut Page) -> Result<(), Damage> {
    let mut opaque = Opaque::read(page)?;
    opaque.flags &= !INCOMPLETE_SPLIT;
    opaque.write(page)
}

/// Replays DELETE_PAGE onto the page (0), its parent (1) or its left sibling (2).
fn delete_page(target: &Target<'_>, page: &mut Page, id: u8, delete: DeletePage) -> Result<(), Damage> {
    let mut opaque = Opaque::read(page)?;
    match id {
        0 => {
            opaque.flags |= DELETED;
            page.set_prune_xid(delete.delete_xid);
        }
        1 => return item::delete(page, delete.parent_offset),
        2 => opaque.right_link = delete.right_link,
        _ => return Err(target.unexpected()),
    }
    opaque.write(page)
}
