//! What a repository holds of a path: ancestry says where a position lies, possession whether it can be read.

use neon_objects::{Attestation, WalDigest};
use neon_types::{Lsn, LsnRange, Position, RepoId, TimelineId};

/// Most ranges that are listed for one timeline.
pub const MAX_RANGES: usize = 4_096;
/// Most timelines on one path, and so in one transfer.
pub const MAX_TIMELINES: usize = 1_024;
/// Most digest rungs that one message lists; of longer ladders the newest are compared.
pub const MAX_RUNGS: usize = 100_000;
/// Most attestations of one offer.
pub const MAX_ATTESTATIONS: usize = 32_768;
/// Longest opaque record in [`TimelineFacts`], in bytes.
pub const MAX_FACTS: usize = 64 << 10;

/// What is held of one timeline.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Held {
    /// Which timeline.
    pub timeline: TimelineId,
    /// Ranges that are served completely: every key at every record boundary from `start` (a readable state) to `end`.
    /// Sorted, not overlapping. A state that is readable alone is the range `L..L`.
    pub ranges: Vec<LsnRange>,
}

/// Everything held of the timelines of a path.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Possession {
    /// One entry for each timeline of which something is held.
    pub held: Vec<Held>,
}

impl Possession {
    /// Returns the ranges held of `timeline`; empty when nothing is.
    pub fn ranges(&self, timeline: TimelineId) -> &[LsnRange] {
        self.held
            .iter()
            .find(|held| held.timeline == timeline)
            .map_or(&[], |held| held.ranges.as_slice())
    }

    /// Returns true when the state at `position` can be read.
    pub fn reads(&self, position: Position) -> bool {
        self.ranges(position.timeline)
            .iter()
            .any(|range| range.start <= position.lsn && position.lsn <= range.end)
    }

    /// Returns the highest readable state of `timeline` that is not above `limit`.
    pub fn highest_at_or_below(&self, timeline: TimelineId, limit: Lsn) -> Option<Lsn> {
        self.ranges(timeline)
            .iter()
            .filter(|range| range.start <= limit)
            .map(|range| range.end.min(limit))
            .max()
    }
}

/// The WAL digests that one side has of one timeline.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Ladder {
    /// Which timeline.
    pub timeline: TimelineId,
    /// One value for each WAL segment's part on this timeline, and for open parts where commits were made; by `end`.
    pub rungs: Vec<WalDigest>,
}

/// What a receiver must know of a timeline before it can hang parts under it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct TimelineFacts {
    /// Which timeline.
    pub id: TimelineId,
    /// Where it forks off; none for an import.
    pub ancestor: Option<Position>,
    /// Its Postgres timeline number.
    pub tli: u32,
    /// The repository that alone may extend it.
    pub writer: RepoId,
    /// First LSN of the timeline: the fork, or the end of the import.
    pub start: Lsn,
    /// More that the page store wants to know (version, segment size, import), in its own versioned encoding; at most 64 KiB.
    pub facts: Vec<u8>,
    /// What the writer signed of it, where the receiver is to get more of it: at most [`MAX_ATTESTATIONS`] in one offer.
    pub attestations: Vec<Attestation>,
}
