//! What the protocol asks of the repository that receives.

use std::sync::Arc;

use neon_objects::Commit;
use neon_types::{CommitId, Lsn};

use crate::decide::Direction;
use crate::{Acceptance, Catalog, LocalError, Meter, Part, Possession, Step, TimelineFacts};

/// Moves a branch by compare-and-swap.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct BranchMove {
    /// Name of the branch.
    pub branch: String,
    /// Where it must be; none: it must not exist.
    pub expect: Option<CommitId>,
    /// Where it goes. The commit and everything below it is here and readable.
    pub new: CommitId,
    /// Who asked for it.
    pub direction: Direction,
    /// Something may be dropped.
    pub force: bool,
    /// For the reflog, who moves it: `Name <mail>`; none: whoever runs this program.
    pub who: Option<Arc<str>>,
}

impl BranchMove {
    /// Returns what the reflog says of it.
    pub fn why(&self) -> &'static str {
        match (self.direction, self.force) {
            (Direction::Push, false) => "push",
            (Direction::Push, true) => "push (forced)",
            (Direction::Pull, false) => "pull",
            (Direction::Pull, true) => "pull (forced)",
        }
    }
}

/// The repository that receives.
pub trait Sink: Catalog {
    /// Returns what is held of the timelines of `path`, up to `end` of its last one and up to the fork on the others.
    /// Ranges are promises: GC may not take them back before the transfer ends.
    fn possession(&self, path: &[Step], end: Lsn) -> Result<Possession, LocalError>;

    /// Checks what an offer says of the timelines of `commit`'s path, root first, before its parts come.
    ///
    /// Errors: [`LocalError::Contradiction`].
    fn check_timelines(&self, commit: &Commit, timelines: &[TimelineFacts]) -> Result<(), LocalError>;

    /// Returns how many bytes of `part` are here: `part.len` when it is whole and verified (staged earlier, or an object of
    /// this repository), less when an earlier transfer was cut, 0 when nothing is. A part whose bytes are all staged but not
    /// verified counts as one byte less: the last byte is sent again, and [`PartWriter::finish`] decides.
    fn staged(&self, part: &Part) -> Result<u64, LocalError>;

    /// Opens a part for appending at the end of what is staged. Called only when [`Sink::staged`] is less than `part.len`.
    fn stage(&self, part: &Part) -> Result<Box<dyn PartWriter + '_>, LocalError>;

    /// Takes verified parts in: tries them beside what is held, reads what they lead to, and when everything is as it must be, makes missing
    /// timelines, hangs layers, appends and indexes WAL. Nothing that is held already is replaced (law 6), and nothing is where an open or a
    /// listing would find it before. Called once per transfer, also when no part was missing.
    /// `meter` is told (done, total) in bytes or parts, whatever the work is counted in, and is asked again and again whether to go on.
    ///
    /// Errors: [`LocalError::NotReadable`] when the position would not be fully readable afterwards, [`LocalError::Contradiction`] when it
    /// is not what was claimed, [`LocalError::Stopped`].
    fn accept(&self, acceptance: &Acceptance, meter: &Meter) -> Result<(), LocalError>;

    /// Moves a branch. What our own branch has set stays set in a pull. Errors: [`LocalError::Moved`] when it is not where it must be,
    /// [`LocalError::EndpointRuns`], [`LocalError::Settings`].
    fn move_branch(&self, step: &BranchMove) -> Result<(), LocalError>;
}

/// A part that is arriving, under a temporary name.
pub trait PartWriter {
    /// Returns how many bytes are staged.
    fn len(&self) -> u64;

    /// Returns true when no byte is staged.
    fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// Appends bytes at [`PartWriter::len`].
    fn append(&mut self, bytes: &[u8]) -> Result<(), LocalError>;

    /// Verifies that the staged bytes have the part's id and makes them durable under their own name.
    ///
    /// Errors: [`LocalError::Damaged`]; what was staged is gone then.
    fn finish(self: Box<Self>) -> Result<(), LocalError>;
}
