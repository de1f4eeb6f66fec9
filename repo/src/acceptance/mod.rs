//! Taking in what a peer sent: a claim, until it is checked against what is here.

mod claims;
mod commits;

use std::sync::Arc;

use neon_compute::{ComputeError, DataDirectory, TimelineSource};
use neon_pagestore::{AcceptPart, Blame, Going, PageStoreError, ReceivedTimeline, Timeline, Trial};
use neon_remotes::{Acceptance, LocalError, Meter, Part, PartKind, Step, TimelineFacts, stretches};
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
        let of_parts = |error| failed(error, &acceptance.parts);
        let _turn = self.turns.accepting();
        let mut trial = self.pages.trial().map_err(of_parts)?;
        let all = stretches(&acceptance.path, acceptance.position.lsn);
        for (facts, (step, upto)) in acceptance.timelines.iter().zip(&all) {
            let parts = parts_of(acceptance, step);
            trial
                .add(&received(facts), *upto, &parts, going)
                .map_err(of_parts)?;
        }
        self.check_commits(&trial, acceptance, going)?;
        if trial.is_empty() {
            return Ok(());
        }
        let examined = trial.examine(going).map_err(of_parts)?;
        self.rehearse(&trial, acceptance)?;
        tracing::debug!(?examined, "what arrived can be read");
        let _exclusive = self.exclusive();
        for step in &acceptance.path {
            self.close_before_growth(step, &all)?;
        }
        for timeline in trial.publish(going).map_err(of_parts)? {
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
        timeline
            .update_state(|state| state.branch = None)
            .map_err(|error| failed(error, &[]))
    }

    /// Returns a timeline that is here.
    fn held(&self, id: neon_types::TimelineId) -> Local<Option<Arc<Timeline>>> {
        if !self.pages.contains(id) {
            return Ok(None);
        }
        self.pages.get(id).map(Some).map_err(|error| failed(error, &[]))
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
            Err(ComputeError::Source(cause)) => Err(match cause.downcast::<PageStoreError>() {
                Ok(error) => failed(*error, &acceptance.parts),
                Err(other) => LocalError::Contradiction(other.to_string()),
            }),
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

/// Says a failure of the page store while `parts` are taken in: what speaks against them is told as that, all else as a failure of ours.
fn failed(error: PageStoreError, parts: &[Part]) -> LocalError {
    let came = |id| parts.iter().any(|part| part.id == id);
    let is_theirs = match error.blame() {
        Blame::Nobody => return LocalError::Stopped,
        Blame::Machine | Blame::Store => false,
        Blame::Object(id) => came(id),
        Blame::Claim => true,
    };
    if is_theirs {
        LocalError::Contradiction(neon_types::with_causes(&error))
    } else {
        LocalError::other(error)
    }
}

#[cfg(test)]
mod tests {
    use neon_types::{LayerId, LsnRange, ObjectId, TimelineId};

    use super::*;

    #[test]
    fn a_damaged_layer_of_ours_is_no_contradiction_of_theirs() {
        let id = |byte| ObjectId::from_bytes([byte; 32]);
        let parts = [Part {
            id: id(1),
            len: 10,
            kind: PartKind::Layer {
                timeline: TimelineId([1; 16]),
                range: LsnRange {
                    start: Lsn(1),
                    end: Lsn(2),
                },
            },
        }];
        let damaged = |layer| {
            let error = PageStoreError::DamagedLayer {
                layer: LayerId(layer),
                reason: "a bit".to_owned(),
            };
            failed(error, &parts)
        };
        assert!(matches!(damaged(id(1)), LocalError::Contradiction(_)));
        assert!(matches!(damaged(id(2)), LocalError::Other(_)));
        assert!(matches!(
            failed(PageStoreError::Interrupted, &parts),
            LocalError::Stopped
        ));
    }
}
