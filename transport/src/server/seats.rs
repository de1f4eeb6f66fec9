//! Who may be here at one time, and who gives way to whom. A decision without I/O: the time is handed in.

use std::cmp::Reverse;
use std::collections::BTreeMap;
use std::time::{Duration, Instant};

/// Names a seat that was taken.
pub(super) type SeatId = u64;

/// Who has done nothing for so long gives way before anybody who has just done something, whatever that was.
const STALE: Duration = Duration::from_secs(1);

/// Whether somebody else may be given a seat that is taken.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum Hold {
    /// Yes, and those with the lowest number first.
    GivesWay(u8),
    /// No.
    Stays,
}

/// What becomes of somebody who comes.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Admission<T> {
    /// There is a seat.
    Seat(SeatId),
    /// There is one because this one gave way: the caller tells it so.
    Instead(SeatId, T),
    /// All seats are taken, and nobody gives way.
    Full,
    /// The holder has as many as one may have, and none of them gives way.
    TooManyOfOne,
}

struct Taken<K, T> {
    holder: K,
    hold: Hold,
    /// When the holder last did something.
    touched: Instant,
    /// How to reach who sits there.
    token: T,
}

impl<K, T> Taken<K, T> {
    /// Returns what orders those who give way, the first one first: who does nothing, then who has done least, then who did it longest ago. So somebody who
    /// goes on is the last to go, and a place cannot be kept by having done something once.
    fn order(&self, now: Instant) -> (Reverse<bool>, Hold, Instant) {
        let stale = now.saturating_duration_since(self.touched) >= STALE;
        // Among those who do nothing it does not count what they did before.
        let hold = if stale { Hold::GivesWay(0) } else { self.hold };
        (Reverse(stale), hold, self.touched)
    }
}

/// Seats, `all` in number, of which one holder gets `each`.
pub(super) struct Seats<K, T> {
    all: usize,
    each: usize,
    taken: BTreeMap<SeatId, Taken<K, T>>,
    next: SeatId,
}

impl<K: Ord + Clone, T> Seats<K, T> {
    pub fn new(all: usize, each: usize) -> Seats<K, T> {
        Seats {
            all,
            each,
            taken: BTreeMap::new(),
            next: 0,
        }
    }

    /// Gives a seat to one who comes. Who gives way is of the same holder when that has all it may have, else of the holder that has most.
    pub fn admit(&mut self, holder: K, hold: Hold, token: T, now: Instant) -> Admission<T> {
        let gone = if self.count(&holder) >= self.each {
            match self.first_of(&holder, now) {
                Some(seat) => self.leave(seat),
                None => return Admission::TooManyOfOne,
            }
        } else if self.taken.len() >= self.all {
            match self.give_way(now) {
                Some(token) => Some(token),
                None => return Admission::Full,
            }
        } else {
            None
        };
        let seat = self.next;
        self.next += 1;
        let taken = Taken {
            holder,
            hold,
            touched: now,
            token,
        };
        self.taken.insert(seat, taken);
        match gone {
            Some(token) => Admission::Instead(seat, token),
            None => Admission::Seat(seat),
        }
    }

    /// Frees a seat; returns how to reach who sat there, nothing when it was given away already.
    pub fn leave(&mut self, seat: SeatId) -> Option<T> {
        self.taken.remove(&seat).map(|taken| taken.token)
    }

    /// Says that the holder did something, and whether the seat may be given away now.
    pub fn hold(&mut self, seat: SeatId, hold: Hold, now: Instant) {
        if let Some(taken) = self.taken.get_mut(&seat) {
            taken.hold = hold;
            taken.touched = now;
        }
    }

    /// Frees the seat that gives way first; nothing when none does.
    pub fn give_way(&mut self, now: Instant) -> Option<T> {
        let mut counts: BTreeMap<&K, usize> = BTreeMap::new();
        for taken in self.taken.values() {
            *counts.entry(&taken.holder).or_default() += 1;
        }
        let (seat, _) = self.yielding().min_by_key(|(seat, taken)| {
            let count = counts.get(&taken.holder).copied().unwrap_or(0);
            (Reverse(count), taken.order(now), **seat)
        })?;
        let seat = *seat;
        self.leave(seat)
    }

    fn yielding(&self) -> impl Iterator<Item = (&SeatId, &Taken<K, T>)> {
        self.taken.iter().filter(|(_, taken)| taken.hold != Hold::Stays)
    }

    fn count(&self, holder: &K) -> usize {
        self.taken
            .values()
            .filter(|taken| taken.holder == *holder)
            .count()
    }

    fn first_of(&self, holder: &K, now: Instant) -> Option<SeatId> {
        let theirs = self.yielding().filter(|(_, taken)| taken.holder == *holder);
        theirs
            .min_by_key(|(seat, taken)| (taken.order(now), **seat))
            .map(|(seat, _)| *seat)
    }
}

#[cfg(test)]
mod tests {
    use super::Admission::*;
    use super::*;

    const SILENT: Hold = Hold::GivesWay(0);
    const SPOKE: Hold = Hold::GivesWay(1);

    #[test]
    fn the_oldest_gives_way() {
        let (mut seats, now) = (Seats::new(2, 2), Instant::now());
        assert_eq!(seats.admit('a', SILENT, "first", now), Seat(0));
        assert_eq!(seats.admit('b', SILENT, "second", now), Seat(1));
        assert_eq!(seats.admit('c', SILENT, "third", now), Instead(2, "first"));
        assert_eq!(seats.leave(0), None, "gone already");
        assert_eq!(seats.admit('d', SILENT, "fourth", now), Instead(3, "second"));
        assert_eq!(seats.leave(2), Some("third"));
        assert_eq!(seats.admit('e', SILENT, "fifth", now), Seat(4));
    }

    #[test]
    fn who_goes_on_stays_whatever_others_did_before() {
        let (mut seats, began) = (Seats::new(4, 4), Instant::now());
        // Some have said something and say nothing more.
        for token in ["squatter 0", "squatter 1"] {
            seats.admit('a', SPOKE, token, began);
        }
        let now = began + STALE;
        assert_eq!(seats.admit('a', SILENT, "silent", now), Seat(2));
        assert_eq!(seats.admit('a', SILENT, "real", now), Seat(3));
        assert_eq!(seats.admit('a', SILENT, "new", now), Instead(4, "squatter 0"));
        seats.hold(3, SPOKE, now);
        assert_eq!(seats.give_way(now), Some("squatter 1"));
        // Of those who have just come who said least is the first.
        assert_eq!(seats.give_way(now), Some("silent"));
        assert_eq!(seats.give_way(now), Some("new"));
        seats.hold(3, Hold::Stays, now);
        assert_eq!(seats.give_way(now), None);
    }

    #[test]
    fn a_login_survives_any_number_of_others_that_say_nothing() {
        let (mut seats, now) = (Seats::new(8, 8), Instant::now());
        let Seat(real) = seats.admit('a', SILENT, 0, now) else {
            panic!("there is room")
        };
        seats.hold(real, SPOKE, now);
        for number in 1..1000 {
            let gone = seats.admit('a', SILENT, number, now);
            assert!(!matches!(gone, Instead(_, 0)), "{number}");
        }
        assert_eq!(seats.leave(real), Some(0));
    }

    #[test]
    fn one_holder_takes_no_seat_of_others() {
        let (mut seats, now) = (Seats::new(10, 3), Instant::now());
        for number in 0..3 {
            seats.admit('n', SILENT, number, now);
        }
        assert_eq!(seats.admit('n', SILENT, 3, now), Instead(3, 0));
        assert_eq!(
            seats.admit('x', SILENT, 4, now),
            Seat(4),
            "seven are left for others"
        );
        for seat in 1..4 {
            seats.hold(seat, Hold::Stays, now);
        }
        assert_eq!(seats.admit('n', SILENT, 5, now), TooManyOfOne);
        assert_eq!(seats.admit('x', SILENT, 6, now), Seat(5));
    }

    #[test]
    fn when_all_are_taken_those_who_have_most_give_way_first() {
        let (mut seats, now) = (Seats::new(4, 3), Instant::now());
        seats.admit('q', SILENT, "quiet", now);
        for _ in 0..3 {
            seats.admit('n', SILENT, "noisy", now);
        }
        let later = now + STALE;
        assert_eq!(seats.admit('x', SILENT, "new", later), Instead(4, "noisy"));
        for seat in 0..5 {
            seats.hold(seat, Hold::Stays, later);
        }
        assert_eq!(seats.admit('y', SILENT, "late", later), Full);
    }
}
