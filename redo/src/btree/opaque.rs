//! The special space of a btree page (`BTPageOpaqueData`, 16 bytes), and pages that are made from nothing.

use neon_postgres::Page;
use neon_postgres::page::PAGE_HEADER_SIZE;
use neon_postgres::records::btree::Metadata;

use crate::Damage;
use crate::page::{copy_to, put_u16, put_u32, put_u64, special_space, u16_at, u32_at};

/// `sizeof(BTPageOpaqueData)`
pub(super) const SIZE: usize = 16;
pub(crate) const LEAF: u16 = 1;
pub(super) const ROOT: u16 = 1 << 1;
const DELETED: u16 = 1 << 2;
const META: u16 = 1 << 3;
pub(super) const HALF_DEAD: u16 = 1 << 4;
pub(crate) const SPLIT_END: u16 = 1 << 5;
pub(crate) const HAS_GARBAGE: u16 = 1 << 6;
pub(super) const INCOMPLETE_SPLIT: u16 = 1 << 7;
const HAS_FULL_XID: u16 = 1 << 8;
/// `BTREE_MAGIC`
const MAGIC: u32 = 0x0005_3162;
/// `sizeof(BTMetaPageData)`
const META_SIZE: usize = 48;

/// What a btree page says of itself and of its siblings; block 0 (the meta page) stands for none.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct Opaque {
    pub(crate) prev: u32,
    pub(crate) next: u32,
    pub(crate) level: u32,
    pub(crate) flags: u16,
    /// Number of the vacuum during which the page was split last.
    pub(crate) cycle_id: u16,
}

impl Opaque {
    /// Reads it from the end of the page, where its special space must be.
    pub(crate) fn read(page: &Page) -> Result<Opaque, Damage> {
        let at = special_space(page, SIZE)?;
        Ok(Opaque {
            prev: u32_at(page, at)?,
            next: u32_at(page, at + 4)?,
            level: u32_at(page, at + 8)?,
            flags: u16_at(page, at + 12)?,
            cycle_id: u16_at(page, at + 14)?,
        })
    }

    pub(crate) fn write(self, page: &mut Page) -> Result<(), Damage> {
        let at = special_space(page, SIZE)?;
        put_u32(page, at, self.prev)?;
        put_u32(page, at + 4, self.next)?;
        put_u32(page, at + 8, self.level)?;
        put_u16(page, at + 12, self.flags)?;
        put_u16(page, at + 14, self.cycle_id)
    }

    pub(super) fn is_rightmost(self) -> bool {
        self.next == 0
    }

    /// Makes an empty page that says this of itself (`_bt_pageinit`).
    pub(super) fn make_page(self, page: &mut Page) -> Result<(), Damage> {
        page.init(SIZE);
        self.write(page)
    }
}

/// Turns an empty page into a deleted one that may be used again from `safe_xid` on (`BTPageSetDeleted`).
pub(super) fn set_deleted(page: &mut Page, safe_xid: u64) -> Result<(), Damage> {
    let mut opaque = Opaque::read(page)?;
    opaque.flags = opaque.flags & !HALF_DEAD | DELETED | HAS_FULL_XID;
    opaque.write(page)?;
    page.set_lower(PAGE_HEADER_SIZE as u16 + 8);
    page.set_upper(page.special());
    put_u64(page, PAGE_HEADER_SIZE, safe_xid)
}

/// Makes the meta page.
pub(super) fn make_meta(page: &mut Page, meta: Metadata) -> Result<(), Damage> {
    Opaque {
        flags: META,
        ..Opaque::default()
    }
    .make_page(page)?;
    let words = [
        MAGIC,
        meta.version,
        meta.root,
        meta.level,
        meta.fast_root,
        meta.fast_level,
        meta.deleted_pages,
    ];
    for (word, at) in words.into_iter().zip((PAGE_HEADER_SIZE..).step_by(4)) {
        put_u32(page, at, word)?;
    }
    // The number of heap tuples at the last cleanup is not logged: -1.
    put_u64(page, PAGE_HEADER_SIZE + 32, (-1.0f64).to_bits())?;
    copy_to(page, PAGE_HEADER_SIZE + 40, &[meta.all_equal_image.into()])?;
    page.set_lower((PAGE_HEADER_SIZE + META_SIZE) as u16);
    Ok(())
}
