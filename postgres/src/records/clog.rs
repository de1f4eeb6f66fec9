//! Commit log: pages that begin, and pages that go.

use super::{slru_page, unknown};
use crate::Cursor;
use crate::wal::{DecodeError, Record};

/// Opcode: a page of zeros begins.
pub const ZEROPAGE: u8 = 0x00;
/// Opcode: old segments go.
pub const TRUNCATE: u8 = 0x10;

/// A record of the commit log.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum ClogRecord {
    /// The page becomes zeros.
    ZeroPage(u32),
    /// Every segment that lies wholly before the page goes.
    Truncate {
        /// First page that must stay.
        page: u32,
        /// Oldest transaction whose state can still be asked for.
        oldest_xid: u32,
        /// Database that holds it back.
        oldest_db: u32,
    },
}

impl ClogRecord {
    /// Reads the main data of a CLOG record.
    pub fn decode(record: &Record) -> Result<ClogRecord, DecodeError> {
        let mut cursor = Cursor::new(record.main_data());
        match record.opcode() {
            ZEROPAGE => slru_page(&mut cursor, record.version(), "CLOG/ZEROPAGE").map(ClogRecord::ZeroPage),
            TRUNCATE => Ok(ClogRecord::Truncate {
                page: slru_page(&mut cursor, record.version(), "CLOG/TRUNCATE")?,
                oldest_xid: cursor.u32()?,
                oldest_db: cursor.u32()?,
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
    use crate::wal::rmgr::CLOG;

    #[test]
    fn page_numbers_are_wider_since_17() {
        let truncate = ClogRecord::Truncate {
            page: 9,
            oldest_xid: 700,
            oldest_db: 5,
        };
        for (version, main) in [
            (V14, words(&[9, 700, 5])),
            (V16, words(&[9, 700, 5])),
            (V17, words(&[9, 0, 700, 5])),
        ] {
            let record = record(version, CLOG, TRUNCATE, 0, &main);
            assert_eq!(ClogRecord::decode(&record).as_ref(), Ok(&truncate));
            refuses_prefixes(&record, ClogRecord::decode);
        }
        let zero = record(V18, CLOG, ZEROPAGE, 0, &words(&[3, 0]));
        assert_eq!(ClogRecord::decode(&zero), Ok(ClogRecord::ZeroPage(3)));
    }

    #[test]
    fn pages_and_opcodes_that_do_not_exist_are_refused() {
        assert!(ClogRecord::decode(&record(V17, CLOG, ZEROPAGE, 0, &words(&[0, 1]))).is_err());
        assert!(ClogRecord::decode(&record(V14, CLOG, ZEROPAGE, 0, &words(&[u32::MAX]))).is_err());
        let unknown = ClogRecord::decode(&record(V14, CLOG, 0x20, 0, &words(&[1])));
        assert!(matches!(unknown, Err(DecodeError::Opcode { .. })));
    }
}
