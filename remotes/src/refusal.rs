//! Why a ref may not move, with what to do about it. Travels between peers, so that both say the same.

use std::fmt;

use neon_types::{CommitId, Lsn, Position, TimelineId};

/// A commit and where it is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Head {
    /// The commit.
    pub commit: CommitId,
    /// Its position.
    pub position: Position,
}

impl fmt::Display for Head {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} ({})", self.commit.short(), place(self.position))
    }
}

fn place(position: Position) -> String {
    format!("{}@{}", position.timeline.short(), position.lsn)
}

/// Two heads of which neither is the other's ancestor.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Divergence {
    /// The head that was to be the new one.
    pub incoming: Head,
    /// The head of the branch that was to move.
    pub current: Head,
    /// The last position that both histories have.
    pub common: Position,
    /// Transactions on the incoming side since, if they could be counted.
    pub incoming_transactions: Option<u64>,
    /// Transactions on the current side since, if they could be counted.
    pub current_transactions: Option<u64>,
}

/// The rules say no. "There" is the repository whose branch was to move: the other one in a push, ours in a pull.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Refusal {
    /// The two repositories hold histories of different clusters, or of one cluster imported twice.
    Unrelated {
        /// Root timeline of the incoming history.
        incoming: TimelineId,
        /// Root timeline of a history there.
        there: TimelineId,
    },
    /// The branch there has what we have, and more.
    Ahead {
        /// Name of the branch there.
        branch: String,
        /// Its head.
        head: Head,
    },
    /// Both sides have something of their own.
    Diverged {
        /// Name of the branch there.
        branch: String,
        /// The facts.
        divergence: Box<Divergence>,
    },
    /// An endpoint runs on the branch there.
    EndpointRuns {
        /// Name of the branch.
        branch: String,
    },
    /// Somebody else moved the branch while we were transferring.
    Moved {
        /// Name of the branch.
        branch: String,
        /// Where it is now.
        head: Option<CommitId>,
    },
    /// The branch to read does not exist.
    NoBranch {
        /// Name of the branch.
        branch: String,
    },
    /// After the transfer the position would not be readable completely.
    NotReadable {
        /// Which position.
        position: Position,
        /// What is missing.
        missing: String,
    },
    /// The two sides have different WAL for the same range of one timeline.
    LadderMismatch {
        /// Which timeline.
        timeline: TimelineId,
        /// Start of the first range that differs.
        start: Lsn,
        /// Its end.
        end: Lsn,
        /// End of the last range before it that is equal, if there is one.
        last_equal: Option<Lsn>,
    },
    /// A limit of this program was exceeded.
    Limit {
        /// What was too large, and the limit.
        what: String,
    },
    /// What the sender says of its history is not so: it contradicts what is held, or itself, or what its writer signed.
    Contradiction {
        /// What is wrong.
        what: String,
    },
    /// Both sides have set something since their histories parted.
    Settings {
        /// Name of the branch there.
        branch: String,
        /// What the branch there has set.
        names: Vec<String>,
    },
    /// The other side serves this repository for reading only, or to nobody of this name.
    NotAllowed {
        /// Why.
        reason: String,
    },
}

impl Refusal {
    /// Returns what to do next.
    pub fn hint(&self) -> String {
        match self {
            Refusal::Unrelated { .. } => "push to an empty repository, or clone from the other one".to_owned(),
            Refusal::Ahead { .. } => "pull first (or --force to move it back; the old head stays in its reflog)".to_owned(),
            Refusal::Diverged { divergence, .. } => format!(
                "keep both: push or pull under another name (ORIGIN:OTHER, or --as NAME); or --force to drop what follows {} there; \
                 the old head {} stays in its reflog",
                place(divergence.common),
                divergence.current.commit.short()
            ),
            Refusal::EndpointRuns { branch } => format!("stop it there first: neon stop {branch}"),
            Refusal::Moved { .. } => "fetch, look at the new head, and try again".to_owned(),
            Refusal::NoBranch { .. } => "'neon fetch' brings and lists what is there; 'neon clone' without --branch begins with its HEAD".to_owned(),
            Refusal::NotReadable { .. } => {
                "push from a repository that holds the whole history, or push the branch that it forks from first".to_owned()
            }
            Refusal::LadderMismatch { last_equal: Some(equal), .. } => format!(
                "one side was restored from a copy and written again; branch where both were equal: neon branch NAME BRANCH@{equal}"
            ),
            Refusal::LadderMismatch { last_equal: None, .. } => {
                "one side was restored from a copy and written again; no common position is known".to_owned()
            }
            Refusal::Contradiction { .. } => {
                "'neon fsck' checks the repository that it came from; only the repository that made a timeline extends it".to_owned()
            }
            Refusal::Settings { .. } => {
                "pull first; where both sides set the same, ALTER SYSTEM makes it equal; or --force to drop what is set there".to_owned()
            }
            Refusal::Limit { .. } => "send less, or ask whoever runs the other side to allow more".to_owned(),
            Refusal::NotAllowed { .. } => String::new(),
        }
    }
}

impl fmt::Display for Refusal {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Refusal::Unrelated { incoming, there } => write!(
                f,
                "the repositories hold histories of different clusters ({} and {})",
                incoming.short(),
                there.short()
            ),
            Refusal::Ahead { branch, head } => write!(f, "branch '{branch}' is ahead, at {head}"),
            Refusal::Diverged { branch, divergence } => {
                let count = |count: Option<u64>| {
                    count.map_or("an unknown number of transactions".to_owned(), |n| {
                        format!("{n} transaction{}", if n == 1 { "" } else { "s" })
                    })
                };
                write!(
                    f,
                    "branch '{branch}' has diverged: since {} there are {} to {} here and {} to {} there",
                    place(divergence.common),
                    count(divergence.incoming_transactions),
                    divergence.incoming,
                    count(divergence.current_transactions),
                    divergence.current,
                )
            }
            Refusal::EndpointRuns { branch } => write!(f, "an endpoint runs on branch '{branch}'"),
            Refusal::Moved {
                branch,
                head: Some(head),
            } => {
                write!(
                    f,
                    "branch '{branch}' moved meanwhile: it is at {} now",
                    head.short()
                )
            }
            Refusal::Moved { branch, head: None } => write!(f, "branch '{branch}' was deleted meanwhile"),
            Refusal::NoBranch { branch } => write!(f, "no branch '{branch}' there"),
            Refusal::NotReadable { position, missing } => {
                write!(f, "{} would not be fully readable: {missing}", place(*position))
            }
            Refusal::LadderMismatch {
                timeline,
                start,
                end,
                last_equal,
            } => {
                write!(
                    f,
                    "timeline {timeline} has different WAL on the two sides between {start} and {end}"
                )?;
                match last_equal {
                    Some(equal) => write!(f, "; equal up to {equal}"),
                    None => Ok(()),
                }
            }
            Refusal::Limit { what } => write!(f, "{what}"),
            Refusal::Contradiction { what } => write!(f, "this history is not taken in: {what}"),
            Refusal::Settings { branch, names } => {
                write!(
                    f,
                    "branch '{branch}' has settings there that are not here: {}",
                    names.join(", ")
                )
            }
            Refusal::NotAllowed { reason } => write!(f, "{reason}"),
        }
    }
}
