//! What a peer says of timelines, cluster and machine, before anything of it is decided by or transferred.

use neon_objects::{Commit, Environment};
use neon_pagestore::{Timeline, TimelineState};
use neon_remotes::{LocalError, Step, TimelineFacts, stretches};
use neon_types::{Lsn, Position, RepoId};

use super::{failed, received};
use crate::peer::Local;
use crate::repository::Repository;
use crate::tli;

fn contradiction(what: impl Into<String>) -> LocalError {
    LocalError::Contradiction(what.into())
}

impl Repository {
    /// Checks a commit's path, cluster and machine.
    pub(crate) fn check_claimed(&self, commit: &Commit) -> Local<()> {
        let mut before: Option<Step> = None;
        for (step, upto) in stretches(&commit.path, commit.position.lsn) {
            match self.held(step.timeline)? {
                Some(timeline) => self.check_held(&timeline, &step, before.as_ref(), upto)?,
                None => self.check_possible(&step, before.as_ref())?,
            }
            before = Some(step);
        }
        let root = match commit.path.first() {
            Some(root) => self.held(root.timeline)?,
            None => None,
        };
        if let Some(root) = root {
            check_cluster(commit, &root.state())?;
        }
        match self.a_held_environment()? {
            Some(environment) => check_machine(&commit.environment, &environment),
            None => Ok(()),
        }
    }

    /// What is held was told by those who made it, and does not change; what we write ourselves nobody else extends.
    fn check_held(&self, timeline: &Timeline, step: &Step, before: Option<&Step>, upto: Lsn) -> Local<()> {
        let id = step.timeline;
        let forks_at = before.map(|before| Position {
            timeline: before.timeline,
            lsn: step.start,
        });
        if timeline.ancestor() != forks_at || timeline.start() != step.start || timeline.tli() != step.tli {
            return Err(contradiction(format!(
                "timeline {id} does not begin as it says: here it is number {} and begins at {}",
                timeline.tli(),
                timeline.start()
            )));
        }
        let state = timeline.state();
        let is_written_here = state.writer == self.writer() && (state.branch.is_some() || state.provisional);
        if is_written_here && upto > timeline.end() {
            return Err(contradiction(format!(
                "timeline {id} is written here and ends at {}; nobody else extends it to {upto}",
                timeline.end()
            )));
        }
        Ok(())
    }

    /// A timeline that is not here is one that could be made.
    fn check_possible(&self, step: &Step, before: Option<&Step>) -> Local<()> {
        let id = step.timeline;
        let Some(before) = before else {
            // An import: its number is the cluster's, its id is checked with its facts.
            return Ok(());
        };
        if tli::fork_tli(before.tli, id) != Some(step.tli) {
            return Err(contradiction(format!(
                "timeline {id} has number {}, which does not follow from its id and from the number of what it forks from",
                step.tli
            )));
        }
        let Some(parent) = self.held(before.timeline)? else {
            return Ok(());
        };
        let forks_inside = parent.is_held() && step.start <= parent.end();
        if forks_inside
            && parent
                .record_at_or_before(step.start)
                .map_err(|error| failed(error, &[]))?
                .end
                != step.start
        {
            return Err(contradiction(format!(
                "timeline {id} forks at {}, where no record of timeline {} ends",
                step.start, before.timeline
            )));
        }
        Ok(())
    }

    /// Returns the environment of a commit that is here: all of one cluster have the same layout.
    fn a_held_environment(&self) -> Local<Option<Environment>> {
        for (_, id) in self.heads()? {
            if let Ok(commit) = self.commit(id) {
                return Ok(Some(commit.environment));
            }
        }
        Ok(None)
    }

    /// Checks what an offer says of the timelines of a path.
    pub(crate) fn check_offered(&self, commit: &Commit, timelines: &[TimelineFacts]) -> Local<()> {
        for facts in timelines {
            let received = received(facts);
            match self.held(facts.id)? {
                Some(timeline) => received
                    .check_same(&timeline.state())
                    .map_err(|error| failed(error, &[]))?,
                None => {
                    received.check_import().map_err(|error| failed(error, &[]))?;
                    let nobody = facts.writer == RepoId([0; 16]);
                    if nobody != facts.ancestor.is_none() {
                        return Err(contradiction(format!(
                            "an import has no writer and a fork has one, but timeline {} is told otherwise",
                            facts.id
                        )));
                    }
                }
            }
            check_cluster(commit, &received.state().map_err(|error| failed(error, &[]))?)?;
        }
        Ok(())
    }
}

/// Checks that a commit is of the cluster that a timeline is of.
fn check_cluster(commit: &Commit, state: &TimelineState) -> Local<()> {
    let environment = &commit.environment;
    let wrong = if commit.system_id != state.system_id {
        "the identifier of the cluster"
    } else if environment.pg_major() != u32::from(state.version.major()) {
        "the version of Postgres"
    } else if environment.segment_size != state.segment_size {
        "the size of WAL segments"
    } else if environment.checksums != state.hints_logged {
        "whether pages have checksums"
    } else {
        return Ok(());
    };
    Err(contradiction(format!(
        "{wrong} in the commit is not that of timeline {}",
        state.id
    )))
}

/// Checks that two commits of one history are of machines with the same layout of pages.
pub(super) fn check_machine(theirs: &Environment, ours: &Environment) -> Local<()> {
    if theirs.architecture == ours.architecture && theirs.char_signed == ours.char_signed {
        return Ok(());
    }
    let signed = |signed: bool| if signed { "signed" } else { "unsigned" };
    Err(contradiction(format!(
        "it was made on {} with {} chars, and this history on {} with {} chars: its pages are laid out otherwise",
        theirs.architecture,
        signed(theirs.char_signed),
        ours.architecture,
        signed(ours.char_signed)
    )))
}
