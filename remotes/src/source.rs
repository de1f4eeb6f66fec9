//! What the protocol asks of the repository that sends, and what it asks of both sides.
//!
//! All methods are synchronous and may read disk; the protocol calls them from blocking threads only. They are called from
//! one conversation at a time per connection, from several connections at once.

use std::io::Read;

use neon_objects::Commit;
use neon_types::{CommitId, Lsn, Position, RepoId, TimelineId};

use crate::{Ladder, LocalError, Meter, Objects, Part, Plan, PlanRequest, PlannedPart, Step};

/// Who a repository is.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Identity {
    /// Its own random id.
    pub repository: RepoId,
    /// The timelines that its histories begin with (imports); empty in a repository without history.
    pub roots: Vec<TimelineId>,
    /// `system_identifier` of its cluster, 0 without history.
    pub system_id: u64,
    /// Branch that HEAD names.
    pub head: Option<String>,
}

/// Where a branch is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Branch {
    /// Its head.
    pub head: CommitId,
    /// An endpoint runs on it read-write.
    pub running: bool,
}

/// What is asked of either side of a conversation.
pub trait Catalog: Send + Sync {
    /// Returns who this repository is.
    fn identity(&self) -> Result<Identity, LocalError>;

    /// Returns the branches with their heads, by name.
    fn branches(&self) -> Result<Vec<(String, Branch)>, LocalError>;

    /// Returns where branch `name` is, none if it does not exist.
    ///
    /// Where the answer decides whether a ref may move (`receiving`), the tail of a stopped endpoint is taken in first: if
    /// transactions follow the head they are committed, so that the head is the branch's durable end. With `receiving` false
    /// nothing is written: a running branch serves its head.
    fn branch(&self, name: &str, receiving: bool) -> Result<Option<Branch>, LocalError>;

    /// Returns the encoded commit `id`, none when it is not here.
    fn commit(&self, id: CommitId) -> Result<Option<Vec<u8>>, LocalError>;

    /// Checks what a commit of the other side says of timelines, cluster and machine against what is held; what is not held must be possible.
    /// Called before anything is decided by it.
    ///
    /// Errors: [`LocalError::Contradiction`].
    fn check_claims(&self, commit: &Commit) -> Result<(), LocalError>;

    /// Returns the WAL digests that this side has of the timelines of `path`, up to `end` of its last one and up to the fork
    /// on the others. Timelines without digests may be left out.
    fn ladders(&self, path: &[Step], end: Lsn) -> Result<Vec<Ladder>, LocalError>;

    /// Returns the number of transactions committed on the path to `end` after `since`, which lies on it; none when that
    /// cannot be told cheaply. `meter` is asked whether to go on.
    fn transactions(
        &self,
        path: &[Step],
        end: Lsn,
        since: Position,
        meter: &Meter,
    ) -> Result<Option<u64>, LocalError>;
}

/// The repository that sends.
pub trait Source: Catalog + Objects {
    /// Returns the parts that bring a peer who holds `request.have` to `request.target`: raw WAL where it is still here and
    /// smaller, else layers, sliced at both ends so that nothing outside the path leaves. Reads no more than maps.
    /// The plan names every timeline of the path, root first.
    ///
    /// Errors: [`LocalError::NotReadable`] when the target cannot be read here.
    fn plan(&self, request: &PlanRequest) -> Result<Plan, LocalError>;

    /// Makes the bytes of a planned part exist and returns its name and length. Deterministic: the same range of the same
    /// object gives the same id. `meter` is asked whether to go on.
    fn prepare(&self, part: &PlannedPart, meter: &Meter) -> Result<Part, LocalError>;

    /// Opens the bytes of a part that this source prepared, from `offset` on; never asked for a commit. The reader must give
    /// `part.len - offset` bytes.
    fn open_part(&self, part: &Part, offset: u64) -> Result<Box<dyn Read + Send>, LocalError>;
}
