//! Mask of heap pages.

use neon_postgres::page::ItemFlags;
use neon_postgres::{BLCKSZ, Page};

use super::common;
use crate::Damage;
use crate::page::{align, bytes_at, copy_to, item, layout, put_u16, put_u32, u16_at, zero};

const FIELD3: usize = 8;
const CTID: usize = 12;
const INFOMASK: usize = 20;
/// `HEAP_XMIN_FROZEN`
const XMIN_FROZEN: u16 = 0x0300;
/// `HEAP_XACT_MASK`
const XACT_MASK: u16 = 0xfff0;
/// `HEAP_XMAX_COMMITTED | HEAP_XMAX_INVALID`
const XMAX_HINTS: u16 = 0x0c00;
/// `SpecTokenOffsetNumber`
const SPECULATIVE: u16 = 0xfffe;

pub(super) fn mask(page: &mut Page, block: u32) -> Result<(), Damage> {
    common::lsn_and_checksum(page);
    common::header_hints(page);
    common::free_space(page)?;
    for offset in 1..=layout(page)?.items() {
        let found = item(page, offset)?;
        let (at, len) = (usize::from(found.offset()), usize::from(found.length()));
        if found.flags() == ItemFlags::Normal {
            tuple_header(page, at, block, offset)?;
        }
        if found.has_storage() {
            let end = at + len;
            zero(page, end..(at + align(len)).min(BLCKSZ).max(end))?;
        }
    }
    Ok(())
}

fn tuple_header(page: &mut Page, at: usize, block: u32, offset: u16) -> Result<(), Damage> {
    bytes_at(page, at..at + 23)?;
    let infomask = u16_at(page, at + INFOMASK)?;
    let frozen = infomask & XMIN_FROZEN == XMIN_FROZEN;
    put_u16(
        page,
        at + INFOMASK,
        infomask & !if frozen { XMAX_HINTS } else { XACT_MASK },
    )?;
    put_u32(page, at + FIELD3, 0)?;
    if u16_at(page, at + CTID + 4)? == SPECULATIVE {
        copy_to(page, at + CTID, &crate::heap::tid_bytes(block, offset))?;
    }
    Ok(())
}
