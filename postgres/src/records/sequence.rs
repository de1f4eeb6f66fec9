//! Main data of records of resource manager `Sequence`: `xl_seq_rec`, the same in 14 to 18.

use neon_types::RelTag;

use super::smgr::rel_file;
use super::unknown;
use crate::Cursor;
use crate::wal::{DecodeError, Record};

/// A sequence's new state. Block reference 0 is its only page, which is made anew.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct SequenceLog<'a> {
    /// The sequence.
    pub rel: RelTag,
    /// Its tuple, as it is stored.
    pub tuple: &'a [u8],
}

impl SequenceLog<'_> {
    /// Reads the main data of a Sequence record.
    pub fn decode(record: &Record) -> Result<SequenceLog<'_>, DecodeError> {
        if record.opcode() != 0 {
            return Err(unknown(record));
        }
        let mut cursor = Cursor::new(record.main_data());
        Ok(SequenceLog {
            rel: rel_file(&mut cursor)?,
            tuple: cursor.rest(),
        })
    }
}

#[cfg(test)]
mod tests {
    use super::super::testing::record;
    use super::*;
    use crate::PgVersion::V17;
    use crate::wal::rmgr::SEQ;

    #[test]
    fn the_tuple_follows_the_relation() {
        let main = [1, 0, 0, 0, 2, 0, 0, 0, 3, 0, 0, 0, 42, 43];
        let whole = record(V17, SEQ, 0, 9, &main);
        let log = SequenceLog::decode(&whole).expect("is long enough");
        assert_eq!(
            (log.rel.spc, log.rel.db, log.rel.rel, log.tuple),
            (1, 2, 3, &[42, 43][..])
        );
        assert!(SequenceLog::decode(&record(V17, SEQ, 0, 9, &main[..11])).is_err());
        assert!(SequenceLog::decode(&record(V17, SEQ, 0x10, 9, &main)).is_err());
    }
}
