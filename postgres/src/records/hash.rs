//! Main data of records of resource manager `Hash`.
//!
//! The layouts are the same in 14 to 18 but for VACUUM_ONE_PAGE, which has a narrower count from 16 on.

use super::{offset_list, unknown};
use crate::wal::{DecodeError, Record};
use crate::{Cursor, PgVersion};

/// A record of resource manager `Hash`. "Unchanged" are pages that a record names for the sake of a lock.
#[derive(Clone, Debug, PartialEq)]
pub enum HashRecord {
    /// Page 0 is the meta page of a new index.
    InitMetaPage(InitMetaPage),
    /// Page 0 is the first bitmap of overflow pages in use; 1 is the meta page.
    InitBitmapPage {
        /// Bytes of the bitmap.
        bitmap_size: u16,
    },
    /// A tuple, the data of page 0, was added there; 1 is the meta page.
    Insert {
        /// Offset number of the tuple.
        offset: u16,
    },
    /// A bucket's chain got an overflow page: 0 the new page (data: u32 bucket), 1 the page in front of it, 2 the bitmap that
    /// marks it as used (data: u32 bit), 3 a new bitmap, 4 the meta page (data: u32 first free overflow page).
    AddOverflowPage(AddOverflowPage),
    /// A bucket begins to be split: 0 first page of the old bucket, 1 first page of the new one, 2 the meta page.
    SplitAllocatePage(SplitAllocatePage),
    /// Page 0 of a bucket that is being filled, always with an image.
    SplitPage,
    /// A bucket has been split: 0 first page of the old bucket, 1 first page of the new one.
    SplitComplete {
        /// Flags of page 0.
        old_flags: u16,
        /// Flags of page 1.
        new_flags: u16,
    },
    /// Tuples moved from page 2 (data: their offset numbers) to page 1 (data: their offset numbers there, then the tuples); 0 is
    /// the bucket's first page, unchanged.
    MovePageContents {
        /// Number of tuples.
        tuples: u16,
    },
    /// As for a move, but all tuples of page 2, which leaves the chain and is free; 3 is the page in front of it, 4 the page
    /// behind it, 5 the bitmap that marks it as used (data: u32 bit), 6 the meta page (data: u32 first free overflow page).
    SqueezePage(SqueezePage),
    /// Vacuum removed tuples of page 1 (data: their offset numbers); 0 is the bucket's first page, unchanged.
    Delete {
        /// No tuple of the page is known to be dead any more.
        clear_dead: bool,
    },
    /// Page 0, the first of a bucket, has lost what a split moved.
    SplitCleanup,
    /// Vacuum counted the index's tuples in the meta page, 0.
    UpdateMetaPage {
        /// How many there are.
        tuples: f64,
    },
    /// An insert removed dead tuples of page 0; 1 is the meta page.
    VacuumOnePage {
        /// Their offset numbers.
        offsets: Vec<u16>,
    },
}

/// `xl_hash_init_meta_page`
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct InitMetaPage {
    /// Number of tuples that were expected.
    pub tuples: f64,
    /// Oid of the hash function.
    pub procedure: u32,
    /// Tuples of a bucket.
    pub fill_factor: u16,
}

/// `xl_hash_add_ovfl_page`
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct AddOverflowPage {
    /// Bytes of a bitmap.
    pub bitmap_size: u16,
    /// The page was free; if not, the index grew.
    pub found: bool,
}

/// `xl_hash_split_allocate_page`
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct SplitAllocatePage {
    /// Number of the new bucket.
    pub new_bucket: u32,
    /// Flags of page 0.
    pub old_flags: u16,
    /// Flags of page 1.
    pub new_flags: u16,
    /// The data of the meta page begins with u32 low mask, u32 high mask.
    pub masks: bool,
    /// The data of the meta page goes on with u32 split point, u32 overflow pages at it.
    pub split_point: bool,
}

/// `xl_hash_squeeze_page`
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct SqueezePage {
    /// Block in front of the freed page.
    pub prev: u32,
    /// Block behind it, `0xFFFF_FFFF` for none.
    pub next: u32,
    /// Number of tuples.
    pub tuples: u16,
    /// Page 1 is the bucket's first page: there is no page 0.
    pub to_bucket: bool,
    /// Page 1 is the one in front of the freed page: there is no page 3.
    pub to_prev: bool,
}

impl HashRecord {
    /// Reads the main data of a Hash record.
    pub fn decode(record: &Record) -> Result<HashRecord, DecodeError> {
        let mut cursor = Cursor::new(record.main_data());
        let c = &mut cursor;
        Ok(match record.opcode() {
            0x00 => HashRecord::InitMetaPage(InitMetaPage {
                tuples: f64::from_bits(c.u64()?),
                procedure: c.u32()?,
                fill_factor: c.u16()?,
            }),
            0x10 => HashRecord::InitBitmapPage {
                bitmap_size: c.u16()?,
            },
            0x20 => HashRecord::Insert { offset: c.u16()? },
            0x30 => HashRecord::AddOverflowPage(AddOverflowPage {
                bitmap_size: c.u16()?,
                found: c.bool()?,
            }),
            0x40 => HashRecord::SplitAllocatePage(SplitAllocatePage::decode(c)?),
            0x50 => HashRecord::SplitPage,
            0x60 => HashRecord::SplitComplete {
                old_flags: c.u16()?,
                new_flags: c.u16()?,
            },
            0x70 => {
                let tuples = c.u16()?;
                c.skip(1)?; // whether page 1 is the bucket's first page: there is no page 0
                HashRecord::MovePageContents { tuples }
            }
            0x80 => HashRecord::SqueezePage(SqueezePage {
                prev: c.u32()?,
                next: c.u32()?,
                tuples: c.u16()?,
                to_bucket: c.bool()?,
                to_prev: c.bool()?,
            }),
            0x90 => {
                let clear_dead = c.bool()?;
                c.skip(1)?; // as for a move
                HashRecord::Delete { clear_dead }
            }
            0xA0 => HashRecord::SplitCleanup,
            0xB0 => HashRecord::UpdateMetaPage {
                tuples: f64::from_bits(c.u64()?),
            },
            0xC0 => HashRecord::VacuumOnePage {
                offsets: dead_offsets(c, record.version())?,
            },
            _ => return Err(unknown(record)),
        })
    }
}

impl SplitAllocatePage {
    fn decode(cursor: &mut Cursor<'_>) -> Result<SplitAllocatePage, DecodeError> {
        let (new_bucket, old_flags, new_flags) = (cursor.u32()?, cursor.u16()?, cursor.u16()?);
        let flags = cursor.u8()?;
        Ok(SplitAllocatePage {
            new_bucket,
            old_flags,
            new_flags,
            masks: flags & 1 != 0,
            split_point: flags & 2 != 0,
        })
    }
}

fn dead_offsets(cursor: &mut Cursor<'_>, version: PgVersion) -> Result<Vec<u16>, DecodeError> {
    cursor.skip(4)?; // the conflict horizon
    let count = if version >= PgVersion::V16 {
        let count = cursor.u16()?;
        cursor.skip(2)?; // whether the table is a catalog, and padding
        count
    } else {
        u16::try_from(cursor.i32()?).map_err(|_| DecodeError::Payload {
            record: "Hash/VACUUM_ONE_PAGE",
            what: "a number of tuples that no page holds",
        })?
    };
    offset_list(cursor, count)
}

#[cfg(test)]
mod tests {
    use super::super::testing::{record, refuses_prefixes};
    use super::*;
    use crate::PgVersion::*;
    use crate::wal::rmgr::HASH;

    #[test]
    fn the_count_of_dead_tuples_is_narrower_from_16_on() {
        let old = record(V15, HASH, 0xC0, 0, &[9, 0, 0, 0, 2, 0, 0, 0, 4, 0, 7, 0]);
        let new = record(V16, HASH, 0xC0, 0, &[9, 0, 0, 0, 2, 0, 1, 77, 4, 0, 7, 0]);
        for vacuum in [old, new] {
            refuses_prefixes(&vacuum, HashRecord::decode);
            let expected = HashRecord::VacuumOnePage { offsets: vec![4, 7] };
            assert_eq!(HashRecord::decode(&vacuum), Ok(expected));
        }
        let negative = record(V14, HASH, 0xC0, 0, &[9, 0, 0, 0, 255, 255, 255, 255]);
        assert!(HashRecord::decode(&negative).is_err());
    }

    #[test]
    fn fields_follow_each_other() {
        let main: Vec<u8> = (0..14).collect();
        let init = record(V17, HASH, 0x00, 0, &main);
        refuses_prefixes(&init, HashRecord::decode);
        let expected = InitMetaPage {
            tuples: f64::from_bits(0x0706_0504_0302_0100),
            procedure: 0x0b0a_0908,
            fill_factor: 0x0d0c,
        };
        assert_eq!(HashRecord::decode(&init), Ok(HashRecord::InitMetaPage(expected)));

        let squeeze = record(V17, HASH, 0x80, 0, &[1, 0, 0, 0, 255, 255, 255, 255, 3, 0, 0, 1]);
        refuses_prefixes(&squeeze, HashRecord::decode);
        let expected = SqueezePage {
            prev: 1,
            next: u32::MAX,
            tuples: 3,
            to_bucket: false,
            to_prev: true,
        };
        assert_eq!(
            HashRecord::decode(&squeeze),
            Ok(HashRecord::SqueezePage(expected))
        );

        let allocate = record(V17, HASH, 0x40, 0, &[5, 0, 0, 0, 0x22, 0, 0x12, 0, 2]);
        refuses_prefixes(&allocate, HashRecord::decode);
        let expected = SplitAllocatePage {
            new_bucket: 5,
            old_flags: 0x22,
            new_flags: 0x12,
            masks: false,
            split_point: true,
        };
        assert_eq!(
            HashRecord::decode(&allocate),
            Ok(HashRecord::SplitAllocatePage(expected))
        );
        assert!(HashRecord::decode(&record(V17, HASH, 0xD0, 0, &main)).is_err());
    }

    #[test]
    fn short_records_are_refused() {
        for (info, length) in [
            (0x10, 2),
            (0x20, 2),
            (0x30, 3),
            (0x60, 4),
            (0x70, 3),
            (0x90, 2),
            (0xB0, 8),
        ] {
            refuses_prefixes(&record(V17, HASH, info, 0, &vec![0; length]), HashRecord::decode);
        }
    }
}
