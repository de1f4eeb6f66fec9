//! How long somebody who tries passwords has to wait. A decision without I/O: the time is handed in.
//!
//! Failed logins are counted three ways, and the count of each is forgotten with time:
//!
//! * by address and user together: after [`PAIR`] attempts may follow each other ever more slowly;
//! * by address: whoever tries many names from one place waits, too;
//! * by user: a name that is tried from many places makes each place wait a moment.
//!
//! The last two pass over a pair that got in lately. So a stranger makes a user wait for long only by guessing from the very address that the
//! user comes from; from elsewhere, the right password costs the user a second at most. Whether a user exists makes no difference.

use std::borrow::Borrow;
use std::collections::HashMap;
use std::hash::Hash;
use std::time::{Duration, Instant};

use super::network::Network;

/// How delays grow.
struct Rule {
    /// Failures that cost nothing.
    free: u32,
    /// What the next one costs; each one after it twice as much.
    first: Duration,
    /// What one costs at most.
    most: Duration,
}

/// Of one user from one address.
const PAIR: Rule = Rule {
    free: 3,
    first: Duration::from_millis(250),
    most: Duration::from_secs(8),
};
/// Of all users from one address.
const ADDRESS: Rule = Rule {
    free: 10,
    first: Duration::from_millis(100),
    most: Duration::from_secs(4),
};
/// Of one user from all addresses.
const USER: Rule = Rule {
    free: 10,
    first: Duration::from_millis(250),
    most: Duration::from_secs(1),
};

/// Nobody waits longer: who would have to is told to come again.
const LONGEST_WAIT: Duration = Duration::from_secs(8);
/// After so long one failure is forgotten.
const FORGET: Duration = Duration::from_secs(60);
/// How long an address is known to be one that a user comes from.
const KNOWN: Duration = Duration::from_secs(24 * 60 * 60);
/// Things remembered of each kind; the one that was heard of least lately goes.
const MEMORY: usize = 4096;

impl Rule {
    fn delay(&self, failures: u32) -> Duration {
        match failures.checked_sub(self.free) {
            None => Duration::ZERO,
            // Doubled often enough it is the most in any case.
            Some(doublings) => self.first.saturating_mul(1 << doublings.min(16)).min(self.most),
        }
    }

    /// More failures than these cost no more, and are not counted, so that all are forgotten in time.
    fn enough(&self) -> u32 {
        self.free + 8
    }
}

/// What becomes of an attempt.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Verdict {
    /// Its password is looked at after this time.
    After(Duration),
    /// Its password is not looked at; it may come again after this time.
    Refused(Duration),
}

/// Failures of somebody.
#[derive(Clone, Copy, Debug)]
struct Record {
    failures: u32,
    /// When the last one was.
    last: Instant,
    /// The next attempt is not looked at before.
    next: Instant,
}

impl Record {
    fn now(&self, now: Instant) -> u32 {
        let forgotten = now.saturating_duration_since(self.last).as_secs() / FORGET.as_secs();
        self.failures
            .saturating_sub(u32::try_from(forgotten).unwrap_or(u32::MAX))
    }
}

/// Records by what they are of, bounded.
struct Table<K> {
    records: HashMap<K, Record>,
    rule: Rule,
}

impl<K: Hash + Eq + Clone> Table<K> {
    fn new(rule: Rule) -> Table<K> {
        Table {
            records: HashMap::new(),
            rule,
        }
    }

    /// Returns how far apart attempts are to be, and when the next may be.
    fn pace<Q: Hash + Eq + ?Sized>(&self, key: &Q, now: Instant) -> (Duration, Instant)
    where
        K: Borrow<Q>,
    {
        match self.records.get(key) {
            Some(record) => {
                let delay = self.rule.delay(record.now(now));
                (
                    delay,
                    if delay.is_zero() {
                        now
                    } else {
                        record.next.max(now)
                    },
                )
            }
            None => (Duration::ZERO, now),
        }
    }

    /// Says that an attempt will be looked at `at`.
    fn reserve<Q: Hash + Eq + ?Sized>(&mut self, key: &Q, at: Instant, now: Instant)
    where
        K: Borrow<Q>,
    {
        if let Some(record) = self.records.get_mut(key) {
            record.next = at + self.rule.delay(record.now(now));
        }
    }

    fn failed(&mut self, key: K, now: Instant) {
        if !self.records.contains_key(&key) {
            self.make_room(now);
        }
        let enough = self.rule.enough();
        let record = self.records.entry(key).or_insert(Record {
            failures: 0,
            last: now,
            next: now,
        });
        record.failures = (record.now(now) + 1).min(enough);
        record.last = now;
        let next = now + self.rule.delay(record.failures);
        record.next = record.next.max(next);
    }

    fn make_room(&mut self, now: Instant) {
        if self.records.len() < MEMORY {
            return;
        }
        self.records.retain(|_, record| record.now(now) > 0);
        if self.records.len() < MEMORY {
            return;
        }
        let oldest = self.records.iter().min_by_key(|(_, record)| record.last);
        if let Some(oldest) = oldest.map(|(key, _)| key.clone()) {
            self.records.remove(&oldest);
        }
    }
}

/// An address and a user.
type Pair = (Network, String);

/// What is remembered of logins. Of bounded size.
pub(super) struct Guard {
    pairs: Table<Pair>,
    addresses: Table<Network>,
    users: Table<String>,
    /// Pairs that got in, and when they last did.
    known: HashMap<Pair, Instant>,
}

impl Guard {
    pub fn new() -> Guard {
        Guard {
            pairs: Table::new(PAIR),
            addresses: Table::new(ADDRESS),
            users: Table::new(USER),
            known: HashMap::new(),
        }
    }

    /// Says when the password of an attempt may be looked at. Attempts at the same time get their turns one after the other.
    pub fn ask(&mut self, from: Network, user: &str, now: Instant) -> Verdict {
        let pair = (from, user.to_owned());
        let (_, mut turn) = self.pairs.pace(&pair, now);
        let known = self.is_known(&pair, now);
        if !known {
            turn = turn.max(self.addresses.pace(&from, now).1);
            let (moment, _) = self.users.pace(user, now);
            turn = turn.max(now + moment);
        }
        let wait = turn.saturating_duration_since(now);
        if wait > LONGEST_WAIT {
            return Verdict::Refused(wait);
        }
        self.pairs.reserve(&pair, turn, now);
        if !known {
            self.addresses.reserve(&from, turn, now);
        }
        Verdict::After(wait)
    }

    /// The password was wrong.
    pub fn failed(&mut self, from: Network, user: &str, now: Instant) {
        self.pairs.failed((from, user.to_owned()), now);
        self.addresses.failed(from, now);
        self.users.failed(user.to_owned(), now);
    }

    /// The password was right. What was counted of the address and of the user stays: it may not have been theirs.
    pub fn passed(&mut self, from: Network, user: &str, now: Instant) {
        let pair = (from, user.to_owned());
        self.pairs.records.remove(&pair);
        if self.known.len() >= MEMORY && !self.known.contains_key(&pair) {
            let oldest = self.known.iter().min_by_key(|(_, when)| **when);
            if let Some(oldest) = oldest.map(|(pair, _)| pair.clone()) {
                self.known.remove(&oldest);
            }
        }
        self.known.insert(pair, now);
    }

    fn is_known(&self, pair: &Pair, now: Instant) -> bool {
        let seen = self.known.get(pair);
        seen.is_some_and(|when| now.saturating_duration_since(*when) < KNOWN)
    }
}

#[cfg(test)]
mod tests {
    use std::net::{IpAddr, Ipv4Addr};

    use super::*;

    fn place(number: u32) -> Network {
        Network::of(IpAddr::V4(Ipv4Addr::from(number)))
    }

    /// Tries `count` wrong passwords, each as soon as it may; returns how long that took.
    fn guess(guard: &mut Guard, from: Network, user: &str, now: &mut Instant, count: usize) -> Duration {
        let began = *now;
        for _ in 0..count {
            match guard.ask(from, user, *now) {
                Verdict::After(wait) => *now += wait,
                Verdict::Refused(wait) => panic!("one at a time waits {wait:?}"),
            }
            guard.failed(from, user, *now);
        }
        *now - began
    }

    #[test]
    fn mistakes_cost_nothing_and_guesses_ever_more() {
        let (mut guard, mut now) = (Guard::new(), Instant::now());
        assert_eq!(guess(&mut guard, place(1), "ada", &mut now, 3), Duration::ZERO);
        let mut last = Duration::ZERO;
        for _ in 0..5 {
            let took = guess(&mut guard, place(1), "ada", &mut now, 1);
            assert!(took > last, "{took:?} after {last:?}");
            last = took;
        }
        let hundred = guess(&mut guard, place(1), "ada", &mut now, 100);
        assert_eq!(hundred, PAIR.most * 100, "bounded, and one guess in so long");
    }

    #[test]
    fn many_at_once_get_their_turns_one_after_the_other() {
        let (mut guard, now) = (Guard::new(), Instant::now());
        for _ in 0..20 {
            guard.failed(place(1), "ada", now);
        }
        let turns: Vec<Verdict> = (0..100).map(|_| guard.ask(place(1), "ada", now)).collect();
        let taken = turns
            .iter()
            .filter(|turn| matches!(turn, Verdict::After(_)))
            .count();
        assert_eq!(taken, 1, "{turns:?}");
        // Those that were not looked at do not make it worse.
        assert_eq!(turns[1], turns[99]);
    }

    #[test]
    fn other_names_from_the_same_address_do_not_help() {
        let (mut guard, mut now) = (Guard::new(), Instant::now());
        let mut took = Duration::ZERO;
        for number in 0..200 {
            took += guess(&mut guard, place(1), &format!("user{number}"), &mut now, 1);
        }
        assert!(took > ADDRESS.most * 150, "{took:?}");
    }

    #[test]
    fn a_stranger_does_not_lock_out_a_user_who_comes_from_elsewhere() {
        let (mut guard, mut now) = (Guard::new(), Instant::now());
        for from in 0..1000 {
            guess(&mut guard, place(from), "ada", &mut now, 1);
        }
        let Verdict::After(wait) = guard.ask(place(5000), "ada", now) else {
            panic!("refused")
        };
        assert!(wait <= USER.most, "{wait:?}");
        // Nobody else is touched.
        assert_eq!(guard.ask(place(5000), "bob", now), Verdict::After(Duration::ZERO));
        // Where she got in before, she does not even wait for that.
        guard.passed(place(5000), "ada", now);
        assert_eq!(guard.ask(place(5000), "ada", now), Verdict::After(Duration::ZERO));
    }

    #[test]
    fn a_neighbour_who_guesses_at_other_names_does_not_lock_out_a_user_who_was_here() {
        let (mut guard, mut now) = (Guard::new(), Instant::now());
        guard.passed(place(1), "ada", now);
        for number in 0..100 {
            guess(&mut guard, place(1), &format!("user{number}"), &mut now, 1);
        }
        assert_eq!(guard.ask(place(1), "ada", now), Verdict::After(Duration::ZERO));
        assert_ne!(guard.ask(place(1), "eve", now), Verdict::After(Duration::ZERO));
    }

    #[test]
    fn the_right_password_forgives_its_user_and_not_the_address() {
        let (mut guard, mut now) = (Guard::new(), Instant::now());
        guess(&mut guard, place(1), "ada", &mut now, 12);
        guard.passed(place(1), "ada", now);
        assert_eq!(guard.ask(place(1), "ada", now), Verdict::After(Duration::ZERO));
        assert_ne!(guard.ask(place(1), "eve", now), Verdict::After(Duration::ZERO));
    }

    #[test]
    fn all_is_forgotten_with_time() {
        let (mut guard, mut now) = (Guard::new(), Instant::now());
        guess(&mut guard, place(1), "ada", &mut now, 500);
        now += FORGET * (ADDRESS.enough() + 1);
        assert_eq!(guess(&mut guard, place(1), "ada", &mut now, 3), Duration::ZERO);
    }

    #[test]
    fn memory_is_bounded_and_those_who_go_on_are_not_forgotten() {
        let (mut guard, mut now) = (Guard::new(), Instant::now());
        for number in 0..6_000u32 {
            let user = format!("user{number}");
            guard.failed(place(number), &user, now);
            guard.passed(place(number), &user, now);
            guard.failed(place(1_000_000), "ada", now);
            now += Duration::from_millis(1);
        }
        assert!(guard.pairs.records.len() <= MEMORY);
        assert!(guard.addresses.records.len() <= MEMORY);
        assert!(guard.users.records.len() <= MEMORY);
        assert!(guard.known.len() <= MEMORY);
        assert_ne!(
            guard.ask(place(1_000_000), "ada", now),
            Verdict::After(Duration::ZERO)
        );
    }
}
