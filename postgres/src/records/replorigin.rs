//! Progress of logical replication from other servers.

use neon_types::Lsn;

use super::unknown;
use crate::Cursor;
use crate::wal::{DecodeError, Record};

/// Opcode: progress is set.
pub const SET: u8 = 0x00;
/// Opcode: an origin goes.
pub const DROP: u8 = 0x10;

/// A ReplicationOrigin record.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum ReplOriginRecord {
    /// The origin has been replayed up to there.
    Set {
        /// The origin.
        origin: u16,
        /// Position in its own WAL.
        remote_lsn: Lsn,
        /// Even if it was further already.
        force: bool,
    },
    /// The origin's progress goes.
    Drop {
        /// The origin.
        origin: u16,
    },
}

impl ReplOriginRecord {
    /// Reads the main data of a ReplicationOrigin record.
    pub fn decode(record: &Record) -> Result<ReplOriginRecord, DecodeError> {
        let mut cursor = Cursor::new(record.main_data());
        match record.opcode() {
            SET => Ok(ReplOriginRecord::Set {
                remote_lsn: Lsn(cursor.u64()?),
                origin: cursor.u16()?,
                force: cursor.bool()?,
            }),
            DROP => Ok(ReplOriginRecord::Drop {
                origin: cursor.u16()?,
            }),
            _ => Err(unknown(record)),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::super::testing::{record, refuses_prefixes};
    use super::*;
    use crate::PgVersion::*;
    use crate::wal::rmgr::REPLORIGIN;

    #[test]
    fn progress_is_read() {
        let set = record(V15, REPLORIGIN, SET, 0, &[1, 2, 0, 0, 0, 0, 0, 0, 7, 0, 1]);
        assert_eq!(
            ReplOriginRecord::decode(&set),
            Ok(ReplOriginRecord::Set {
                origin: 7,
                remote_lsn: Lsn(0x201),
                force: true
            })
        );
        refuses_prefixes(&set, ReplOriginRecord::decode);
        let drop = record(V15, REPLORIGIN, DROP, 0, &[7, 0]);
        assert_eq!(
            ReplOriginRecord::decode(&drop),
            Ok(ReplOriginRecord::Drop { origin: 7 })
        );
    }
}
