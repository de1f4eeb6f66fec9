//! What checks and proofs found, and WAL as it is.

use std::path::PathBuf;

use neon_pagestore::compare::{Allowed, Difference, Tally};
use neon_types::{Lsn, ObjectId, TimelineId};
use serde::{Deserialize, Serialize};

/// A data directory was compared with a position.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Compared {
    /// The directory.
    pub pgdata: PathBuf,
    /// The position.
    pub lsn: Lsn,
    /// The directory is that of a recovery to the position; else of a server that stopped there.
    pub recovered: bool,
    /// What was compared, by class.
    pub classes: Vec<ComparedClass>,
    /// Sums over the classes.
    pub total: Tally,
    /// The first differences; `total` counts them all.
    pub differences: Vec<Difference>,
    /// Deviations that no WAL describes.
    pub allowed: Allowed,
    /// Pages whose last record this release cannot replay.
    pub not_replayed: u64,
    /// Remarks: an LSN that was rounded.
    pub notes: Vec<String>,
}

/// One class of what was compared.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct ComparedClass {
    /// Its name, as "heap" or "pg_xact".
    pub name: String,
    /// Files, pages, differences.
    #[serde(flatten)]
    pub tally: Tally,
}

/// Records of a range.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct WalPage {
    /// The records.
    pub records: Vec<WalRecord>,
    /// Where the next one begins, when the page is full.
    pub next: Option<Lsn>,
    /// Remarks: LSNs that were rounded.
    pub notes: Vec<String>,
}

/// One WAL record.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct WalRecord {
    /// Where it begins.
    pub lsn: Lsn,
    /// Where the next one begins.
    pub end: Lsn,
    /// Its length in bytes, without page headers and padding.
    pub length: u64,
    /// The transaction, 0 for none.
    pub xid: u32,
    /// Where the record before begins.
    pub prev: Lsn,
    /// Resource manager and record, as `pg_waldump` names them: `Heap/INSERT`.
    pub kind: String,
    /// The blocks that it names.
    pub blocks: Vec<WalBlock>,
    /// What else it says, in a few words.
    pub summary: String,
}

/// One block reference of a WAL record.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct WalBlock {
    /// Its number in the record.
    pub id: u8,
    /// Tablespace oid.
    pub tablespace: u32,
    /// Database oid.
    pub database: u32,
    /// Relation file number.
    pub relation: u32,
    /// `main`, `fsm`, `vm` or `init`.
    pub fork: String,
    /// Block number.
    pub block: u32,
    /// The full-page image, when there is one.
    pub image: Option<WalImage>,
}

/// A full-page image.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct WalImage {
    /// Redo restores it; else it is there to check redo.
    pub apply: bool,
    /// First byte of the zeros that were left out.
    pub hole_offset: u16,
    /// How many zeros were left out.
    pub hole_length: u16,
    /// `pglz`, `lz4` or `zstd`, when it is packed.
    pub compression: Option<String>,
}

/// What `fsck` found.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Checked {
    /// Objects hashed.
    pub objects: u64,
    /// Bytes hashed.
    pub bytes: u64,
    /// Refs followed.
    pub refs: u64,
    /// Commits read.
    pub commits: u64,
    /// Layer maps followed.
    pub layer_maps: u64,
    /// What origins gave, where they were asked.
    #[serde(default)]
    pub repair: Option<Repair>,
    /// What was derived again from WAL, where that was asked for.
    #[serde(default)]
    pub rederived: Option<Rederived>,
    /// Branches that Postgres was started on.
    #[serde(default)]
    pub booted: Vec<Booted>,
    /// What is wrong; empty when all is well.
    pub findings: Vec<Finding>,
}

/// What origins gave in the place of damaged objects. What is wrong still is among the findings.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Repair {
    /// Objects that are whole again.
    pub repaired: Vec<Repaired>,
    /// Damaged or missing objects that no origin had.
    pub left: Vec<ObjectId>,
    /// Remarks: an origin that could not be asked, or sent something else; what to do next.
    pub notes: Vec<String>,
}

/// An object that is whole again.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Repaired {
    /// The object.
    pub object: ObjectId,
    /// The origin that had it.
    pub origin: String,
    /// Its length.
    pub bytes: u64,
}

/// How much of the layers was derived again from WAL and compared.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Rederived {
    /// Bytes of WAL that were taken in again.
    pub wal_bytes: u64,
    /// Versions in delta layers that were compared with what the WAL makes.
    pub versions: u64,
    /// Values in image layers that were compared with what the changes lead to.
    pub images: u64,
    /// What was not derived again.
    pub skipped: Vec<SkippedHistory>,
}

/// Sealed history that was not derived again.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct SkippedHistory {
    /// The timeline.
    pub timeline: TimelineId,
    /// The state before the first change.
    pub from: Lsn,
    /// The state after the last.
    pub to: Lsn,
    /// Why.
    pub reason: String,
}

/// What a throw-away Postgres looked at.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Booted {
    /// The branch.
    pub branch: String,
    /// Its head.
    pub lsn: Lsn,
    /// Tables and indexes that amcheck went through.
    pub relations: u64,
    /// Remarks: amcheck is missing.
    pub notes: Vec<String>,
}

/// One thing that is wrong.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Finding {
    /// The damaged object, when it is one.
    pub object: Option<ObjectId>,
    /// What it belongs to and what is wrong.
    pub message: String,
}
