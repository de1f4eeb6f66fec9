//! The special space of a BRIN page (8 bytes, of which the last four are u16 flags, u16 kind of page), and the meta page.
//!
//! ```text
//! meta page: 24 u32 magic | 28 u32 version | 32 u32 heap blocks of a range | 36 u32 last page of the range map
//! ```

use neon_postgres::page::PAGE_HEADER_SIZE;
use neon_postgres::{BLCKSZ, Page};

use crate::Damage;
use crate::page::{layout, put_u16, put_u32, u16_at};

/// `sizeof(BrinSpecialSpace)`
const SIZE: usize = 8;
/// Where a page says what kind it is (`BrinPageType`).
const KIND: usize = BLCKSZ - 2;
/// `BRIN_META_MAGIC`
const MAGIC: u32 = 0xA810_9CFA;
/// `sizeof(BrinMetaPageData)`
const META_SIZE: usize = 16;

/// `BRIN_PAGETYPE_*`
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(u16)]
pub(super) enum Kind {
    /// Block 0.
    Meta = 0xF091,
    /// A part of the map from ranges of heap blocks to tuples.
    Revmap = 0xF092,
    /// A page of tuples.
    Regular = 0xF093,
}

impl Kind {
    /// Makes an empty page of this kind (`brin_page_init`).
    pub(super) fn make_page(self, page: &mut Page) -> Result<(), Damage> {
        page.init(SIZE);
        put_u16(page, KIND, self as u16)
    }

    /// Returns an error unless the page is of this kind.
    pub(super) fn expect(self, page: &Page) -> Result<(), Damage> {
        if layout(page)?.special == BLCKSZ - SIZE && u16_at(page, KIND)? == self as u16 {
            Ok(())
        } else {
            Err(Damage::Value {
                what: "another kind of page than the BRIN record changes",
            })
        }
    }
}

/// Makes the meta page of a new index (`brin_metapage_init`).
pub(super) fn make_meta(page: &mut Page, pages_per_range: u32, version: u16) -> Result<(), Damage> {
    Kind::Meta.make_page(page)?;
    put_u32(page, PAGE_HEADER_SIZE, MAGIC)?;
    put_u32(page, PAGE_HEADER_SIZE + 4, version.into())?;
    put_u32(page, PAGE_HEADER_SIZE + 8, pages_per_range)?;
    page.set_lower((PAGE_HEADER_SIZE + META_SIZE) as u16);
    Ok(())
}

/// Notes in the meta page that the range map ends with `block`. The page's free space begins behind the metadata from then on,
/// which servers before 11 did not say.
pub(super) fn set_last_revmap_page(page: &mut Page, block: u32) -> Result<(), Damage> {
    Kind::Meta.expect(page)?;
    put_u32(page, PAGE_HEADER_SIZE + 12, block)?;
    page.set_lower((PAGE_HEADER_SIZE + META_SIZE) as u16);
    Ok(())
}
