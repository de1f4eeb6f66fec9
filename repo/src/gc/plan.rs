//! Who is condemned, who waits, who goes: decided from what is garbage now and what was before.

use std::collections::HashMap;

use super::condemned::{Condemned, Thing};
use crate::clock::Clock;

/// What one run is to do.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct Plan {
    /// Found to be garbage for the first time.
    pub fresh: Vec<Condemned>,
    /// Condemned already, or just now; their grace is not over.
    pub waiting: Vec<Condemned>,
    /// Their grace is over.
    pub due: Vec<Condemned>,
    /// Of those that wait, the ones whose grace would be over had the clock not jumped.
    pub suspended: usize,
}

impl Plan {
    /// Returns the list to be written before anything is deleted.
    pub(crate) fn list(&self) -> Vec<Condemned> {
        self.due.iter().chain(&self.waiting).copied().collect()
    }
}

/// Decides from the list of the run before and from what is `garbage` now. What was used, named, or put again in between is not condemned
/// any more. `grace` is in microseconds; 0 asks no clock.
pub(crate) fn plan(before: &[Condemned], garbage: Vec<Condemned>, clock: Clock, grace: i64) -> Plan {
    let before: HashMap<Thing, &Condemned> = before
        .iter()
        .map(|condemned| (condemned.thing, condemned))
        .collect();
    let mut plan = Plan::default();
    for found in garbage {
        let known = before.get(&found.thing).filter(|known| known.is_same(&found));
        let time = known.map_or(clock.now, |known| known.time);
        let condemned = Condemned { time, ..found };
        if known.is_none() {
            plan.fresh.push(condemned);
        }
        if grace <= 0 || clock.age(time) >= grace {
            plan.due.push(condemned);
        } else {
            plan.suspended += usize::from(clock.apparent_age(time) >= grace);
            plan.waiting.push(condemned);
        }
    }
    plan
}

#[cfg(test)]
mod tests {
    use neon_objects::StoredFile;
    use neon_types::TimelineId;

    use super::*;

    fn garbage(number: u8, time: i64, inode: u64) -> Condemned {
        Condemned {
            thing: Thing::Timeline(TimelineId([number; 16])),
            time,
            file: StoredFile { len: 0, inode },
        }
    }

    const STEADY: Clock = Clock { now: 1000, since: 0 };

    #[test]
    fn grace_begins_when_something_is_first_seen_to_be_garbage() {
        let before = [
            garbage(1, 899, 7),
            garbage(2, 901, 7),
            garbage(3, 1, 7),
            garbage(4, 1, 7),
        ];
        let now = [1, 2, 3, 5].map(|number| garbage(number, 0, if number == 3 { 8 } else { 7 }));
        let plan = plan(&before, now.to_vec(), STEADY, 100);
        assert_eq!(plan.due, [garbage(1, 899, 7)]);
        assert_eq!(
            plan.waiting,
            [garbage(2, 901, 7), garbage(3, 1000, 8), garbage(5, 1000, 7)],
            "the third was put again"
        );
        assert_eq!(plan.fresh, plan.waiting[1..]);
        assert_eq!((plan.suspended, plan.list().len()), (0, 4));
    }

    #[test]
    fn a_jump_of_the_clock_begins_the_grace_again() {
        let before = [garbage(1, 10, 7), garbage(2, 5000, 7)];
        let jumped = Clock {
            now: 1000,
            since: 950,
        };
        let plan = |grace| plan(&before, before.to_vec(), jumped, grace);
        assert_eq!((plan(100).due.len(), plan(100).suspended), (0, 1));
        assert_eq!(plan(50).due.len(), 2);
        assert_eq!(plan(0).due.len(), 2, "no clock is asked");
    }
}
