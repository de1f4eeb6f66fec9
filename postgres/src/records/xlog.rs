//! The WAL's own records: checkpoints, counters, parameters, full-page images.

use neon_types::Lsn;

use super::unknown;
use crate::control::CheckPoint;
use crate::wal::{DecodeError, Record};
use crate::{Cursor, PgVersion};

/// Opcode: the server was stopped here.
pub const CHECKPOINT_SHUTDOWN: u8 = 0x00;
/// Opcode: a checkpoint while the server ran.
pub const CHECKPOINT_ONLINE: u8 = 0x10;
/// Opcode: nothing.
pub const NOOP: u8 = 0x20;
/// Opcode: object ids up to there may be in use.
pub const NEXTOID: u8 = 0x30;
/// Opcode: the rest of the segment is unused.
pub const SWITCH: u8 = 0x40;
/// Opcode: a base backup ends.
pub const BACKUP_END: u8 = 0x50;
/// Opcode: parameters of the control file change.
pub const PARAMETER_CHANGE: u8 = 0x60;
/// Opcode: a named place.
pub const RESTORE_POINT: u8 = 0x70;
/// Opcode: `full_page_writes` changes.
pub const FPW_CHANGE: u8 = 0x80;
/// Opcode: a standby was promoted.
pub const END_OF_RECOVERY: u8 = 0x90;
/// Opcode: images of pages in which only hints changed.
pub const FPI_FOR_HINT: u8 = 0xA0;
/// Opcode: images of pages.
pub const FPI: u8 = 0xB0;
/// Opcode: a record was abandoned in a crash.
pub const OVERWRITE_CONTRECORD: u8 = 0xD0;
/// Opcode: redo of the next online checkpoint begins here; since 17.
pub const CHECKPOINT_REDO: u8 = 0xE0;

/// A XLOG record.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum XlogRecord {
    /// The server was stopped here.
    CheckpointShutdown(CheckPoint),
    /// A checkpoint while the server ran; its counters are as of `redo` or somewhat later.
    CheckpointOnline(CheckPoint),
    /// Nothing.
    Noop,
    /// The next object id after a crash.
    NextOid(u32),
    /// The rest of the segment is unused.
    Switch,
    /// A base backup ends.
    BackupEnd {
        /// Where redo of that backup began.
        start: Lsn,
    },
    /// Parameters of the control file change.
    ParameterChange(ParameterChange),
    /// A named place.
    RestorePoint {
        /// When it was made.
        time: i64,
        /// Its name.
        name: Vec<u8>,
    },
    /// `full_page_writes` becomes that.
    FullPageWrites(bool),
    /// A standby was promoted.
    EndOfRecovery {
        /// When.
        time: i64,
        /// The timeline that begins.
        tli: u32,
        /// The timeline that it left.
        prev_tli: u32,
        /// `wal_level`, since 17.
        wal_level: Option<i32>,
    },
    /// Images of the blocks of the record; without images there is nothing to do (only hints had changed).
    FullPageImages,
    /// A record was abandoned in a crash.
    OverwriteContrecord {
        /// Start of the abandoned record.
        abandoned: Lsn,
        /// When.
        time: i64,
    },
    /// Redo of the next online checkpoint begins here.
    CheckpointRedo {
        /// `wal_level`
        wal_level: i32,
    },
}

/// Settings that a standby must know.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct ParameterChange {
    /// `max_connections`
    pub max_connections: i32,
    /// `max_worker_processes`
    pub max_worker_processes: i32,
    /// `max_wal_senders`
    pub max_wal_senders: i32,
    /// `max_prepared_transactions`
    pub max_prepared_xacts: i32,
    /// `max_locks_per_transaction`
    pub max_locks_per_xact: i32,
    /// `wal_level`: 0 minimal, 1 replica, 2 logical.
    pub wal_level: i32,
    /// `wal_log_hints`
    pub wal_log_hints: bool,
    /// `track_commit_timestamp`
    pub track_commit_timestamp: bool,
}

impl XlogRecord {
    /// Reads the main data of a XLOG record.
    pub fn decode(record: &Record) -> Result<XlogRecord, DecodeError> {
        let mut cursor = Cursor::new(record.main_data());
        let version = record.version();
        let since_17 = version >= PgVersion::V17;
        Ok(match record.opcode() {
            CHECKPOINT_SHUTDOWN => {
                XlogRecord::CheckpointShutdown(CheckPoint::decode(version, cursor.rest())?)
            }
            CHECKPOINT_ONLINE => XlogRecord::CheckpointOnline(CheckPoint::decode(version, cursor.rest())?),
            NOOP => XlogRecord::Noop,
            NEXTOID => XlogRecord::NextOid(cursor.u32()?),
            SWITCH => XlogRecord::Switch,
            BACKUP_END => XlogRecord::BackupEnd {
                start: Lsn(cursor.u64()?),
            },
            PARAMETER_CHANGE => XlogRecord::ParameterChange(ParameterChange {
                max_connections: cursor.i32()?,
                max_worker_processes: cursor.i32()?,
                max_wal_senders: cursor.i32()?,
                max_prepared_xacts: cursor.i32()?,
                max_locks_per_xact: cursor.i32()?,
                wal_level: cursor.i32()?,
                wal_log_hints: cursor.bool()?,
                track_commit_timestamp: cursor.bool()?,
            }),
            RESTORE_POINT => XlogRecord::RestorePoint {
                time: cursor.i64()?,
                name: cursor.c_string()?.to_vec(),
            },
            FPW_CHANGE => XlogRecord::FullPageWrites(cursor.bool()?),
            END_OF_RECOVERY => XlogRecord::EndOfRecovery {
                time: cursor.i64()?,
                tli: cursor.u32()?,
                prev_tli: cursor.u32()?,
                wal_level: since_17.then(|| cursor.i32()).transpose()?,
            },
            FPI_FOR_HINT | FPI => XlogRecord::FullPageImages,
            OVERWRITE_CONTRECORD => XlogRecord::OverwriteContrecord {
                abandoned: Lsn(cursor.u64()?),
                time: cursor.i64()?,
            },
            CHECKPOINT_REDO if since_17 => XlogRecord::CheckpointRedo {
                wal_level: cursor.i32()?,
            },
            _ => return Err(unknown(record)),
        })
    }
}

#[cfg(test)]
mod tests {
    use super::super::testing::{record, refuses_prefixes, words};
    use super::*;
    use crate::PgVersion::*;
    use crate::wal::rmgr::XLOG;

    #[test]
    fn end_of_recovery_grew_in_17() {
        let old = record(V16, XLOG, END_OF_RECOVERY, 0, &words(&[9, 0, 2, 1]));
        let new = record(V17, XLOG, END_OF_RECOVERY, 0, &words(&[9, 0, 2, 1, 2]));
        for (record, wal_level) in [(old, None), (new, Some(2))] {
            assert_eq!(
                XlogRecord::decode(&record),
                Ok(XlogRecord::EndOfRecovery {
                    time: 9,
                    tli: 2,
                    prev_tli: 1,
                    wal_level
                })
            );
            refuses_prefixes(&record, XlogRecord::decode);
        }
    }

    #[test]
    fn parameters_are_read_in_order() {
        let mut main = words(&[100, 8, 10, 0, 64, 1]);
        main.extend_from_slice(&[0, 1]);
        let change = record(V15, XLOG, PARAMETER_CHANGE, 0, &main);
        let Ok(XlogRecord::ParameterChange(parameters)) = XlogRecord::decode(&change) else {
            panic!("not a parameter change");
        };
        assert_eq!((parameters.max_connections, parameters.wal_level), (100, 1));
        assert_eq!(
            (parameters.wal_log_hints, parameters.track_commit_timestamp),
            (false, true)
        );
        refuses_prefixes(&change, XlogRecord::decode);
    }

    #[test]
    fn checkpoint_redo_is_new_in_17() {
        assert!(XlogRecord::decode(&record(V16, XLOG, CHECKPOINT_REDO, 0, &words(&[1]))).is_err());
        assert_eq!(
            XlogRecord::decode(&record(V17, XLOG, CHECKPOINT_REDO, 0, &words(&[1]))),
            Ok(XlogRecord::CheckpointRedo { wal_level: 1 })
        );
    }
}
