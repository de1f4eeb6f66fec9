//! The range map: for each range of heap blocks the TID of its tuple, 6 bytes, from byte 24 on.

use neon_postgres::Page;
use neon_postgres::page::PAGE_HEADER_SIZE;
use neon_postgres::records::brin::Range;

use super::layout::Kind;
use crate::Damage;
use crate::heap::tid_bytes;
use crate::page::copy_to;

const TID_SIZE: usize = 6;
/// TIDs of a page (`REVMAP_PAGE_MAXITEMS`).
const TIDS: u32 = 1360;
/// Block and offset of no tuple: the range is not summarized.
pub(super) const NOWHERE: (u32, u16) = (u32::MAX, 0);

/// Makes `range` lead to the tuple with that block and offset (`brinSetHeapBlockItemptr`).
pub(super) fn point(page: &mut Page, range: Range, (block, offset): (u32, u16)) -> Result<(), Damage> {
    Kind::Revmap.expect(page)?;
    let number = range.heap_block.checked_div(range.pages_per_range);
    let number = number.ok_or(Damage::Value {
        what: "a BRIN range of no blocks",
    })?;
    let at = PAGE_HEADER_SIZE + TID_SIZE * (number % TIDS) as usize;
    copy_to(page, at, &tid_bytes(block, offset))
}
