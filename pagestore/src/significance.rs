//! Which records make history (law 3): looking at a database writes WAL too, and must not look like a change.

use neon_postgres::wal::{Record, rmgr};

/// `XLOG_XACT_OPMASK`
const XACT_OPCODE: u8 = 0x70;
const XACT_COMMIT: u8 = 0x00;
const XACT_PREPARE: u8 = 0x10;
const XACT_COMMIT_PREPARED: u8 = 0x30;
const XACT_ABORT_PREPARED: u8 = 0x40;
const XLOG_RESTORE_POINT: u8 = 0x70;
const REPLORIGIN_SET: u8 = 0x00;
const REPLORIGIN_DROP: u8 = 0x10;
const LOGICAL_MESSAGE: u8 = 0x00;

/// Returns true for a record after which there is something new to keep: commit, commit prepared, abort prepared, prepare,
/// logical message, set or drop of a replication origin, restore point. WAL that has none of these is housekeeping.
pub fn is_significant(record: &Record) -> bool {
    match record.rmid {
        rmgr::XACT => matches!(
            record.info & XACT_OPCODE,
            XACT_COMMIT | XACT_PREPARE | XACT_COMMIT_PREPARED | XACT_ABORT_PREPARED
        ),
        rmgr::XLOG => record.opcode() == XLOG_RESTORE_POINT,
        rmgr::LOGICALMSG => record.opcode() == LOGICAL_MESSAGE,
        rmgr::REPLORIGIN => matches!(record.opcode(), REPLORIGIN_SET | REPLORIGIN_DROP),
        _ => false,
    }
}

#[cfg(test)]
mod tests {
    use neon_postgres::PgVersion;
    use neon_postgres::wal::RecordBuilder;

    use super::*;

    fn significant(rmid: u8, info: u8) -> bool {
        let bytes = RecordBuilder::new(PgVersion::V15, rmid, info)
            .main(&[0; 16])
            .build();
        is_significant(&Record::decode(PgVersion::V15, bytes).expect("a whole record"))
    }

    #[test]
    fn transactions_and_messages_make_history() {
        // HAS_INFO (0x80) is not part of the opcode.
        for (rmid, info) in [
            (1, 0x00),
            (1, 0x80),
            (1, 0x10),
            (1, 0x30),
            (1, 0xC0),
            (0, 0x70),
            (21, 0),
            (19, 0),
            (19, 0x10),
        ] {
            assert!(significant(rmid, info), "{rmid} {info:#x}");
        }
    }

    #[test]
    fn housekeeping_does_not() {
        // Checkpoints, full-page images, parameter changes, switch; abort; assignment; heap, running transactions.
        for (rmid, info) in [
            (0, 0x00),
            (0, 0x10),
            (0, 0x40),
            (0, 0x60),
            (0, 0xA0),
            (0, 0xB0),
            (1, 0x20),
            (1, 0xA0),
            (1, 0x50),
            (10, 0x00),
            (8, 0x10),
            (7, 0),
            (131, 0),
        ] {
            assert!(!significant(rmid, info), "{rmid} {info:#x}");
        }
    }
}
