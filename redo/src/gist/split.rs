//! PAGE_SPLIT: the pages that a page became.

use neon_postgres::records::gist::PageSplit;
use neon_postgres::{Cursor, Page};
use neon_types::Lsn;

use super::opaque::{FOLLOW_RIGHT, LEAF, NO_BLOCK, Opaque};
use super::update::append;
use crate::Damage;
use crate::target::Target;

/// Block of the root, which stays where it is (`GIST_ROOT_BLKNO`).
const ROOT: u32 = 0;

/// Makes one of the pages, 1 to the number of pages. Data: i32 number of tuples, then the tuples.
pub(super) fn redo(target: &Target<'_>, page: &mut Page, split: PageSplit) -> Result<(), Damage> {
    let id = target.id();
    if u16::from(id) > split.pages {
        return Err(target.unexpected());
    }
    let is_root = target.block() == ROOT;
    let has_next = u16::from(id) < split.pages;
    let right = if is_root {
        NO_BLOCK
    } else if has_next {
        target.block_of(id + 1)?
    } else {
        split.right
    };
    let mut flags = if split.leaf && !is_root { LEAF } else { 0 };
    // The parent of the pages that a root was split into is one of this record's pages: nothing to wait for.
    if has_next && split.follow_right && target.block_of(1)? != ROOT {
        flags |= FOLLOW_RIGHT;
    }
    Opaque {
        nsn: Lsn(split.nsn),
        right,
        flags,
    }
    .make_page(page)?;
    let mut cursor = Cursor::new(target.data());
    let count = cursor.i32()?;
    if append(page, cursor.rest())? != i64::from(count) {
        return Err(Damage::Value {
            what: "a page of a split with another number of tuples than it says",
        });
    }
    Ok(())
}
