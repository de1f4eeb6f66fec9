//! Which branch another one left, and where: told by where their heads are.

use std::collections::BTreeMap;

use neon_objects::ancestry::{self, Line, Relation};
use neon_types::{Lsn, Position};

/// The heads of all branches: those at one place together, because they stand to any other place alike.
pub(crate) struct Heads<'a> {
    places: BTreeMap<Position, (Line<'a>, Names<'a>)>,
    head: &'a str,
}

/// Branches at one place.
#[derive(Default)]
struct Names<'a> {
    /// The first two by name.
    first: [Option<&'a str>; 2],
    /// HEAD's is among them.
    has_head: bool,
}

impl<'a> Heads<'a> {
    /// Takes branches in the order of their names, with the lines that lead to them; `head` is HEAD's.
    pub(crate) fn new(branches: impl Iterator<Item = (&'a str, Line<'a>)>, head: &'a str) -> Heads<'a> {
        let mut places: BTreeMap<Position, (Line<'a>, Names<'a>)> = BTreeMap::new();
        for (name, line) in branches {
            let Some(position) = line.position() else { continue };
            let (_, names) = places.entry(position).or_insert_with(|| (line, Names::default()));
            names.has_head |= name == head;
            if let Some(free) = names.first.iter_mut().find(|name| name.is_none()) {
                *free = Some(name);
            }
        }
        Heads { places, head }
    }

    /// Returns the branch that `name` left, and where: the one whose line shares the longest way with it and that goes on from
    /// there, or stands there. HEAD, then the first by name, wins among equals; a branch never descends from one that descends from it.
    pub(crate) fn parent_of(&self, name: &str, line: Line<'_>) -> Option<(&'a str, Lsn)> {
        if name == self.head {
            return None;
        }
        let mut best: Option<(Lsn, &'a str)> = None;
        for (theirs, names) in self.places.values() {
            let first = if names.has_head {
                Some(self.head)
            } else {
                names.first.iter().flatten().copied().find(|other| *other != name)
            };
            let Some(other) = first else { continue };
            // Siblings at one place, or one that is ahead: the default branch and older names are parents.
            let is_older = other == self.head || other < name;
            let shared = match ancestry::relation(line, *theirs) {
                Relation::Descendant => Some(theirs.lsn),
                Relation::Equal | Relation::Ancestor if is_older => Some(line.lsn),
                Relation::Diverged { common: Some(common) } if is_older => Some(common.lsn),
                _ => None,
            };
            let Some(lsn) = shared else { continue };
            let wins = |(best_lsn, best): (Lsn, &str)| {
                (lsn, other == self.head) > (best_lsn, best == self.head)
                    || (lsn == best_lsn && best != self.head && other < best)
            };
            if best.is_none_or(wins) {
                best = Some((lsn, other));
            }
        }
        best.map(|(lsn, parent)| (parent, lsn))
    }
}

#[cfg(test)]
mod tests {
    use neon_objects::Fork;
    use neon_types::TimelineId;
    use proptest::prelude::*;

    use super::*;

    /// By looking at each branch alone.
    fn plainly<'a>(
        all: &[(&'a str, Line<'_>)],
        head: &str,
        name: &str,
        line: Line<'_>,
    ) -> Option<(&'a str, Lsn)> {
        let others = all.iter().filter(|(other, _)| *other != name && name != head);
        let shared = others.filter_map(|(other, theirs)| {
            let is_older = *other == head || *other < name;
            let lsn = match ancestry::relation(line, *theirs) {
                Relation::Descendant => Some(theirs.lsn),
                Relation::Equal | Relation::Ancestor if is_older => Some(line.lsn),
                Relation::Diverged { common: Some(common) } if is_older => Some(common.lsn),
                _ => None,
            };
            lsn.map(|lsn| (*other, lsn))
        });
        shared.min_by_key(|(other, lsn)| (std::cmp::Reverse(*lsn), *other != head, *other))
    }

    proptest! {
        #[test]
        fn a_parent_is_found_as_by_looking_at_each_branch(
            places in proptest::collection::vec((0usize..4, 0u64..6), 1..9),
            head in 0usize..9,
        ) {
            let fork = |number: u8, start| Fork { timeline: TimelineId([number; 16]), start: Lsn(start), tli: 1 };
            // Timelines that leave each other, one of nothing in common.
            let paths = [
                vec![fork(1, 0)],
                vec![fork(1, 0), fork(2, 2)],
                vec![fork(1, 0), fork(2, 2), fork(3, 4)],
                vec![fork(9, 0)],
            ];
            let names = ["a", "b", "c", "d", "e", "f", "g", "h", "i"];
            let all: Vec<(&str, Line<'_>)> = names
                .iter()
                .zip(&places)
                .map(|(name, (path, more))| {
                    let path = &paths[*path];
                    (*name, Line { path, lsn: path.last().unwrap().start + *more })
                })
                .collect();
            let head = names[head % places.len()];
            let heads = Heads::new(all.iter().copied(), head);
            for (name, line) in &all {
                prop_assert_eq!(heads.parent_of(name, *line), plainly(&all, head, name, *line));
            }
        }
    }
}
