//! The commits that arrived must be what our own reading of their positions says (law 6).

use neon_objects::Commit;
use neon_pagestore::{Going, PageStoreError, Trial};
use neon_remotes::{Acceptance, LocalError, Part};
use neon_types::{CommitId, LsnRange};

use super::claims::check_machine;
use super::failed;
use crate::peer::Local;
use crate::repository::Repository;

impl Repository {
    /// Checks each commit that was sent, and the target.
    pub(super) fn check_commits(
        &self,
        trial: &Trial<'_>,
        acceptance: &Acceptance,
        going: Going<'_>,
    ) -> Local<()> {
        let target = Repository::commit(self, acceptance.target)?;
        let sent = acceptance
            .commits()
            .map(CommitId)
            .filter(|id| *id != acceptance.target);
        let total = acceptance.parts.len() as u64;
        check_commit(trial, acceptance.target, &target, &acceptance.parts)?;
        for (id, done) in sent.zip(1..) {
            if !going(done, total) {
                return Err(LocalError::Stopped);
            }
            let commit = Repository::commit(self, id)?;
            let on_path = target.line().path_to(&commit.position) == Some(commit.path.as_slice());
            if !on_path || commit.system_id != target.system_id {
                return Err(contradiction(
                    id,
                    "it is not on the way to the commit that was asked for",
                ));
            }
            check_machine(&commit.environment, &target.environment)?;
            check_commit(trial, id, &commit, &acceptance.parts)?;
        }
        Ok(())
    }
}

/// Checks what a commit says of its position.
fn check_commit(trial: &Trial<'_>, id: CommitId, commit: &Commit, parts: &[Part]) -> Local<()> {
    let of_parts = |error| failed(error, parts);
    let (position, lsn) = (commit.position, commit.position.lsn);
    let Some(timeline) = trial.timeline(position.timeline) else {
        return Err(contradiction(id, "its timeline was not sent"));
    };
    let span = timeline.record_at_or_before(lsn).map_err(of_parts)?;
    if span.end != lsn {
        return Err(contradiction(id, "no record ends at its position"));
    }
    if span.start != commit.prev_record {
        return Err(contradiction(
            id,
            "the record that ends at its position begins elsewhere",
        ));
    }
    match timeline.check_position(lsn) {
        Ok(()) => {}
        // What retention dropped here cannot be compared any more.
        Err(PageStoreError::Dropped { .. }) => return Ok(()),
        Err(error) => return Err(of_parts(error)),
    }
    let state = timeline.checkpoint_state(lsn).map_err(of_parts)?;
    if state.encode(timeline.version()) != commit.checkpoint {
        return Err(contradiction(
            id,
            "the checkpoint state at its position is another one",
        ));
    }
    let ranges: Vec<LsnRange> = commit
        .digests
        .iter()
        .map(|digest| LsnRange {
            start: digest.start,
            end: digest.end,
        })
        .collect();
    let ours = timeline.wal_digests(&ranges).map_err(of_parts)?;
    for (said, ours) in commit.digests.iter().zip(ours) {
        if ours.is_some_and(|ours| ours != said.blake3) {
            let what = format!("the WAL of {} to {} is another one", said.start, said.end);
            return Err(contradiction(id, &what));
        }
    }
    Ok(())
}

fn contradiction(id: CommitId, what: &str) -> LocalError {
    LocalError::Contradiction(format!("commit {}: {what}", id.short()))
}
