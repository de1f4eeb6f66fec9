//! Relation files that begin, and that are cut.

use neon_types::{Fork, RelTag};

use super::unknown;
use crate::Cursor;
use crate::wal::{DecodeError, Record};

/// Opcode: a fork begins.
pub const CREATE: u8 = 0x10;
/// Opcode: forks are cut.
pub const TRUNCATE: u8 = 0x20;

/// A Storage record.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum SmgrRecord {
    /// The fork exists, with no blocks.
    Create(RelTag),
    /// The relation is cut.
    Truncate {
        /// Its main fork.
        rel: RelTag,
        /// Blocks of the main fork that stay.
        blocks: u32,
        /// The main fork is cut.
        heap: bool,
        /// The visibility map is cut to what `blocks` need.
        visibility_map: bool,
        /// The free space map is cut to what `blocks` need.
        free_space_map: bool,
    },
}

impl SmgrRecord {
    /// Reads the main data of a Storage record.
    pub fn decode(record: &Record) -> Result<SmgrRecord, DecodeError> {
        let mut cursor = Cursor::new(record.main_data());
        match record.opcode() {
            CREATE => {
                let rel = rel_file(&mut cursor)?;
                let fork = u8::try_from(cursor.u32()?).ok().and_then(Fork::from_number);
                let fork = fork.ok_or(DecodeError::Payload {
                    record: "Storage/CREATE",
                    what: "a fork that does not exist",
                })?;
                Ok(SmgrRecord::Create(rel.with_fork(fork)))
            }
            TRUNCATE => {
                let blocks = cursor.u32()?;
                let rel = rel_file(&mut cursor)?;
                let flags = cursor.u32()?;
                Ok(SmgrRecord::Truncate {
                    rel,
                    blocks,
                    heap: flags & 1 != 0,
                    visibility_map: flags & 2 != 0,
                    free_space_map: flags & 4 != 0,
                })
            }
            _ => Err(unknown(record)),
        }
    }
}

/// Reads a `RelFileLocator`: tablespace, database, relation. The result names the main fork.
pub(crate) fn rel_file(cursor: &mut Cursor<'_>) -> Result<RelTag, DecodeError> {
    Ok(RelTag {
        spc: cursor.u32()?,
        db: cursor.u32()?,
        rel: cursor.u32()?,
        fork: Fork::Main,
    })
}

#[cfg(test)]
mod tests {
    use super::super::testing::{record, refuses_prefixes, words};
    use super::*;
    use crate::PgVersion::*;
    use crate::wal::rmgr::SMGR;

    const REL: RelTag = RelTag {
        spc: 1663,
        db: 5,
        rel: 16384,
        fork: Fork::Main,
    };

    #[test]
    fn forks_are_created_and_cut() {
        let create = record(V15, SMGR, CREATE, 0, &words(&[1663, 5, 16384, 3]));
        assert_eq!(
            SmgrRecord::decode(&create),
            Ok(SmgrRecord::Create(REL.with_fork(Fork::Init)))
        );
        refuses_prefixes(&create, SmgrRecord::decode);
        let truncate = record(V15, SMGR, TRUNCATE | 1, 0, &words(&[12, 1663, 5, 16384, 5]));
        assert_eq!(
            SmgrRecord::decode(&truncate),
            Ok(SmgrRecord::Truncate {
                rel: REL,
                blocks: 12,
                heap: true,
                visibility_map: false,
                free_space_map: true
            })
        );
        refuses_prefixes(&truncate, SmgrRecord::decode);
        assert!(SmgrRecord::decode(&record(V15, SMGR, CREATE, 0, &words(&[1, 2, 3, 4]))).is_err());
    }
}
