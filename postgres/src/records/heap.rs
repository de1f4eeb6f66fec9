//! Main data of records of resource manager `Heap`.
//!
//! Block references: 0 the heap page (UPDATE: of the new tuple), 1 of UPDATE the page of the old tuple when it is another
//! one. Late minor versions of 17 and 18 also name the pages of the visibility map: 1 for INSERT, DELETE and LOCK, 2 (new)
//! and 3 (old) for UPDATE. Layouts are the same in 14 to 18 but for INPLACE, which grew behind its offset in 18.

use crate::Cursor;
use crate::wal::{DecodeError, Record};

/// Bit of `info` of records that begin a page anew (`XLOG_HEAP_INIT_PAGE`), in `Heap` and `Heap2`.
pub const INIT_PAGE: u8 = 0x80;
/// Bits of `info` that tell the kind of record, in `Heap` and `Heap2`.
pub const OPCODE_MASK: u8 = 0x70;

/// `XLH_INSERT_*`: flags of INSERT and MULTI_INSERT.
pub mod insert_flags {
    /// The page and its bits in the visibility map were all-visible and are no more.
    pub const ALL_VISIBLE_CLEARED: u8 = 0x01;
    /// Last of several MULTI_INSERT records of one command.
    pub const LAST_IN_MULTI: u8 = 0x02;
    /// The tuple waits for its confirmation.
    pub const IS_SPECULATIVE: u8 = 0x04;
    /// The tuple is there even when the page's image is.
    pub const CONTAINS_NEW_TUPLE: u8 = 0x08;
    /// The relation is a TOAST table.
    pub const ON_TOAST_RELATION: u8 = 0x10;
    /// All tuples of the page are frozen; the page becomes all-visible.
    pub const ALL_FROZEN_SET: u8 = 0x20;
}

/// `XLH_UPDATE_*`
pub mod update_flags {
    /// The old tuple's page and its bits in the visibility map were all-visible and are no more.
    pub const OLD_ALL_VISIBLE_CLEARED: u8 = 0x01;
    /// The new tuple's page and its bits in the visibility map were all-visible and are no more.
    pub const NEW_ALL_VISIBLE_CLEARED: u8 = 0x02;
    /// The whole old tuple follows in the main data, for logical decoding.
    pub const CONTAINS_OLD_TUPLE: u8 = 0x04;
    /// The old tuple's replica identity follows in the main data.
    pub const CONTAINS_OLD_KEY: u8 = 0x08;
    /// The tuple is there even when the page's image is.
    pub const CONTAINS_NEW_TUPLE: u8 = 0x10;
    /// The new tuple's columns begin as those of the old one; both are on one page.
    pub const PREFIX_FROM_OLD: u8 = 0x20;
    /// The new tuple's columns end as those of the old one; both are on one page.
    pub const SUFFIX_FROM_OLD: u8 = 0x40;
}

/// `XLH_DELETE_*`
pub mod delete_flags {
    /// The page and its bits in the visibility map were all-visible and are no more.
    pub const ALL_VISIBLE_CLEARED: u8 = 0x01;
    /// The whole old tuple follows in the main data, for logical decoding.
    pub const CONTAINS_OLD_TUPLE: u8 = 0x02;
    /// The old tuple's replica identity follows in the main data.
    pub const CONTAINS_OLD_KEY: u8 = 0x04;
    /// A speculative insertion is taken back.
    pub const IS_SUPER: u8 = 0x08;
    /// The row went to another partition.
    pub const IS_PARTITION_MOVE: u8 = 0x10;
}

/// `XLH_LOCK_*`: flags of LOCK and LOCK_UPDATED.
pub mod lock_flags {
    /// The block's all-frozen bit in the visibility map was set and is no more.
    pub const ALL_FROZEN_CLEARED: u8 = 0x01;
}

/// A record of resource manager `Heap`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum HeapRecord {
    /// A tuple was added.
    Insert(HeapInsert),
    /// A tuple was deleted.
    Delete(HeapDelete),
    /// A tuple got a new version.
    Update(HeapUpdate),
    /// Tables were truncated; for logical decoding only.
    Truncate(HeapTruncate),
    /// A tuple got a new version on its page that indexes need not know.
    HotUpdate(HeapUpdate),
    /// A speculative insertion became real.
    Confirm {
        /// Offset number of the tuple.
        offset: u16,
    },
    /// A tuple was locked.
    Lock(HeapLock),
    /// A tuple's columns were overwritten; they are the data of block 0.
    Inplace {
        /// Offset number of the tuple.
        offset: u16,
    },
}

/// `xl_heap_insert`
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct HeapInsert {
    /// Offset number of the tuple.
    pub offset: u16,
    /// See [`insert_flags`].
    pub flags: u8,
}

/// `xl_heap_delete`
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct HeapDelete {
    /// xmax of the tuple.
    pub xmax: u32,
    /// Offset number of the tuple.
    pub offset: u16,
    /// `XLHL_*` bits of the infomasks.
    pub infobits: u8,
    /// See [`delete_flags`].
    pub flags: u8,
}

/// `xl_heap_update`
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct HeapUpdate {
    /// xmax of the old version.
    pub old_xmax: u32,
    /// Offset number of the old version.
    pub old_offset: u16,
    /// `XLHL_*` bits of the infomasks of the old version.
    pub old_infobits: u8,
    /// See [`update_flags`].
    pub flags: u8,
    /// xmax of the new version.
    pub new_xmax: u32,
    /// Offset number of the new version.
    pub new_offset: u16,
}

/// `xl_heap_lock`, and `xl_heap_lock_updated` of `Heap2`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct HeapLock {
    /// xmax of the tuple: a transaction or a multixact.
    pub xmax: u32,
    /// Offset number of the tuple.
    pub offset: u16,
    /// `XLHL_*` bits of the infomasks.
    pub infobits: u8,
    /// See [`lock_flags`].
    pub flags: u8,
}

/// `xl_heap_truncate`
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct HeapTruncate {
    /// Oid of the database.
    pub db: u32,
    /// 1 CASCADE, 2 RESTART IDENTITY.
    pub flags: u8,
    /// Oids of the tables.
    pub tables: Vec<u32>,
}

impl HeapRecord {
    /// Reads the main data of a Heap record.
    pub fn decode(record: &Record) -> Result<HeapRecord, DecodeError> {
        let mut cursor = Cursor::new(record.main_data());
        Ok(match record.info & OPCODE_MASK {
            0x00 => HeapRecord::Insert(HeapInsert {
                offset: cursor.u16()?,
                flags: cursor.u8()?,
            }),
            0x10 => HeapRecord::Delete(HeapDelete {
                xmax: cursor.u32()?,
                offset: cursor.u16()?,
                infobits: cursor.u8()?,
                flags: cursor.u8()?,
            }),
            0x20 => HeapRecord::Update(HeapUpdate::decode(&mut cursor)?),
            0x30 => HeapRecord::Truncate(HeapTruncate::decode(&mut cursor)?),
            0x40 => HeapRecord::HotUpdate(HeapUpdate::decode(&mut cursor)?),
            0x50 => HeapRecord::Confirm {
                offset: cursor.u16()?,
            },
            0x60 => HeapRecord::Lock(HeapLock::decode(&mut cursor)?),
            _ => HeapRecord::Inplace {
                offset: cursor.u16()?,
            },
        })
    }
}

impl HeapUpdate {
    fn decode(cursor: &mut Cursor<'_>) -> Result<HeapUpdate, DecodeError> {
        Ok(HeapUpdate {
            old_xmax: cursor.u32()?,
            old_offset: cursor.u16()?,
            old_infobits: cursor.u8()?,
            flags: cursor.u8()?,
            new_xmax: cursor.u32()?,
            new_offset: cursor.u16()?,
        })
    }
}

impl HeapLock {
    pub(super) fn decode(cursor: &mut Cursor<'_>) -> Result<HeapLock, DecodeError> {
        Ok(HeapLock {
            xmax: cursor.u32()?,
            offset: cursor.u16()?,
            infobits: cursor.u8()?,
            flags: cursor.u8()?,
        })
    }
}

impl HeapTruncate {
    fn decode(cursor: &mut Cursor<'_>) -> Result<HeapTruncate, DecodeError> {
        let db = cursor.u32()?;
        let count = cursor.u32()? as usize;
        let flags = cursor.u8()?;
        cursor.skip(3)?;
        let (oids, _) = cursor.rest().as_chunks();
        let tables = oids.get(..count).ok_or(DecodeError::Payload {
            record: "Heap/TRUNCATE",
            what: "fewer tables than it says",
        })?;
        let tables = tables.iter().map(|oid| u32::from_le_bytes(*oid)).collect();
        Ok(HeapTruncate { db, flags, tables })
    }
}

#[cfg(test)]
mod tests {
    use super::super::testing::{record, refuses_prefixes};
    use super::*;
    use crate::PgVersion::*;
    use crate::wal::rmgr::HEAP;

    #[test]
    fn an_update_has_its_parts_in_order() {
        let main = [1, 0, 0, 0, 2, 0, 3, 4, 5, 0, 0, 0, 6, 0];
        let update = HeapUpdate {
            old_xmax: 1,
            old_offset: 2,
            old_infobits: 3,
            flags: 4,
            new_xmax: 5,
            new_offset: 6,
        };
        let cold = record(V17, HEAP, 0xA0, 9, &main);
        assert_eq!(HeapRecord::decode(&cold), Ok(HeapRecord::Update(update)));
        refuses_prefixes(&cold, HeapRecord::decode);
        let hot = record(V14, HEAP, 0x40, 9, &main);
        assert_eq!(HeapRecord::decode(&hot), Ok(HeapRecord::HotUpdate(update)));
    }

    #[test]
    fn a_truncate_lists_no_more_tables_than_it_has() {
        let mut main = vec![5, 0, 0, 0, 2, 0, 0, 0, 1, 0, 0, 0, 7, 0, 0, 0, 8, 0, 0, 0];
        let truncate = HeapTruncate {
            db: 5,
            flags: 1,
            tables: vec![7, 8],
        };
        let whole = record(V17, HEAP, 0x30, 9, &main);
        assert_eq!(HeapRecord::decode(&whole), Ok(HeapRecord::Truncate(truncate)));
        refuses_prefixes(&whole, HeapRecord::decode);
        main[4..8].fill(255);
        assert!(HeapRecord::decode(&record(V17, HEAP, 0x30, 9, &main)).is_err());
    }
}
