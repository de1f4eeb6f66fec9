//! The page header's offsets, flags and prune xid.

use neon_postgres::page::PAGE_HEADER_SIZE;
use neon_postgres::{BLCKSZ, Page};

use super::bytes::{bytes_at, copy_to};
use crate::Damage;

/// The three offsets of a page header, with 24 <= lower <= upper <= special <= 8192.
#[derive(Clone, Copy)]
pub(crate) struct Layout {
    pub(crate) lower: usize,
    pub(crate) upper: usize,
    pub(crate) special: usize,
}

impl Layout {
    /// Returns the number of line pointers, at most 2042.
    pub(crate) fn items(&self) -> u16 {
        ((self.lower - PAGE_HEADER_SIZE) / 4) as u16
    }

    /// Returns an error unless special is a multiple of 8, as Postgres demands before it moves items.
    pub(crate) fn aligned(self) -> Result<Layout, Damage> {
        if self.special.is_multiple_of(8) {
            Ok(self)
        } else {
            Err(self.damage())
        }
    }

    fn damage(&self) -> Damage {
        let Layout {
            lower,
            upper,
            special,
        } = *self;
        Damage::Header {
            lower,
            upper,
            special,
        }
    }
}

/// Returns the header's offsets, checked.
pub(crate) fn layout(page: &Page) -> Result<Layout, Damage> {
    let layout = Layout {
        lower: page.lower().into(),
        upper: page.upper().into(),
        special: page.special().into(),
    };
    if page.is_sane() {
        Ok(layout)
    } else {
        Err(layout.damage())
    }
}

/// Returns where the special space begins, which must be as long as that of the page's access method.
pub(crate) fn special_space(page: &Page, size: usize) -> Result<usize, Damage> {
    let special = layout(page)?.special;
    if special == BLCKSZ - size {
        Ok(special)
    } else {
        Err(Damage::Value {
            what: "a page without the special space of its access method",
        })
    }
}

/// Clears, then sets bits of `pd_flags`.
pub(crate) fn change_flags(page: &mut Page, clear: u16, set: u16) {
    page.set_flags(page.flags() & !clear | set);
}

/// Notes that `xid` may have left something to prune (`PageSetPrunable`): the oldest such xid is kept.
pub(crate) fn set_prunable(page: &mut Page, xid: u32) {
    let known = page.prune_xid();
    if known == 0 || precedes(xid, known) {
        page.set_prune_xid(xid);
    }
}

/// `TransactionIdPrecedes`: modulo 2^32 for normal ids (3 and above), plainly when one of them is not normal.
fn precedes(a: u32, b: u32) -> bool {
    if a < 3 || b < 3 {
        a < b
    } else {
        a.wrapping_sub(b).cast_signed() < 0
    }
}

/// Makes `page` an empty page with the special space of `old` (`PageGetTempPageCopySpecial`): flags, LSN and prune xid
/// become zero.
pub(crate) fn init_like(page: &mut Page, old: &Page) -> Result<(), Damage> {
    let special = layout(old)?.aligned()?.special;
    page.init(BLCKSZ - special);
    copy_to(page, special, bytes_at(old, special..BLCKSZ)?)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_oldest_prunable_xid_is_kept_across_wraparound() {
        let mut page = Page::zeroed();
        set_prunable(&mut page, 10);
        set_prunable(&mut page, 20);
        assert_eq!(page.prune_xid(), 10);
        set_prunable(&mut page, u32::MAX - 5);
        assert_eq!(page.prune_xid(), u32::MAX - 5);
        set_prunable(&mut page, 2);
        assert_eq!(page.prune_xid(), 2, "special ids come before all others");
    }
}
