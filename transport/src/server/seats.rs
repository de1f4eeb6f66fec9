//! Who may be here at one time, and who gives way to whom. A decision without I/O.

use std::collections::BTreeMap;

/// Names a seat that was taken. Lower is older.
pub(super) type SeatId = u64;

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
    /// How to reach who sits there.
    token: T,
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

    /// Gives a seat to one who comes. Who gives way is the one that gives way most easily, then the oldest: of the same holder when that
    /// has all it may have, else of the holder that has most.
    pub fn admit(&mut self, holder: K, hold: Hold, token: T) -> Admission<T> {
        let gone = if self.count(&holder) >= self.each {
            match self.easiest(&holder) {
                Some(seat) => self.leave(seat),
                None => return Admission::TooManyOfOne,
            }
        } else if self.taken.len() >= self.all {
            match self.give_way() {
                Some(token) => Some(token),
                None => return Admission::Full,
            }
        } else {
            None
        };
        let seat = self.next;
        self.next += 1;
        self.taken.insert(seat, Taken { holder, hold, token });
        match gone {
            Some(token) => Admission::Instead(seat, token),
            None => Admission::Seat(seat),
        }
    }

    /// Frees a seat; returns how to reach who sat there, nothing when it was given away already.
    pub fn leave(&mut self, seat: SeatId) -> Option<T> {
        self.taken.remove(&seat).map(|taken| taken.token)
    }

    /// Says anew whether the seat may be given away.
    pub fn hold(&mut self, seat: SeatId, hold: Hold) {
        if let Some(taken) = self.taken.get_mut(&seat) {
            taken.hold = hold;
        }
    }

    /// Frees the seat that gives way most easily; nothing when none does.
    pub fn give_way(&mut self) -> Option<T> {
        let mut counts: BTreeMap<&K, usize> = BTreeMap::new();
        for taken in self.taken.values() {
            *counts.entry(&taken.holder).or_default() += 1;
        }
        let yielding = self.taken.iter().filter(|(_, taken)| taken.hold != Hold::Stays);
        let (seat, _) = yielding.min_by_key(|(seat, taken)| {
            let count = counts.get(&taken.holder).copied().unwrap_or(0);
            (std::cmp::Reverse(count), taken.hold, **seat)
        })?;
        let seat = *seat;
        self.leave(seat)
    }

    fn count(&self, holder: &K) -> usize {
        self.taken
            .values()
            .filter(|taken| taken.holder == *holder)
            .count()
    }

    fn easiest(&self, holder: &K) -> Option<SeatId> {
        let theirs = self
            .taken
            .iter()
            .filter(|(_, taken)| taken.holder == *holder && taken.hold != Hold::Stays);
        theirs
            .min_by_key(|(seat, taken)| (taken.hold, **seat))
            .map(|(seat, _)| *seat)
    }
}

#[cfg(test)]
mod tests {
    use super::Admission::*;
    use super::*;

    const EASY: Hold = Hold::GivesWay(0);

    #[test]
    fn the_oldest_gives_way() {
        let mut seats = Seats::new(2, 2);
        assert_eq!(seats.admit('a', EASY, "first"), Seat(0));
        assert_eq!(seats.admit('b', EASY, "second"), Seat(1));
        assert_eq!(seats.admit('c', EASY, "third"), Instead(2, "first"));
        assert_eq!(seats.leave(0), None, "gone already");
        assert_eq!(seats.admit('d', EASY, "fourth"), Instead(3, "second"));
        assert_eq!(seats.leave(2), Some("third"));
        assert_eq!(seats.admit('e', EASY, "fifth"), Seat(4));
    }

    #[test]
    fn who_said_most_stays_longest() {
        let mut seats = Seats::new(3, 3);
        for (token, hold) in [("proving", 2), ("silent", 0), ("named", 1)] {
            seats.admit('a', Hold::GivesWay(hold), token);
        }
        assert_eq!(seats.give_way(), Some("silent"));
        seats.hold(0, EASY);
        assert_eq!(seats.give_way(), Some("proving"));
        seats.hold(2, Hold::Stays);
        assert_eq!(seats.give_way(), None);
    }

    #[test]
    fn one_holder_takes_no_seat_of_others() {
        let mut seats = Seats::new(10, 3);
        for number in 0..3 {
            seats.admit('n', EASY, number);
        }
        assert_eq!(seats.admit('n', EASY, 3), Instead(3, 0));
        assert_eq!(seats.admit('x', EASY, 4), Seat(4), "seven are left for others");
        for seat in 1..4 {
            seats.hold(seat, Hold::Stays);
        }
        assert_eq!(seats.admit('n', EASY, 5), TooManyOfOne);
        assert_eq!(seats.admit('x', EASY, 6), Seat(5));
    }

    #[test]
    fn when_all_are_taken_those_who_have_most_give_way_first() {
        let mut seats = Seats::new(4, 3);
        seats.admit('q', EASY, "quiet");
        for _ in 0..3 {
            seats.admit('n', EASY, "noisy");
        }
        assert_eq!(seats.admit('x', EASY, "new"), Instead(4, "noisy"));
        for seat in 0..5 {
            seats.hold(seat, Hold::Stays);
        }
        assert_eq!(seats.admit('y', EASY, "late"), Full);
    }
}
