//! Branches: list, create at any position, delete, rename, switch.

use std::collections::HashMap;
use std::collections::hash_map::Entry;

use neon_objects::ancestry::{self, Relation};
use neon_objects::{Commit, Expect, RefEdit};
use neon_types::{CommitId, Lsn, Position, RefName};

use crate::api;
use crate::error::{RepoError, Result};
use crate::history::Place;
use crate::parents::Heads;
use crate::repository::{Repository, branch_ref, new_branch_ref};
use crate::resolve::Target;

impl Repository {
    /// Returns the branches with their heads, by name.
    pub(crate) fn heads(&self) -> Result<Vec<(String, CommitId)>> {
        let refs = self.refs.list("refs/heads/")?;
        Ok(refs.into_iter().map(|(name, id)| (name.short(), id)).collect())
    }

    /// Lists the branches.
    pub(crate) fn list_branches(&self) -> Result<Vec<api::Branch>> {
        let head = self.refs.head()?;
        let config = self.config()?;
        let mut commits: HashMap<CommitId, Commit> = HashMap::new();
        let names = self.heads()?;
        for (_, id) in &names {
            if !commits.contains_key(id) {
                commits.insert(*id, self.commit(*id)?);
            }
        }
        let branches = names
            .iter()
            .filter_map(|(name, id)| Some((name, id, commits.get(id)?)));
        let lines = branches
            .clone()
            .map(|(name, _, commit)| (name.as_str(), commit.line()));
        let heads = Heads::new(lines, &head);
        let mut sizes: HashMap<Position, u64> = HashMap::new();
        let mut rows = Vec::new();
        for (name, id, commit) in branches {
            let place = self.durable_place(name, commit)?;
            let (parent, fork_lsn) = heads.parent_of(name, commit.line()).unzip();
            let size = match sizes.entry(place.position()) {
                Entry::Occupied(known) => *known.get(),
                Entry::Vacant(unknown) => *unknown.insert(self.size_at(&place)?),
            };
            let endpoint = self.endpoint_state(name)?;
            let upstream = config.upstream(name)?;
            let tracking = match &upstream {
                Some(upstream) => self.tracking(&upstream.origin, &upstream.branch, commit)?,
                None => None,
            };
            rows.push(api::Branch {
                name: name.clone(),
                head: *name == head,
                commit: *id,
                timeline: commit.position.timeline,
                lsn: commit.position.lsn,
                parent: parent.map(str::to_owned),
                fork_lsn,
                endpoint: endpoint.as_ref().map(|state| state.state.clone()),
                port: endpoint.map(|state| state.port),
                size,
                upstream: upstream.map(|upstream| format!("{}/{}", upstream.origin, upstream.branch)),
                tracking,
            });
        }
        Ok(rows)
    }

    /// Returns how `commit` stands to a branch of an origin as it was last fetched.
    fn tracking(&self, origin: &str, branch: &str, commit: &Commit) -> Result<Option<String>> {
        let Ok(name) = RefName::origin(origin, branch) else {
            return Ok(None);
        };
        let Some(id) = self.refs.get(&name)? else {
            return Ok(None);
        };
        let theirs = self.commit(id)?;
        let word = match ancestry::relation(commit.line(), theirs.line()) {
            Relation::Equal => "equal",
            Relation::Ancestor => "behind",
            Relation::Descendant => "ahead",
            Relation::Diverged { .. } => "diverged",
        };
        Ok(Some(word.to_owned()))
    }

    /// Returns the commit of a target; makes one when the target is a place without.
    pub(crate) fn commit_of(&self, target: &Target, message: &str) -> Result<(CommitId, bool)> {
        self.check_readable_place(&target.place)?;
        if target.is_commit() {
            return Ok((target.commit_id, false));
        }
        let id = self.make_commit(
            &target.place,
            Some((target.commit_id, &target.commit)),
            target.commit.environment.clone(),
            target.commit.settings.clone(),
            self.author(None)?,
            message.to_owned(),
        )?;
        Ok((id, true))
    }

    /// Makes a branch at a revision. Of a running or stopped branch, what was acknowledged so far is taken in first.
    pub(crate) fn create_branch(&self, name: &str, rev: Option<&str>) -> Result<api::Moved> {
        let new_ref = new_branch_ref(name)?;
        if self.refs.get(&new_ref)?.is_some() {
            return Err(RepoError::BranchExists(name.to_owned()));
        }
        let (target, mut notes) = self.resolve_current(rev)?;
        let (id, made_commit) = self.commit_of(&target, &format!("branch {name}"))?;
        notes.extend(target.notes.iter().cloned());
        self.move_refs(
            &[RefEdit {
                name: new_ref,
                expect: Expect::Absent,
                new: Some(id),
            }],
            &format!("branch: from {}", rev.unwrap_or("HEAD")),
        )?;
        let position = target.place.position();
        Ok(api::Moved {
            name: name.to_owned(),
            commit: id,
            timeline: position.timeline,
            lsn: position.lsn,
            made_commit,
            notes,
        })
    }

    /// Deletes a branch, unless its endpoint runs or, without `force`, only it holds some commit.
    pub(crate) fn delete_branch(&self, name: &str, force: bool) -> Result<api::Done> {
        let (id, commit) = self.head_of(name)?;
        if self.endpoint_is_running(name)? {
            return Err(RepoError::EndpointRuns(name.to_owned()));
        }
        if self.refs.head()? == name && self.heads()?.len() > 1 && !force {
            return Err(RepoError::IsHead(name.to_owned()));
        }
        if !force {
            // What a dead or stopped endpoint still holds counts: it would be lost as well.
            let place = match self.take_in(name)? {
                Some(place) if self.is_history(name, &place, &commit)? => place,
                _ => Place::of(&commit),
            };
            if let Some(since) = self.held_by_nobody_else(name, &place)? {
                return Err(RepoError::WouldLose {
                    branch: name.to_owned(),
                    since,
                });
            }
        }
        let (id_now, _) = self.head_of(name)?;
        self.remove_endpoint(name)?;
        self.forget_name(name)?;
        self.move_refs(
            &[RefEdit {
                name: branch_ref(name)?,
                expect: Expect::Exactly(id_now),
                new: None,
            }],
            "branch: deleted",
        )?;
        let _ = id;
        self.forget_retention(name)?;
        Ok(api::Done {
            notes: vec![format!(
                "deleted branch {name} (was {} at {})",
                id_now.short(),
                commit.position.lsn
            )],
        })
    }

    /// Takes the branch's name off the timelines that were written under it: a new branch of that name, made where the old one had been,
    /// must not go on with what was deleted.
    fn forget_name(&self, branch: &str) -> Result<()> {
        for id in self.pages.list() {
            let timeline = self.timeline(id)?;
            if timeline.state().branch.as_deref() == Some(branch) {
                timeline.update_state(|state| state.branch = None)?;
            }
        }
        Ok(())
    }

    /// Returns where the part of `place`'s line begins that no ref but `branch` reaches, if there is such a part.
    fn held_by_nobody_else(&self, branch: &str, place: &Place) -> Result<Option<Lsn>> {
        let mut highest: Option<Lsn> = None;
        for (name, id) in self.refs.list("refs/")? {
            if matches!(&name, RefName::Branch(other) if other == branch) {
                continue;
            }
            let other = self.commit(id)?;
            let shared = match ancestry::relation(place.line(), other.line()) {
                Relation::Equal | Relation::Ancestor => return Ok(None),
                Relation::Descendant => Some(other.position.lsn),
                Relation::Diverged { common } => common.map(|position| position.lsn),
            };
            highest = highest.max(shared);
        }
        Ok(Some(highest.unwrap_or_else(|| {
            place.path.first().map_or(Lsn::INVALID, |root| root.start)
        })))
    }

    /// Renames a branch, with its endpoint, timeline, upstream and HEAD.
    pub(crate) fn rename_branch(&self, old: &str, new: &str) -> Result<api::Done> {
        let (id, commit) = self.head_of(old)?;
        let new_ref = new_branch_ref(new)?;
        if self.refs.get(&new_ref)?.is_some() {
            return Err(RepoError::BranchExists(new.to_owned()));
        }
        if self.endpoint_is_running(old)? {
            return Err(RepoError::EndpointRuns(old.to_owned()));
        }
        self.take_in(old)?;
        let (id_now, commit_now) = self.head_of(old)?;
        let _ = (id, commit);
        let open = self.open_timeline(old, &commit_now)?;
        self.move_refs(
            &[
                RefEdit {
                    name: branch_ref(old)?,
                    expect: Expect::Exactly(id_now),
                    new: None,
                },
                RefEdit {
                    name: new_ref,
                    expect: Expect::Absent,
                    new: Some(id_now),
                },
            ],
            &format!("branch: renamed {old} to {new}"),
        )?;
        if let Some(timeline) = open {
            timeline.update_state(|state| state.branch = Some(new.to_owned()))?;
        }
        self.rename_endpoint(old, new)?;
        let mut config = self.config()?;
        config.rename_branch(old, new)?;
        config.save()?;
        self.apply_wal_windows(&config)?;
        if self.refs.head()? == old {
            self.refs.set_head(new)?;
        }
        Ok(api::Done {
            notes: vec![format!("renamed branch {old} to {new}")],
        })
    }

    /// Makes a branch the default of other commands.
    pub(crate) fn switch(&self, branch: &str) -> Result<api::Done> {
        self.head_of(branch)?;
        self.refs.set_head(branch)?;
        Ok(api::Done {
            notes: vec![format!("switched to branch {branch}")],
        })
    }

    /// Returns the revision as it is now: when it begins with a branch of ours, what its endpoint wrote is taken in first.
    pub(crate) fn resolve_current(&self, rev: Option<&str>) -> Result<(Target, Vec<String>)> {
        let target = self.resolve_lenient(rev);
        let branch = match &target {
            Ok(target) => target.branch.clone(),
            Err(_) => self.branch_named_by(rev)?,
        };
        let mut notes = Vec::new();
        match branch {
            Some(branch) => {
                if let Some(place) = self.take_in(&branch)? {
                    notes.extend(
                        self.commit_tail(&branch, &place, None, None)?.map(|id| {
                            format!("committed what {branch} wrote since its head as {}", id.short())
                        }),
                    );
                }
                Ok((self.resolve(rev)?, notes))
            }
            None => Ok((target?, notes)),
        }
    }

    fn resolve_lenient(&self, rev: Option<&str>) -> Result<Target> {
        self.resolve(rev)
    }

    /// Returns the branch that a revision begins with: an LSN beyond what was received may be there once we ask.
    fn branch_named_by(&self, rev: Option<&str>) -> Result<Option<String>> {
        let name = rev.unwrap_or("HEAD");
        let base = name.split(['@', '~']).next().unwrap_or(name);
        let base = if base.is_empty() || base == "HEAD" {
            self.refs.head()?
        } else {
            base.to_owned()
        };
        match RefName::branch(&base) {
            Ok(branch) => Ok(self.refs.get(&branch)?.map(|_| base)),
            Err(_) => Ok(None),
        }
    }
}
