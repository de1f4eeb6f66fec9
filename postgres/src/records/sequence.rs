//! Main data of records of resource manager `Sequence`: `xl_seq_rec`, the same in 14 to 18.

use neon_types::{Fork, RelTag};

use crate::Cursor;
use crate::wal::DecodeError;

/// A sequence's new state. Block reference 0 is its only page, which is made anew.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct SequenceLog<'a> {
    /// The sequence.
    pub rel: RelTag,
    /// Its tuple, as it is stored.
    pub tuple: &'a [u8],
}

impl SequenceLog<'_> {
    /// Decodes the main data of a record with that `info`.
    pub fn decode(info: u8, main: &[u8]) -> Result<SequenceLog<'_>, DecodeError> {
        if info & 0xF0 != 0 {
            let what = "unknown kind of record";
            return Err(DecodeError::Payload { record: "Sequence", what });
        }
        let mut cursor = Cursor::new(main);
        let rel = RelTag {
            spc: cursor.u32()?,
            db: cursor.u32()?,
            rel: cursor.u32()?,
            fork: Fork::Main,
        };
        Ok(SequenceLog { rel, tuple: cursor.rest() })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_tuple_follows_the_relation() {
        let main = [1, 0, 0, 0, 2, 0, 0, 0, 3, 0, 0, 0, 42, 43];
        let log = SequenceLog::decode(0, &main).expect("is long enough");
        assert_eq!((log.rel.spc, log.rel.db, log.rel.rel, log.tuple), (1, 2, 3, &[42, 43][..]));
        assert!(SequenceLog::decode(0, &main[..11]).is_err());
        assert!(SequenceLog::decode(0x10, &main).is_err());
    }
}
