//! Settings as a part of history: `ALTER SYSTEM` writes no WAL, so a commit has what was set where the branch ran, and what two sides set
//! is brought together when a branch moves.

use neon_compute::conf::{Changes, Settings};
use neon_compute::{ComputeError, LocalSettings};
use neon_objects::Commit;
use neon_postgres::PgVersion;
use neon_remotes::{BranchMove, Direction, LocalError};
use neon_types::CommitId;

use crate::directory::{not_taken_over, told};
use crate::endpoint::pgdata_of;
use crate::error::{RepoError, Result};
use crate::history::Place;
use crate::repository::Repository;

/// A commit and what it says.
pub(crate) type Known<'a> = (CommitId, &'a Commit);

/// What was set on a branch's endpoint and is in no commit.
pub(crate) struct Uncommitted {
    local: LocalSettings,
    settings: Settings,
}

impl Uncommitted {
    /// Returns the text that a commit has then.
    pub(crate) fn text(&self) -> String {
        self.settings.text()
    }
}

/// What two sides have set since a commit that both descend from.
#[derive(Debug, PartialEq, Eq)]
pub(crate) struct Sides {
    ours: Changes,
    theirs: Changes,
    both: Settings,
}

impl Sides {
    fn of(base: &Settings, ours: &Settings, theirs: &Settings) -> Sides {
        let (ours, theirs) = (ours.changes_since(base), theirs.changes_since(base));
        let both = base.with(&theirs).with(&ours);
        Sides { ours, theirs, both }
    }

    /// Returns what both have set, each in another way.
    pub(crate) fn conflicts(&self) -> Vec<String> {
        self.ours.against(&self.theirs)
    }
}

impl Repository {
    /// Checks that every endpoint could be started with a setting, as far as that is known without Postgres.
    pub(crate) fn check_endpoint_setting(&self, name: &str, value: &str) -> Result<()> {
        let head = self.refs.head()?;
        let version = match self.head_of(&head) {
            Ok((_, commit)) => self.timeline(commit.position.timeline)?.state().version,
            // Without history nobody knows yet.
            Err(_) => PgVersion::V18,
        };
        match neon_compute::settings::check_extra(version, name, value) {
            Err(ComputeError::PinnedSetting(name)) => Err(RepoError::refused(
                format!("setting '{name}' cannot have this value: neon sets it for every endpoint"),
                "leave it out; what a primary does and its copy does not is switched on by: neon start --act-as-primary",
            )),
            other => Ok(other?),
        }
    }

    /// Returns what was set on the branch's endpoint since `head`; nothing when that has it all.
    pub(crate) fn uncommitted_settings(&self, branch: &str, head: &Commit) -> Result<Option<Uncommitted>> {
        if self.endpoint_file(branch)?.is_none() {
            return Ok(None);
        }
        let Some(local) = LocalSettings::read(&pgdata_of(&self.neon_dir, branch))? else {
            return Ok(None);
        };
        let committed = Settings::read(&head.settings);
        let settings = committed.with(&local.changes());
        Ok((settings != committed).then_some(Uncommitted { local, settings }))
    }

    /// Notes that a commit has what was set on the branch's endpoint.
    pub(crate) fn settle_settings(&self, branch: &str, uncommitted: &Uncommitted) -> Result<()> {
        let pgdata = pgdata_of(&self.neon_dir, branch);
        Ok(uncommitted.local.settle(&pgdata, &uncommitted.settings)?)
    }

    /// Brings a data directory that is used again up to the settings of its branch; what was set in it stays. Returns remarks.
    pub(crate) fn follow_settings(
        &self,
        branch: &str,
        version: PgVersion,
        settings: &str,
    ) -> Result<Vec<String>> {
        let pgdata = pgdata_of(&self.neon_dir, branch);
        let off = LocalSettings::follow(version, &pgdata, &Settings::read(settings))?;
        Ok(told(off.iter().map(not_taken_over)))
    }

    /// Returns what `ours` and `theirs` have set since their histories parted; nothing when only one of them has, or they descend from each other.
    fn sides(&self, ours: Known<'_>, theirs: Known<'_>) -> Result<Option<Sides>> {
        let (of_ours, of_theirs) = (
            Settings::read(&ours.1.settings),
            Settings::read(&theirs.1.settings),
        );
        if of_ours == of_theirs {
            return Ok(None);
        }
        let Some(base) = self.merge_base(ours.0, theirs.0)? else {
            return Ok(None);
        };
        let base = Settings::read(&self.commit(base)?.settings);
        Ok(Some(Sides::of(&base, &of_ours, &of_theirs)))
    }

    /// Returns what `kept` has set and `taken` has not, each by name, when a branch goes from one to the other: nothing when nothing is lost.
    pub(crate) fn settings_lost(&self, kept: Known<'_>, taken: Known<'_>) -> Result<Vec<String>> {
        let Some(sides) = self.sides(kept, taken)? else {
            return Ok(Vec::new());
        };
        let lost = sides.both.changes_since(&Settings::read(&taken.1.settings));
        Ok(lost.names())
    }

    /// Returns where a branch goes that is to move from `kept` to `taken`: in a pull, to what both have set. Nothing that was set here is dropped
    /// for a push.
    pub(crate) fn with_settings_kept(
        &self,
        step: &BranchMove,
        kept: Known<'_>,
        taken: Known<'_>,
    ) -> std::result::Result<CommitId, LocalError> {
        if step.force {
            return Ok(taken.0);
        }
        if step.direction == Direction::Pull {
            let together = self.bring_settings_together(&step.branch, taken, kept)?;
            return Ok(together.unwrap_or(taken.0));
        }
        let names = self.settings_lost(kept, taken)?;
        if names.is_empty() {
            return Ok(taken.0);
        }
        Err(LocalError::Settings {
            branch: step.branch.clone(),
            names,
        })
    }

    /// Takes over what another head has set, of a branch that does not move otherwise. Returns a remark when it did.
    pub(crate) fn take_settings(
        &self,
        branch: &str,
        theirs: CommitId,
        whose: &str,
    ) -> Result<Option<String>> {
        let _exclusive = self.exclusive();
        let (head, commit) = self.head_of(branch)?;
        if !self.objects.contains(theirs.0) {
            return Ok(None);
        }
        let other = self.commit(theirs)?;
        let Some(together) = self.bring_settings_together(branch, (head, &commit), (theirs, &other))? else {
            return Ok(None);
        };
        let before = Settings::read(&commit.settings);
        let taken = Settings::read(&self.commit(together)?.settings).changes_since(&before);
        self.move_branch(branch, Some(head), together, "pull")?;
        Ok(Some(format!(
            "taken over from {whose}: {}",
            taken.names().join(", ")
        )))
    }

    /// Checks that a branch of an origin, which did not move, has what our head has set.
    pub(crate) fn check_settings_there(&self, whose: &str, head: CommitId, theirs: CommitId) -> Result<()> {
        if !self.objects.contains(theirs.0) {
            return Ok(());
        }
        let (ours, other) = (self.commit(head)?, self.commit(theirs)?);
        let names = self.settings_lost((head, &ours), (theirs, &other))?;
        if names.is_empty() {
            return Ok(());
        }
        Err(RepoError::refused(
            format!(
                "{whose} has another commit at this position, without what is set here: {}",
                names.join(", ")
            ),
            "pull first, then push what both have set",
        ))
    }

    /// Makes a commit at the place of `at`, with what that and `beside` have set; nothing when `at` has it all. No ref names it yet.
    ///
    /// # Errors
    /// A refusal where both have set the same in different ways.
    pub(crate) fn bring_settings_together(
        &self,
        branch: &str,
        at: Known<'_>,
        beside: Known<'_>,
    ) -> Result<Option<CommitId>> {
        let Some(sides) = self.sides(at, beside)? else {
            return Ok(None);
        };
        let conflicts = sides.conflicts();
        if !conflicts.is_empty() {
            return Err(RepoError::refused(
                format!(
                    "both sides have set, each in another way: {}",
                    conflicts.join(", ")
                ),
                format!(
                    "set them here as they are there: start {branch}, ALTER SYSTEM, stop; keep both: neon pull {branch} --as NAME; or take \
                     theirs: neon pull {branch} --force"
                ),
            ));
        }
        if sides.both == Settings::read(&at.1.settings) {
            return Ok(None);
        }
        let mut commit = self.commit_at(
            &Place::of(at.1),
            Some(at),
            at.1.environment.clone(),
            sides.both.text(),
            self.author(None)?,
            format!("settings of {branch} brought together"),
        )?;
        commit.parents.push(beside.0);
        Ok(Some(self.objects.write_commit(&commit)?))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn sides(base: &str, ours: &str, theirs: &str) -> Sides {
        Sides::of(
            &Settings::read(base),
            &Settings::read(ours),
            &Settings::read(theirs),
        )
    }

    #[test]
    fn what_two_sides_set_is_brought_together() {
        let both = sides("a.a = 1\nb.b = 1\n", "a.a = 2\nb.b = 1\nc.c = 1\n", "a.a = 1\n");
        assert_eq!(both.conflicts(), Vec::<String>::new());
        assert_eq!(both.both, Settings::read("a.a = 2\nc.c = 1\n"));
        let same = sides("", "a.a = 2\n", "a.a = 2\n");
        assert_eq!(same.conflicts(), Vec::<String>::new());
        let differently = sides("a.a = 1\nb.b = 1\n", "a.a = 2\n", "a.a = 3\nb.b = 2\n");
        assert_eq!(differently.conflicts(), ["a.a", "b.b"]);
    }
}
