//! What is asked of a source, and what it answers: the list of parts that brings a peer to a position.

use std::any::Any;
use std::fmt;

use neon_types::{Lsn, ObjectId, Position};

use crate::{PartKind, PlannedPart, Possession, Step, TimelineFacts};

/// Asks for the parts that make `target` readable for somebody who holds `have`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct PlanRequest {
    /// The position to reach.
    pub target: Position,
    /// Its path: root first, the last step is `target.timeline`. Nothing outside this path may be planned.
    pub path: Vec<Step>,
    /// What the receiver reads already.
    pub have: Possession,
}

impl PlanRequest {
    /// Returns, for each step of the path, the timeline's step and the LSN up to which the path uses it.
    pub fn stretches(&self) -> Vec<(Step, Lsn)> {
        stretches(&self.path, self.target.lsn)
    }
}

/// Returns each step of `path` with the LSN up to which a position at `end` of its last timeline uses it.
pub fn stretches(path: &[Step], end: Lsn) -> Vec<(Step, Lsn)> {
    let next = path.iter().skip(1).map(|step| step.start);
    path.iter().copied().zip(next.chain([end])).collect()
}

/// The parts of a transfer, in the order in which they are sent.
#[derive(Debug, Default)]
pub struct Plan {
    /// Every timeline of the path, root first.
    pub timelines: Vec<TimelineFacts>,
    /// Layers and WAL; commits are added by the protocol. A base before what lies above it.
    pub parts: Vec<PlannedPart>,
    /// What keeps the parts from being removed until the transfer is over.
    pub keeps: Keeps,
}

/// What a source holds on to while a plan of it is carried out; only its life counts.
#[derive(Default)]
pub struct Keeps(Vec<Box<dyn Any + Send + Sync>>);

impl Keeps {
    /// Adds something.
    pub fn push(&mut self, keep: impl Any + Send + Sync) {
        self.0.push(Box::new(keep));
    }
}

impl fmt::Debug for Keeps {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Keeps({})", self.0.len())
    }
}

/// How much a transfer is, for `--dry-run` and for progress.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Volume {
    /// Commits.
    pub commits: u64,
    /// Layers.
    pub layers: u64,
    /// Stretches of raw WAL.
    pub wal: u64,
    /// Bytes of all of them before any compression on the wire; an estimate before slices are made.
    pub bytes: u64,
}

impl Volume {
    /// Returns the number of parts.
    pub fn objects(&self) -> u64 {
        self.commits + self.layers + self.wal
    }

    /// Adds another volume.
    pub fn add_all(&mut self, other: &Volume) {
        self.commits += other.commits;
        self.layers += other.layers;
        self.wal += other.wal;
        self.bytes = self.bytes.saturating_add(other.bytes);
    }

    /// Adds one part.
    pub fn add(&mut self, kind: &PartKind, bytes: u64) {
        match kind {
            PartKind::Commit => self.commits += 1,
            PartKind::Layer { .. } => self.layers += 1,
            PartKind::Wal { .. } => self.wal += 1,
        }
        self.bytes = self.bytes.saturating_add(bytes);
    }
}

/// What a transfer ends in: the parts that arrived whole, and what they are for.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Acceptance {
    /// The commit whose position must be readable afterwards.
    pub target: neon_types::CommitId,
    /// Its position.
    pub position: Position,
    /// Its path, root first.
    pub path: Vec<Step>,
    /// Every timeline of the path, root first; some may have to be made.
    pub timelines: Vec<TimelineFacts>,
    /// Every offered part, staged and verified, in the sender's order; commits among them.
    pub parts: Vec<crate::Part>,
}

impl Acceptance {
    /// Returns the ids of the commits among the parts.
    pub fn commits(&self) -> impl Iterator<Item = ObjectId> + '_ {
        self.parts
            .iter()
            .filter(|part| part.kind == PartKind::Commit)
            .map(|part| part.id)
    }
}
