//! A block of a relation: 8192 bytes with the header that all access methods share.
//!
//! ```text
//!   0 u32 pd_lsn high half, u32 low half   8 u16 pd_checksum  10 u16 pd_flags  12 u16 pd_lower  14 u16 pd_upper
//!  16 u16 pd_special   18 u16 page size | layout version (8192 | 4)   20 u32 pd_prune_xid   24 item ids, 4 bytes each
//! ```

mod checksum;
mod item;

pub use item::{ItemFlags, ItemId};

use neon_types::Lsn;

use crate::BLCKSZ;

/// Bytes of the page header, `SizeOfPageHeaderData`: item ids begin here.
pub const PAGE_HEADER_SIZE: usize = 24;
/// Layout version in the low byte of `pd_pagesize_version`, the same from 14 to 18.
pub const PAGE_LAYOUT_VERSION: u16 = 4;
/// `PD_HAS_FREE_LINES`: there may be unused item ids.
pub const PD_HAS_FREE_LINES: u16 = 0x0001;
/// `PD_PAGE_FULL`: not enough free space was found for a new tuple.
pub const PD_PAGE_FULL: u16 = 0x0002;
/// `PD_ALL_VISIBLE`: all tuples are visible to everyone.
pub const PD_ALL_VISIBLE: u16 = 0x0004;

/// One block.
#[derive(Clone, PartialEq, Eq)]
pub struct Page(Box<[u8; BLCKSZ]>);

impl Page {
    /// Returns a block of zeros, which Postgres calls a new page.
    pub fn zeroed() -> Page {
        Page(Box::new([0; BLCKSZ]))
    }

    /// Returns the block with those bytes, `None` unless there are exactly 8192.
    pub fn from_bytes(bytes: &[u8]) -> Option<Page> {
        let mut page = Page::zeroed();
        (bytes.len() == BLCKSZ).then(|| page.0.copy_from_slice(bytes))?;
        Some(page)
    }

    /// Returns the bytes.
    pub fn as_bytes(&self) -> &[u8; BLCKSZ] {
        &self.0
    }

    /// Returns the bytes for change.
    pub fn as_bytes_mut(&mut self) -> &mut [u8; BLCKSZ] {
        &mut self.0
    }

    /// Returns the end of the last record that changed the page (`pd_lsn`).
    pub fn lsn(&self) -> Lsn {
        let high = self.u32_at::<0>();
        Lsn(u64::from(high) << 32 | u64::from(self.u32_at::<4>()))
    }

    /// Sets `pd_lsn`.
    pub fn set_lsn(&mut self, lsn: Lsn) {
        let [high, low] = [(lsn.0 >> 32) as u32, lsn.0 as u32];
        self.put::<0, 4>(high.to_le_bytes());
        self.put::<4, 4>(low.to_le_bytes());
    }

    /// Returns true for a page that was never initialised (`PageIsNew`: `pd_upper` is zero).
    pub fn is_new(&self) -> bool {
        self.upper() == 0
    }

    /// Returns true when every byte is zero.
    pub fn is_all_zero(&self) -> bool {
        self.0.iter().all(|byte| *byte == 0)
    }

    /// Returns the checksum that the page should carry as block `block` of its relation fork (`pg_checksum_page`);
    /// `block` counts from the start of the fork, not of the segment file.
    pub fn checksum(&self, block: u32) -> u16 {
        checksum::checksum(&self.0, block)
    }

    /// Returns `pd_checksum`.
    pub fn stored_checksum(&self) -> u16 {
        self.u16_at::<8>()
    }

    /// Sets `pd_checksum`.
    pub fn set_stored_checksum(&mut self, checksum: u16) {
        self.put::<8, 2>(checksum.to_le_bytes());
    }

    /// Returns `pd_flags`.
    pub fn flags(&self) -> u16 {
        self.u16_at::<10>()
    }

    /// Sets `pd_flags`.
    pub fn set_flags(&mut self, flags: u16) {
        self.put::<10, 2>(flags.to_le_bytes());
    }

    /// Returns `pd_lower`: where the item ids end.
    pub fn lower(&self) -> u16 {
        self.u16_at::<12>()
    }

    /// Sets `pd_lower`.
    pub fn set_lower(&mut self, lower: u16) {
        self.put::<12, 2>(lower.to_le_bytes());
    }

    /// Returns `pd_upper`: where the tuples begin.
    pub fn upper(&self) -> u16 {
        self.u16_at::<14>()
    }

    /// Sets `pd_upper`.
    pub fn set_upper(&mut self, upper: u16) {
        self.put::<14, 2>(upper.to_le_bytes());
    }

    /// Returns `pd_special`: where the access method's own area begins.
    pub fn special(&self) -> u16 {
        self.u16_at::<16>()
    }

    /// Sets `pd_special`.
    pub fn set_special(&mut self, special: u16) {
        self.put::<16, 2>(special.to_le_bytes());
    }

    /// Returns `pd_pagesize_version`: page size in the high byte's bits, layout version in the low byte.
    pub fn size_and_version(&self) -> u16 {
        self.u16_at::<18>()
    }

    /// Sets `pd_pagesize_version`.
    pub fn set_size_and_version(&mut self, value: u16) {
        self.put::<18, 2>(value.to_le_bytes());
    }

    /// Returns `pd_prune_xid`: the oldest transaction whose tuples may be pruned, 0 if none.
    pub fn prune_xid(&self) -> u32 {
        self.u32_at::<20>()
    }

    /// Sets `pd_prune_xid`.
    pub fn set_prune_xid(&mut self, xid: u32) {
        self.put::<20, 4>(xid.to_le_bytes());
    }

    /// Makes the page empty with an access method's area of `special_size` bytes at its end (`PageInit`): everything
    /// zero but the header. The size is rounded up to 8 bytes and cut to what a page holds.
    pub fn init(&mut self, special_size: usize) {
        let special = special_size
            .checked_next_multiple_of(8)
            .unwrap_or(BLCKSZ)
            .min(BLCKSZ - PAGE_HEADER_SIZE);
        let special = (BLCKSZ - special) as u16;
        self.0.fill(0);
        self.set_lower(PAGE_HEADER_SIZE as u16);
        self.set_upper(special);
        self.set_special(special);
        self.set_size_and_version(BLCKSZ as u16 | PAGE_LAYOUT_VERSION);
    }

    /// Returns true when the header is one that Postgres could have written: sizes in order and in bounds. A new page
    /// is not sane.
    pub fn is_sane(&self) -> bool {
        let [lower, upper, special] = [self.lower(), self.upper(), self.special()].map(usize::from);
        PAGE_HEADER_SIZE <= lower && lower <= upper && upper <= special && special <= BLCKSZ
    }

    fn u16_at<const AT: usize>(&self) -> u16 {
        u16::from_le_bytes(self.get::<AT, 2>())
    }

    fn u32_at<const AT: usize>(&self) -> u32 {
        u32::from_le_bytes(self.get::<AT, 4>())
    }

    fn get<const AT: usize, const N: usize>(&self) -> [u8; N] {
        const { assert!(AT + N <= BLCKSZ) };
        let field = self.0.get(AT..).and_then(|rest| rest.first_chunk());
        field.copied().unwrap_or([0; N])
    }

    fn put<const AT: usize, const N: usize>(&mut self, field: [u8; N]) {
        const { assert!(AT + N <= BLCKSZ) };
        if let Some(at) = self.0.get_mut(AT..).and_then(|rest| rest.first_chunk_mut()) {
            *at = field;
        }
    }
}

impl std::fmt::Debug for Page {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Page")
            .field("lsn", &self.lsn())
            .field("flags", &self.flags())
            .field("lower", &self.lower())
            .field("upper", &self.upper())
            .field("special", &self.special())
            .finish_non_exhaustive()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn header_fields_do_not_overlap() {
        let mut page = Page::zeroed();
        assert!(page.is_new() && page.is_all_zero() && !page.is_sane());
        page.init(16);
        page.set_lsn(Lsn(0x0102_0304_0506_0708));
        page.set_stored_checksum(0x1111);
        page.set_flags(PD_ALL_VISIBLE);
        page.set_prune_xid(77);
        assert_eq!(page.lsn(), Lsn(0x0102_0304_0506_0708));
        assert_eq!(page.as_bytes()[..8], [4, 3, 2, 1, 8, 7, 6, 5]);
        assert_eq!(
            (page.stored_checksum(), page.flags(), page.prune_xid()),
            (0x1111, 4, 77)
        );
        assert_eq!((page.lower(), page.upper(), page.special()), (24, 8176, 8176));
        assert_eq!(page.size_and_version(), 0x2004);
        assert!(page.is_sane());
    }

    #[test]
    fn only_whole_blocks_are_pages() {
        assert!(Page::from_bytes(&[0; 8191]).is_none());
        assert!(Page::from_bytes(&[7; 8192]).is_some_and(|page| page.as_bytes() == &[7; 8192]));
    }
}
