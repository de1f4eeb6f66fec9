//! The header of a heap tuple (`HeapTupleHeaderData`, 23 bytes) where it lies on a page.

use neon_postgres::Page;
use neon_postgres::page::ItemFlags;

use crate::Damage;
use crate::page::{item, stored_range};

/// `SizeofHeapTupleHeader`
pub(crate) const TUPLE_HEADER: usize = 23;
/// `MaxHeapTupleSize`
pub(crate) const MAX_TUPLE: usize = 8160;

const XMIN: usize = 0;
const XMAX: usize = 4;
const FIELD3: usize = 8;
const CTID: usize = 12;
const INFOMASK2: usize = 18;
const INFOMASK: usize = 20;
const HOFF: usize = 22;

/// `HEAP_COMBOCID`
const COMBOCID: u16 = 0x0020;
const XMAX_KEYSHR_LOCK: u16 = 0x0010;
const XMAX_EXCL_LOCK: u16 = 0x0040;
const XMAX_LOCK_ONLY: u16 = 0x0080;
const XMAX_COMMITTED: u16 = 0x0400;
const XMAX_INVALID: u16 = 0x0800;
const XMAX_IS_MULTI: u16 = 0x1000;
/// `HEAP_MOVED_OFF | HEAP_MOVED_IN`
const MOVED: u16 = 0xC000;
const LOCK_MASK: u16 = XMAX_KEYSHR_LOCK | XMAX_EXCL_LOCK;
/// `HEAP_XMAX_BITS`
const XMAX_BITS: u16 = XMAX_COMMITTED | XMAX_INVALID | XMAX_IS_MULTI | LOCK_MASK | XMAX_LOCK_ONLY;
/// In infomask2.
const KEYS_UPDATED: u16 = 0x2000;
/// In infomask2.
const HOT_UPDATED: u16 = 0x4000;

/// A tuple's address: block and offset number.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Tid {
    pub(crate) block: u32,
    pub(crate) offset: u16,
}

impl Tid {
    /// The tuple went to another partition (`ItemPointerSetMovedPartitions`).
    pub(crate) const MOVED_PARTITIONS: Tid = Tid {
        block: u32::MAX,
        offset: 0xfffd,
    };

    /// Returns the six bytes of `ItemPointerData`: block high, block low, offset.
    pub(crate) fn to_bytes(self) -> [u8; 6] {
        let [a, b, c, d] = self.block.to_le_bytes();
        let [e, f] = self.offset.to_le_bytes();
        [c, d, a, b, e, f]
    }
}

/// What an `xl_heap_header` carries of a new tuple.
#[derive(Clone, Copy, Debug)]
pub(crate) struct StoredHeader {
    pub(crate) infomask2: u16,
    pub(crate) infomask: u16,
    pub(crate) hoff: u8,
}

/// Returns a new tuple's header with command id zero.
pub(crate) fn new_header(stored: StoredHeader, xmin: u32, xmax: u32, tid: Tid) -> [u8; TUPLE_HEADER] {
    let mut bytes = [0; TUPLE_HEADER];
    let mut tuple = Tuple { header: &mut bytes };
    tuple.set_u32(XMIN, xmin);
    tuple.set_u32(XMAX, xmax);
    tuple.set_ctid(tid);
    tuple.set_u16(INFOMASK2, stored.infomask2);
    tuple.set_u16(INFOMASK, stored.infomask & !COMBOCID);
    tuple.header[HOFF] = stored.hoff;
    bytes
}

/// A tuple header on a page, open for changes.
pub(crate) struct Tuple<'a> {
    header: &'a mut [u8; TUPLE_HEADER],
}

/// Returns the tuple of a normal line pointer.
pub(crate) fn normal_tuple(page: &mut Page, offset: u16) -> Result<Tuple<'_>, Damage> {
    if item(page, offset)?.flags() != ItemFlags::Normal {
        return Err(Damage::ItemState {
            offset,
            expected: "a tuple",
        });
    }
    tuple(page, offset)
}

/// Returns the tuple that a line pointer with storage names, in whatever state.
pub(crate) fn tuple(page: &mut Page, offset: u16) -> Result<Tuple<'_>, Damage> {
    let range = stored_range(page, offset)?;
    let (at, len) = (range.start as u16, range.len() as u16);
    let header = page
        .as_bytes_mut()
        .get_mut(range)
        .and_then(|bytes| bytes.first_chunk_mut());
    header
        .map(|header| Tuple { header })
        .ok_or(Damage::ItemPlace { offset, at, len })
}

#[expect(
    clippy::indexing_slicing,
    reason = "constant places below 23 in an array of 23 bytes"
)]
impl Tuple<'_> {
    fn u16(&self, at: usize) -> u16 {
        u16::from_le_bytes([self.header[at], self.header[at + 1]])
    }

    fn set_u16(&mut self, at: usize, value: u16) {
        self.header[at..at + 2].copy_from_slice(&value.to_le_bytes());
    }

    fn set_u32(&mut self, at: usize, value: u32) {
        self.header[at..at + 4].copy_from_slice(&value.to_le_bytes());
    }

    pub(crate) fn set_xmin(&mut self, xid: u32) {
        self.set_u32(XMIN, xid);
    }

    pub(crate) fn set_xmax(&mut self, xid: u32) {
        self.set_u32(XMAX, xid);
    }

    /// Sets the field that holds command ids, or the xid of an old-style VACUUM FULL.
    pub(crate) fn set_xvac(&mut self, xid: u32) {
        self.set_u32(FIELD3, xid);
    }

    pub(crate) fn set_ctid(&mut self, tid: Tid) {
        self.header[CTID..CTID + 6].copy_from_slice(&tid.to_bytes());
    }

    pub(crate) fn set_infomasks(&mut self, infomask: u16, infomask2: u16) {
        self.set_u16(INFOMASK, infomask);
        self.set_u16(INFOMASK2, infomask2);
    }

    /// Returns where the tuple's columns begin, counted from its first byte.
    pub(crate) fn hoff(&self) -> usize {
        self.header[HOFF].into()
    }

    /// Sets the command id that replay gives to deleters (`HeapTupleHeaderSetCmax` of the first command).
    pub(crate) fn clear_cmax(&mut self) {
        self.set_u32(FIELD3, 0);
        let infomask = self.u16(INFOMASK) & !COMBOCID;
        self.set_u16(INFOMASK, infomask);
    }

    pub(crate) fn set_hot_updated(&mut self, hot: bool) {
        let cleared = self.u16(INFOMASK2) & !HOT_UPDATED;
        self.set_u16(INFOMASK2, cleared | if hot { HOT_UPDATED } else { 0 });
    }

    /// Replaces everything that the infomasks say of xmax by the record's `infobits_set`.
    pub(crate) fn replace_xmax_bits(&mut self, infobits: u8) {
        let mut infomask = self.u16(INFOMASK) & !(XMAX_BITS | MOVED);
        let mut infomask2 = self.u16(INFOMASK2) & !KEYS_UPDATED;
        for (bit, flag) in [
            (1, XMAX_IS_MULTI),
            (2, XMAX_LOCK_ONLY),
            (4, XMAX_EXCL_LOCK),
            (8, XMAX_KEYSHR_LOCK),
        ] {
            if infobits & bit != 0 {
                infomask |= flag;
            }
        }
        if infobits & 0x10 != 0 {
            infomask2 |= KEYS_UPDATED;
        }
        self.set_infomasks(infomask, infomask2);
    }

    /// Returns true when xmax is a locker, not an updater (`HEAP_XMAX_IS_LOCKED_ONLY`).
    pub(crate) fn is_locked_only(&self) -> bool {
        let infomask = self.u16(INFOMASK);
        infomask & XMAX_LOCK_ONLY != 0 || infomask & (XMAX_IS_MULTI | LOCK_MASK) == XMAX_EXCL_LOCK
    }
}
