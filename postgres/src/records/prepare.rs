//! A prepared transaction: the same bytes are the PREPARE record and the file in `pg_twophase`.
//!
//! ```text
//! 0 u32 magic | 4 u32 length of the file, its CRC included | 8 u32 xid | 12 u32 database | 16 i64 time | 24 u32 owner
//! | 28 counts, i32 each: subxids, files dropped on commit, on abort, [15: statistics on commit, on abort], invalidations
//! | u8 relation cache file is out of date | pad | u16 length of the name | u64 LSN, i64 time at the origin
//! then name, subxids, files, files, statistics, statistics, invalidations, and what each resource manager added: every
//! part padded to 8 bytes
//! ```

use neon_types::{Lsn, RelTag};

use super::invalidation::{Invalidation, MESSAGE_SIZE};
use super::smgr::rel_file;
use super::xact::{OriginProgress, StatisticsItem, statistics, statistics_size};
use crate::wal::DecodeError;
use crate::{Cursor, PgVersion};

/// `TWOPHASE_MAGIC`, the same from 14 to 18.
const MAGIC: u32 = 0x57F9_4534;

/// A prepared transaction, without what resource managers added.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Prepare {
    /// The transaction.
    pub xid: u32,
    /// Its database.
    pub db: u32,
    /// When it was prepared.
    pub time: i64,
    /// The user who prepared it.
    pub owner: u32,
    /// Its name.
    pub gid: Vec<u8>,
    /// Its subtransactions.
    pub subxacts: Vec<u32>,
    /// Relation files that go if it commits.
    pub dropped_on_commit: Vec<RelTag>,
    /// Relation files that go if it aborts.
    pub dropped_on_abort: Vec<RelTag>,
    /// Statistics that go if it commits.
    pub statistics_on_commit: Vec<StatisticsItem>,
    /// Statistics that go if it aborts.
    pub statistics_on_abort: Vec<StatisticsItem>,
    /// What caches must forget if it commits.
    pub invalidations: Vec<Invalidation>,
    /// Where it came from; zero and zero if it is our own.
    pub origin: OriginProgress,
}

impl Prepare {
    /// Reads the main data of a PREPARE record, or a file of `pg_twophase` (its CRC is not looked at).
    pub fn decode(version: PgVersion, bytes: &[u8]) -> Result<Prepare, DecodeError> {
        let bad = |what| DecodeError::Payload {
            record: "Transaction/PREPARE",
            what,
        };
        let mut cursor = Cursor::new(bytes);
        if cursor.u32()? != MAGIC {
            return Err(bad("wrong magic number"));
        }
        let stated = cursor.u32()?;
        if usize::try_from(stated).is_ok_and(|stated| stated != bytes.len() && stated != bytes.len() + 4) {
            return Err(bad("wrong length"));
        }
        let (xid, db, time, owner) = (cursor.u32()?, cursor.u32()?, cursor.i64()?, cursor.u32()?);
        let with_statistics = version >= PgVersion::V15;
        let mut count = |there: bool| {
            let number = if there { cursor.i32()? } else { 0 };
            usize::try_from(number).map_err(|_| bad("a negative count"))
        };
        let (subxacts, on_commit, on_abort) = (count(true)?, count(true)?, count(true)?);
        let (stats_commit, stats_abort) = (count(with_statistics)?, count(with_statistics)?);
        let invalidations = count(true)?;
        cursor.skip(2)?; // whether the relation cache file is out of date
        let gid = usize::from(cursor.u16()?);
        let origin = OriginProgress {
            lsn: Lsn(cursor.u64()?),
            time: cursor.i64()?,
        };

        let item = statistics_size(version);
        let mut part = |count: usize, width: usize| {
            let at = cursor.offset();
            let bytes = cursor.take(count.saturating_mul(width))?;
            // The last part of a record that ends with it may lack its padding.
            let padding = (at + bytes.len()).next_multiple_of(8) - (at + bytes.len());
            cursor.skip(padding.min(cursor.remaining()))?;
            Ok::<_, DecodeError>(Cursor::new(bytes))
        };
        let name = part(gid, 1)?.c_string()?.to_vec();
        let mut xids = part(subxacts, 4)?;
        let (mut commit, mut abort) = (part(on_commit, 12)?, part(on_abort, 12)?);
        let (mut on_commit_stats, mut on_abort_stats) = (part(stats_commit, item)?, part(stats_abort, item)?);
        let mut messages = part(invalidations, MESSAGE_SIZE)?;
        Ok(Prepare {
            xid,
            db,
            time,
            owner,
            gid: name,
            subxacts: (0..subxacts).map(|_| xids.u32()).collect::<Result<_, _>>()?,
            dropped_on_commit: (0..on_commit)
                .map(|_| rel_file(&mut commit))
                .collect::<Result<_, _>>()?,
            dropped_on_abort: (0..on_abort)
                .map(|_| rel_file(&mut abort))
                .collect::<Result<_, _>>()?,
            statistics_on_commit: statistics(&mut on_commit_stats, version, stats_commit)?,
            statistics_on_abort: statistics(&mut on_abort_stats, version, stats_abort)?,
            invalidations: (0..invalidations)
                .map(|_| messages.array().map(Invalidation))
                .collect::<Result<_, _>>()?,
            origin,
        })
    }
}

/// Returns the file in `pg_twophase` that stands for the PREPARE record with that main data: the data and its CRC-32C. Its
/// name is [`PgVersion::two_phase_name`].
pub fn two_phase_file(main_data: &[u8]) -> Vec<u8> {
    let mut file = main_data.to_vec();
    file.extend_from_slice(&crc32c::crc32c(main_data).to_le_bytes());
    file
}

#[cfg(test)]
mod tests {
    use super::super::testing::words;
    use super::*;
    use PgVersion::*;

    fn prepare(version: PgVersion) -> Vec<u8> {
        let mut main = words(&[MAGIC, 0, 738, 5, 7, 0, 10, 1, 1, 0]);
        match version {
            V14 => {}
            _ => main.extend(words(&[1, 0])),
        }
        main.extend(words(&[1]));
        main.extend_from_slice(&[1, 0, 3, 0]);
        main.extend(words(&[0x2000, 0, 77, 0]));
        main.extend_from_slice(b"p1\0\0\0\0\0\0");
        main.extend(words(&[739, 0]));
        main.extend(words(&[1663, 5, 16400, 0]));
        match version {
            V14 => {}
            V18 => main.extend(words(&[2, 5, 16400, 0])),
            _ => main.extend(words(&[2, 5, 16400, 0])),
        }
        main.extend(words(&[9, 9, 9, 9]));
        main.extend(words(&[0xAAAA, 0xBBBB])); // what a resource manager added
        let length = main.len() as u32 + 4;
        main[4..8].copy_from_slice(&length.to_le_bytes());
        main
    }

    #[test]
    fn every_part_is_found_in_every_version() {
        for version in PgVersion::ALL {
            let main = prepare(version);
            let read = Prepare::decode(version, &main).unwrap();
            assert_eq!(
                (read.xid, read.db, read.time, read.owner),
                (738, 5, 7, 10),
                "{version}"
            );
            assert_eq!(
                (read.gid.as_slice(), read.subxacts.as_slice()),
                (&b"p1"[..], &[739][..])
            );
            assert_eq!(read.dropped_on_commit.first().map(|rel| rel.rel), Some(16400));
            assert_eq!(read.statistics_on_commit.len(), usize::from(version >= V15));
            assert_eq!(
                read.invalidations,
                [Invalidation([9, 0, 0, 0, 9, 0, 0, 0, 9, 0, 0, 0, 9, 0, 0, 0])]
            );
            assert_eq!(read.origin.lsn, Lsn(0x2000));

            let file = two_phase_file(&main);
            assert_eq!(
                Prepare::decode(version, &file).as_ref(),
                Ok(&read),
                "the file says something else"
            );
            for length in 0..main.len() {
                assert!(Prepare::decode(version, &main[..length]).is_err());
            }
        }
    }

    #[test]
    fn counts_that_do_not_fit_are_refused() {
        for field in [28, 32, 36, 40, 44, 48] {
            for count in [u32::MAX, i32::MAX as u32] {
                let mut main = prepare(V15);
                main[field..field + 4].copy_from_slice(&count.to_le_bytes());
                assert!(Prepare::decode(V15, &main).is_err(), "count at {field}");
            }
        }
    }
}
