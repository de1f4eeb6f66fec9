//! The special space of a GIN page (`GinPageOpaqueData`): u32 right link, u16 count, u16 flags.

use neon_postgres::Page;

use crate::Damage;
use crate::page::{put_u16, put_u32, special_space, u16_at, u32_at};

/// `sizeof(GinPageOpaqueData)`
pub(super) const SIZE: usize = 8;
/// Page of a posting tree.
pub(super) const DATA: u16 = 1;
pub(super) const LEAF: u16 = 1 << 1;
pub(crate) const DELETED: u16 = 1 << 2;
pub(super) const META: u16 = 1 << 3;
/// Page of the pending list.
pub(super) const LIST: u16 = 1 << 4;
/// Page of the pending list that holds only whole heap rows.
pub(super) const LIST_FULL_ROW: u16 = 1 << 5;
pub(super) const INCOMPLETE_SPLIT: u16 = 1 << 6;
/// Leaf of a posting tree that consists of segments, as all but those from before 9.4 do.
pub(super) const COMPRESSED: u16 = 1 << 7;

/// What a GIN page says of itself.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Opaque {
    /// The page to the right, `u32::MAX` for none.
    pub(super) right_link: u32,
    /// Number of items of a posting tree's inner page, of TIDs on an uncompressed leaf, of heap rows in the pending list.
    pub(super) count: u16,
    pub(crate) flags: u16,
}

impl Opaque {
    /// Reads it from the end of the page, where its special space must be.
    pub(crate) fn read(page: &Page) -> Result<Opaque, Damage> {
        let at = special_space(page, SIZE)?;
        Ok(Opaque {
            right_link: u32_at(page, at)?,
            count: u16_at(page, at + 4)?,
            flags: u16_at(page, at + 6)?,
        })
    }

    pub(super) fn write(self, page: &mut Page) -> Result<(), Damage> {
        let at = special_space(page, SIZE)?;
        put_u32(page, at, self.right_link)?;
        put_u16(page, at + 4, self.count)?;
        put_u16(page, at + 6, self.flags)
    }

    /// Returns an error unless the page is one of a posting tree (`DATA`) or of the tree of entries (0), and a leaf (`LEAF`)
    /// or not, as `kind` says.
    pub(super) fn expect(self, kind: u16) -> Result<(), Damage> {
        if self.flags & (DATA | LEAF) == kind {
            Ok(())
        } else {
            Err(Damage::Value {
                what: "a GIN page of another kind",
            })
        }
    }
}

/// Makes an empty page without a right link (`GinInitPage`).
pub(super) fn make_page(page: &mut Page, flags: u16) -> Result<(), Damage> {
    page.init(SIZE);
    let opaque = Opaque {
        right_link: u32::MAX,
        count: 0,
        flags,
    };
    opaque.write(page)
}
