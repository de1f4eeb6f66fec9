//! The main data of records, resource manager by resource manager: one type for all versions.
//!
//! Every type has `decode(&Record)`; an opcode that the version does not have is [`DecodeError::Opcode`]. Times are
//! `TimestampTz`: microseconds since 2000-01-01 00:00 UTC.

pub mod brin;
pub mod btree;
pub mod clog;
pub mod commit_ts;
pub mod dbase;
pub mod generic;
pub mod gin;
pub mod gist;
pub mod hash;
pub mod heap;
pub mod heap2;
pub mod invalidation;
pub mod logicalmsg;
pub mod multixact;
mod prepare;
pub mod relmap;
pub mod replorigin;
pub mod sequence;
pub mod smgr;
pub mod spgist;
pub mod standby;
mod summary;
pub mod tblspc;
pub mod xact;
pub mod xlog;

pub use summary::summary;

use crate::wal::{DecodeError, Record};
use crate::{Cursor, PgVersion};

/// Returns the error for an opcode that the resource manager of `record` does not have.
fn unknown(record: &Record) -> DecodeError {
    DecodeError::Opcode {
        version: record.version(),
        rmid: record.rmid,
        info: record.info,
    }
}

/// Reads `count` offset numbers.
fn offset_list(cursor: &mut Cursor<'_>, count: u16) -> Result<Vec<u16>, DecodeError> {
    let (pairs, _) = cursor.take(2 * usize::from(count))?.as_chunks();
    Ok(pairs.iter().map(|pair| u16::from_le_bytes(*pair)).collect())
}

/// Reads the number of an SLRU page: 32 bits up to 16, 64 bits since 17.
fn slru_page(cursor: &mut Cursor<'_>, version: PgVersion, name: &'static str) -> Result<u32, DecodeError> {
    let page = if version >= PgVersion::V17 {
        cursor.i64()?
    } else {
        i64::from(cursor.i32()?)
    };
    u32::try_from(page).map_err(|_| DecodeError::Payload {
        record: name,
        what: "a page number that no SLRU has",
    })
}

#[cfg(test)]
pub(crate) mod testing {
    //! Records for the tests of decoders.
    use super::*;
    use crate::wal::RecordBuilder;

    /// Returns the decoded record of that kind with that main data.
    pub(crate) fn record(version: PgVersion, rmid: u8, info: u8, xid: u32, main: &[u8]) -> Record {
        let bytes = RecordBuilder::new(version, rmid, info)
            .xid(xid)
            .main(main)
            .build();
        Record::decode(version, bytes).unwrap()
    }

    /// Returns the little-endian bytes of a row of 32-bit integers.
    pub(crate) fn words(words: &[u32]) -> Vec<u8> {
        words.iter().flat_map(|word| word.to_le_bytes()).collect()
    }

    /// Calls `decode` with every prefix of the main data of `record`: none may panic, and none but the whole may be taken.
    pub(crate) fn refuses_prefixes<T>(record: &Record, decode: impl Fn(&Record) -> Result<T, DecodeError>) {
        assert!(decode(record).is_ok(), "the whole record was refused");
        let main = record.main_data();
        for length in 0..main.len() {
            let cut = testing::record(
                record.version(),
                record.rmid,
                record.info,
                record.xid,
                &main[..length],
            );
            assert!(
                decode(&cut).is_err(),
                "{length} of {} bytes were taken",
                main.len()
            );
        }
    }

    use super::testing;
}

#[cfg(test)]
mod tests;
