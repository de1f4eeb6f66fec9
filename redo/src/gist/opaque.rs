//! The special space of a GiST page (`GISTPageOpaqueData`, 16 bytes).
//!
//! ```text
//! 0 u32 high, u32 low half of the NSN | 8 u32 right sibling | 12 u16 flags | 14 u16 0xFF81
//! ```

use neon_postgres::{BLCKSZ, Page};
use neon_types::Lsn;

use crate::Damage;
use crate::page::{put_u16, put_u32, special_space, u16_at, u32_at};

const SIZE: usize = 16;
/// `GIST_PAGE_ID`
const PAGE_ID: u16 = 0xff81;
/// `InvalidBlockNumber`
pub(super) const NO_BLOCK: u32 = u32::MAX;
pub(crate) const LEAF: u16 = 1;
pub(super) const DELETED: u16 = 1 << 1;
pub(super) const TUPLES_DELETED: u16 = 1 << 2;
pub(crate) const FOLLOW_RIGHT: u16 = 1 << 3;
pub(crate) const HAS_GARBAGE: u16 = 1 << 4;

/// What a GiST page says of itself and of its right sibling.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Opaque {
    /// Node sequence number: LSN at which the last split of the page became known to its parent.
    pub(crate) nsn: Lsn,
    /// [`NO_BLOCK`] for none.
    pub(crate) right: u32,
    pub(crate) flags: u16,
}

impl Opaque {
    /// Reads it from the end of the page, where its special space must be.
    pub(crate) fn read(page: &Page) -> Result<Opaque, Damage> {
        let at = special_space(page, SIZE)?;
        let (high, low) = (u32_at(page, at)?, u32_at(page, at + 4)?);
        Ok(Opaque {
            nsn: Lsn(u64::from(high) << 32 | u64::from(low)),
            right: u32_at(page, at + 8)?,
            flags: u16_at(page, at + 12)?,
        })
    }

    pub(crate) fn write(self, page: &mut Page) -> Result<(), Damage> {
        let at = special_space(page, SIZE)?;
        put_u32(page, at, (self.nsn.0 >> 32) as u32)?;
        put_u32(page, at + 4, self.nsn.0 as u32)?;
        put_u32(page, at + 8, self.right)?;
        put_u16(page, at + 12, self.flags)
    }

    /// Makes an empty page that says this of itself (`gistinitpage`).
    pub(super) fn make_page(self, page: &mut Page) -> Result<(), Damage> {
        page.init(SIZE);
        put_u16(page, BLCKSZ - 2, PAGE_ID)?;
        self.write(page)
    }
}
