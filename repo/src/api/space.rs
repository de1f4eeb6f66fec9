//! What things cost on disk, and what is kept of them.

use neon_types::{LayerId, Lsn, TimelineId};
use serde::{Deserialize, Serialize};

/// What a collection of garbage did, or would do.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Collected {
    /// Nothing was changed.
    pub dry_run: bool,
    /// How long garbage is kept after it was found.
    pub grace_seconds: u64,
    /// Found to be garbage for the first time.
    pub condemned: Vec<Garbage>,
    /// Deleted; in a dry run: what would be, if nothing uses it again.
    pub deleted: Vec<Garbage>,
    /// Condemned, and waiting for the grace to pass.
    pub waiting: Vec<Garbage>,
    /// History that retention dropped; in a dry run: would drop. Its layers are garbage when no other timeline shares them.
    #[serde(default)]
    pub dropped: Vec<DroppedHistory>,
    /// The caller went away: the rest is for the next run.
    pub interrupted: bool,
    /// Why some of what waits does so longer than the grace.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub suspended: Option<String>,
}

/// Layers that a timeline does not list any more.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct DroppedHistory {
    /// The timeline.
    pub timeline: TimelineId,
    /// How many layers.
    pub layers: u64,
    /// Their bytes.
    pub bytes: u64,
    /// Bytes of layers of which only the end can be read, and which were written anew without the rest.
    #[serde(default)]
    pub shrunk: u64,
    /// Bytes of those that stand for them; in a dry run not known.
    #[serde(default)]
    pub left: u64,
}

/// How long a branch, or every branch that says nothing else, keeps history and WAL.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct RetentionRow {
    /// The branch; absent: what holds where a branch says nothing else.
    pub branch: Option<String>,
    /// `forever`, or how long after it was received history can be read.
    pub keep: String,
    /// Bytes of raw WAL below its end, beyond what is not in layers.
    pub keep_wal: u64,
    /// `keep` is said of this branch, or configured.
    pub own_keep: bool,
    /// `keep_wal` is said of this branch, or configured.
    pub own_keep_wal: bool,
    /// The lowest LSN from which on all of the branch can be read.
    pub readable_from: Option<Lsn>,
}

/// Something that nothing needs.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Garbage {
    /// `commit`, `timeline`, `layer`, `map`, `incoming` (received in part) or `object` (received WAL).
    pub kind: String,
    /// Its id in full.
    pub id: String,
    /// Bytes on disk.
    pub bytes: u64,
    /// When it was condemned, RFC 3339.
    pub since: String,
}

/// What refs cost on disk, in bytes.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Usage {
    /// Branches, tags and fetched branches.
    pub refs: Vec<RefUsage>,
    /// All objects: layers, layer maps, commits; also those that no ref needs.
    pub objects: u64,
    /// States and WAL of all timelines.
    pub timelines: u64,
    /// Data directories of all endpoints.
    pub endpoints: u64,
}

/// What one ref costs, in bytes of layers and WAL.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct RefUsage {
    /// Name of the branch, or `tags/NAME`, `origins/ORIGIN/BRANCH`.
    pub name: String,
    /// What nothing else here needs: layers and WAL.
    pub alone: u64,
    /// What other refs need as well.
    pub shared: u64,
    /// How much of both is WAL.
    pub wal: u64,
    /// The data directory of its endpoint, which comes on top.
    pub endpoint: u64,
    /// What it needs cannot be told, because something of it is damaged.
    pub damaged: bool,
}

/// What a revision's bytes are for.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct RevisionUsage {
    /// Where the revision is.
    pub lsn: Lsn,
    /// By oid; 0 is what all databases share.
    pub databases: Vec<DatabaseUsage>,
    /// Every relation that the layers hold something of.
    pub relations: Vec<RelationUsage>,
    /// Bytes of layers that belong to no relation.
    pub other: u64,
    /// Bytes of WAL up to the revision that are not in layers yet.
    pub unsealed: u64,
    /// Remarks.
    pub notes: Vec<String>,
}

/// What a database costs.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct DatabaseUsage {
    /// Its oid; 0 is what all databases share.
    pub oid: u32,
    /// Its name; none when it does not exist at the revision.
    pub name: Option<String>,
    /// Bytes of its relations at the revision.
    pub size: u64,
    /// Bytes of layers that hold its history.
    pub stored: u64,
}

/// What a relation costs.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct RelationUsage {
    /// Oid of its database, 0 for a shared one.
    pub database: u32,
    /// Oid of its tablespace.
    pub tablespace: u32,
    /// Its file number.
    pub file: u32,
    /// Its schema, if it has a name.
    pub schema: Option<String>,
    /// Its name at the revision; none for a file that was dropped or replaced.
    pub name: Option<String>,
    /// It does not exist at the revision.
    pub dropped: bool,
    /// Bytes at the revision, all forks but the free space map.
    pub size: u64,
    /// Bytes of layers that hold its history.
    pub stored: u64,
}

/// A layer map.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Layers {
    /// The timeline.
    pub timeline: TimelineId,
    /// Where it begins.
    pub start: Lsn,
    /// Where the revision is.
    pub lsn: Lsn,
    /// Up to here layers serve everything; none as long as there are none.
    pub sealed: Option<Lsn>,
    /// Newest first.
    pub layers: Vec<Layer>,
    /// Remarks.
    pub notes: Vec<String>,
}

/// One layer as a revision sees it.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Layer {
    /// Its name.
    pub layer: LayerId,
    /// `image` or `delta`
    pub kind: String,
    /// First key, in hex, in the order of keys.
    pub first: String,
    /// First key behind it, in hex.
    pub after: String,
    /// Both keys, readable.
    pub keys: String,
    /// Changes after this LSN; of an image, about its LSN.
    pub start: Lsn,
    /// Changes up to this LSN; of an image, its LSN.
    pub end: Lsn,
    /// Its length.
    pub bytes: u64,
    /// It holds something of the timeline itself, not only of its ancestors.
    pub own: bool,
}
