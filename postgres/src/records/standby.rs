//! What a standby must know to answer queries.

use super::invalidation::{Invalidation, counted};
use super::unknown;
use crate::Cursor;
use crate::wal::{DecodeError, Record};

/// Opcode: AccessExclusive locks are held.
pub const LOCK: u8 = 0x00;
/// Opcode: transactions that run.
pub const RUNNING_XACTS: u8 = 0x10;
/// Opcode: caches must forget something.
pub const INVALIDATIONS: u8 = 0x20;

/// A Standby record.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum StandbyRecord {
    /// AccessExclusive locks that are held.
    Locks(Vec<Lock>),
    /// Transactions that run.
    RunningXacts(RunningXacts),
    /// A transaction without an xid changed what caches hold.
    Invalidations {
        /// The database.
        db: u32,
        /// Its tablespace.
        spc: u32,
        /// The file with the start of the relation cache is out of date.
        init_file: bool,
        /// What to forget.
        messages: Vec<Invalidation>,
    },
}

/// An AccessExclusive lock.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Lock {
    /// The transaction that holds it.
    pub xid: u32,
    /// The database of the relation.
    pub db: u32,
    /// The relation's oid.
    pub rel: u32,
}

/// The transactions that run at some moment at or before the record.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct RunningXacts {
    /// Some subtransactions are missing.
    pub overflowed: bool,
    /// The next transaction id.
    pub next_xid: u32,
    /// The oldest transaction that runs.
    pub oldest_running: u32,
    /// The newest transaction that ended.
    pub latest_completed: u32,
    /// Top-level transactions.
    pub xids: Vec<u32>,
    /// Subtransactions.
    pub subxids: Vec<u32>,
}

impl StandbyRecord {
    /// Reads the main data of a Standby record.
    pub fn decode(record: &Record) -> Result<StandbyRecord, DecodeError> {
        let mut cursor = Cursor::new(record.main_data());
        match record.opcode() {
            LOCK => {
                let count = cursor.count(12)?;
                let locks = (0..count).map(|_| lock(&mut cursor));
                locks.collect::<Result<_, _>>().map(StandbyRecord::Locks)
            }
            RUNNING_XACTS => running(&mut cursor).map(StandbyRecord::RunningXacts),
            INVALIDATIONS => {
                let (db, spc) = (cursor.u32()?, cursor.u32()?);
                let init_file = cursor.bool()?;
                cursor.skip(3)?;
                Ok(StandbyRecord::Invalidations {
                    db,
                    spc,
                    init_file,
                    messages: counted(&mut cursor)?,
                })
            }
            _ => Err(unknown(record)),
        }
    }
}

fn lock(cursor: &mut Cursor<'_>) -> Result<Lock, DecodeError> {
    Ok(Lock {
        xid: cursor.u32()?,
        db: cursor.u32()?,
        rel: cursor.u32()?,
    })
}

fn running(cursor: &mut Cursor<'_>) -> Result<RunningXacts, DecodeError> {
    let (xids, subxids) = (cursor.count(4)?, cursor.count(4)?);
    let overflowed = cursor.bool()?;
    cursor.skip(3)?;
    let (next_xid, oldest_running, latest_completed) = (cursor.u32()?, cursor.u32()?, cursor.u32()?);
    let mut read = |count| (0..count).map(|_| cursor.u32()).collect::<Result<Vec<_>, _>>();
    Ok(RunningXacts {
        overflowed,
        next_xid,
        oldest_running,
        latest_completed,
        xids: read(xids)?,
        subxids: read(subxids)?,
    })
}

#[cfg(test)]
mod tests {
    use super::super::testing::{record, refuses_prefixes, words};
    use super::*;
    use crate::PgVersion::*;
    use crate::wal::rmgr::STANDBY;

    #[test]
    fn running_transactions_come_apart() {
        let running = record(
            V15,
            STANDBY,
            RUNNING_XACTS,
            0,
            &words(&[2, 1, 1, 750, 740, 749, 740, 745, 741]),
        );
        let Ok(StandbyRecord::RunningXacts(xacts)) = StandbyRecord::decode(&running) else {
            panic!("not running transactions");
        };
        assert_eq!((xacts.next_xid, xacts.overflowed), (750, true));
        assert_eq!((xacts.xids, xacts.subxids), (vec![740, 745], vec![741]));
        refuses_prefixes(&running, StandbyRecord::decode);
    }

    #[test]
    fn locks_and_invalidations_are_counted() {
        let locks = record(V18, STANDBY, LOCK, 0, &words(&[1, 740, 5, 1259]));
        let lock = Lock {
            xid: 740,
            db: 5,
            rel: 1259,
        };
        assert_eq!(
            StandbyRecord::decode(&locks),
            Ok(StandbyRecord::Locks(vec![lock]))
        );
        let messages = record(
            V18,
            STANDBY,
            INVALIDATIONS,
            0,
            &words(&[5, 1663, 1, 1, 9, 9, 9, 9]),
        );
        refuses_prefixes(&messages, StandbyRecord::decode);
        refuses_prefixes(&locks, StandbyRecord::decode);
    }
}
