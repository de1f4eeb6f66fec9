//! What somebody has put, or relies on, and has not named yet: a collector leaves it alone.
//!
//! A [`Hold`] begins before the first use and lives until a ref, a layer map or a timeline's state names what was used. A [`Sweep`] begins
//! before the roots are read; it deletes nothing that was used since it began, nor since the oldest hold began that lived then. So
//! whatever is used is named before the roots are read, or is used under a hold that the sweep sees. Nobody waits for anybody
//! longer than one rename or unlink takes.

use std::collections::{BTreeMap, HashMap};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use neon_types::{ObjectId, TimelineId};

/// What can be used.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Used {
    /// An object.
    Object(ObjectId),
    /// A timeline.
    Timeline(TimelineId),
}

/// Uses of one repository, by this process. Clones share them.
#[derive(Clone, Debug, Default)]
pub struct Uses(Arc<Mutex<Table>>);

#[derive(Debug, Default)]
struct Table {
    /// Moves on with every hold and every sweep.
    clock: u64,
    /// From when on uses count, and for how many holds and sweeps.
    since: BTreeMap<u64, usize>,
    /// When each thing was used last.
    last: HashMap<Used, u64>,
}

impl Table {
    fn note(&mut self, used: Used) {
        if !self.since.is_empty() {
            self.last.insert(used, self.clock);
        }
    }

    fn begin(&mut self, since: u64) {
        *self.since.entry(since).or_default() += 1;
    }

    fn end(&mut self, since: u64) {
        let oldest = self.oldest();
        if let Some(count) = self.since.get_mut(&since) {
            *count -= 1;
            if *count == 0 {
                self.since.remove(&since);
            }
        }
        match self.oldest() {
            None => self.last = HashMap::new(),
            Some(now) if Some(now) > oldest => self.last.retain(|_, used| *used >= now),
            Some(_) => {}
        }
    }

    fn oldest(&self) -> Option<u64> {
        self.since.keys().next().copied()
    }
}

/// Keeps what is used from now on from being collected, until it is dropped.
#[derive(Debug)]
#[must_use = "what is used after it was dropped may be collected"]
pub struct Hold {
    uses: Uses,
    since: u64,
}

impl Drop for Hold {
    fn drop(&mut self) {
        self.uses.lock().end(self.since);
    }
}

/// One look at the roots, and the deletions that follow from it.
#[derive(Debug)]
pub struct Sweep {
    uses: Uses,
    since: u64,
}

impl Sweep {
    /// Calls `delete` unless the thing was used since the sweep, or a hold that lived then, began; none then. Nobody uses it meanwhile.
    pub fn unless_used<T>(&self, thing: Used, delete: impl FnOnce() -> T) -> Option<T> {
        let table = self.uses.lock();
        let used = table.last.get(&thing).is_some_and(|last| *last >= self.since);
        (!used).then(delete)
    }
}

impl Drop for Sweep {
    fn drop(&mut self) {
        self.uses.lock().end(self.since);
    }
}

impl Uses {
    fn lock(&self) -> MutexGuard<'_, Table> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Begins a hold.
    pub fn hold(&self) -> Hold {
        let mut table = self.lock();
        table.clock += 1;
        let since = table.clock;
        table.begin(since);
        Hold {
            uses: self.clone(),
            since,
        }
    }

    /// Begins a sweep; the roots are to be read afterwards.
    pub fn sweep(&self) -> Sweep {
        let mut table = self.lock();
        table.clock += 1;
        let since = table.oldest().map_or(table.clock, |hold| hold.min(table.clock));
        table.begin(since);
        Sweep {
            uses: self.clone(),
            since,
        }
    }

    /// Notes that the thing is used, and calls `act` before any sweep may look at it again.
    pub fn using<T>(&self, thing: Used, act: impl FnOnce() -> T) -> T {
        let mut table = self.lock();
        table.note(thing);
        act()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn thing(number: u8) -> Used {
        Used::Object(ObjectId::from_bytes([number; 32]))
    }

    fn deletes(sweep: &Sweep, number: u8) -> bool {
        sweep.unless_used(thing(number), || ()).is_some()
    }

    #[test]
    fn what_is_used_under_a_hold_outlives_every_sweep_that_saw_the_hold() {
        let uses = Uses::default();
        uses.using(thing(1), || ());
        let hold = uses.hold();
        uses.using(thing(2), || ());
        let sweep = uses.sweep();
        uses.using(thing(3), || ());
        drop(hold);
        assert!(deletes(&sweep, 1), "used before anybody held anything");
        assert!(!deletes(&sweep, 2), "named after the sweep looked, perhaps");
        assert!(!deletes(&sweep, 3), "used while the sweep goes on");
        drop(sweep);
        let next = uses.sweep();
        assert!(
            deletes(&next, 2) && deletes(&next, 3),
            "by now it is named, or never will be"
        );
    }

    #[test]
    fn what_nobody_needs_to_know_is_forgotten() {
        let uses = Uses::default();
        uses.using(thing(1), || ());
        assert!(uses.lock().last.is_empty(), "nobody holds");
        let (first, second) = (uses.hold(), uses.hold());
        uses.using(thing(2), || ());
        let third = uses.hold();
        uses.using(thing(3), || ());
        drop(first);
        drop(second);
        assert_eq!(uses.lock().last.len(), 1, "only what the third hold needs");
        drop(third);
        assert!(uses.lock().last.is_empty() && uses.lock().since.is_empty());
    }
}
