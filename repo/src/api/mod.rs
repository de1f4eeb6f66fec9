//! What a user asks of a repository and what comes back: the bodies of the REST interface and of `--json`.
//!
//! One [`Request`] is one command. The daemon and a command run in-process answer the same requests with the same code.

mod caller;
mod progress;
mod proof;
mod space;

use std::path::PathBuf;

pub use neon_pagestore::compare::{Allowed, Difference, Tally};
use neon_types::{CommitId, Lsn, RepoId, TimelineId};
use serde::{Deserialize, Serialize};

pub use caller::{Caller, Login, Secret};
pub use progress::{Progress, ProgressSink, Quiet};
pub use proof::{
    Booted, Checked, Compared, ComparedClass, Finding, Rederived, Repair, Repaired, SkippedHistory, WalBlock,
    WalImage, WalPage, WalRecord,
};
pub use space::{
    Collected, DatabaseUsage, DroppedHistory, Garbage, Layer, Layers, RefUsage, RelationUsage, RetentionRow,
    RevisionUsage, Usage,
};

/// One command on an existing repository.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "command", rename_all = "snake_case")]
pub enum Request {
    /// Runs Postgres on a branch head, or read-only at a position.
    Start {
        /// Branch or revision; HEAD's branch when absent.
        rev: Option<String>,
        /// TCP port; kept for the next starts of this endpoint.
        port: Option<u16>,
        /// What to do with a data directory that is there.
        #[serde(default)]
        existing: Existing,
        /// What it may do.
        #[serde(default)]
        role: Role,
    },
    /// The connection URI of a running endpoint.
    Uri {
        /// Branch; HEAD's when absent.
        branch: Option<String>,
    },
    /// Stops endpoints, takes in their WAL and commits it.
    Stop {
        /// Branch; HEAD's when absent.
        branch: Option<String>,
        /// Every endpoint of the repository.
        all: bool,
    },
    /// What runs here and where the branches are.
    Status,
    /// Lists branches.
    BranchList,
    /// Makes a branch at any position.
    BranchCreate {
        /// Its name.
        name: String,
        /// Where; HEAD's branch when absent.
        rev: Option<String>,
    },
    /// Deletes a branch.
    BranchDelete {
        /// Its name.
        name: String,
        /// Even when no other ref or origin holds its commits.
        force: bool,
    },
    /// Renames a branch.
    BranchRename {
        /// Present name.
        old: String,
        /// New name.
        new: String,
    },
    /// Lists tags.
    TagList,
    /// Makes a tag at any position.
    TagCreate {
        /// Its name.
        name: String,
        /// Where; HEAD's branch when absent.
        rev: Option<String>,
    },
    /// Deletes a tag.
    TagDelete {
        /// Its name.
        name: String,
    },
    /// Commits the durable end of a branch.
    Commit {
        /// Branch; HEAD's when absent.
        branch: Option<String>,
        /// What was done.
        message: String,
        /// `Name <mail>`; the configured one when absent.
        author: Option<String>,
    },
    /// The commits from a revision back.
    Log {
        /// Revision; HEAD's branch when absent.
        rev: Option<String>,
        /// At most so many.
        limit: Option<usize>,
    },
    /// One commit or position in full.
    Show {
        /// Revision.
        rev: String,
    },
    /// Makes a branch the default of other commands.
    Switch {
        /// Its name.
        branch: String,
    },
    /// Writes a plain data directory that stock Postgres starts.
    Export {
        /// Revision.
        rev: String,
        /// Absolute path; must not exist or be empty.
        pgdata: PathBuf,
    },
    /// Compares every file of a stopped data directory with a revision (`neon dev compare`).
    Compare {
        /// Revision.
        rev: String,
        /// Absolute path of the directory: stopped at the revision, or recovered to it, promoted and stopped.
        pgdata: PathBuf,
    },
    /// WAL between two revisions, record by record (`neon dev wal`).
    Wal {
        /// `FROM..TO`
        range: String,
        /// Only records that begin here or later: where the page before ended.
        after: Option<Lsn>,
    },
    /// What each ref costs on disk.
    Usage,
    /// What the layers hold that a revision is read from.
    UsageOf {
        /// Revision.
        rev: String,
    },
    /// The layers that a revision is read from.
    Layers {
        /// Revision.
        rev: String,
    },
    /// Names another repository.
    OriginAdd {
        /// One part, as a branch name.
        name: String,
        /// Where it is.
        uri: String,
    },
    /// Lists origins; passwords are left out.
    OriginList,
    /// Forgets an origin and what was fetched of its refs.
    OriginRemove {
        /// Its name.
        name: String,
    },
    /// Renames an origin.
    OriginRename {
        /// Present name.
        old: String,
        /// New name.
        new: String,
    },
    /// Points an origin elsewhere.
    OriginSetUrl {
        /// Its name.
        name: String,
        /// Where it is now.
        uri: String,
    },
    /// Sends a branch to an origin.
    Push(Transfer),
    /// Brings a branch from an origin and moves ours to it.
    Pull(Transfer),
    /// Brings what an origin has and remembers where its branches are; moves none of ours.
    Fetch(Transfer),
    /// Checks every object, ref, commit and layer map.
    Fsck(Fsck),
    /// Condemns garbage, and deletes what was condemned long enough ago.
    Gc(Gc),
    /// Shows, and sets, how long history and WAL are kept.
    Retention(Retain),
    /// Reads a setting.
    ConfigGet {
        /// Dotted key.
        key: String,
    },
    /// Writes a setting.
    ConfigSet {
        /// Dotted key.
        key: String,
        /// New value; absent: back to the default.
        value: Option<String>,
    },
    /// Serves the repository to others on `address` for as long as the caller stays; the daemon's own.
    Listen {
        /// Where.
        address: std::net::SocketAddr,
    },
}

/// What an endpoint may do that its original does.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Role {
    /// It is a copy: it archives nothing, applies no subscription, waits for no standby.
    #[default]
    Copy,
    /// It acts as it is configured.
    Primary,
}

/// What to do with the data directory of a branch that is to start.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Existing {
    /// Go on in it, or make another when what it holds is here.
    #[default]
    Use,
    /// Take it in as it is, where its WAL has a gap.
    Resync,
    /// Keep it aside, and make another from the branch's head.
    SetAside,
}

/// What push, pull and fetch share.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct Transfer {
    /// Branch; HEAD's when absent (fetch: every branch of the origin).
    pub branch: Option<String>,
    /// `ORIGIN[:OTHER]`; the branch's default origin when absent.
    pub target: Option<String>,
    /// Plan only.
    pub dry_run: bool,
    /// Move the ref even when that is not a fast-forward.
    pub force: bool,
    /// Pull into a local branch of this name.
    pub as_name: Option<String>,
    /// Restart the branch's running endpoint on the new head.
    pub restart: bool,
    /// Password for the origin that was typed when it was asked for.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub password: Option<Secret>,
}

/// What `neon fsck` needs.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct Fsck {
    /// Also start a throw-away Postgres at each branch head, and let amcheck look at everything.
    pub boot: bool,
    /// Call functions of the databases where a check takes that.
    pub functions: bool,
    /// Also derive the layers again from the WAL that is kept, and compare.
    pub deep: bool,
    /// Ask origins for what is damaged.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub repair: Option<FromOrigins>,
}

/// Where damaged objects are asked for.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct FromOrigins {
    /// The one that is asked; absent: all, by name.
    pub origin: Option<String>,
    /// Password for origins that was typed when it was asked for.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub password: Option<Secret>,
}

/// What `neon gc` needs.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct Gc {
    /// Plan only.
    pub dry_run: bool,
    /// How long garbage is kept after it was found; `gc.grace` when absent.
    pub grace_seconds: Option<u64>,
}

/// What `neon retention` needs.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct Retain {
    /// Branch; absent: the repository.
    pub branch: Option<String>,
    /// `forever`, a length of time, or `default`.
    pub keep: Option<String>,
    /// An amount of bytes, or `default`.
    pub keep_wal: Option<String>,
}

/// What `neon init` needs.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct Init {
    /// Directory that gets a `.neon/`; made when absent.
    pub directory: PathBuf,
    /// Postgres major version for initdb; the newest found when absent.
    pub pg_version: Option<u16>,
    /// initdb's `--locale`; `C.UTF-8` when absent.
    pub locale: Option<String>,
    /// initdb's `--encoding`; `UTF8` when absent.
    pub encoding: Option<String>,
    /// A cleanly stopped data directory to import instead of running initdb.
    pub from: Option<PathBuf>,
}

/// What `neon clone` needs.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct Clone {
    /// The repository to copy.
    pub uri: String,
    /// Directory that gets a `.neon/`.
    pub directory: PathBuf,
    /// Branch to bring and to make HEAD; the source's HEAD when absent.
    pub branch: Option<String>,
    /// Password for the source that was typed when it was asked for.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub password: Option<Secret>,
}

/// What came back. One variant per shape, not per command.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "kind", content = "value", rename_all = "snake_case")]
pub enum Response {
    /// Nothing to tell but that it was done, perhaps with remarks.
    Done(Done),
    /// `init`, `clone`
    Made(Made),
    /// `start`, `uri`
    Endpoint(Endpoint),
    /// `stop`
    Stopped(Vec<Stopped>),
    /// `status`
    Status(Status),
    /// `branch`
    Branches(Vec<Branch>),
    /// `branch NAME`, `commit`, `tag NAME`: a ref that was made or moved.
    Moved(Moved),
    /// `tag`
    Tags(Vec<Tag>),
    /// `log`
    Commits(Vec<Commit>),
    /// `show`
    Commit(Box<Commit>),
    /// `export`
    Exported(Exported),
    /// `dev compare`
    Compared(Compared),
    /// `dev wal`
    Wal(WalPage),
    /// `origin list`
    Origins(Vec<Origin>),
    /// `push`, `pull`, `fetch`
    Transferred(Vec<Transferred>),
    /// `fsck`
    Checked(Checked),
    /// `gc`
    Collected(Collected),
    /// `retention`
    Retention(Vec<RetentionRow>),
    /// `du`
    Usage(Usage),
    /// `du REV`
    UsageOf(RevisionUsage),
    /// `layers`
    Layers(Layers),
    /// `config get`
    Setting(Setting),
}

/// It was done.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Done {
    /// Sentences for the user, as "deleted branch x (was 3f9a12…)".
    pub notes: Vec<String>,
}

/// A repository was made.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Made {
    /// The directory that holds `.neon/`.
    pub directory: PathBuf,
    /// The repository's id.
    pub repository: RepoId,
    /// HEAD.
    pub branch: String,
    /// Its head.
    pub commit: Option<CommitId>,
    /// Position of the head.
    pub lsn: Option<Lsn>,
    /// Major version of Postgres.
    pub pg_version: u16,
    /// Remarks, as collation versions that differ.
    pub notes: Vec<String>,
}

/// A Postgres that runs on a branch or at a position.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Endpoint {
    /// Name: that of the branch, or the revision's LSN form for a read-only one.
    pub name: String,
    /// Connection URI: over TCP on 127.0.0.1 with the repository's password, or through the socket where the superuser has one of its own.
    pub uri: String,
    /// The superuser that initdb made.
    pub user: String,
    /// A database that lets one in.
    pub database: String,
    /// TCP port.
    pub port: u16,
    /// Directory of the Unix socket.
    pub socket_directory: PathBuf,
    /// Writes are refused.
    pub read_only: bool,
    /// It ran before the command.
    pub already_running: bool,
    /// Process id of the postmaster.
    pub pid: u32,
    /// Timeline that it writes or reads.
    pub timeline: TimelineId,
    /// The position that it shows; of one that writes, how far its WAL has been received.
    pub lsn: Lsn,
    /// Remarks: rounding of the LSN, what was switched off, collation warnings.
    pub notes: Vec<String>,
}

/// An endpoint that was stopped.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Stopped {
    /// Its name.
    pub name: String,
    /// The commit that was made of what it wrote; absent when it wrote only housekeeping.
    pub commit: Option<CommitId>,
    /// Head of the branch now.
    pub lsn: Option<Lsn>,
    /// It was running before.
    pub was_running: bool,
}

/// The repository at a glance.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Status {
    /// The directory that holds `.neon/`.
    pub directory: PathBuf,
    /// The repository's id.
    pub repository: RepoId,
    /// HEAD.
    pub head: String,
    /// Major version of Postgres.
    pub pg_version: u16,
    /// Process id of the daemon, when one runs.
    pub daemon: Option<u32>,
    /// Endpoints that run, or died without a stop.
    pub endpoints: Vec<EndpointStatus>,
    /// Branches with where they are against their origin.
    pub branches: Vec<Branch>,
    /// Data directories that were put away because not all of them is here.
    pub aside: Vec<PathBuf>,
    /// Bytes of objects and kept WAL.
    pub size: u64,
}

/// One endpoint in [`Status`].
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct EndpointStatus {
    /// Its name.
    pub name: String,
    /// `running`, `stopped` or `crashed`.
    pub state: String,
    /// TCP port.
    pub port: u16,
    /// Process id, when running.
    pub pid: Option<u32>,
    /// Read-only at a position.
    pub read_only: bool,
    /// End of the WAL that we hold of it.
    pub received: Option<Lsn>,
    /// Why its WAL is not received just now, though it runs.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub trouble: Option<String>,
}

/// One branch.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Branch {
    /// Its name.
    pub name: String,
    /// It is HEAD.
    pub head: bool,
    /// The commit that it names.
    pub commit: CommitId,
    /// Position of that commit.
    pub timeline: TimelineId,
    /// Position of that commit.
    pub lsn: Lsn,
    /// The branch whose history it left, when that still stands here.
    pub parent: Option<String>,
    /// Where it left its parent.
    pub fork_lsn: Option<Lsn>,
    /// `running`, `stopped`, `crashed`; absent when it never had an endpoint.
    pub endpoint: Option<String>,
    /// TCP port of the endpoint.
    pub port: Option<u16>,
    /// Bytes of relations at the head.
    pub size: u64,
    /// `ORIGIN/BRANCH` that push and pull go to.
    pub upstream: Option<String>,
    /// Against that, as last fetched: `equal`, `ahead`, `behind`, `diverged`.
    pub tracking: Option<String>,
    /// Why not all of it can be read: what is not known is empty, or zero.
    pub damaged: Option<String>,
}

impl Branch {
    /// Returns a branch of which nothing else is known.
    pub fn named(name: &str, commit: CommitId, head: bool) -> Branch {
        Branch {
            name: name.to_owned(),
            head,
            commit,
            timeline: TimelineId([0; 16]),
            lsn: Lsn::INVALID,
            parent: None,
            fork_lsn: None,
            endpoint: None,
            port: None,
            size: 0,
            upstream: None,
            tracking: None,
            damaged: None,
        }
    }
}

/// A ref was made or moved.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Moved {
    /// Branch or tag.
    pub name: String,
    /// Its commit now.
    pub commit: CommitId,
    /// Position of that commit.
    pub timeline: TimelineId,
    /// Position of that commit.
    pub lsn: Lsn,
    /// A new commit object was made.
    pub made_commit: bool,
    /// Remarks: rounding of the LSN.
    pub notes: Vec<String>,
}

/// One tag.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Tag {
    /// Its name.
    pub name: String,
    /// The commit that it names.
    pub commit: CommitId,
    /// Position of that commit.
    pub lsn: Lsn,
    /// Its message.
    pub message: String,
}

/// One commit as people see it.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Commit {
    /// Its id.
    pub id: CommitId,
    /// Position.
    pub timeline: TimelineId,
    /// Position.
    pub lsn: Lsn,
    /// Commits before it.
    pub parents: Vec<CommitId>,
    /// Refs that name it.
    pub refs: Vec<String>,
    /// `Name <mail>`
    pub author: String,
    /// When it was made, RFC 3339.
    pub time: String,
    /// What was done.
    pub message: String,
    /// `server_version_num`
    pub pg_version_num: u32,
    /// Identifier of the cluster.
    pub system_id: u64,
    /// Time of the last transaction before it, RFC 3339.
    pub last_transaction_time: Option<String>,
    /// Bytes of relations at the position; only in `show`.
    pub size: Option<u64>,
    /// Forks from the root to the position, `timeline@lsn`; only in `show`.
    pub path: Vec<String>,
    /// WAL segments with digests since the parent.
    pub wal_segments: usize,
}

/// A plain data directory was written.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Exported {
    /// Where.
    pub pgdata: PathBuf,
    /// Position.
    pub lsn: Lsn,
    /// The timeline number that it has of its own.
    pub tli: u32,
    /// Bytes written.
    pub bytes: u64,
    /// Remarks.
    pub notes: Vec<String>,
}

/// One origin.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Origin {
    /// Its name.
    pub name: String,
    /// Where it is, without password.
    pub uri: String,
}

/// What a push, pull or fetch of one branch did.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Transferred {
    /// Our branch; absent in a fetch.
    pub branch: Option<String>,
    /// Origin and branch there, `cloud/main`.
    pub remote: String,
    /// `created`, `fast-forward`, `up to date`, `forced`, `fetched`.
    pub outcome: String,
    /// The commit before.
    pub old: Option<CommitId>,
    /// The commit after.
    pub new: CommitId,
    /// Position of that commit.
    pub lsn: Lsn,
    /// Payload bytes moved (planned, in a dry run).
    pub bytes: u64,
    /// Parts (layers, WAL ranges) moved.
    pub objects: u64,
    /// Nothing was changed.
    pub dry_run: bool,
    /// Remarks.
    pub notes: Vec<String>,
}

/// One setting.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Setting {
    /// Dotted key.
    pub key: String,
    /// Its value.
    pub value: String,
}

/// Why a request was refused or failed, for a person.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct ApiError {
    /// Machine-readable kind, as `branch_exists`.
    pub code: String,
    /// What failed and on which thing.
    pub message: String,
    /// Why, outermost first.
    pub caused_by: Vec<String>,
    /// What to do next.
    pub hint: Option<String>,
}

impl std::fmt::Display for ApiError {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(&self.message)
    }
}

impl std::error::Error for ApiError {}
