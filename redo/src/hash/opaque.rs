//! The special space of a hash index page (`HashPageOpaqueData`, 16 bytes).
//!
//! ```text
//! 0 u32 previous page, or highest bucket at the bucket's last split | 4 u32 next page | 8 u32 bucket | 12 u16 flags
//! 14 u16 0xFF80
//! ```

use neon_postgres::{BLCKSZ, Page};

use crate::Damage;
use crate::page::{put_u16, put_u32, special_space, u16_at, u32_at};

const SIZE: usize = 16;
/// `HASHO_PAGE_ID`
const PAGE_ID: u16 = 0xff80;
/// No block (`InvalidBlockNumber`), no bucket (`InvalidBucket`).
pub(super) const NONE: u32 = u32::MAX;
/// The bits that say what kind of page it is; none of them for one that is free.
pub(crate) const PAGE_TYPE: u16 = 0x0f;
pub(crate) const UNUSED: u16 = 0;
pub(crate) const OVERFLOW: u16 = 1;
pub(crate) const BUCKET: u16 = 1 << 1;
pub(super) const BITMAP: u16 = 1 << 2;
pub(super) const META: u16 = 1 << 3;
pub(super) const NEEDS_SPLIT_CLEANUP: u16 = 1 << 6;
pub(crate) const HAS_DEAD_TUPLES: u16 = 1 << 7;

/// What a hash index page says of itself and of its place in a bucket's chain.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Opaque {
    /// Page in front of an overflow page; of a bucket's first page the highest bucket when it was split last.
    pub(super) prev: u32,
    pub(super) next: u32,
    pub(super) bucket: u32,
    pub(crate) flags: u16,
}

impl Opaque {
    /// Returns that of a page of this kind that belongs to no bucket.
    pub(super) fn of_kind(flags: u16) -> Opaque {
        Opaque {
            prev: NONE,
            next: NONE,
            bucket: NONE,
            flags,
        }
    }

    /// Reads it from the end of the page, where its special space must be.
    pub(crate) fn read(page: &Page) -> Result<Opaque, Damage> {
        let at = special_space(page, SIZE)?;
        Ok(Opaque {
            prev: u32_at(page, at)?,
            next: u32_at(page, at + 4)?,
            bucket: u32_at(page, at + 8)?,
            flags: u16_at(page, at + 12)?,
        })
    }

    pub(crate) fn write(self, page: &mut Page) -> Result<(), Damage> {
        let at = special_space(page, SIZE)?;
        put_u32(page, at, self.prev)?;
        put_u32(page, at + 4, self.next)?;
        put_u32(page, at + 8, self.bucket)?;
        put_u16(page, at + 12, self.flags)
    }

    /// Makes an empty page that says this of itself.
    pub(super) fn make_page(self, page: &mut Page) -> Result<(), Damage> {
        page.init(SIZE);
        put_u16(page, BLCKSZ - 2, PAGE_ID)?;
        self.write(page)
    }
}

/// Changes what the page says of itself.
pub(super) fn change(page: &mut Page, change: impl FnOnce(&mut Opaque)) -> Result<(), Damage> {
    let mut opaque = Opaque::read(page)?;
    change(&mut opaque);
    opaque.write(page)
}

/// Returns an error unless the page is of this kind.
pub(super) fn expect(page: &Page, kind: u16) -> Result<(), Damage> {
    if Opaque::read(page)?.flags & PAGE_TYPE == kind {
        Ok(())
    } else {
        Err(Damage::Value {
            what: "another kind of page than the hash record changes",
        })
    }
}
