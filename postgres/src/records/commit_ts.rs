//! Commit timestamps: pages that begin, and pages that go. The entries themselves come with the commit records.

use super::{slru_page, unknown};
use crate::Cursor;
use crate::wal::{DecodeError, Record};

/// Opcode: a page of zeros begins.
pub const ZEROPAGE: u8 = 0x00;
/// Opcode: old segments go.
pub const TRUNCATE: u8 = 0x10;

/// A record of the commit timestamps.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum CommitTsRecord {
    /// The page becomes zeros.
    ZeroPage(u32),
    /// Every segment that lies wholly before the page goes.
    Truncate {
        /// First page that must stay.
        page: u32,
        /// Oldest transaction that still has a timestamp.
        oldest_xid: u32,
    },
}

impl CommitTsRecord {
    /// Reads the main data of a CommitTs record.
    pub fn decode(record: &Record) -> Result<CommitTsRecord, DecodeError> {
        let mut cursor = Cursor::new(record.main_data());
        match record.opcode() {
            ZEROPAGE => {
                slru_page(&mut cursor, record.version(), "CommitTs/ZEROPAGE").map(CommitTsRecord::ZeroPage)
            }
            TRUNCATE => Ok(CommitTsRecord::Truncate {
                page: slru_page(&mut cursor, record.version(), "CommitTs/TRUNCATE")?,
                oldest_xid: cursor.u32()?,
            }),
            _ => Err(unknown(record)),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::super::testing::{record, refuses_prefixes, words};
    use super::*;
    use crate::PgVersion::*;
    use crate::wal::rmgr::COMMIT_TS;

    #[test]
    fn page_numbers_are_wider_since_17() {
        let truncate = CommitTsRecord::Truncate {
            page: 9,
            oldest_xid: 700,
        };
        for (version, main) in [(V15, words(&[9, 700])), (V18, words(&[9, 0, 700]))] {
            let record = record(version, COMMIT_TS, TRUNCATE, 0, &main);
            assert_eq!(CommitTsRecord::decode(&record).as_ref(), Ok(&truncate));
            refuses_prefixes(&record, CommitTsRecord::decode);
        }
    }
}
