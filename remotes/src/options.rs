//! What a caller says about how a conversation is led: how patient, how much, who is told.

use std::any::Any;
use std::fmt;
use std::sync::Arc;
use std::time::Duration;

use crate::wire::Phase;
use crate::{BranchMove, LocalError, Refusal, Volume};

/// How far a transfer is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Progress {
    /// What goes on.
    pub phase: Phase,
    /// Bytes of parts that are there, those of earlier attempts included. 0 in any other phase than the transfer.
    pub bytes_done: u64,
    /// Bytes of all parts. 0 in any other phase than the transfer.
    pub bytes_total: u64,
    /// Parts that are whole; while planning, parts that are prepared; while accepting, whatever the sink counts.
    pub objects_done: u64,
    /// All of them.
    pub objects_total: u64,
}

/// Is told how far a transfer is; called often, from any thread, and must return at once.
pub type ProgressFn = Arc<dyn Fn(Progress) + Send + Sync>;

/// How a conversation is led.
#[derive(Clone)]
pub struct Options {
    /// How long the other side may be silent, or not read, before we give up.
    pub idle: Duration,
    /// How often we say that we are still working; well below the other side's `idle`.
    pub beat: Duration,
    /// Most bytes of parts that are accepted in one transfer.
    pub max_bytes: u64,
    /// Who is told about progress.
    pub progress: Option<ProgressFn>,
    /// Who the other side is, as `Name <mail>`, for the reflog of what it moves; none: whoever runs this program.
    pub who: Option<Arc<str>>,
    /// What a host has to say about a push that is received.
    pub gate: Option<Arc<dyn Gate>>,
}

/// What a host wants to know of a push that it receives, and may refuse.
pub trait Gate: Send + Sync {
    /// So many bytes are about to arrive. They may, and count as here, until what is returned is dropped.
    fn admit(&self, bytes: u64) -> Result<Box<dyn Any + Send>, Refusal>;

    /// A branch is about to move, as the last act of a conversation in which `arrived` came. With an error it does not.
    fn moves(&self, step: &BranchMove, arrived: &Volume) -> Result<(), LocalError>;
}

impl Default for Options {
    fn default() -> Options {
        Options {
            idle: Duration::from_secs(60),
            beat: Duration::from_secs(5),
            max_bytes: u64::MAX,
            progress: None,
            who: None,
            gate: None,
        }
    }
}

impl Options {
    /// Asks the host, if there is one, whether so many bytes may arrive. They may as long as what is returned lives.
    pub(crate) fn admit(&self, bytes: u64) -> Result<Option<Box<dyn Any + Send>>, Refusal> {
        self.gate.as_ref().map(|gate| gate.admit(bytes)).transpose()
    }

    /// Tells the listener, if there is one.
    pub fn report(&self, progress: Progress) {
        if let Some(listener) = &self.progress {
            listener(progress);
        }
    }
}

impl fmt::Debug for Options {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Options")
            .field("idle", &self.idle)
            .field("beat", &self.beat)
            .field("max_bytes", &self.max_bytes)
            .field("who", &self.who)
            .finish_non_exhaustive()
    }
}
