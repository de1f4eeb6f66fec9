//! The special space of an SP-GiST page (`SpGistPageOpaqueData`, 8 bytes).
//!
//! ```text
//! 0 u16 flags | 2 u16 number of redirects | 4 u16 number of placeholders | 6 u16 0xFF82
//! ```

use neon_postgres::{BLCKSZ, Page};

use crate::Damage;
use crate::page::{put_u16, special_space, u16_at};

const SIZE: usize = 8;
/// `SPGIST_PAGE_ID`
const PAGE_ID: u16 = 0xff82;
const LEAF: u16 = 1 << 2;
const NULLS: u16 = 1 << 3;

/// What a new page is for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Kind {
    Leaf,
    Inner,
}

/// Makes an empty page (`SpGistInitPage`), of the tree of nulls if `nulls`.
pub(super) fn make_page(page: &mut Page, kind: Kind, nulls: bool) -> Result<(), Damage> {
    page.init(SIZE);
    let leaf = if kind == Kind::Leaf { LEAF } else { 0 };
    put_u16(page, BLCKSZ - SIZE, leaf | if nulls { NULLS } else { 0 })?;
    put_u16(page, BLCKSZ - 2, PAGE_ID)
}

/// How many tuples of a page stand for others. They are counted as Postgres counts, modulo 2^16, so that a page whose numbers
/// were wrong stays as it was.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Counters {
    pub(super) redirects: u16,
    pub(super) placeholders: u16,
}

impl Counters {
    /// Reads them from the end of the page, where its special space must be.
    pub(super) fn read(page: &Page) -> Result<Counters, Damage> {
        let at = special_space(page, SIZE)?;
        Ok(Counters {
            redirects: u16_at(page, at + 2)?,
            placeholders: u16_at(page, at + 4)?,
        })
    }

    pub(super) fn write(self, page: &mut Page) -> Result<(), Damage> {
        let at = special_space(page, SIZE)?;
        put_u16(page, at + 2, self.redirects)?;
        put_u16(page, at + 4, self.placeholders)
    }
}
