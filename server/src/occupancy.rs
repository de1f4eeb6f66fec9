//! What a daemon has to do, and that it ends only when that is nothing.

use std::collections::HashMap;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

/// The requests of a daemon.
#[derive(Default)]
pub(crate) struct Occupancy {
    state: Mutex<State>,
    next: AtomicU64,
}

#[derive(Default)]
struct State {
    /// Those that are worked on, by their number.
    busy: HashMap<u64, Busy>,
    /// No more are taken.
    ending: bool,
}

struct Busy {
    /// The id that its caller gave it, if so.
    id: Option<String>,
    cancelled: Arc<AtomicBool>,
}

/// A request that is worked on, until this is dropped.
pub(crate) struct Seat {
    occupancy: Arc<Occupancy>,
    number: u64,
    cancelled: Arc<AtomicBool>,
}

impl Occupancy {
    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Takes a request; none when the daemon ends.
    pub(crate) fn enter(self: &Arc<Self>, id: Option<String>) -> Option<Seat> {
        let mut state = self.state();
        if state.ending {
            return None;
        }
        let number = self.next.fetch_add(1, Ordering::Relaxed);
        let cancelled = Arc::new(AtomicBool::new(false));
        let busy = Busy {
            id,
            cancelled: Arc::clone(&cancelled),
        };
        state.busy.insert(number, busy);
        Some(Seat {
            occupancy: Arc::clone(self),
            number,
            cancelled,
        })
    }

    /// Returns how many requests are worked on.
    pub(crate) fn count(&self) -> usize {
        self.state().busy.len()
    }

    /// Takes no more requests, if none is worked on and `idle` says that there is nothing else to do. True when the daemon ends now.
    pub(crate) fn end_if_idle(&self, idle: impl FnOnce() -> bool) -> bool {
        let mut state = self.state();
        state.ending |= state.busy.is_empty() && idle();
        state.ending
    }

    /// Takes no more requests, and tells those that are worked on that nobody waits for them.
    pub(crate) fn end(&self) {
        let mut state = self.state();
        state.ending = true;
        for busy in state.busy.values() {
            busy.cancelled.store(true, Ordering::Relaxed);
        }
    }

    /// Tells the request of that id that nobody waits for it; false when there is none.
    pub(crate) fn cancel(&self, id: &str) -> bool {
        let state = self.state();
        let mut found = state.busy.values().filter(|busy| busy.id.as_deref() == Some(id));
        found
            .next()
            .is_some_and(|busy| !busy.cancelled.swap(true, Ordering::Relaxed))
    }
}

impl Seat {
    /// Returns what says that nobody waits for the result any more.
    pub(crate) fn cancelled(&self) -> Arc<AtomicBool> {
        Arc::clone(&self.cancelled)
    }
}

impl Drop for Seat {
    fn drop(&mut self) {
        self.occupancy.state().busy.remove(&self.number);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_daemon_ends_when_it_has_nothing_to_do_and_takes_nothing_then() {
        let occupancy = Arc::new(Occupancy::default());
        let seat = occupancy.enter(None).expect("a seat");
        assert!(!occupancy.end_if_idle(|| true), "somebody is there");
        drop(seat);
        assert_eq!(occupancy.count(), 0);
        assert!(!occupancy.end_if_idle(|| false), "an endpoint runs");
        assert!(occupancy.end_if_idle(|| true));
        assert!(occupancy.enter(None).is_none());
        assert!(occupancy.end_if_idle(|| false), "and stays so");
    }

    #[test]
    fn one_request_is_cancelled_by_its_id_and_all_at_the_end() {
        let occupancy = Arc::new(Occupancy::default());
        let seats = ["a", "b"].map(|id| occupancy.enter(Some(id.to_owned())).expect("a seat"));
        let cancelled = || {
            seats
                .each_ref()
                .map(|seat| seat.cancelled().load(Ordering::Relaxed))
        };
        assert!(occupancy.cancel("b") && !occupancy.cancel("c"));
        assert_eq!(cancelled(), [false, true]);
        occupancy.end();
        assert_eq!(cancelled(), [true, true]);
    }
}
