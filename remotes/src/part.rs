//! What travels: commits, layers and stretches of raw WAL, each named by the BLAKE3 of its bytes.

use std::fmt;

use neon_types::{LsnRange, ObjectId, TimelineId};

/// Longest part that either half accepts, in bytes (64 GiB).
pub const MAX_PART: u64 = 64 << 30;
/// Most parts of one transfer.
pub const MAX_PARTS: usize = 65_536;

/// What the bytes of a part are, and where they belong.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum PartKind {
    /// An encoded commit (`neon_objects::Commit::encode`); its part id is its commit id.
    Commit,
    /// A sealed layer. It serves only `range` of `timeline`: a receiver clips it to that range in its map.
    Layer {
        /// The timeline that it is to hang under.
        timeline: TimelineId,
        /// What it serves; an image layer at L has the range `L..L`.
        range: LsnRange,
    },
    /// Raw WAL: exactly the bytes from `range.start` to `range.end`, both ends of whole records.
    Wal {
        /// The timeline whose WAL it is.
        timeline: TimelineId,
        /// `len` of the part is `range.end - range.start`.
        range: LsnRange,
    },
}

impl PartKind {
    /// Returns the timeline that the part belongs to, none for a commit.
    pub fn timeline(&self) -> Option<TimelineId> {
        match self {
            PartKind::Commit => None,
            PartKind::Layer { timeline, .. } | PartKind::Wal { timeline, .. } => Some(*timeline),
        }
    }

    /// Returns the state that the part leads to and what it starts from, none for a commit.
    pub fn range(&self) -> Option<LsnRange> {
        match self {
            PartKind::Commit => None,
            PartKind::Layer { range, .. } | PartKind::Wal { range, .. } => Some(*range),
        }
    }
}

impl fmt::Display for PartKind {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            PartKind::Commit => write!(f, "commit"),
            PartKind::Layer { timeline, range } => write!(f, "layer {} {range}", timeline.short()),
            PartKind::Wal { timeline, range } => write!(f, "WAL {} {range}", timeline.short()),
        }
    }
}

/// A part that can be sent: its bytes exist and are named.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct Part {
    /// BLAKE3 of the bytes; the same part prepared again must have the same id, or resuming cannot work.
    pub id: ObjectId,
    /// Number of bytes; never 0.
    pub len: u64,
    /// What the bytes are.
    pub kind: PartKind,
}

impl fmt::Display for Part {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} {}", self.kind, self.id.short())
    }
}

/// A part that a plan wants sent; it need not exist as bytes yet (a layer to be sliced).
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct PlannedPart {
    /// What it will be.
    pub kind: PartKind,
    /// Its length in bytes: exact when `object` is known, else an estimate.
    pub bytes: u64,
    /// The object that is sent as it is, or that is to be sliced; none for WAL.
    pub object: Option<ObjectId>,
    /// The object must be cut to `kind`'s range before it is sent.
    pub slice: bool,
}
