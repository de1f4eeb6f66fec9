//! The checkpoint state, which every record may move, and what follows from it.

use neon_postgres::checkpoint::CheckpointState;
use neon_postgres::records::xlog;
use neon_postgres::wal::{Record, rmgr};
use neon_types::{Key, SlruKind};

use super::{Ingest, Step, Tracked, known};
use crate::{PageStoreError, Result, Value};

/// Returns true for the reference of a hint record that carries no image: replay does nothing with it.
pub(super) fn is_hint_without_image(record: &Record, index: usize) -> bool {
    record.rmid == rmgr::XLOG
        && record.opcode() == xlog::FPI_FOR_HINT
        && record
            .blocks
            .get(index)
            .is_some_and(|block| block.image.is_none())
}

impl Ingest {
    /// Moves the checkpoint state past the record. It becomes a new version when more changed than where the last record
    /// is, which the boundaries tell.
    pub(super) fn track_checkpoint(&mut self, step: &mut Step<'_>) -> Result<()> {
        let version = self.version;
        let tracked = self.tracked(step)?;
        // A record of an unknown kind still says which transaction wrote it.
        let changed = known(tracked.state.apply(step.record, step.start)).map_err(step.bad())?;
        if changed == Some(false) {
            return Ok(());
        }
        step.put(Key::Checkpoint, Value::Item(tracked.state.encode(version)));
        if step.record.rmid == rmgr::XLOG && step.record.opcode() == xlog::PARAMETER_CHANGE {
            self.follow_commit_timestamps(step)?;
        }
        Ok(())
    }

    /// Commit timestamps were switched on or off: their files appear or go.
    fn follow_commit_timestamps(&mut self, step: &mut Step<'_>) -> Result<()> {
        let tracked = self.tracked(step)?;
        let (before, now) = (tracked.commit_timestamps, commit_timestamps(&tracked.state)?);
        tracked.commit_timestamps = now;
        let next_xid = tracked.state.checkpoint.next_xid as u32;
        match (before, now) {
            (false, true) => self.slrus.activate_commit_ts(next_xid, step.state, &mut step.out),
            (true, false) => self.slrus.clear(SlruKind::CommitTs, step.state, &mut step.out),
            _ => Ok(()),
        }
    }

    /// Returns true when commits leave a timestamp.
    pub(super) fn commit_timestamps(&mut self, step: &Step<'_>) -> Result<bool> {
        Ok(self.tracked(step)?.commit_timestamps)
    }

    /// Returns the next full transaction id after this record.
    pub(super) fn next_xid(&mut self, step: &Step<'_>) -> Result<u64> {
        Ok(self.tracked(step)?.state.checkpoint.next_xid)
    }

    fn tracked(&mut self, step: &Step<'_>) -> Result<&mut Tracked> {
        if self.checkpoint.is_none() {
            let bytes = step
                .state
                .item(Key::Checkpoint)?
                .ok_or_else(|| PageStoreError::damaged("the history", "it has no checkpoint state"))?;
            let (_, state) = CheckpointState::decode(&bytes)
                .map_err(|error| PageStoreError::damaged("the checkpoint state", error))?;
            self.checkpoint = Some(Tracked {
                commit_timestamps: commit_timestamps(&state)?,
                state,
            });
        }
        self.checkpoint
            .as_mut()
            .ok_or_else(|| PageStoreError::damaged("the history", "it has no checkpoint state"))
    }
}

fn commit_timestamps(state: &CheckpointState) -> Result<bool> {
    let control = state
        .control_file()
        .map_err(|error| PageStoreError::damaged("the checkpoint state", error))?;
    Ok(control.parameters().track_commit_timestamp)
}
