//! Commits of what an endpoint wrote.

use neon_objects::{Commit, Expect, MAX_MESSAGE, RefEdit};
use neon_types::CommitId;

use crate::api;
use crate::error::{RepoError, Result};
use crate::history::{Place, is_significant_after};
use crate::repository::{Repository, branch_ref};
use crate::settings::Uncommitted;

impl Repository {
    /// Commits the durable end of a branch. Without transactions since its head there is nothing to commit, unless a message is
    /// what is wanted: then the head gets a new commit at its own place.
    pub(crate) fn commit_branch(
        &self,
        branch: Option<&str>,
        message: &str,
        author: Option<&str>,
    ) -> Result<api::Moved> {
        let branch = self.branch_or_head(branch)?;
        if message.trim().is_empty() {
            return Err(RepoError::refused(
                "the message is empty",
                "say what was done: neon commit -m TEXT",
            ));
        }
        if message.len() > MAX_MESSAGE {
            return Err(RepoError::refused(
                format!("the message has {} bytes, more than {MAX_MESSAGE}", message.len()),
                "keep the message short, and the text in a table or a file",
            ));
        }
        let (head_id, head) = self.head_of(&branch)?;
        let place = self.take_in(&branch)?;
        let mut notes = Vec::new();
        let made = match &place {
            Some(place) => self.commit_tail(&branch, place, Some(message), author)?,
            None => None,
        };
        let commit = match made {
            Some(commit) => commit,
            None => {
                notes.push(
                    "no transaction since the last commit: this one names the same position".to_owned(),
                );
                let commit = self.make_commit(
                    &Place::of(&head),
                    Some((head_id, &head)),
                    head.environment.clone(),
                    head.settings.clone(),
                    self.author(author)?,
                    message.to_owned(),
                )?;
                self.move_branch(&branch, Some(head_id), commit, "commit")?;
                commit
            }
        };
        let now = self.commit(commit)?;
        if notes.is_empty() && now.position == head.position {
            notes.push(
                "no transaction since the last commit: this one has the settings that changed".to_owned(),
            );
        }
        Ok(api::Moved {
            name: branch,
            commit,
            timeline: now.position.timeline,
            lsn: now.position.lsn,
            made_commit: true,
            notes,
        })
    }

    /// Commits the tail of a branch up to `place` and moves the branch there, when a transaction is in it (law 3); where only settings changed,
    /// at the place of its head. Returns the commit, nothing when the tail is housekeeping.
    pub(crate) fn commit_tail(
        &self,
        branch: &str,
        place: &Place,
        message: Option<&str>,
        author: Option<&str>,
    ) -> Result<Option<CommitId>> {
        let (head_id, head) = self.head_of(branch)?;
        let history = place.lsn > head.position.lsn && self.is_history(branch, place, &head)?;
        let uncommitted = self.uncommitted_settings(branch, &head)?;
        if !history && uncommitted.is_none() {
            return Ok(None);
        }
        let what = if history { "changes" } else { "settings" };
        let place = if history { place.clone() } else { Place::of(&head) };
        let commit = self.make_commit(
            &place,
            Some((head_id, &head)),
            self.endpoint_environment(branch, &head)?,
            uncommitted
                .as_ref()
                .map_or_else(|| head.settings.clone(), Uncommitted::text),
            self.author(author)?,
            message.map_or_else(|| format!("{what} on {branch}"), str::to_owned),
        )?;
        if history {
            // From here on the timeline is history: it outlives its data directory.
            let timeline = self.timeline(place.position().timeline)?;
            timeline.update_state(|state| state.provisional = false)?;
        }
        self.move_branch(branch, Some(head_id), commit, "commit")?;
        if let Some(uncommitted) = &uncommitted {
            self.settle_settings(branch, uncommitted)?;
        }
        Ok(Some(commit))
    }

    /// Returns true when something between the head of a branch and `place` is more than housekeeping (law 3).
    pub(crate) fn is_history(&self, branch: &str, place: &Place, head: &Commit) -> Result<bool> {
        let timeline = self.timeline(place.position().timeline)?;
        let since = head.position.lsn.max(self.housekeeping_end(branch)?);
        Ok(is_significant_after(&timeline, since))
    }

    /// Moves a branch by compare-and-swap.
    pub(crate) fn move_branch(
        &self,
        branch: &str,
        old: Option<CommitId>,
        new: CommitId,
        why: &str,
    ) -> Result<()> {
        let expect = old.map_or(Expect::Absent, Expect::Exactly);
        self.move_refs(
            &[RefEdit {
                name: branch_ref(branch)?,
                expect,
                new: Some(new),
            }],
            why,
        )
    }
}
