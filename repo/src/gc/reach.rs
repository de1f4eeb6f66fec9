//! What is reachable: a pure function of the roots and of how commits and timelines hang together.

use std::collections::{BTreeMap, BTreeSet};

use neon_types::{CommitId, TimelineId};

/// What is needed by itself.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct Roots {
    /// Commits that refs name, or named not long ago.
    pub commits: BTreeSet<CommitId>,
    /// Timelines that endpoints use, and those that are open for a branch.
    pub timelines: BTreeSet<TimelineId>,
}

/// What a commit needs.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct Needs {
    /// Commits before it.
    pub parents: Vec<CommitId>,
    /// The timelines of its path.
    pub path: Vec<TimelineId>,
}

/// What must stay.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct Reached {
    /// Commits, those that are not here among them.
    pub commits: BTreeSet<CommitId>,
    /// Timelines.
    pub timelines: BTreeSet<TimelineId>,
}

/// Returns everything that the roots lead to. `needs` tells what a commit needs, nothing of one that is not here; `ancestors` which
/// timeline each forks from. A timeline that others fork from stays as long as they do.
pub(crate) fn reach<E>(
    roots: &Roots,
    needs: &mut dyn FnMut(CommitId) -> Result<Option<Needs>, E>,
    ancestors: &BTreeMap<TimelineId, Option<TimelineId>>,
) -> Result<Reached, E> {
    let mut reached = Reached::default();
    let mut timelines: Vec<TimelineId> = roots.timelines.iter().copied().collect();
    let mut commits: Vec<CommitId> = roots.commits.iter().copied().collect();
    while let Some(commit) = commits.pop() {
        if reached.commits.insert(commit)
            && let Some(needs) = needs(commit)?
        {
            commits.extend(needs.parents);
            timelines.extend(needs.path);
        }
    }
    while let Some(timeline) = timelines.pop() {
        if reached.timelines.insert(timeline) {
            timelines.extend(ancestors.get(&timeline).copied().flatten());
        }
    }
    Ok(reached)
}

#[cfg(test)]
mod tests {
    use std::convert::Infallible;

    use neon_types::ObjectId;
    use proptest::prelude::*;

    use super::*;

    fn commit(number: usize) -> CommitId {
        CommitId(ObjectId::from_bytes([number as u8; 32]))
    }

    fn timeline(number: usize) -> TimelineId {
        TimelineId([number as u8; 16])
    }

    proptest! {
        /// Against the definition: what is needed by something that stays, or is a root, stays; nothing else does.
        #[test]
        fn what_stays_is_closed_and_no_more(
            parents in proptest::collection::vec((proptest::collection::vec(0usize..40, 0..3), 0usize..12), 40),
            forks in proptest::collection::vec(proptest::option::of(0usize..12), 12),
            roots in (proptest::collection::btree_set(0usize..45, 0..4), proptest::collection::btree_set(0usize..12, 0..2)),
        ) {
            let graph: BTreeMap<CommitId, Needs> = parents
                .iter()
                .enumerate()
                .map(|(number, (parents, on))| {
                    let needs = Needs { parents: parents.iter().copied().map(commit).collect(), path: vec![timeline(*on)] };
                    (commit(number), needs)
                })
                .collect();
            let ancestors: BTreeMap<TimelineId, Option<TimelineId>> = forks
                .iter()
                .enumerate()
                .map(|(number, fork)| (timeline(number), fork.map(timeline)))
                .collect();
            let roots = Roots {
                commits: roots.0.iter().copied().map(commit).collect(),
                timelines: roots.1.iter().copied().map(timeline).collect(),
            };
            let reached =
                reach::<Infallible>(&roots, &mut |id| Ok(graph.get(&id).cloned()), &ancestors).unwrap();
            // Grow the definition until it stands still.
            let mut expected = Reached { commits: roots.commits.clone(), timelines: roots.timelines.clone() };
            loop {
                let before = expected.clone();
                for (id, needs) in &graph {
                    if expected.commits.contains(id) {
                        expected.commits.extend(&needs.parents);
                        expected.timelines.extend(&needs.path);
                    }
                }
                for (id, ancestor) in &ancestors {
                    if expected.timelines.contains(id) {
                        expected.timelines.extend(ancestor);
                    }
                }
                if expected == before {
                    break;
                }
            }
            prop_assert_eq!(reached, expected);
        }
    }
}
