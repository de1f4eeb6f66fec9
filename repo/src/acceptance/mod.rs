//! Taking in what a peer sent: a claim, until it is checked against what is here.

mod claims;
mod commits;

use std::sync::Arc;

use neon_compute::{ComputeError, DataDirectory, TimelineSource};
use neon_pagestore::{AcceptPart, Going, PageStoreError, ReceivedTimeline, Timeline, Trial};
use neon_remotes::{Acceptance, LocalError, Meter, PartKind, Step, TimelineFacts, stretches};
use neon_types::{LayerId, Lsn};

use crate::peer::Local;
use crate::repository::Repository;

/// Returns what the page store is told of a timeline.
fn received(facts: &TimelineFacts) -> ReceivedTimeline {
    ReceivedTimeline {
        id: facts.id,
        ancestor: facts.ancestor,
        tli: facts.tli,
        writer: facts.writer,
        start: facts.start,
        facts: facts.facts.clone(),
        attestations: facts.attestations.clone(),
    }
}

impl Repository {
    /// Tries what arrived, and publishes it when everything is as it was said and can be read. Others go on meanwhile: only the publishing
    /// waits for them.
    pub(crate) fn take_in_arrived(&self, acceptance: &Acceptance, meter: &Meter) -> Local<()> {
        let going: Going<'_> = &mut |done, total| {
            meter.set(done, total);
            !meter.is_stopped()
        };
        let _turn = self.turns.accepting();
        let mut trial = self.pages.trial().map_err(failed)?;
        let all = stretches(&acceptance.path, acceptance.position.lsn);
        for (facts, (step, upto)) in acceptance.timelines.iter().zip(&all) {
            let parts = parts_of(acceptance, step);
            trial
                .add(&received(facts), *upto, &parts, going)
                .map_err(failed)?;
        }
        self.check_commits(&trial, acceptance, going)?;
        if trial.is_empty() {
            return Ok(());
        }
        let examined = trial.examine(going).map_err(failed)?;
        self.rehearse(&trial, acceptance)?;
        tracing::debug!(?examined, "what arrived can be read");
        let _exclusive = self.exclusive();
        for step in &acceptance.path {
            self.close_before_growth(step, &all)?;
        }
        for timeline in trial.publish(going).map_err(failed)? {
            self.compactor.wake(&timeline);
        }
        Ok(())
    }

    /// Before a peer extends a timeline that a branch is open on, the tail of that is taken in, and the timeline closed: what comes is not the
    /// branch's.
    fn close_before_growth(&self, step: &Step, all: &[(Step, Lsn)]) -> Local<()> {
        let Some(timeline) = self.held(step.timeline)? else {
            return Ok(());
        };
        let grows = all
            .iter()
            .any(|(other, upto)| other.timeline == step.timeline && timeline.end() < *upto);
        let Some(branch) = timeline.state().branch.filter(|_| grows) else {
            return Ok(());
        };
        if self.heads()?.iter().any(|(name, _)| *name == branch)
            && let Some(place) = self.take_in(&branch)?
        {
            self.commit_tail(&branch, &place, None, None)?;
        }
        timeline.update_state(|state| state.branch = None).map_err(failed)
    }

    /// Returns a timeline that is here.
    fn held(&self, id: neon_types::TimelineId) -> Local<Option<Arc<Timeline>>> {
        if !self.pages.contains(id) {
            return Ok(None);
        }
        self.pages.get(id).map(Some).map_err(failed)
    }

    /// Makes the data directory of the position, but for its pages: what cannot be started or exported is refused.
    fn rehearse(&self, trial: &Trial<'_>, acceptance: &Acceptance) -> Local<()> {
        let position = acceptance.position;
        let Some(timeline) = trial.timeline(position.timeline) else {
            return Ok(());
        };
        let source = TimelineSource::new(Arc::clone(timeline), position.lsn);
        let boot = Repository::boot_read_write(&acceptance.path);
        match DataDirectory::rehearse(&source, &trial.scratch(), &boot) {
            Ok(()) => Ok(()),
            Err(error @ ComputeError::Io { .. }) => Err(LocalError::other(error)),
            Err(error) => Err(LocalError::Contradiction(format!(
                "no data directory can be made of {position}: {}",
                neon_types::with_causes(&error)
            ))),
        }
    }
}

fn parts_of(acceptance: &Acceptance, step: &Step) -> Vec<AcceptPart> {
    let of_step = acceptance
        .parts
        .iter()
        .filter(|part| part.kind.timeline() == Some(step.timeline));
    of_step
        .filter_map(|part| match part.kind {
            PartKind::Layer { range, .. } => Some(AcceptPart::Layer {
                id: LayerId(part.id),
                range,
            }),
            PartKind::Wal { range, .. } => Some(AcceptPart::Wal { id: part.id, range }),
            PartKind::Commit => None,
        })
        .collect()
}

/// Says a failure of the page store: what the disk refuses is ours, everything else is what arrived.
fn failed(error: PageStoreError) -> LocalError {
    match error {
        PageStoreError::Interrupted => LocalError::Stopped,
        error if is_ours(&error) => LocalError::other(error),
        error => LocalError::Contradiction(neon_types::with_causes(&error)),
    }
}

/// Returns true for failures of this machine.
fn is_ours(error: &PageStoreError) -> bool {
    matches!(
        error,
        PageStoreError::Io { .. }
            | PageStoreError::Poisoned(_)
            | PageStoreError::NoSuchTimeline(_)
            | PageStoreError::DamagedState { .. }
            | PageStoreError::DamagedMap { .. }
    ) || matches!(error, PageStoreError::Objects(error) if error.is_of_this_machine())
}
