//! Main data of records of resource manager `Btree`, and the metadata that some carry for the meta page.
//!
//! The layouts are the same in 14 to 18 but for what REUSE_PAGE and DELETE append from 16 on, which names no page.

use super::unknown;
use crate::Cursor;
use crate::wal::{DecodeError, Record};

/// A record of resource manager `Btree`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum BtreeRecord {
    /// A tuple was added: 0 its page, whose data is the tuple; 1 the child that was split (not on leaves); 2 the meta page
    /// (`kind` Meta).
    Insert {
        /// Which page it went to, and what else changed.
        kind: InsertKind,
        /// Offset number of the tuple.
        offset: u16,
    },
    /// A page was split: 0 left, 1 right, 2 the page to the right of both, 3 the child that was split.
    Split(Split),
    /// Equal tuples of page 0 were merged into posting lists; its data is the intervals.
    Dedup {
        /// Number of intervals.
        intervals: u16,
    },
    /// Tuples of page 0 were removed or lost some of their heap TIDs: by a scan (DELETE) or by vacuum (VACUUM).
    Delete(Delete),
    /// Leaf 0 became half-dead, its parent 1 lost its downlink.
    MarkHalfDead(MarkHalfDead),
    /// Page 0 was unlinked from its siblings 1 and 2; 3 is the half-dead leaf if that is another page, 4 the meta page.
    UnlinkPage {
        /// What changes.
        unlink: UnlinkPage,
        /// The meta page changes too.
        meta: bool,
    },
    /// Page 0 is the new root, 1 its left child (when it has children), 2 the meta page.
    NewRoot {
        /// Level of the root, 0 for a leaf.
        level: u32,
    },
    /// A deleted page is about to be used again: no page.
    ReusePage,
    /// The meta page, 0, learned of the last cleanup.
    MetaCleanup,
}

/// Where a tuple was added.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum InsertKind {
    /// INSERT_LEAF
    Leaf,
    /// INSERT_UPPER
    Upper,
    /// INSERT_META: the meta page changes too.
    Meta,
    /// INSERT_POST: on a leaf, into the middle of a posting list, which was split.
    Posting,
}

/// `xl_btree_split`
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Split {
    /// SPLIT_L: the new tuple went to the left page.
    pub new_item_on_left: bool,
    /// Level of the page, 0 for a leaf.
    pub level: u32,
    /// First item of the original page that went to the right page.
    pub first_right: u16,
    /// Offset number of the new tuple.
    pub new_item: u16,
    /// Where the new tuple splits a posting list, 0 if it does not.
    pub posting_offset: u16,
}

/// `xl_btree_vacuum` and `xl_btree_delete`
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Delete {
    /// Written by vacuum.
    pub vacuum: bool,
    /// Number of tuples that are removed.
    pub deleted: u16,
    /// Number of posting lists that lose TIDs.
    pub updated: u16,
}

/// `xl_btree_mark_page_halfdead`
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct MarkHalfDead {
    /// Offset number in the parent of the downlink that goes.
    pub parent_offset: u16,
    /// Left sibling of the leaf, 0 for none.
    pub left: u32,
    /// Right sibling of the leaf.
    pub right: u32,
    /// Topmost page of the branch that is being deleted.
    pub top_parent: u32,
}

/// `xl_btree_unlink_page`
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct UnlinkPage {
    /// Left sibling, 0 for none.
    pub left: u32,
    /// Right sibling.
    pub right: u32,
    /// Level of the page.
    pub level: u32,
    /// Full transaction id from which on the page may be used again.
    pub safe_xid: u64,
    /// Left sibling of the half-dead leaf.
    pub leaf_left: u32,
    /// Right sibling of the half-dead leaf.
    pub leaf_right: u32,
    /// Next page of the branch that is being deleted.
    pub leaf_top_parent: u32,
}

/// `xl_btree_metadata`: data of the meta page's reference.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Metadata {
    /// Version of the index, 3 or 4.
    pub version: u32,
    /// Block of the root.
    pub root: u32,
    /// Its level.
    pub level: u32,
    /// Block where searches begin.
    pub fast_root: u32,
    /// Its level.
    pub fast_level: u32,
    /// Deleted pages that could not be used again at the last cleanup.
    pub deleted_pages: u32,
    /// Equal keys have equal images: they may be deduplicated.
    pub all_equal_image: bool,
}

impl BtreeRecord {
    /// Reads the main data of a Btree record.
    pub fn decode(record: &Record) -> Result<BtreeRecord, DecodeError> {
        let mut cursor = Cursor::new(record.main_data());
        let c = &mut cursor;
        Ok(match record.opcode() {
            0x00 => insert(InsertKind::Leaf, c)?,
            0x10 => insert(InsertKind::Upper, c)?,
            0x20 => insert(InsertKind::Meta, c)?,
            0x30 => BtreeRecord::Split(Split::decode(c, true)?),
            0x40 => BtreeRecord::Split(Split::decode(c, false)?),
            0x50 => insert(InsertKind::Posting, c)?,
            0x60 => BtreeRecord::Dedup { intervals: c.u16()? },
            0x70 => {
                c.skip(4)?; // the conflict horizon
                BtreeRecord::Delete(Delete {
                    vacuum: false,
                    deleted: c.u16()?,
                    updated: c.u16()?,
                })
            }
            0x80 => BtreeRecord::UnlinkPage {
                unlink: UnlinkPage::decode(c)?,
                meta: false,
            },
            0x90 => BtreeRecord::UnlinkPage {
                unlink: UnlinkPage::decode(c)?,
                meta: true,
            },
            0xA0 => {
                c.skip(4)?; // the block, which reference 0 names too
                BtreeRecord::NewRoot { level: c.u32()? }
            }
            0xB0 => BtreeRecord::MarkHalfDead(MarkHalfDead::decode(c)?),
            0xC0 => BtreeRecord::Delete(Delete {
                vacuum: true,
                deleted: c.u16()?,
                updated: c.u16()?,
            }),
            0xD0 => BtreeRecord::ReusePage,
            0xE0 => BtreeRecord::MetaCleanup,
            _ => return Err(unknown(record)),
        })
    }
}

fn insert(kind: InsertKind, cursor: &mut Cursor<'_>) -> Result<BtreeRecord, DecodeError> {
    Ok(BtreeRecord::Insert {
        kind,
        offset: cursor.u16()?,
    })
}

impl Split {
    fn decode(cursor: &mut Cursor<'_>, new_item_on_left: bool) -> Result<Split, DecodeError> {
        Ok(Split {
            new_item_on_left,
            level: cursor.u32()?,
            first_right: cursor.u16()?,
            new_item: cursor.u16()?,
            posting_offset: cursor.u16()?,
        })
    }
}

impl MarkHalfDead {
    fn decode(cursor: &mut Cursor<'_>) -> Result<MarkHalfDead, DecodeError> {
        let parent_offset = cursor.u16()?;
        cursor.skip(2 + 4)?; // padding; the leaf's block, which reference 0 names too
        Ok(MarkHalfDead {
            parent_offset,
            left: cursor.u32()?,
            right: cursor.u32()?,
            top_parent: cursor.u32()?,
        })
    }
}

impl UnlinkPage {
    fn decode(cursor: &mut Cursor<'_>) -> Result<UnlinkPage, DecodeError> {
        let (left, right, level) = (cursor.u32()?, cursor.u32()?, cursor.u32()?);
        cursor.skip(4)?;
        Ok(UnlinkPage {
            left,
            right,
            level,
            safe_xid: cursor.u64()?,
            leaf_left: cursor.u32()?,
            leaf_right: cursor.u32()?,
            leaf_top_parent: cursor.u32()?,
        })
    }
}

impl Metadata {
    /// Reads the data of the meta page's block reference.
    pub fn decode(data: &[u8]) -> Result<Metadata, DecodeError> {
        let mut cursor = Cursor::new(data);
        Ok(Metadata {
            version: cursor.u32()?,
            root: cursor.u32()?,
            level: cursor.u32()?,
            fast_root: cursor.u32()?,
            fast_level: cursor.u32()?,
            deleted_pages: cursor.u32()?,
            all_equal_image: cursor.bool()?,
        })
    }
}

#[cfg(test)]
mod tests {
    use super::super::testing::{record, refuses_prefixes};
    use super::*;
    use crate::PgVersion::*;
    use crate::wal::rmgr;

    #[test]
    fn padding_is_skipped() {
        let main: Vec<u8> = (0..36).collect();
        let unlink = record(V17, rmgr::BTREE, 0x90, 0, &main);
        refuses_prefixes(&unlink, BtreeRecord::decode);
        let unlink = BtreeRecord::decode(&unlink);
        let Ok(BtreeRecord::UnlinkPage { unlink, meta: true }) = unlink else {
            panic!("decoded as {unlink:?}");
        };
        assert_eq!(unlink.safe_xid, 0x1716_1514_1312_1110);
        assert_eq!(
            (unlink.level, unlink.leaf_left, unlink.leaf_top_parent),
            (0x0b0a_0908, 0x1b1a_1918, 0x2322_2120)
        );
        let half = BtreeRecord::decode(&record(V17, rmgr::BTREE, 0xB0, 0, &main));
        let expected = MarkHalfDead {
            parent_offset: 0x0100,
            left: 0x0b0a_0908,
            right: 0x0f0e_0d0c,
            top_parent: 0x1312_1110,
        };
        assert_eq!(half, Ok(BtreeRecord::MarkHalfDead(expected)));
        assert!(BtreeRecord::decode(&record(V17, rmgr::BTREE, 0xF0, 0, &main)).is_err());
    }
}
