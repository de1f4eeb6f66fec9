//! A cleanly stopped data directory becomes the first state of a history.
//!
//! [`inspect`] looks and refuses, [`import`] reads. Nothing is written in the directory. The state begins at the end of
//! the shutdown checkpoint record; the values come out in key order, so that they can be written as an image layer in
//! one pass with bounded memory.
//!
//! | in the directory | becomes |
//! |---|---|
//! | relation files (main, visibility map, init) of all databases | relation sizes; blocks, checksum verified and stored as 0, all-zero ones left out |
//! | free space maps, temporary files, `pg_internal.init` | nothing: Postgres makes them again |
//! | main fork and visibility map of an unlogged relation | nothing: its init fork says what a start makes of it |
//! | `pg_xact`, `pg_commit_ts`, `pg_multixact` | SLRU pages |
//! | `pg_tblspc/OID` when it is a directory and no link | a tablespace, and relations as above |
//! | `pg_filenode.map`, `pg_twophase`, `PG_VERSION`, `pg_logical/replorigin_checkpoint` | items |
//! | `pg_control` and the checkpoint record | the checkpoint state |
//! | `*.conf` of the top directory and of `conf.d`, timeline history files | carried files |
//! | replication slots, statistics | named in [`ImportSource::left_behind`], and left behind |
//! | server logs, `pg_notify`, `pg_subtrans`, … | nothing |
//! | what Postgres did not make | named in [`ImportSource::left_behind`], and left behind |
//! | links and databases in whose place data would be missing | refused ([`ImportError::UnknownFiles`]) |

mod checkpoint;
mod emit;
mod error;
mod inspect;
mod name;
mod origins;
mod slrus;
mod survey;

use std::path::PathBuf;

use neon_postgres::PgVersion;
use neon_postgres::control::ControlFile;
use neon_types::{Lsn, PackedKey, TimelineId};

use crate::Value;

pub use error::ImportError;
pub use inspect::inspect;

/// A data directory that can be imported.
#[derive(Debug)]
pub struct ImportSource {
    /// The directory.
    pub pgdata: PathBuf,
    /// The version that it belongs to.
    pub version: PgVersion,
    /// Its control file.
    pub control: ControlFile,
    /// What the import does not take along and a user may miss: replication slots, statistics, unlogged tables, and files that Postgres did not
    /// make, one line each.
    pub left_behind: Vec<String>,
    survey: survey::Survey,
}

/// What was imported.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Imported {
    /// The position of the imported state: the MAXALIGNed end of the shutdown checkpoint record.
    pub lsn: Lsn,
    /// Start of the shutdown checkpoint record, to which the next record links back.
    pub prev_record: Lsn,
    /// Postgres timeline of the directory.
    pub tli: u32,
    /// BLAKE3 over every value that was emitted, see [`ValuesDigest`].
    pub digest: [u8; 32],
    /// System identifier of the cluster.
    pub system_id: u64,
}

impl Imported {
    /// Returns the id of the timeline that begins with this state: the same for everybody who imports the same
    /// directory.
    pub fn timeline_id(&self) -> TimelineId {
        timeline_id(self.system_id, self.tli, self.lsn, &self.digest)
    }
}

/// Returns the first 16 bytes of the BLAKE3 of `neon import`, then system identifier (8 bytes), TLI (4), LSN (8), all
/// little-endian, and the digest (32).
pub(crate) fn timeline_id(system_id: u64, tli: u32, lsn: Lsn, digest: &[u8; 32]) -> TimelineId {
    let mut hasher = blake3::Hasher::new();
    hasher.update(b"neon import");
    hasher.update(&system_id.to_le_bytes());
    hasher.update(&tli.to_le_bytes());
    hasher.update(&lsn.0.to_le_bytes());
    hasher.update(digest);
    let hash = hasher.finalize();
    TimelineId(hash.as_bytes().first_chunk().copied().unwrap_or_default())
}

/// The digest over the values of an import, in key order.
#[derive(Default)]
pub(crate) struct ValuesDigest(blake3::Hasher);

impl ValuesDigest {
    /// Adds a value: its 18 key bytes, its length as a little-endian `u32`, its bytes.
    pub(crate) fn add(&mut self, key: &PackedKey, bytes: &[u8]) {
        let len = u32::try_from(bytes.len()).unwrap_or(u32::MAX);
        self.0.update(&key.0);
        self.0.update(&len.to_le_bytes());
        self.0.update(bytes);
    }

    pub(crate) fn finish(self) -> [u8; 32] {
        *self.0.finalize().as_bytes()
    }
}

/// Returns start and MAXALIGNed end of the shutdown checkpoint record: the end is where the imported state will be.
pub fn position(source: &ImportSource) -> Result<(Lsn, Lsn), ImportError> {
    let checkpoint = checkpoint::read(source)?;
    Ok((checkpoint.start, checkpoint.end))
}

/// Reads the whole directory and gives every value to `sink` in strictly ascending key order. `progress` is told the
/// bytes of pages read so far, and how many there are; it ends the import by returning false.
///
/// Errors: a page whose checksum is wrong, a file that changed shape since [`inspect`], a checkpoint record that cannot
/// be read, [`ImportError::Interrupted`], and whatever `sink` returns ([`ImportError::Store`]).
pub fn import(
    source: &ImportSource,
    sink: &mut dyn FnMut(PackedKey, Value) -> crate::Result<()>,
    progress: &mut dyn FnMut(u64, u64) -> bool,
) -> Result<Imported, ImportError> {
    let checkpoint = checkpoint::read(source)?;
    let digest = emit::all(source, &checkpoint.state, sink, progress)?;
    Ok(Imported {
        lsn: checkpoint.end,
        prev_record: checkpoint.start,
        tli: checkpoint.tli,
        digest,
        system_id: source.control.system_id(),
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_timeline_id_depends_on_every_part() {
        let base = Imported {
            lsn: Lsn(8),
            prev_record: Lsn(0),
            tli: 1,
            digest: [0; 32],
            system_id: 7,
        };
        let mut ids = vec![base.timeline_id()];
        for other in [
            Imported {
                lsn: Lsn(16),
                ..base.clone()
            },
            Imported {
                tli: 2,
                ..base.clone()
            },
            Imported {
                system_id: 8,
                ..base.clone()
            },
            Imported {
                digest: [1; 32],
                ..base.clone()
            },
        ] {
            ids.push(other.timeline_id());
        }
        let same = Imported {
            prev_record: Lsn(4),
            ..base
        };
        assert_eq!(same.timeline_id(), ids[0]);
        ids.sort();
        ids.dedup();
        assert_eq!(ids.len(), 5);
    }
}

#[cfg(test)]
#[path = "tests.rs"]
mod directory_tests;
