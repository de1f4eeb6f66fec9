//! What waits for the first transaction of a user on an endpoint: autovacuum is off until then (law 3).

use std::time::Duration;

use neon_pagestore::Timeline;
use neon_types::Lsn;

use crate::error::Result;
use crate::history::is_significant_after;

/// How long after an attempt that failed the next one is made.
pub(crate) const AGAIN: Duration = Duration::from_secs(1);

/// What is done then, as often as it takes.
pub(crate) struct FirstTransaction {
    /// Everything up to here is history already, or ours.
    since: Lsn,
    act: Box<dyn Fn() -> Result<()> + Send>,
    arrived: bool,
}

impl FirstTransaction {
    /// `act` is called when something after `since` makes history, until it succeeds.
    pub(crate) fn new(since: Lsn, act: impl Fn() -> Result<()> + Send + 'static) -> FirstTransaction {
        FirstTransaction {
            since,
            act: Box::new(act),
            arrived: false,
        }
    }

    /// Returns true when the transaction has arrived and what waits for it is not done.
    pub(crate) fn is_due(&self) -> bool {
        self.arrived
    }

    /// Looks at what is indexed; true when all is done.
    pub(crate) fn look(&mut self, timeline: &Timeline) -> bool {
        let end = timeline.end();
        if !self.arrived && end > self.since {
            self.arrived = is_significant_after(timeline, self.since);
            // What was housekeeping is not looked at again.
            self.since = end;
        }
        if !self.arrived {
            return false;
        }
        match (self.act)() {
            Ok(()) => true,
            Err(error) => {
                tracing::warn!(%error, "autovacuum is still off: it is tried again");
                false
            }
        }
    }
}
