//! ADD_OVFL_PAGE and SQUEEZE_PAGE: a bucket's chain of pages gets longer or shorter.

use neon_postgres::records::hash::{AddOverflowPage, SqueezePage};
use neon_postgres::{Cursor, Page, PgVersion};

use super::opaque::{OVERFLOW, Opaque, UNUSED, change};
use super::{bitmap, meta, tuples};
use crate::Damage;
use crate::target::{Target, Touch};

/// Replays ADD_OVFL_PAGE.
pub(super) fn add_overflow_page(
    target: &Target<'_>,
    page: &mut Page,
    add: AddOverflowPage,
) -> Result<(), Damage> {
    let data = target.data();
    match target.id() {
        0 => Opaque {
            prev: target.block_of(1)?,
            bucket: Cursor::new(data).u32()?,
            ..Opaque::of_kind(OVERFLOW)
        }
        .make_page(page),
        1 => {
            let next = target.block_of(0)?;
            change(page, |opaque| opaque.next = next)
        }
        2 => bitmap::mark(page, data, true),
        3 => bitmap::make(page, add.bitmap_size),
        4 => meta::add_overflow_page(page, !add.found, target.find_block(3), data),
        _ => Err(target.unexpected()),
    }
}

/// Replays SQUEEZE_PAGE.
pub(super) fn squeeze(target: &Target<'_>, page: &mut Page, squeeze: SqueezePage) -> Result<Touch, Damage> {
    let data = target.data();
    match target.id() {
        0 if !squeeze.to_bucket => return Ok(Touch::Unchanged),
        1 => return receive(target, page, squeeze),
        2 => Opaque::of_kind(UNUSED).make_page(page)?,
        3 if !squeeze.to_prev => change(page, |opaque| opaque.next = squeeze.next)?,
        4 => change(page, |opaque| opaque.prev = squeeze.prev)?,
        5 => bitmap::mark(page, data, false)?,
        6 => meta::set_first_free(page, data)?,
        _ => return Err(target.unexpected()),
    }
    Ok(Touch::Changed)
}

/// Replays it onto the page that the tuples went to. Where nothing changed on it, only servers before 17 move its LSN.
fn receive(target: &Target<'_>, page: &mut Page, squeeze: SqueezePage) -> Result<Touch, Damage> {
    tuples::add_moved(page, squeeze.tuples, target.data())?;
    if squeeze.to_prev {
        change(page, |opaque| opaque.next = squeeze.next)?;
    }
    let changed = squeeze.tuples > 0 || squeeze.to_prev;
    Ok(Touch::when(changed || target.version() < PgVersion::V17))
}
