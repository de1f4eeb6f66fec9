//! Main data of records of resource manager `Gist`.
//!
//! The layouts are the same in 14 to 18 but for what DELETE and PAGE_REUSE append from 16 on.

use super::{offset_list, unknown};
use crate::wal::{DecodeError, Record};
use crate::{Cursor, PgVersion};

const PAGE_UPDATE: u8 = 0x00;
const PAGE_SPLIT: u8 = 0x30;

/// A record of resource manager `Gist`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum GistRecord {
    /// Tuples of page 0 were removed, then others appended; its data is the offset numbers, then the tuples. 1 is the left
    /// page of a split that is finished by this.
    PageUpdate(PageUpdate),
    /// Tuples of leaf 0 that scans found dead were removed.
    Delete {
        /// Their offset numbers.
        offsets: Vec<u16>,
    },
    /// A deleted page is about to be used again: no page.
    PageReuse,
    /// A page was split into 1 to `pages`, whose data is i32 number of tuples, then the tuples. 0 is the left page of a
    /// split, a level below, that is finished by this. When 1 is the root, it is the parent of the others.
    PageSplit(PageSplit),
    /// Page 0, empty, was taken out of the tree, and its downlink out of its parent 1.
    PageDelete(PageDelete),
    /// The log went on for the sake of an LSN: no page.
    AssignLsn,
}

/// `gistxlogPageUpdate`
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct PageUpdate {
    /// Number of tuples that are removed.
    pub deleted: u16,
    /// Number of tuples that are added.
    pub inserted: u16,
}

/// `gistxlogPageSplit`
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct PageSplit {
    /// Right sibling of the page before the split, `0xFFFF_FFFF` for none.
    pub right: u32,
    /// NSN (an LSN) of the page before the split.
    pub nsn: u64,
    /// The page was a leaf.
    pub leaf: bool,
    /// Number of pages after the split, a new root included.
    pub pages: u16,
    /// Searches find all pages but the first by their left siblings until the parent has their downlinks.
    pub follow_right: bool,
}

/// `gistxlogPageDelete`
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct PageDelete {
    /// Full transaction id; the page may be used again when no snapshot needs it.
    pub delete_xid: u64,
    /// Offset number in the parent of the downlink that goes.
    pub downlink: u16,
}

impl GistRecord {
    /// Reads the main data of a Gist record.
    pub fn decode(record: &Record) -> Result<GistRecord, DecodeError> {
        let mut cursor = Cursor::new(record.main_data());
        let c = &mut cursor;
        Ok(match record.opcode() {
            PAGE_UPDATE => GistRecord::PageUpdate(PageUpdate {
                deleted: c.u16()?,
                inserted: c.u16()?,
            }),
            0x10 => {
                c.skip(4)?; // the conflict horizon
                let count = c.u16()?;
                if record.version() >= PgVersion::V16 {
                    c.skip(2)?; // whether the table is a catalog, and padding
                }
                GistRecord::Delete {
                    offsets: offset_list(c, count)?,
                }
            }
            0x20 => GistRecord::PageReuse,
            PAGE_SPLIT => GistRecord::PageSplit(PageSplit::decode(c)?),
            0x60 => GistRecord::PageDelete(PageDelete {
                delete_xid: c.u64()?,
                downlink: c.u16()?,
            }),
            0x70 => GistRecord::AssignLsn,
            _ => return Err(unknown(record)),
        })
    }
}

impl PageSplit {
    fn decode(cursor: &mut Cursor<'_>) -> Result<PageSplit, DecodeError> {
        let right = cursor.u32()?;
        cursor.skip(4)?;
        let (nsn, leaf) = (cursor.u64()?, cursor.bool()?);
        cursor.skip(1)?;
        let (pages, follow_right) = (cursor.u16()?, cursor.bool()?);
        cursor.skip(3)?;
        Ok(PageSplit {
            right,
            nsn,
            leaf,
            pages,
            follow_right,
        })
    }
}

/// Returns the id of the reference to the left page of a split that a Gist record of this opcode finishes, if it has one. That
/// page takes the record's LSN as its NSN even where the record carries an image of it, which was taken before.
pub fn finished_split(opcode: u8) -> Option<u8> {
    match opcode {
        PAGE_UPDATE => Some(1),
        PAGE_SPLIT => Some(0),
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use super::super::testing::{record, refuses_prefixes};
    use super::*;
    use crate::PgVersion::*;
    use crate::wal::rmgr::GIST;

    #[test]
    fn offsets_of_delete_lie_elsewhere_from_16_on() {
        let old = record(V15, GIST, 0x10, 0, &[9, 0, 0, 0, 2, 0, 4, 0, 7, 0]);
        let new = record(V16, GIST, 0x10, 0, &[9, 0, 0, 0, 2, 0, 1, 0, 4, 0, 7, 0]);
        for delete in [old, new] {
            refuses_prefixes(&delete, GistRecord::decode);
            let expected = GistRecord::Delete { offsets: vec![4, 7] };
            assert_eq!(GistRecord::decode(&delete), Ok(expected));
        }
    }

    #[test]
    fn padding_is_skipped() {
        let main: Vec<u8> = (0..24).collect();
        let split = record(V17, GIST, 0x30, 0, &main);
        refuses_prefixes(&split, GistRecord::decode);
        let expected = PageSplit {
            right: 0x0302_0100,
            nsn: 0x0f0e_0d0c_0b0a_0908,
            leaf: true,
            pages: 0x1312,
            follow_right: true,
        };
        assert_eq!(GistRecord::decode(&split), Ok(GistRecord::PageSplit(expected)));
        let delete = record(V17, GIST, 0x60, 0, &main[..10]);
        refuses_prefixes(&delete, GistRecord::decode);
        let expected = PageDelete {
            delete_xid: 0x0706_0504_0302_0100,
            downlink: 0x0908,
        };
        assert_eq!(GistRecord::decode(&delete), Ok(GistRecord::PageDelete(expected)));
        assert!(GistRecord::decode(&record(V17, GIST, 0x40, 0, &main)).is_err());
    }
}
