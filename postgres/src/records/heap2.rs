//! Main data of records of resource manager `Heap2`.
//!
//! Opcodes 0x10 to 0x30 mean PRUNE, VACUUM and FREEZE_PAGE in 14 to 16; from 17 on all three are one format that prunes
//! and freezes (ON_ACCESS, VACUUM_SCAN, VACUUM_CLEANUP). The lists of offsets are the data of block 0, not main data.
//! Block references: 0 the heap page, 1 its visibility map page (late minors of 17 and 18); VISIBLE: 0 the map page, 1 the
//! heap page.

use super::heap::{HeapLock, INIT_PAGE, OPCODE_MASK};
use super::offset_list;
use crate::wal::{DecodeError, Record};
use crate::{Cursor, PgVersion};

/// `XLHP_*`: flags of the prune and freeze records of 17 on.
pub mod prune_flags {
    /// The table is a catalog or used as one.
    pub const IS_CATALOG_REL: u8 = 0x02;
    /// Tuples may move: replay closes gaps.
    pub const CLEANUP_LOCK: u8 = 0x04;
    /// The conflict horizon follows.
    pub const HAS_CONFLICT_HORIZON: u8 = 0x08;
    /// The data begins with freeze plans.
    pub const HAS_FREEZE_PLANS: u8 = 0x10;
    /// Then come redirected items.
    pub const HAS_REDIRECTIONS: u8 = 0x20;
    /// Then dead ones.
    pub const HAS_DEAD_ITEMS: u8 = 0x40;
    /// Then unused ones.
    pub const HAS_NOW_UNUSED_ITEMS: u8 = 0x80;
}

/// A record of resource manager `Heap2`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Heap2Record {
    /// Mappings of a rewritten table for logical decoding: no page.
    Rewrite,
    /// 14 to 16: items became redirected, dead or unused.
    Prune(Prune),
    /// 14 to 16: dead items became unused.
    Vacuum {
        /// How many.
        unused: u16,
    },
    /// 14 to 16: tuples were frozen.
    FreezePage {
        /// Number of tuples (14, 15) or of freeze plans (16).
        count: u16,
    },
    /// 17 on: items were pruned, tuples frozen.
    PruneFreeze(PruneFreeze),
    /// A block became all-visible.
    Visible(Visible),
    /// Tuples were added.
    MultiInsert(MultiInsert),
    /// A tuple that has a newer version was locked.
    LockUpdated(HeapLock),
    /// Command ids for logical decoding: no page.
    NewCid,
}

/// `xl_heap_prune` of 14 to 16.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Prune {
    /// Newest xid whose tuples were removed (`latestRemovedXid`, `snapshotConflictHorizon`).
    pub horizon: u32,
    /// Pairs of offsets: item, target.
    pub redirected: u16,
    /// Dead items; the rest of the list is unused items.
    pub dead: u16,
}

/// `xl_heap_prune` of 17 on.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct PruneFreeze {
    /// See [`prune_flags`].
    pub flags: u8,
    /// Newest xid whose tuples were removed or frozen.
    pub horizon: Option<u32>,
}

/// `xl_heap_visible`
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Visible {
    /// Newest xid on the page (`cutoff_xid`, `snapshotConflictHorizon`).
    pub horizon: u32,
    /// 1 all-visible, 2 all-frozen: the bits that are set; 4 (16 on): the table is a catalog or used as one.
    pub flags: u8,
}

/// `xl_heap_multi_insert`
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct MultiInsert {
    /// See [`super::heap::insert_flags`].
    pub flags: u8,
    /// Number of tuples.
    pub count: u16,
    /// Their offset numbers; empty when the page is begun anew: then they count from 1.
    pub offsets: Vec<u16>,
}

impl Heap2Record {
    /// Reads the main data of a Heap2 record.
    pub fn decode(record: &Record) -> Result<Heap2Record, DecodeError> {
        let mut cursor = Cursor::new(record.main_data());
        let version = record.version();
        Ok(match record.info & OPCODE_MASK {
            0x00 => Heap2Record::Rewrite,
            0x10..=0x30 if version >= PgVersion::V17 => {
                Heap2Record::PruneFreeze(PruneFreeze::decode(&mut cursor)?)
            }
            0x10 => Heap2Record::Prune(Prune {
                horizon: cursor.u32()?,
                redirected: cursor.u16()?,
                dead: cursor.u16()?,
            }),
            0x20 => Heap2Record::Vacuum {
                unused: cursor.u16()?,
            },
            0x30 => {
                cursor.skip(4)?;
                Heap2Record::FreezePage { count: cursor.u16()? }
            }
            0x40 => Heap2Record::Visible(Visible {
                horizon: cursor.u32()?,
                flags: cursor.u8()?,
            }),
            0x50 => Heap2Record::MultiInsert(MultiInsert::decode(&mut cursor, record.info & INIT_PAGE != 0)?),
            0x60 => Heap2Record::LockUpdated(HeapLock::decode(&mut cursor)?),
            _ => Heap2Record::NewCid,
        })
    }
}

impl PruneFreeze {
    fn decode(cursor: &mut Cursor<'_>) -> Result<PruneFreeze, DecodeError> {
        cursor.skip(1)?; // the reason, which redo does not use
        let flags = cursor.u8()?;
        let has_horizon = flags & prune_flags::HAS_CONFLICT_HORIZON != 0;
        let horizon = if has_horizon { Some(cursor.u32()?) } else { None };
        Ok(PruneFreeze { flags, horizon })
    }
}

impl MultiInsert {
    fn decode(cursor: &mut Cursor<'_>, init: bool) -> Result<MultiInsert, DecodeError> {
        let flags = cursor.u8()?;
        cursor.skip(1)?;
        let count = cursor.u16()?;
        let offsets = offset_list(cursor, if init { 0 } else { count })?;
        Ok(MultiInsert {
            flags,
            count,
            offsets,
        })
    }
}

#[cfg(test)]
mod tests {
    use super::super::testing::{record, refuses_prefixes};
    use super::*;
    use crate::PgVersion::*;
    use crate::wal::rmgr::HEAP2;

    #[test]
    fn one_opcode_means_two_things() {
        let old = Heap2Record::decode(&record(V16, HEAP2, 0x10, 0, &[9, 0, 0, 0, 1, 0, 2, 0, 1]));
        assert_eq!(
            old,
            Ok(Heap2Record::Prune(Prune {
                horizon: 9,
                redirected: 1,
                dead: 2
            }))
        );
        let new = record(V17, HEAP2, 0x10, 0, &[0, 0x0C, 9, 0, 0, 0]);
        let prune = PruneFreeze {
            flags: 0x0C,
            horizon: Some(9),
        };
        assert_eq!(Heap2Record::decode(&new), Ok(Heap2Record::PruneFreeze(prune)));
        refuses_prefixes(&new, Heap2Record::decode);
    }

    #[test]
    fn offsets_are_listed_unless_the_page_is_new() {
        let insert = |count, offsets| {
            Heap2Record::MultiInsert(MultiInsert {
                flags: 8,
                count,
                offsets,
            })
        };
        let main = [8, 0, 2, 0, 4, 0, 5, 0];
        let listed = record(V15, HEAP2, 0x50, 9, &main);
        assert_eq!(Heap2Record::decode(&listed), Ok(insert(2, vec![4, 5])));
        refuses_prefixes(&listed, Heap2Record::decode);
        let fresh = record(V15, HEAP2, 0xD0, 9, &main[..4]);
        assert_eq!(Heap2Record::decode(&fresh), Ok(insert(2, vec![])));
    }
}
