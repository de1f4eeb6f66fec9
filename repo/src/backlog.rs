//! WAL that waits for a seal: a timeline that is written little is sealed by age, so that its history takes the space of layers.

use std::collections::BTreeMap;
use std::time::Duration;

use neon_types::{Lsn, TimelineId, with_causes};

use crate::error::Result;
use crate::repository::Repository;

/// Bounds of how often one looks.
const LOOK: (Duration, Duration) = (Duration::from_secs(1), Duration::from_secs(30));

/// The timelines with WAL that is not sealed, and since when each has some.
#[derive(Debug, Default)]
pub struct Backlog {
    /// Up to where it was sealed when that was seen first, and when, in microseconds.
    seen: BTreeMap<TimelineId, (Lsn, i64)>,
}

impl Backlog {
    /// Takes in what is not sealed now, with up to where each timeline is; returns those that have waited for `limit` microseconds.
    fn due(&mut self, unsealed: &[(TimelineId, Lsn)], now: i64, limit: i64) -> Vec<TimelineId> {
        let before = std::mem::take(&mut self.seen);
        let mut due = Vec::new();
        for (timeline, sealed) in unsealed {
            let since = match before.get(timeline) {
                // A clock that was set back says nothing about how long it was.
                Some((then, since)) if then == sealed && *since <= now => *since,
                _ => now,
            };
            self.seen.insert(*timeline, (*sealed, since));
            if now.saturating_sub(since) >= limit {
                due.push(*timeline);
            }
        }
        due
    }
}

impl Repository {
    /// Seals the open timelines whose WAL has waited for `pagestore.seal_seconds`; returns after how long to look again.
    pub fn seal_in_background(&self, backlog: &mut Backlog) -> Duration {
        let limit = self.seal_age().unwrap_or_else(|error| {
            tracing::warn!(
                error = with_causes(&error),
                "how long WAL may wait for a seal is not known"
            );
            None
        });
        let Some(limit) = limit else {
            return LOOK.1;
        };
        let mut unsealed = Vec::new();
        for timeline in self.pages.open_timelines() {
            let state = timeline.state();
            // What may never become history need not take the form of it.
            if timeline.end() > state.sealed && !state.provisional {
                unsealed.push((timeline.id(), state.sealed));
            }
        }
        let micros = i64::try_from(limit.as_micros()).unwrap_or(i64::MAX);
        for id in backlog.due(&unsealed, self.world().now(), micros) {
            let timeline = self.pages.get(id);
            match timeline.and_then(|timeline| timeline.seal().map(|_| timeline)) {
                Ok(timeline) => self.compactor.wake(&timeline),
                Err(error) => {
                    tracing::warn!(timeline = %id, error = with_causes(&error), "sealing failed; it is tried again");
                }
            }
        }
        (limit / 10).clamp(LOOK.0, LOOK.1)
    }

    fn seal_age(&self) -> Result<Option<Duration>> {
        let seconds = self.config()?.get("pagestore.seal_seconds")?;
        Ok(seconds
            .and_then(|text| text.parse().ok())
            .map(Duration::from_secs))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const ONE: TimelineId = TimelineId([1; 16]);
    const TWO: TimelineId = TimelineId([2; 16]);

    #[test]
    fn what_waits_long_enough_is_due_and_each_seal_begins_anew() {
        let mut backlog = Backlog::default();
        let one = |sealed| [(ONE, Lsn(sealed))];
        assert_eq!(backlog.due(&one(8), 1000, 50), []);
        assert_eq!(backlog.due(&[(ONE, Lsn(8)), (TWO, Lsn(8))], 1049, 50), []);
        assert_eq!(backlog.due(&[(ONE, Lsn(8)), (TWO, Lsn(8))], 1050, 50), [ONE]);
        // It failed, and is due as long as it does.
        assert_eq!(backlog.due(&[(ONE, Lsn(8)), (TWO, Lsn(8))], 1099, 50), [ONE, TWO]);
        // Sealed, by whom ever, and written again.
        assert_eq!(backlog.due(&one(16), 1150, 50), []);
        assert_eq!(backlog.due(&[], 1160, 50), []);
        assert_eq!(backlog.due(&one(16), 1199, 50), [], "it was sealed in between");
        assert_eq!(backlog.due(&one(16), 1249, 50), [ONE]);
    }

    #[test]
    fn a_clock_that_is_set_back_makes_nothing_due() {
        let mut backlog = Backlog::default();
        let one = [(ONE, Lsn(8))];
        assert_eq!(backlog.due(&one, 1000, 50), []);
        assert_eq!(backlog.due(&one, 10, 50), []);
        assert_eq!(backlog.due(&one, 59, 50), []);
        assert_eq!(backlog.due(&one, 60, 50), [ONE]);
    }
}
