//! Who descends from whom, exact at every LSN and without a search: a position's path of forks says it all.
//!
//! A position P is an ancestor of Q iff the path from Q back through its fork points passes through P. The end of a parent's
//! stretch and the beginning of its child's are the same state, so they are the same place in history.

use std::collections::HashSet;

use neon_types::{Lsn, Position, TimelineId};

use crate::commit::Fork;

/// A position with the path that leads to it. The path is root first and not empty; its last fork is the position's timeline.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Line<'a> {
    /// Forks from the root.
    pub path: &'a [Fork],
    /// The position's LSN on the last of them.
    pub lsn: Lsn,
}

/// How one position stands to another.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Relation {
    /// They are the same place.
    Equal,
    /// The first is an ancestor of the second.
    Ancestor,
    /// The first descends from the second.
    Descendant,
    /// Neither: both left their last common position.
    Diverged {
        /// That position; absent when the histories have nothing in common.
        common: Option<Position>,
    },
}

impl<'a> Line<'a> {
    /// Returns where the stretch with that index ends on this line.
    fn end_of(&self, index: usize) -> Lsn {
        self.path.get(index + 1).map_or(self.lsn, |next| next.start)
    }

    /// Returns the line without forks at its very end on which nothing happened.
    fn trimmed(mut self) -> Line<'a> {
        while let [rest @ .., last] = self.path
            && !rest.is_empty()
            && last.start >= self.lsn
        {
            self.path = rest;
        }
        self
    }

    /// Returns the position that the line leads to, named on the oldest timeline that has it; absent for an empty path.
    pub fn position(&self) -> Option<Position> {
        let trimmed = self.trimmed();
        trimmed.path.last().map(|fork| Position {
            timeline: fork.timeline,
            lsn: trimmed.lsn,
        })
    }

    /// Returns true when the line passes through `position`, or ends there.
    pub fn passes(&self, position: &Position) -> bool {
        self.path.iter().enumerate().any(|(index, fork)| {
            fork.timeline == position.timeline
                && fork.start <= position.lsn
                && position.lsn <= self.end_of(index)
        })
    }

    /// Returns the path to `position`, when the line passes through it.
    pub fn path_to(&self, position: &Position) -> Option<&'a [Fork]> {
        if !self.passes(position) {
            return None;
        }
        let index = self
            .path
            .iter()
            .position(|fork| fork.timeline == position.timeline)?;
        self.path.get(..=index)
    }

    /// Returns the part of `timeline` that the line uses: where it enters, and where it leaves or ends.
    pub fn stretch(&self, timeline: TimelineId) -> Option<(Lsn, Lsn)> {
        self.path
            .iter()
            .enumerate()
            .find(|(_, fork)| fork.timeline == timeline)
            .map(|(index, fork)| (fork.start, self.end_of(index)))
    }
}

/// Returns how `a` stands to `b`.
pub fn relation(a: Line<'_>, b: Line<'_>) -> Relation {
    let (a, b) = (a.trimmed(), b.trimmed());
    // Forks of one name that begin differently are not one timeline, whatever their name says: no common ground there.
    let shared = a.path.iter().zip(b.path).take_while(|(a, b)| a == b).count();
    let Some(last) = shared.checked_sub(1) else {
        return Relation::Diverged { common: None };
    };
    let (end_a, end_b) = (a.end_of(last), b.end_of(last));
    let common = end_a.min(end_b);
    let is_a = shared == a.path.len() && common == a.lsn;
    let is_b = shared == b.path.len() && common == b.lsn;
    match (is_a, is_b) {
        (true, true) => Relation::Equal,
        (true, false) => Relation::Ancestor,
        (false, true) => Relation::Descendant,
        (false, false) => Relation::Diverged {
            common: a.path.get(last).map(|fork| Position {
                timeline: fork.timeline,
                lsn: common,
            }),
        },
    }
}

/// Returns true when `a` is `b` or an ancestor of it.
pub fn is_ancestor(a: Line<'_>, b: Line<'_>) -> bool {
    matches!(relation(a, b), Relation::Equal | Relation::Ancestor)
}

/// Says what makes `path` impossible as the path to `position`, if anything.
pub(crate) fn check_path(path: &[Fork], position: &Position) -> Result<(), String> {
    let Some(last) = path.last() else {
        return Err("the path is empty".to_owned());
    };
    if last.timeline != position.timeline {
        return Err(format!(
            "the path ends on timeline {}, not on {}",
            last.timeline, position.timeline
        ));
    }
    let mut seen = HashSet::new();
    let mut start = Lsn::INVALID;
    for fork in path {
        if !seen.insert(fork.timeline) {
            return Err(format!("the path passes timeline {} twice", fork.timeline));
        }
        if fork.start < start || fork.start > position.lsn {
            return Err(format!(
                "timeline {} begins out of order at {}",
                fork.timeline, fork.start
            ));
        }
        if !fork.start.0.is_multiple_of(8) || fork.tli == 0 || fork.tli > 0x7FFF_FFFF {
            return Err(format!(
                "timeline {} has an impossible start or number",
                fork.timeline
            ));
        }
        start = fork.start;
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn timeline(number: u8) -> TimelineId {
        TimelineId([number; 16])
    }

    fn path(forks: &[(u8, u64)]) -> Vec<Fork> {
        forks
            .iter()
            .map(|(number, start)| Fork {
                timeline: timeline(*number),
                tli: u32::from(*number),
                start: Lsn(*start),
            })
            .collect()
    }

    fn compare(a: (&[(u8, u64)], u64), b: (&[(u8, u64)], u64)) -> Relation {
        let (path_a, path_b) = (path(a.0), path(b.0));
        relation(
            Line {
                path: &path_a,
                lsn: Lsn(a.1),
            },
            Line {
                path: &path_b,
                lsn: Lsn(b.1),
            },
        )
    }

    fn diverged(number: u8, lsn: u64) -> Relation {
        Relation::Diverged {
            common: Some(Position {
                timeline: timeline(number),
                lsn: Lsn(lsn),
            }),
        }
    }

    const MAIN: &[(u8, u64)] = &[(1, 8)];
    const CHILD: &[(u8, u64)] = &[(1, 8), (2, 104)];
    const GRANDCHILD: &[(u8, u64)] = &[(1, 8), (2, 104), (3, 152)];
    const SIBLING: &[(u8, u64)] = &[(1, 8), (4, 120)];

    #[test]
    fn on_one_timeline_the_lsn_decides() {
        assert_eq!(compare((MAIN, 40), (MAIN, 40)), Relation::Equal);
        assert_eq!(compare((MAIN, 40), (MAIN, 48)), Relation::Ancestor);
        assert_eq!(compare((MAIN, 48), (MAIN, 40)), Relation::Descendant);
    }

    #[test]
    fn a_parent_is_an_ancestor_up_to_the_fork_and_not_beyond() {
        assert_eq!(compare((MAIN, 96), (CHILD, 200)), Relation::Ancestor);
        assert_eq!(compare((MAIN, 104), (CHILD, 200)), Relation::Ancestor);
        assert_eq!(compare((MAIN, 112), (CHILD, 200)), diverged(1, 104));
        assert_eq!(compare((CHILD, 200), (MAIN, 104)), Relation::Descendant);
        assert_eq!(compare((GRANDCHILD, 200), (CHILD, 152)), Relation::Descendant);
        assert_eq!(compare((GRANDCHILD, 200), (CHILD, 160)), diverged(2, 152));
    }

    #[test]
    fn siblings_diverge_at_the_earlier_fork() {
        assert_eq!(compare((CHILD, 200), (SIBLING, 200)), diverged(1, 104));
        assert_eq!(compare((SIBLING, 200), (GRANDCHILD, 200)), diverged(1, 104));
    }

    #[test]
    fn a_fork_without_a_change_is_the_place_where_it_forks() {
        assert_eq!(compare((CHILD, 104), (MAIN, 104)), Relation::Equal);
        assert_eq!(compare((CHILD, 104), (MAIN, 112)), Relation::Ancestor);
        assert_eq!(compare((CHILD, 104), (SIBLING, 200)), Relation::Ancestor);
        assert_eq!(compare((GRANDCHILD, 152), (CHILD, 152)), Relation::Equal);
    }

    #[test]
    fn strangers_have_nothing_in_common() {
        assert_eq!(
            compare((MAIN, 40), (&[(9, 8)], 40)),
            Relation::Diverged { common: None }
        );
        // One name, two beginnings: somebody lies.
        assert_eq!(
            compare((&[(1, 16)], 40), (MAIN, 40)),
            Relation::Diverged { common: None }
        );
    }

    #[test]
    fn a_line_knows_what_it_passes() {
        let path = path(GRANDCHILD);
        let line = Line {
            path: &path,
            lsn: Lsn(200),
        };
        let at = |number, lsn| Position {
            timeline: timeline(number),
            lsn: Lsn(lsn),
        };
        assert!(line.passes(&at(1, 8)) && line.passes(&at(1, 104)) && line.passes(&at(3, 200)));
        assert!(!line.passes(&at(1, 112)) && !line.passes(&at(3, 208)) && !line.passes(&at(4, 120)));
        assert_eq!(line.path_to(&at(2, 120)).map(<[Fork]>::len), Some(2));
        assert_eq!(line.path_to(&at(2, 160)), None);
        assert_eq!(line.stretch(timeline(2)), Some((Lsn(104), Lsn(152))));
        assert_eq!(line.position(), Some(at(3, 200)));
    }

    #[test]
    fn impossible_paths_are_named() {
        let at = |number, lsn| Position {
            timeline: timeline(number),
            lsn: Lsn(lsn),
        };
        assert_eq!(check_path(&path(GRANDCHILD), &at(3, 200)), Ok(()));
        for (forks, position) in [
            (&[][..], at(1, 8)),
            (MAIN, at(2, 40)),
            (&[(1, 8), (2, 16), (1, 24)], at(1, 40)),
            (&[(1, 24), (2, 16)], at(2, 40)),
            (&[(1, 48)], at(1, 40)),
            (&[(1, 9)], at(1, 40)),
        ] {
            assert!(check_path(&path(forks), &position).is_err(), "{forks:?}");
        }
    }
}
