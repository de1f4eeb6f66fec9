//! Branches: list, create at any position, delete, rename, switch.

use std::collections::HashMap;
use std::collections::hash_map::Entry;

use neon_objects::ancestry::{self, Relation};
use neon_objects::{Commit, Expect, RefEdit};
use neon_types::{CommitId, Lsn, ObjectId, Position, RefName, with_causes};

use crate::api;
use crate::error::{RepoError, Result};
use crate::history::Place;
use crate::parents::Heads;
use crate::repository::{Repository, branch_ref, new_branch_ref};
use crate::resolve::Target;

/// Returns what stands in for a commit that is not known.
pub(crate) fn no_commit() -> CommitId {
    CommitId(ObjectId::from_bytes([0; 32]))
}

impl Repository {
    /// Returns the branches with their heads, by name.
    pub(crate) fn heads(&self) -> Result<Vec<(String, CommitId)>> {
        let refs = self.refs.list("refs/heads/")?;
        Ok(refs.into_iter().map(|(name, id)| (name.short(), id)).collect())
    }

    /// Lists the branches. One that cannot be read is marked.
    pub(crate) fn list_branches(&self) -> Result<Vec<api::Branch>> {
        let head = self.refs.head()?;
        let config = self.config()?;
        let (names, damaged) = self.refs.survey("refs/heads/")?;
        let mut commits: HashMap<CommitId, Result<Commit>> = HashMap::new();
        for id in names.values() {
            commits.entry(*id).or_insert_with(|| self.commit(*id));
        }
        let readable = names.iter().filter_map(|(name, id)| {
            let commit = commits.get(id)?.as_ref().ok()?;
            Some((name.short(), *id, commit))
        });
        let readable: Vec<(String, CommitId, &Commit)> = readable.collect();
        let lines = readable
            .iter()
            .map(|(name, _, commit)| (name.as_str(), commit.line()));
        let heads = Heads::new(lines, &head);
        let mut sizes: HashMap<Position, u64> = HashMap::new();
        let mut rows = Vec::new();
        for (name, id, commit) in &readable {
            let (parent, fork_lsn) = heads.parent_of(name, commit.line()).unzip();
            let upstream = config.upstream(name)?;
            let mut row = api::Branch {
                timeline: commit.position.timeline,
                lsn: commit.position.lsn,
                parent: parent.map(str::to_owned),
                fork_lsn,
                upstream: upstream
                    .as_ref()
                    .map(|upstream| format!("{}/{}", upstream.origin, upstream.branch)),
                ..api::Branch::named(name, *id, *name == head)
            };
            let theirs =
                upstream.and_then(|upstream| RefName::origin(&upstream.origin, &upstream.branch).ok());
            if let Err(error) = self.fill_in(&mut row, commit, theirs.as_ref(), &mut sizes) {
                row.damaged = Some(with_causes(&error));
            }
            rows.push(row);
        }
        for (name, id) in &names {
            if let Some(Err(error)) = commits.get(id) {
                let name = name.short();
                rows.push(api::Branch {
                    damaged: Some(with_causes(error)),
                    ..api::Branch::named(&name, *id, name == head)
                });
            }
        }
        for name in damaged {
            let last = self.last_logged(&name).unwrap_or_else(no_commit);
            let short = name.short();
            rows.push(api::Branch {
                damaged: Some(format!("the file of {name} is damaged")),
                ..api::Branch::named(&short, last, short == head)
            });
        }
        rows.sort_by(|one, other| one.name.cmp(&other.name));
        Ok(rows)
    }

    /// Fills in what is asked of the branch's pages and endpoint.
    fn fill_in(
        &self,
        row: &mut api::Branch,
        commit: &Commit,
        theirs: Option<&RefName>,
        sizes: &mut HashMap<Position, u64>,
    ) -> Result<()> {
        if let Some(endpoint) = self.endpoint_state(&row.name)? {
            row.endpoint = Some(endpoint.state);
            row.port = Some(endpoint.port);
        }
        let place = self.durable_place(&row.name, commit)?;
        if let Some(theirs) = theirs {
            // What was fetched and cannot be read is no damage of this branch.
            let standing = self.standing(&row.name, (row.commit, commit), &place, theirs);
            row.tracking = standing.ok().flatten().map(|standing| standing.word().to_owned());
        }
        row.size = match sizes.entry(place.position()) {
            Entry::Occupied(known) => *known.get(),
            Entry::Vacant(unknown) => *unknown.insert(self.size_at(&place)?),
        };
        Ok(())
    }

    /// Returns what the log of a ref says that it named last.
    pub(crate) fn last_logged(&self, name: &RefName) -> Option<CommitId> {
        let log = self.refs.read_reflog(name).ok()?;
        log.last().and_then(|entry| entry.new)
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
        notes.extend(self.slots_of(rev)?);
        notes.extend(self.namesakes(&new_ref)?);
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
        let (_, commit) = match self.head_of(name) {
            Err(error) if force && error.is_damage() => return self.delete_damaged_branch(name),
            head => head?,
        };
        if self.endpoint_is_running(name)? {
            return Err(RepoError::EndpointRuns(name.to_owned()));
        }
        self.check_not_head(name)?;
        if force {
            // What can still be taken in need not be kept aside.
            if let Err(error) = self.take_in(name) {
                tracing::warn!(
                    branch = name,
                    error = with_causes(&error),
                    "its tail cannot be taken in"
                );
            }
        } else {
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
        let kept = self.remove_endpoint(name)?;
        self.forget_name(name)?;
        self.move_refs(
            &[RefEdit {
                name: branch_ref(name)?,
                expect: Expect::Exactly(id_now),
                new: None,
            }],
            "branch: deleted",
        )?;
        self.forget_retention(name)?;
        Ok(api::Done {
            notes: [
                format!(
                    "deleted branch {name} (was {} at {})",
                    id_now.short(),
                    commit.position.lsn
                ),
                format!(
                    "to have it back before 'neon gc' removes it: neon branch {name} {}",
                    id_now.short()
                ),
            ]
            .into_iter()
            .chain(kept)
            .collect(),
        })
    }

    /// Refuses to delete HEAD's branch: other commands would have none to work on.
    fn check_not_head(&self, name: &str) -> Result<()> {
        let others = self.has_other_branch(name)?;
        match (others, self.refs.head()? == name) {
            (true, false) => Ok(()),
            (true, true) => Err(RepoError::IsHead(name.to_owned())),
            (false, _) => Err(RepoError::IsLast(name.to_owned())),
        }
    }

    /// Returns true when another branch is here, readable or not.
    fn has_other_branch(&self, name: &str) -> Result<bool> {
        let (names, damaged) = self.refs.survey("refs/heads/")?;
        let mut all = names.into_keys().chain(damaged);
        Ok(all.any(|other| other.short() != name))
    }

    /// Deletes a branch whose ref or head cannot be read, the last one too: nothing else can be done with it.
    fn delete_damaged_branch(&self, name: &str) -> Result<api::Done> {
        if self.endpoint_is_running(name)? {
            return Err(RepoError::EndpointRuns(name.to_owned()));
        }
        if self.has_other_branch(name)? {
            self.check_not_head(name)?;
        }
        let full = branch_ref(name)?;
        let last = self.refs.get(&full).ok().flatten();
        let last = last.or_else(|| self.last_logged(&full));
        let kept = self.remove_endpoint(name)?;
        self.forget_name(name)?;
        self.move_refs(
            &[RefEdit {
                name: full,
                expect: Expect::Any,
                new: None,
            }],
            "branch: deleted, damaged",
        )?;
        self.forget_retention(name)?;
        let was = last.map_or_else(String::new, |last| {
            format!(" (it was at commit {})", last.short())
        });
        Ok(api::Done {
            notes: [format!("deleted branch {name}, which was damaged{was}")]
                .into_iter()
                .chain(kept)
                .collect(),
        })
    }

    /// Takes the branch's name off the timelines that were written under it: a new branch of that name, made where the old one had been,
    /// must not go on with what was deleted.
    fn forget_name(&self, branch: &str) -> Result<()> {
        for id in self.pages.list() {
            // One that cannot be read goes on with nobody.
            let named = self
                .pages
                .state_of(id)
                .is_ok_and(|state| state.branch.as_deref() == Some(branch));
            if named && let Ok(timeline) = self.timeline(id) {
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
            let Ok(other) = self.commit(id) else {
                continue;
            };
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
        self.head_of(old)?;
        let new_ref = new_branch_ref(new)?;
        if self.refs.get(&new_ref)?.is_some() {
            return Err(RepoError::BranchExists(new.to_owned()));
        }
        if self.endpoint_is_running(old)? {
            return Err(RepoError::EndpointRuns(old.to_owned()));
        }
        self.take_in(old)?;
        let (id_now, commit_now) = self.head_of(old)?;
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
        let branch = self.branch_meant(branch)?;
        self.head_of(&branch)?;
        self.refs.set_head(&branch)?;
        Ok(api::Done {
            notes: vec![format!("switched to branch {branch}")],
        })
    }

    /// Returns the revision as it is now: when it begins with a branch of ours, what its endpoint wrote is taken in first.
    pub(crate) fn resolve_current(&self, rev: Option<&str>) -> Result<(Target, Vec<String>)> {
        // An LSN beyond what was received may be there once we ask.
        let named = self.named(&self.revision(rev)?.base)?;
        if self.is_read_only() {
            return Ok((self.resolve(rev)?, Vec::new()));
        }
        let mut notes = Vec::new();
        if let Some(branch) = named.branch()
            && let Some(place) = self.take_in(branch)?
        {
            notes.extend(
                self.commit_tail(branch, &place, None, None)?
                    .map(|id| format!("committed what {branch} wrote since its head as {}", id.short())),
            );
        }
        Ok((self.resolve(rev)?, notes))
    }
}
