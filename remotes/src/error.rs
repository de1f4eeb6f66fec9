//! What can go wrong, one variant for each decision that a caller can take.

use neon_transport::TransportError;
use neon_types::{CommitId, ObjectId, Position, RefNameError};

use crate::wire::DecodeError;
use crate::{Part, Refusal};

/// What a [`crate::Source`] or [`crate::Sink`] answers when it cannot.
#[derive(Debug, thiserror::Error)]
pub enum LocalError {
    /// The branch is not where it was when the decision was taken.
    #[error("branch '{branch}' moved meanwhile")]
    Moved {
        /// Which branch.
        branch: String,
        /// Where it is now.
        now: Option<CommitId>,
    },
    /// An endpoint runs on the branch, so it cannot move.
    #[error("an endpoint runs on branch '{branch}'")]
    EndpointRuns {
        /// Which branch.
        branch: String,
    },
    /// Both sides have set something, and the branch would lose what it has.
    #[error("branch '{branch}' has settings of its own: {}", names.join(", "))]
    Settings {
        /// Which branch.
        branch: String,
        /// What it has set.
        names: Vec<String>,
    },
    /// Bytes do not have the BLAKE3 that names them.
    #[error("object {id} is damaged: {reason}")]
    Damaged {
        /// Which object.
        id: ObjectId,
        /// What was found.
        reason: String,
    },
    /// A position cannot be read completely.
    #[error("{position} is not fully readable: {missing}")]
    NotReadable {
        /// Which position.
        position: Position,
        /// What is missing.
        missing: String,
    },
    /// Something that was asked for is not here.
    #[error("{0} is not here")]
    Missing(String),
    /// What a peer says contradicts what is here, or itself.
    #[error("{0}")]
    Contradiction(String),
    /// A limit of this repository or its host is reached.
    #[error("{0}")]
    Limit(String),
    /// Nobody waits for the result any more.
    #[error("stopped, because nobody waits for it any more")]
    Stopped,
    /// Anything else: disk full, broken store...
    #[error(transparent)]
    Other(Box<dyn std::error::Error + Send + Sync>),
}

impl LocalError {
    /// Wraps any other error.
    pub fn other(error: impl Into<Box<dyn std::error::Error + Send + Sync>>) -> LocalError {
        LocalError::Other(error.into())
    }
}

impl From<std::io::Error> for LocalError {
    fn from(error: std::io::Error) -> LocalError {
        LocalError::Other(Box::new(error))
    }
}

/// What to do when a branch cannot have its name there.
pub const NAME_HINT: &str = "name it otherwise there: ORIGIN:OTHER";

/// Why a push, pull, fetch or clone did not happen.
#[derive(Debug, thiserror::Error)]
pub enum RemoteError {
    /// The rules say no.
    #[error("{0}")]
    Refused(Box<Refusal>),
    /// Our own repository failed.
    #[error(transparent)]
    Local(LocalError),
    /// The other repository failed, in its words.
    #[error("the other side failed: {message}")]
    Peer {
        /// Index of the offered part that arrived damaged there, if that is what failed.
        part: Option<u32>,
        /// What it said.
        message: String,
        /// What it advises.
        hint: String,
    },
    /// A part arrived with other bytes than its name says; it was thrown away, everything before it is kept.
    #[error("{} arrived damaged (object {}): {reason}", part.kind, part.id)]
    Damaged {
        /// Which part, with its full id.
        part: Box<Part>,
        /// Its index in the offer.
        index: u32,
        /// What was found.
        reason: String,
    },
    /// The connection ended in the middle.
    #[error("the connection was cut while {phase}")]
    Cut {
        /// What was going on.
        phase: &'static str,
    },
    /// Nothing was heard for the time that the caller allowed.
    #[error("the other side said nothing for {seconds} s while {phase}")]
    Silent {
        /// What was going on.
        phase: &'static str,
        /// How long we waited.
        seconds: u64,
    },
    /// The connection could not be made or broke.
    #[error(transparent)]
    Transport(TransportError),
    /// The other side does not keep to the protocol.
    #[error("the other side broke the protocol: {0}")]
    Protocol(String),
    /// No protocol version that both sides speak.
    #[error("the other side speaks protocol versions {min} to {max}, this program {ours}")]
    Version {
        /// Its oldest.
        min: u16,
        /// Its newest.
        max: u16,
        /// Ours.
        ours: u16,
    },
    /// The command names a branch that cannot be.
    #[error(transparent)]
    Name(#[from] RefNameError),
    /// The command is not one that this half serves.
    #[error("unknown command '{0}'")]
    Command(String),
}

impl RemoteError {
    /// Returns what to do next, empty when there is nothing to advise.
    pub fn hint(&self) -> String {
        match self {
            RemoteError::Refused(refusal) => refusal.hint(),
            RemoteError::Peer { hint, .. } => hint.clone(),
            RemoteError::Damaged { .. } => {
                "run 'neon fsck' where it came from; if that finds nothing, try again".to_owned()
            }
            RemoteError::Cut { .. } | RemoteError::Silent { .. } => {
                "run the same command again: what arrived whole is kept".to_owned()
            }
            RemoteError::Version { min, ours, .. } => {
                let older = if min > ours {
                    "this program"
                } else {
                    "the other side"
                };
                format!("upgrade {older}")
            }
            RemoteError::Transport(error) => error.hint().unwrap_or_default(),
            RemoteError::Local(LocalError::Damaged { .. }) => "run 'neon fsck'".to_owned(),
            RemoteError::Name(_) => NAME_HINT.to_owned(),
            RemoteError::Local(_) | RemoteError::Protocol(_) | RemoteError::Command(_) => String::new(),
        }
    }
}

impl From<LocalError> for RemoteError {
    fn from(error: LocalError) -> RemoteError {
        match error {
            LocalError::Moved { branch, now } => Refusal::Moved { branch, head: now }.into(),
            LocalError::EndpointRuns { branch } => Refusal::EndpointRuns { branch }.into(),
            LocalError::Settings { branch, names } => Refusal::Settings { branch, names }.into(),
            LocalError::Limit(what) => Refusal::Limit { what }.into(),
            LocalError::NotReadable { position, missing } => {
                Refusal::NotReadable { position, missing }.into()
            }
            LocalError::Contradiction(what) => Refusal::Contradiction { what }.into(),
            other => RemoteError::Local(other),
        }
    }
}

impl From<Refusal> for RemoteError {
    fn from(refusal: Refusal) -> RemoteError {
        RemoteError::Refused(Box::new(refusal))
    }
}

impl From<DecodeError> for RemoteError {
    fn from(error: DecodeError) -> RemoteError {
        RemoteError::Protocol(error.to_string())
    }
}
