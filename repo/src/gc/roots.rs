//! Where reachability begins in this repository, and what commits lead to.

use std::collections::{BTreeMap, BTreeSet, HashMap};

use neon_objects::ObjectsError;
use neon_types::{CommitId, RefName, TimelineId};

use super::reach::{Needs, Reached, Roots, reach};
use crate::clock::Clock;
use crate::endpoint;
use crate::error::{RepoError, Result};
use crate::repository::Repository;

/// What commits need, each read once.
#[derive(Default)]
pub(crate) struct Commits(HashMap<CommitId, Option<Needs>>);

/// Says which ref leads to what cannot be read.
fn named_by(name: &str, error: RepoError) -> RepoError {
    match error {
        RepoError::Objects(ObjectsError::Missing(id)) => RepoError::Damaged {
            id,
            reason: format!("it is missing, and {name} names it"),
        },
        error => error,
    }
}

impl Repository {
    /// Returns everything that must stay: what refs, the younger entries of their logs, endpoints and branches lead to.
    ///
    /// Errors when a root is damaged or missing ([`RepoError::is_damage`]): then nothing is known, and nothing may be deleted.
    pub(crate) fn reached(&self, clock: Clock, reflog: i64, commits: &mut Commits) -> Result<Reached> {
        // Those that are damaged count as nobody's: what leads to one is found below.
        let (nodes, damaged) = self.pages.nodes()?;
        let (mut roots, named) = self.roots(clock, reflog)?;
        let branches: BTreeSet<String> = self.heads()?.into_iter().map(|(name, _)| name).collect();
        roots.timelines.extend(
            nodes
                .iter()
                .filter(|node| {
                    node.branch
                        .as_ref()
                        .is_some_and(|branch| branches.contains(branch))
                })
                .map(|node| node.id),
        );
        let ancestors: BTreeMap<TimelineId, Option<TimelineId>> =
            nodes.into_iter().map(|node| (node.id, node.ancestor)).collect();
        let mut needs = |id| self.needs(id, commits);
        for (name, id) in named {
            let needs = needs(id).map_err(|error| named_by(&name, error))?;
            if needs.is_none() {
                return Err(named_by(&name, ObjectsError::Missing(id.0).into()));
            }
        }
        let reached = reach(&roots, &mut needs, &ancestors)?;
        match damaged.into_iter().find(|(id, _)| reached.timelines.contains(id)) {
            Some((_, error)) => Err(error.into()),
            None => Ok(reached),
        }
    }

    /// Returns the roots, and what refs name now, which must be here.
    fn roots(&self, clock: Clock, reflog: i64) -> Result<(Roots, Vec<(String, CommitId)>)> {
        let mut roots = Roots::default();
        let mut named = Vec::new();
        let (names, damaged) = self.refs.survey("refs/")?;
        if let Some(name) = damaged.into_iter().next() {
            return Err(ObjectsError::DamagedRef {
                path: self.neon_dir.join(name.to_string()),
                name,
            }
            .into());
        }
        for (name, id) in names {
            roots.commits.insert(id);
            roots.commits.append(&mut self.remembered(&name, clock, reflog)?);
            named.push((name.to_string(), id));
        }
        for name in endpoint::names(&self.neon_dir)? {
            roots
                .timelines
                .extend(self.endpoint_file(&name)?.map(|file| file.timeline));
        }
        Ok((roots, named))
    }

    /// Returns what a ref that exists named in the entries of its log that are younger than `reflog`, since it was last made.
    pub(crate) fn remembered(&self, name: &RefName, clock: Clock, reflog: i64) -> Result<BTreeSet<CommitId>> {
        let mut remembered = BTreeSet::new();
        for entry in self.refs.read_reflog(name)? {
            if entry.new.is_none() {
                // Deleted: a ref of that name begins anew.
                remembered.clear();
            } else if clock.age(entry.time) < reflog {
                remembered.extend([entry.old, entry.new].into_iter().flatten());
            }
        }
        Ok(remembered)
    }

    fn needs(&self, id: CommitId, commits: &mut Commits) -> Result<Option<Needs>> {
        if let Some(needs) = commits.0.get(&id) {
            return Ok(needs.clone());
        }
        let needs = match self.objects.read_commit(id) {
            Ok(commit) => Some(Needs {
                parents: commit.parents,
                path: commit.path.iter().map(|fork| fork.timeline).collect(),
            }),
            // Parents off the path of what was transferred were never sent.
            Err(ObjectsError::Missing(_)) => None,
            Err(error) => return Err(error.into()),
        };
        commits.0.insert(id, needs.clone());
        Ok(needs)
    }
}
