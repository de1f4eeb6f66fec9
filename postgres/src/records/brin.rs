//! Main data of records of resource manager `BRIN`, the same in 14 to 18.

use super::unknown;
use crate::Cursor;
use crate::wal::{DecodeError, Record};

/// Bit of the opcode: the first tuple of page 0, which is made anew (`XLOG_BRIN_INIT_PAGE`).
const INIT_PAGE: u8 = 0x80;

/// A record of resource manager `BRIN`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum BrinRecord {
    /// Page 0 is the meta page of a new index.
    CreateIndex {
        /// Heap blocks that one tuple summarizes.
        pages_per_range: u32,
        /// Version of the index, 1.
        version: u16,
    },
    /// A tuple, the data of page 0, was added there; page 1 of the range map leads to it now.
    Insert(Insert),
    /// A tuple moved: as for an insert, and page 2 lost the old one.
    Update {
        /// Offset number of the old tuple.
        old_offset: u16,
        /// The new tuple.
        insert: Insert,
    },
    /// A tuple of page 0 was replaced by its data.
    SamepageUpdate {
        /// Offset number of the tuple.
        offset: u16,
    },
    /// Page 1 became the last one of the range map; 0 is the meta page.
    RevmapExtend {
        /// Block of page 1.
        block: u32,
    },
    /// Page 0 of the range map leads nowhere for a range any more; page 1 lost its tuple.
    Desummarize {
        /// The range.
        range: Range,
        /// Offset number of the tuple.
        offset: u16,
    },
}

/// `xl_brin_insert`
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Insert {
    /// Page 0 is made anew.
    pub init: bool,
    /// The range that the tuple summarizes.
    pub range: Range,
    /// Offset number of the tuple.
    pub offset: u16,
}

/// A range of heap blocks.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Range {
    /// A heap block of the range.
    pub heap_block: u32,
    /// Heap blocks of a range.
    pub pages_per_range: u32,
}

impl BrinRecord {
    /// Reads the main data of a BRIN record.
    pub fn decode(record: &Record) -> Result<BrinRecord, DecodeError> {
        let mut cursor = Cursor::new(record.main_data());
        let c = &mut cursor;
        Ok(match record.opcode() {
            0x00 => BrinRecord::CreateIndex {
                pages_per_range: c.u32()?,
                version: c.u16()?,
            },
            0x10 => BrinRecord::Insert(Insert::decode(c, false)?),
            0x20 => update(c, false)?,
            0x30 => BrinRecord::SamepageUpdate { offset: c.u16()? },
            0x40 => BrinRecord::RevmapExtend { block: c.u32()? },
            0x50 => {
                let (pages_per_range, heap_block) = (c.u32()?, c.u32()?);
                BrinRecord::Desummarize {
                    range: Range {
                        heap_block,
                        pages_per_range,
                    },
                    offset: c.u16()?,
                }
            }
            opcode if opcode == INIT_PAGE | 0x10 => BrinRecord::Insert(Insert::decode(c, true)?),
            opcode if opcode == INIT_PAGE | 0x20 => update(c, true)?,
            _ => return Err(unknown(record)),
        })
    }
}

fn update(cursor: &mut Cursor<'_>, init: bool) -> Result<BrinRecord, DecodeError> {
    let old_offset = cursor.u16()?;
    cursor.skip(2)?;
    Ok(BrinRecord::Update {
        old_offset,
        insert: Insert::decode(cursor, init)?,
    })
}

impl Insert {
    fn decode(cursor: &mut Cursor<'_>, init: bool) -> Result<Insert, DecodeError> {
        Ok(Insert {
            init,
            range: Range {
                heap_block: cursor.u32()?,
                pages_per_range: cursor.u32()?,
            },
            offset: cursor.u16()?,
        })
    }
}

#[cfg(test)]
mod tests {
    use super::super::testing::{record, refuses_prefixes};
    use super::*;
    use crate::PgVersion::V17;
    use crate::wal::rmgr::BRIN;

    #[test]
    fn an_update_is_an_old_tuple_and_an_insert() {
        let main: Vec<u8> = (0..14).collect();
        for (info, init) in [(0x20, false), (0xA0, true)] {
            let update = record(V17, BRIN, info, 0, &main);
            refuses_prefixes(&update, BrinRecord::decode);
            let insert = Insert {
                init,
                range: Range {
                    heap_block: 0x0706_0504,
                    pages_per_range: 0x0b0a_0908,
                },
                offset: 0x0d0c,
            };
            let expected = BrinRecord::Update {
                old_offset: 0x0100,
                insert,
            };
            assert_eq!(BrinRecord::decode(&update), Ok(expected));
        }
    }

    #[test]
    fn desummarize_names_the_size_of_a_range_first() {
        let desummarize = record(V17, BRIN, 0x50, 0, &[8, 0, 0, 0, 9, 0, 0, 0, 7, 0]);
        refuses_prefixes(&desummarize, BrinRecord::decode);
        let expected = BrinRecord::Desummarize {
            range: Range {
                heap_block: 9,
                pages_per_range: 8,
            },
            offset: 7,
        };
        assert_eq!(BrinRecord::decode(&desummarize), Ok(expected));
    }

    #[test]
    fn only_inserts_make_a_page_anew() {
        for info in [0x80, 0xB0, 0xC0, 0xD0, 0x60] {
            assert!(BrinRecord::decode(&record(V17, BRIN, info, 0, &[0; 20])).is_err());
        }
    }
}
