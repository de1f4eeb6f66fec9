//! Bitmaps of the overflow pages in use: bits from byte 24 on, the lowest of a byte first.

use neon_postgres::page::PAGE_HEADER_SIZE;
use neon_postgres::{Cursor, Page};

use super::opaque::{BITMAP, Opaque, expect};
use crate::Damage;
use crate::page::{bytes_at, copy_to, layout};

/// Makes a bitmap of `size` bytes in which all pages are in use (`_hash_initbitmapbuffer`).
pub(super) fn make(page: &mut Page, size: u16) -> Result<(), Damage> {
    Opaque::of_kind(BITMAP).make_page(page)?;
    let free = layout(page)?;
    let end = PAGE_HEADER_SIZE + usize::from(size);
    if end > free.upper {
        return Err(Damage::NoSpace {
            len: size.into(),
            free: free.upper - free.lower,
        });
    }
    let bytes = page.as_bytes_mut().get_mut(PAGE_HEADER_SIZE..end);
    bytes.unwrap_or_default().fill(0xff);
    page.set_lower(end as u16);
    Ok(())
}

/// Marks an overflow page as used or free. Data: u32 number of its bit.
pub(super) fn mark(page: &mut Page, data: &[u8], used: bool) -> Result<(), Damage> {
    expect(page, BITMAP)?;
    let bit = Cursor::new(data).u32()?;
    let at = PAGE_HEADER_SIZE + (bit / 8) as usize;
    if at >= layout(page)?.lower {
        return Err(Damage::Value {
            what: "an overflow page beyond the bitmap",
        });
    }
    let mask = 1 << (bit % 8);
    let byte = bytes_at(page, at..at + 1)?.first().copied().unwrap_or_default();
    copy_to(page, at, &[if used { byte | mask } else { byte & !mask }])
}
