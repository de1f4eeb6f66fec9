//! Replay of `Sequence` records: the only page is made anew each time.

use neon_postgres::Page;
use neon_postgres::records::sequence::SequenceLog;

use crate::Damage;
use crate::page::{Slot, add_item, put_u32};
use crate::target::{Target, Touch};

/// `SEQ_MAGIC`, the special space of a sequence's page.
const MAGIC: u32 = 0x1717;

pub(crate) fn redo(target: &Target<'_>, page: &mut Page) -> Result<Touch, Damage> {
    target.expect_ids(&[0])?;
    let log = SequenceLog::decode(target.record)?;
    page.init(8);
    put_u32(page, page.special().into(), MAGIC)?;
    add_item(page, log.tuple, 1, Slot::Index)?;
    Ok(Touch::Changed)
}
