//! Replay of `Gist` records.

pub(crate) mod opaque;
mod remove;
mod split;
mod update;

use neon_postgres::Page;
use neon_postgres::records::gist::{GistRecord, finished_split};

use self::opaque::{FOLLOW_RIGHT, Opaque};
use crate::Damage;
use crate::target::{Target, Touch};

/// Replays a record of resource manager `Gist` onto one of its blocks.
pub(crate) fn redo(target: &Target<'_>, page: &mut Page) -> Result<Touch, Damage> {
    let record = GistRecord::decode(target.record)?;
    let id = target.id();
    match record {
        GistRecord::PageUpdate(update) if id == 0 => update::update(page, update, target.data())?,
        GistRecord::PageUpdate(_) if id == 1 => finish_split(target, page)?,
        GistRecord::Delete { offsets } if id == 0 => remove::delete(page, &offsets)?,
        GistRecord::PageSplit(_) if id == 0 => finish_split(target, page)?,
        GistRecord::PageSplit(split) => split::redo(target, page, split)?,
        GistRecord::PageDelete(delete) => remove::page_delete(target, page, delete)?,
        _ => return Err(target.unexpected()),
    }
    Ok(Touch::Changed)
}

/// Replays what an image cannot hold, as the record's own LSN was not known when it was taken.
pub(crate) fn after_restore(target: &Target<'_>, page: &mut Page) -> Result<(), Damage> {
    if finished_split(target.record.opcode()) == Some(target.id()) {
        finish_split(target, page)
    } else {
        Ok(())
    }
}

/// Notes on the left page of a split that the parent has the downlinks of its siblings now: only searches that saw the
/// parent before this record go on to the right.
fn finish_split(target: &Target<'_>, page: &mut Page) -> Result<(), Damage> {
    let mut opaque = Opaque::read(page)?;
    opaque.nsn = target.end;
    opaque.flags &= !FOLLOW_RIGHT;
    opaque.write(page)
}
