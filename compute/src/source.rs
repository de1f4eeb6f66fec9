//! Where the state of a position comes from: one narrow trait, so that a local timeline or a remote page service can stand behind it.

use std::ops::Range;

use neon_pagestore::items::{CarriedFile, SlruSegments};
use neon_postgres::checkpoint::CheckpointState;
use neon_postgres::{Page, PgVersion};
use neon_types::{Lsn, RelTag, SlruKind};

use crate::error::{Result, Unbuildable};

/// Which state of which cluster a source shows.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Subject {
    /// Version of the server that wrote it.
    pub version: PgVersion,
    /// System identifier of the cluster.
    pub system_id: u64,
    /// Bytes in a WAL segment.
    pub segment_size: u32,
    /// The position: the end of a whole record.
    pub lsn: Lsn,
}

/// One thing that exists at the position, pages of relations aside.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Item {
    /// A file that is carried along as it is.
    File(CarriedFile),
    /// A tablespace.
    Tablespace {
        /// Its oid.
        spc: u32,
    },
    /// A database directory.
    Database {
        /// Tablespace oid.
        spc: u32,
        /// Database oid.
        db: u32,
        /// Contents of its `PG_VERSION`.
        version_file: Vec<u8>,
    },
    /// A `pg_filenode.map`.
    RelMap {
        /// Tablespace oid.
        spc: u32,
        /// Database oid; 0 for the shared one.
        db: u32,
        /// Contents of the file, CRC included.
        file: Vec<u8>,
    },
    /// A prepared transaction that is not finished.
    TwoPhase {
        /// Full transaction id.
        xid: u64,
        /// Contents of its state file, CRC included.
        file: Vec<u8>,
    },
    /// Progress of a replication origin.
    ReplicationOrigin {
        /// `RepOriginId`
        id: u16,
        /// How far the other side was replayed.
        remote: Lsn,
    },
    /// Which pages of an SLRU exist.
    Slru {
        /// Which SLRU.
        kind: SlruKind,
        /// Its pages.
        segments: SlruSegments,
    },
    /// A relation fork. Free space maps and main forks of unlogged relations may be left out or given.
    Relation {
        /// Which fork.
        rel: RelTag,
        /// Its size in blocks.
        blocks: u32,
        /// Full id of the transaction that created it, when that is known and matters: a directory leaves out what a transaction
        /// created that has neither committed nor been prepared.
        creator: Option<u64>,
    },
}

/// The complete state of a cluster at one position.
///
/// What is returned does not change while the source lives, and reading is allowed from several threads at once.
pub trait PageSource: Sync {
    /// Returns what this is a state of.
    fn subject(&self) -> Subject;

    /// Returns the checkpoint state at the position.
    fn checkpoint_state(&self) -> Result<CheckpointState>;

    /// Calls `f` for everything that exists, pages aside, in no promised order.
    fn items(&self, f: &mut dyn FnMut(Item) -> Result<()>) -> Result<()>;

    /// Calls `f` for each of these blocks in ascending order. A block that is left out is all zeros. Checksums are not set.
    fn scan_pages(
        &self,
        rel: RelTag,
        blocks: Range<u32>,
        f: &mut dyn FnMut(u32, &Page) -> Result<()>,
    ) -> Result<()>;

    /// Calls `f` for each page of the SLRU in ascending order. A page that is left out is all zeros.
    fn slru_pages(&self, kind: SlruKind, f: &mut dyn FnMut(u64, &[u8]) -> Result<()>) -> Result<()>;

    /// Returns the relations that cannot be rebuilt at the position; a directory is made only when there are none.
    fn unbuildable(&self) -> Result<Vec<Unbuildable>>;
}
