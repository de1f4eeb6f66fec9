//! Replay of `BRIN` records.

mod layout;
mod revmap;

use neon_postgres::Page;
use neon_postgres::records::brin::{BrinRecord, Insert};

use self::layout::Kind;
use crate::Damage;
use crate::page::{Slot, add_item, overwrite_item, vacate_item};
use crate::target::{Target, Touch};

/// Replays a record of resource manager `BRIN` onto one of its blocks.
pub(crate) fn redo(target: &Target<'_>, page: &mut Page) -> Result<Touch, Damage> {
    let id = target.id();
    match BrinRecord::decode(target.record)? {
        BrinRecord::CreateIndex {
            pages_per_range,
            version,
        } if id == 0 => layout::make_meta(page, pages_per_range, version)?,
        BrinRecord::Insert(insert) => add(target, page, insert)?,
        BrinRecord::Update { old_offset, .. } if id == 2 => remove(page, old_offset)?,
        BrinRecord::Update { insert, .. } => add(target, page, insert)?,
        BrinRecord::SamepageUpdate { offset } if id == 0 => {
            Kind::Regular.expect(page)?;
            overwrite_item(page, offset, target.data())?;
        }
        BrinRecord::RevmapExtend { block } if id == 0 => layout::set_last_revmap_page(page, block)?,
        BrinRecord::RevmapExtend { .. } if id == 1 => Kind::Revmap.make_page(page)?,
        BrinRecord::Desummarize { range, .. } if id == 0 => revmap::point(page, range, revmap::NOWHERE)?,
        BrinRecord::Desummarize { offset, .. } if id == 1 => remove(page, offset)?,
        _ => return Err(target.unexpected()),
    }
    Ok(Touch::Changed)
}

/// Adds a tuple to its page (0) or leads the range map (1) there.
fn add(target: &Target<'_>, page: &mut Page, insert: Insert) -> Result<(), Damage> {
    match target.id() {
        0 => {
            if insert.init {
                Kind::Regular.make_page(page)?;
            }
            Kind::Regular.expect(page)?;
            add_item(page, target.data(), insert.offset, Slot::Free)
        }
        1 => revmap::point(page, insert.range, (target.block_of(0)?, insert.offset)),
        _ => Err(target.unexpected()),
    }
}

fn remove(page: &mut Page, offset: u16) -> Result<(), Damage> {
    Kind::Regular.expect(page)?;
    vacate_item(page, offset)
}
