//! The meta page (`HashMetaPageData`, from byte 24 on).
//!
//! ```text
//!  0 u32 magic   4 u32 version   8 f64 tuples   16 u16 tuples of a bucket   18 u16 bytes of a page
//! 20 u16 bytes of a bitmap   22 u16 log2 of its bits   24 u32 highest bucket   28 u32 high mask   32 u32 low mask
//! 36 u32 split point   40 u32 first free overflow page   44 u32 number of bitmaps   48 u32 oid of the hash function
//! 52 u32 overflow pages at each of 98 split points   444 u32 block of each of 1024 bitmaps   4540 padding
//! ```

use neon_postgres::page::PAGE_HEADER_SIZE;
use neon_postgres::records::hash::{InitMetaPage, SplitAllocatePage};
use neon_postgres::{BLCKSZ, Cursor, Page};

use super::opaque::{META, Opaque, expect};
use super::split_point;
use crate::Damage;
use crate::page::{put_u16, put_u32, put_u64, u32_at};

/// `HASH_MAGIC`
const MAGIC: u32 = 0x0644_0640;
/// `HASH_VERSION`
const VERSION: u32 = 4;
/// Bytes of a page but for header and special space (`HashGetMaxBitmapSize`).
const PAGE_SPACE: u16 = (BLCKSZ - PAGE_HEADER_SIZE - 16) as u16;
/// The largest power of two in that.
const BITMAP_SIZE: u16 = 4096;
/// log2 of the bits of a bitmap.
const BITMAP_SHIFT: u16 = 15;
/// `sizeof(HashMetaPageData)`
const SIZE: usize = 4544;
/// `HASH_MAX_BITMAPS`
const MAX_BITMAPS: u32 = 1024;

const TUPLES: usize = PAGE_HEADER_SIZE + 8;
const HIGHEST_BUCKET: usize = PAGE_HEADER_SIZE + 24;
const HIGH_MASK: usize = PAGE_HEADER_SIZE + 28;
const LOW_MASK: usize = PAGE_HEADER_SIZE + 32;
const SPLIT_POINT: usize = PAGE_HEADER_SIZE + 36;
const FIRST_FREE: usize = PAGE_HEADER_SIZE + 40;
const BITMAPS: usize = PAGE_HEADER_SIZE + 44;
const SPARES: usize = PAGE_HEADER_SIZE + 52;
const BITMAP_BLOCKS: usize = PAGE_HEADER_SIZE + 444;

/// Makes the meta page of a new index (`_hash_init_metabuffer`).
pub(super) fn make(page: &mut Page, init: InitMetaPage) -> Result<(), Damage> {
    let buckets = split_point::initial_buckets(init.tuples, init.fill_factor)?;
    let point = split_point::of(buckets);
    let high_mask = (buckets + 1).next_power_of_two() - 1;
    Opaque::of_kind(META).make_page(page)?;
    put_u32(page, PAGE_HEADER_SIZE, MAGIC)?;
    put_u32(page, PAGE_HEADER_SIZE + 4, VERSION)?;
    put_u16(page, PAGE_HEADER_SIZE + 16, init.fill_factor)?;
    put_u16(page, PAGE_HEADER_SIZE + 18, PAGE_SPACE)?;
    put_u16(page, PAGE_HEADER_SIZE + 20, BITMAP_SIZE)?;
    put_u16(page, PAGE_HEADER_SIZE + 22, BITMAP_SHIFT)?;
    put_u32(page, HIGHEST_BUCKET, buckets - 1)?;
    put_u32(page, HIGH_MASK, high_mask)?;
    put_u32(page, LOW_MASK, high_mask >> 1)?;
    put_u32(page, SPLIT_POINT, point)?;
    put_u32(page, PAGE_HEADER_SIZE + 48, init.procedure)?;
    put_u32(page, spares(point)?, 1)?;
    page.set_lower((PAGE_HEADER_SIZE + SIZE) as u16);
    Ok(())
}

/// Sets the number of tuples.
pub(super) fn set_tuples(page: &mut Page, tuples: f64) -> Result<(), Damage> {
    expect(page, META)?;
    put_u64(page, TUPLES, tuples.to_bits())
}

/// Adds to the number of tuples.
pub(super) fn add_tuples(page: &mut Page, more: f64) -> Result<(), Damage> {
    let (low, high) = (u32_at(page, TUPLES)?, u32_at(page, TUPLES + 4)?);
    let tuples = f64::from_bits(u64::from(high) << 32 | u64::from(low));
    set_tuples(page, tuples + more)
}

/// Lists the first bitmap, which lies behind the first page of the last bucket.
pub(super) fn add_first_bitmap(page: &mut Page) -> Result<(), Damage> {
    let highest = u32_at(page, HIGHEST_BUCKET)?;
    let block = highest.checked_add(2).ok_or(Damage::Value {
        what: "a hash index of more buckets than blocks",
    })?;
    add_bitmap(page, block)
}

/// Notes a new overflow page. If the index grew for it, that may have taken a bitmap too, at block `bitmap`. Data: u32 first
/// overflow page that may be free.
pub(super) fn add_overflow_page(
    page: &mut Page,
    grew: bool,
    bitmap: Option<u32>,
    data: &[u8],
) -> Result<(), Damage> {
    set_first_free(page, data)?;
    if !grew {
        return Ok(());
    }
    let mut new_pages = 1;
    if let Some(block) = bitmap {
        add_bitmap(page, block)?;
        new_pages = 2;
    }
    let at = spares(u32_at(page, SPLIT_POINT)?)?;
    let known = u32_at(page, at)?;
    put_u32(page, at, known.wrapping_add(new_pages))
}

/// Sets where to look for a free overflow page. Data: u32 number of its bit.
pub(super) fn set_first_free(page: &mut Page, data: &[u8]) -> Result<(), Damage> {
    expect(page, META)?;
    put_u32(page, FIRST_FREE, Cursor::new(data).u32()?)
}

/// Notes a new bucket. Data: what the record's flags announce.
pub(super) fn add_bucket(page: &mut Page, split: SplitAllocatePage, data: &[u8]) -> Result<(), Damage> {
    expect(page, META)?;
    let mut cursor = Cursor::new(data);
    put_u32(page, HIGHEST_BUCKET, split.new_bucket)?;
    if split.masks {
        put_u32(page, LOW_MASK, cursor.u32()?)?;
        put_u32(page, HIGH_MASK, cursor.u32()?)?;
    }
    if split.split_point {
        let point = cursor.u32()?;
        put_u32(page, spares(point)?, cursor.u32()?)?;
        put_u32(page, SPLIT_POINT, point)?;
    }
    Ok(())
}

fn add_bitmap(page: &mut Page, block: u32) -> Result<(), Damage> {
    expect(page, META)?;
    let count = u32_at(page, BITMAPS)?;
    if count >= MAX_BITMAPS {
        return Err(Damage::Value {
            what: "more bitmaps than a hash index has",
        });
    }
    put_u32(page, BITMAP_BLOCKS + 4 * count as usize, block)?;
    put_u32(page, BITMAPS, count + 1)
}

/// Returns where the page has the number of overflow pages at a split point.
fn spares(point: u32) -> Result<usize, Damage> {
    if point < split_point::COUNT {
        Ok(SPARES + 4 * point as usize)
    } else {
        Err(Damage::Value {
            what: "a split point that no hash index reaches",
        })
    }
}
