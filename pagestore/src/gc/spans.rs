//! Sets of positions of one line of history.

use neon_types::Lsn;
use serde::{Deserialize, Serialize};

/// The positions from one LSN to another, both among them.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Span {
    /// The first.
    pub from: Lsn,
    /// The last; [`Lsn::MAX`]: there is no end.
    pub to: Lsn,
}

impl Span {
    /// Returns the one position.
    pub fn at(lsn: Lsn) -> Span {
        Span { from: lsn, to: lsn }
    }

    /// Returns everything from `lsn` on.
    pub fn since(lsn: Lsn) -> Span {
        Span {
            from: lsn,
            to: Lsn::MAX,
        }
    }
}

/// Positions: spans in order that do not touch each other.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(transparent)]
pub struct Spans(Vec<Span>);

impl FromIterator<Span> for Spans {
    fn from_iter<T: IntoIterator<Item = Span>>(spans: T) -> Spans {
        let mut all: Vec<Span> = spans.into_iter().filter(|span| span.from <= span.to).collect();
        all.sort_unstable();
        let mut merged: Vec<Span> = Vec::with_capacity(all.len());
        for span in all {
            match merged.last_mut() {
                Some(last) if span.from.0 <= last.to.0.saturating_add(1) => last.to = last.to.max(span.to),
                _ => merged.push(span),
            }
        }
        Spans(merged)
    }
}

impl Spans {
    /// Returns all positions.
    pub fn all() -> Spans {
        Spans(vec![Span::since(Lsn::INVALID)])
    }

    /// Returns the spans in order.
    pub fn iter(&self) -> impl Iterator<Item = Span> + '_ {
        self.0.iter().copied()
    }

    /// Returns true when there is no position.
    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    /// Returns the first position at or above `lsn`, and the span that it is in.
    pub fn next(&self, lsn: Lsn) -> Option<(Lsn, Span)> {
        let place = self.0.partition_point(|span| span.to < lsn);
        let span = *self.0.get(place)?;
        Some((span.from.max(lsn), span))
    }

    /// Returns true when the position is among them.
    pub fn contains(&self, lsn: Lsn) -> bool {
        self.next(lsn).is_some_and(|(next, _)| next == lsn)
    }

    /// Returns the positions of both.
    pub fn and(&self, other: &Spans) -> Spans {
        let both = self.iter().flat_map(|one| {
            other.iter().map(move |other| Span {
                from: one.from.max(other.from),
                to: one.to.min(other.to),
            })
        });
        both.collect()
    }

    /// Returns the positions of either.
    pub fn or(&self, other: impl IntoIterator<Item = Span>) -> Spans {
        self.iter().chain(other).collect()
    }

    /// Returns what a timeline that forks at `lsn` from one with these positions has: its own, and those of them below.
    pub(crate) fn of_fork(&self, lsn: Lsn) -> Spans {
        let below = Spans(vec![Span {
            from: Lsn::INVALID,
            to: lsn,
        }]);
        self.and(&below).or([Span::since(lsn)])
    }

    /// Returns true when they make sense as they were read: in order, apart from each other.
    pub(crate) fn is_sound(&self) -> bool {
        self.iter().collect::<Spans>() == *self
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn spans(spans: &[(u64, u64)]) -> Spans {
        spans
            .iter()
            .map(|(from, to)| Span {
                from: Lsn(*from),
                to: Lsn(*to),
            })
            .collect()
    }

    proptest! {
        #[test]
        fn sets_of_positions_are_sets(
            a in proptest::collection::vec((0u64..30, 0u64..30), 0..6),
            b in proptest::collection::vec((0u64..30, 0u64..30), 0..6),
        ) {
            let inside = |list: &[(u64, u64)], lsn: u64| list.iter().any(|(from, to)| (*from..=*to).contains(&lsn));
            let (one, other) = (spans(&a), spans(&b));
            let (both, either) = (one.and(&other), one.or(other.iter()));
            prop_assert!(one.is_sound() && both.is_sound() && either.is_sound());
            for lsn in 0..32 {
                prop_assert_eq!(one.contains(Lsn(lsn)), inside(&a, lsn));
                prop_assert_eq!(both.contains(Lsn(lsn)), inside(&a, lsn) && inside(&b, lsn));
                prop_assert_eq!(either.contains(Lsn(lsn)), inside(&a, lsn) || inside(&b, lsn));
                let next = (lsn..32).find(|lsn| inside(&a, *lsn));
                prop_assert_eq!(one.next(Lsn(lsn)).map(|(next, _)| next.0), next);
            }
        }
    }
}
