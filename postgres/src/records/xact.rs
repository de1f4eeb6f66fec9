//! Ends of transactions.
//!
//! ```text
//! commit, abort: i64 time | [HAS_INFO in xl_info: u32 xinfo] and then, each if its bit of xinfo is set, in this order:
//!   0 u32 database, u32 tablespace | 1 count, u32 subxids | 2 count, relation files, 12 bytes each
//!   8 count, statistics, 12 bytes each (16 since 18) | 3 count, invalidations, 16 bytes each (commit only)
//!   4 u32 xid of the prepared transaction | 7 its name, zero-terminated (only with 4) | 5 u64 LSN, i64 time at the origin
//! ```

use neon_types::{Lsn, RelTag};

use super::invalidation::{self, Invalidation};
use super::smgr::rel_file;
use super::unknown;
use crate::wal::{DecodeError, Record};
use crate::{Cursor, PgVersion};

pub use super::prepare::{Prepare, two_phase_file};

/// Bits of `info` that tell the kinds apart.
pub const OPCODE_MASK: u8 = 0x70;
/// Opcode: a transaction commits.
pub const COMMIT: u8 = 0x00;
/// Opcode: a transaction is prepared.
pub const PREPARE: u8 = 0x10;
/// Opcode: a transaction aborts.
pub const ABORT: u8 = 0x20;
/// Opcode: a prepared transaction commits.
pub const COMMIT_PREPARED: u8 = 0x30;
/// Opcode: a prepared transaction aborts.
pub const ABORT_PREPARED: u8 = 0x40;
/// Opcode: subtransactions belong to a transaction.
pub const ASSIGNMENT: u8 = 0x50;
/// Opcode: invalidations, while a transaction runs.
pub const INVALIDATIONS: u8 = 0x60;
/// Bit of `info`: the record has an `xinfo` field.
const HAS_INFO: u8 = 0x80;

const HAS_DATABASE: u32 = 1 << 0;
const HAS_SUBXACTS: u32 = 1 << 1;
const HAS_RELATIONS: u32 = 1 << 2;
const HAS_INVALIDATIONS: u32 = 1 << 3;
const HAS_TWO_PHASE: u32 = 1 << 4;
const HAS_ORIGIN: u32 = 1 << 5;
const HAS_GID: u32 = 1 << 7;
const HAS_DROPPED_STATISTICS: u32 = 1 << 8;

/// A Transaction record.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum XactRecord {
    /// A transaction commits.
    Commit(Completion),
    /// A transaction aborts.
    Abort(Completion),
    /// A prepared transaction commits.
    CommitPrepared(Completion),
    /// A prepared transaction aborts.
    AbortPrepared(Completion),
    /// A transaction is prepared.
    Prepare(Box<Prepare>),
    /// Subtransactions belong to a transaction.
    Assignment {
        /// The transaction.
        top: u32,
        /// Its subtransactions.
        subxacts: Vec<u32>,
    },
    /// Invalidations, while a transaction runs.
    Invalidations(Vec<Invalidation>),
}

/// The end of a transaction, prepared before or not.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Completion {
    /// The transaction: of the record itself, or the prepared one.
    pub xid: u32,
    /// When it ended.
    pub time: i64,
    /// The flags as they were written, 0 without.
    pub xinfo: u32,
    /// The database and its tablespace.
    pub database: Option<(u32, u32)>,
    /// Its subtransactions that share its fate.
    pub subxacts: Vec<u32>,
    /// Relation files that go with all their forks; each names the main fork.
    pub dropped: Vec<RelTag>,
    /// Statistics that go.
    pub dropped_statistics: Vec<StatisticsItem>,
    /// What caches must forget.
    pub invalidations: Vec<Invalidation>,
    /// The name of the prepared transaction, if the record has it.
    pub gid: Option<Vec<u8>>,
    /// Where the transaction came from.
    pub origin: Option<OriginProgress>,
}

/// Where a replicated transaction ended at its origin; which origin, [`Record::origin`] says.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct OriginProgress {
    /// Position in the origin's WAL.
    pub lsn: Lsn,
    /// Time of the commit there.
    pub time: i64,
}

/// The statistics of one object.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct StatisticsItem {
    /// Kind of object.
    pub kind: u32,
    /// Database.
    pub db: u32,
    /// Object, 64 bits wide since 18.
    pub object: u64,
}

impl XactRecord {
    /// Reads the main data of a Transaction record.
    pub fn decode(record: &Record) -> Result<XactRecord, DecodeError> {
        let mut cursor = Cursor::new(record.main_data());
        Ok(match record.info & OPCODE_MASK {
            COMMIT => XactRecord::Commit(completion(record, false)?),
            ABORT => XactRecord::Abort(completion(record, false)?),
            COMMIT_PREPARED => XactRecord::CommitPrepared(completion(record, true)?),
            ABORT_PREPARED => XactRecord::AbortPrepared(completion(record, true)?),
            PREPARE => XactRecord::Prepare(Box::new(Prepare::decode(record.version(), record.main_data())?)),
            ASSIGNMENT => XactRecord::Assignment {
                top: cursor.u32()?,
                subxacts: counted_xids(&mut cursor)?,
            },
            INVALIDATIONS => XactRecord::Invalidations(invalidation::counted(&mut cursor)?),
            _ => return Err(unknown(record)),
        })
    }
}

fn completion(record: &Record, prepared: bool) -> Result<Completion, DecodeError> {
    let version = record.version();
    let mut cursor = Cursor::new(record.main_data());
    let time = cursor.i64()?;
    let xinfo = if record.info & HAS_INFO != 0 {
        cursor.u32()?
    } else {
        0
    };
    let has = |bit| xinfo & bit != 0;
    let mut end = Completion {
        xid: record.xid,
        time,
        xinfo,
        database: None,
        subxacts: Vec::new(),
        dropped: Vec::new(),
        dropped_statistics: Vec::new(),
        invalidations: Vec::new(),
        gid: None,
        origin: None,
    };
    if has(HAS_DATABASE) {
        end.database = Some((cursor.u32()?, cursor.u32()?));
    }
    if has(HAS_SUBXACTS) {
        end.subxacts = counted_xids(&mut cursor)?;
    }
    if has(HAS_RELATIONS) {
        let count = cursor.count(12)?;
        end.dropped = (0..count)
            .map(|_| rel_file(&mut cursor))
            .collect::<Result<_, _>>()?;
    }
    if has(HAS_DROPPED_STATISTICS) && version >= PgVersion::V15 {
        let count = cursor.count(statistics_size(version))?;
        end.dropped_statistics = statistics(&mut cursor, version, count)?;
    }
    if has(HAS_INVALIDATIONS) {
        end.invalidations = invalidation::counted(&mut cursor)?;
    }
    if has(HAS_TWO_PHASE) {
        end.xid = cursor.u32()?;
        if has(HAS_GID) {
            end.gid = Some(cursor.c_string()?.to_vec());
        }
    }
    if has(HAS_ORIGIN) {
        end.origin = Some(OriginProgress {
            lsn: Lsn(cursor.u64()?),
            time: cursor.i64()?,
        });
    }
    if prepared != has(HAS_TWO_PHASE) {
        return Err(DecodeError::Payload {
            record: "Transaction",
            what: "the end of a prepared transaction and its xid do not go together",
        });
    }
    Ok(end)
}

fn counted_xids(cursor: &mut Cursor<'_>) -> Result<Vec<u32>, DecodeError> {
    let count = cursor.count(4)?;
    (0..count).map(|_| Ok(cursor.u32()?)).collect()
}

/// Returns the bytes of one item of dropped statistics.
pub(super) fn statistics_size(version: PgVersion) -> usize {
    if version >= PgVersion::V18 { 16 } else { 12 }
}

pub(super) fn statistics(
    cursor: &mut Cursor<'_>,
    version: PgVersion,
    count: usize,
) -> Result<Vec<StatisticsItem>, DecodeError> {
    let item = |_| {
        let (kind, db, low) = (cursor.u32()?, cursor.u32()?, cursor.u32()?);
        let high = if version >= PgVersion::V18 {
            cursor.u32()?
        } else {
            0
        };
        let object = u64::from(high) << 32 | u64::from(low);
        Ok(StatisticsItem { kind, db, object })
    };
    (0..count).map(item).collect()
}

#[cfg(test)]
mod tests {
    use super::super::testing::{record, refuses_prefixes, words};
    use super::*;
    use crate::PgVersion::*;
    use crate::wal::rmgr::XACT;

    #[test]
    fn a_plain_commit_is_a_time() {
        let commit = record(V15, XACT, COMMIT, 740, &7i64.to_le_bytes());
        let Ok(XactRecord::Commit(end)) = XactRecord::decode(&commit) else {
            panic!("not a commit");
        };
        assert_eq!((end.xid, end.time, end.xinfo), (740, 7, 0));
        refuses_prefixes(&commit, XactRecord::decode);
    }

    /// Everything that a commit of a prepared transaction can carry, with an odd-sized name so that what follows is not
    /// aligned.
    fn full(version: PgVersion) -> Vec<u8> {
        let mut xinfo = HAS_DATABASE | HAS_SUBXACTS | HAS_RELATIONS | HAS_INVALIDATIONS | HAS_TWO_PHASE;
        xinfo |= HAS_ORIGIN | HAS_GID | (1 << 31);
        let mut main = words(&[7, 0]);
        if version >= V15 {
            xinfo |= HAS_DROPPED_STATISTICS;
        }
        main.extend(words(&[xinfo, 5, 1663, 2, 741, 742, 1, 1663, 5, 16400]));
        match version {
            V14 => {}
            V18 => main.extend(words(&[1, 2, 5, 16400, 1])),
            _ => main.extend(words(&[1, 2, 5, 16400])),
        }
        main.extend(words(&[1, 9, 9, 9, 9, 738]));
        main.extend_from_slice(b"gid\0");
        main.extend(words(&[0x2000, 0, 77, 0]));
        main
    }

    #[test]
    fn every_part_is_found_in_every_version() {
        for version in PgVersion::ALL {
            let commit = record(version, XACT, COMMIT_PREPARED | HAS_INFO, 0, &full(version));
            let Ok(XactRecord::CommitPrepared(end)) = XactRecord::decode(&commit) else {
                panic!("not the commit of a prepared transaction: {version}");
            };
            assert_eq!((end.xid, end.database), (738, Some((5, 1663))));
            assert_eq!(end.subxacts, [741, 742]);
            assert_eq!(end.dropped.iter().map(|rel| rel.rel).collect::<Vec<_>>(), [16400]);
            let objects = end.dropped_statistics.iter().map(|item| item.object);
            let expected = match version {
                V14 => vec![],
                V18 => vec![1 << 32 | 16400],
                _ => vec![16400],
            };
            assert_eq!(objects.collect::<Vec<_>>(), expected);
            assert_eq!((end.invalidations.len(), end.gid), (1, Some(b"gid".to_vec())));
            let origin = OriginProgress {
                lsn: Lsn(0x2000),
                time: 77,
            };
            assert_eq!(end.origin, Some(origin));
            refuses_prefixes(&commit, XactRecord::decode);
        }
    }

    #[test]
    fn a_commit_does_not_name_a_prepared_transaction() {
        let commit = record(V15, XACT, COMMIT | HAS_INFO, 0, &full(V15));
        assert!(XactRecord::decode(&commit).is_err());
        let prepared = record(V15, XACT, ABORT_PREPARED, 740, &7i64.to_le_bytes());
        assert!(XactRecord::decode(&prepared).is_err());
    }
}
