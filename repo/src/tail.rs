//! Taking in what an endpoint wrote after the head of its branch (law 7), and salvaging a dead one (law 8).

use std::sync::Arc;
use std::time::Duration;

use neon_objects::{Commit, Environment};
use neon_pagestore::{PageStoreError, Timeline};
use neon_postgres::wal::StreamParams;

use crate::endpoint::{pgdata_of, stamp_of};
use crate::endpoint_file::EndpointFile;
use crate::error::{RepoError, Result};
use crate::history::Place;
use crate::postgres;
use crate::repository::Repository;

/// How long a running Postgres gets to flush what it had inserted when it was asked.
pub(crate) const FLUSH_WAIT: Duration = Duration::from_secs(30);

impl Repository {
    /// Takes in everything that the branch's endpoint had acknowledged when this was called, and returns how far the branch
    /// reaches now; nothing when no WAL of ours continues its head, and nothing was set on it.
    pub(crate) fn take_in(&self, branch: &str) -> Result<Option<Place>> {
        let (_, head) = self.head_of(branch)?;
        if let Some(file) = self.endpoint_file(branch)? {
            if self.endpoint_is_running(branch)? {
                self.take_in_running(branch, &file)?;
            } else {
                self.salvage(branch, &file)?;
            }
        }
        let place = self.durable_place(branch, &head)?;
        let more = place.lsn > head.position.lsn || self.uncommitted_settings(branch, &head)?.is_some();
        Ok(more.then_some(place))
    }

    fn take_in_running(&self, branch: &str, file: &EndpointFile) -> Result<()> {
        let Some(mut receiver) = self.endpoints.receiver(branch) else {
            return Err(RepoError::NeedsDaemon);
        };
        if receiver.is_over() {
            self.adopt(branch)?;
            receiver = self.endpoints.receiver(branch).ok_or(RepoError::NeedsDaemon)?;
        }
        let wanted = self
            .runtime
            .block_on(postgres::insert_lsn(&self.door(branch, file)?))?;
        let received = receiver.wait_for(wanted, FLUSH_WAIT);
        if received < wanted {
            return Err(RepoError::NotFlushed {
                branch: branch.to_owned(),
                wanted,
                received,
                source: receiver.trouble(),
            });
        }
        Ok(())
    }

    /// Reads the WAL of a dead endpoint that never reached us, from its own `pg_wal`, after every process of it is gone. The
    /// directory stays: stock recovery brings it up in place as long as the branch has not moved.
    ///
    /// Errors: [`RepoError::Ahead`] when the directory shows that its server wrote more than can be read; what can be is taken in.
    pub(crate) fn salvage(&self, name: &str, file: &EndpointFile) -> Result<()> {
        let pgdata = pgdata_of(&self.neon_dir, name);
        if !pgdata.is_dir() || self.is_clean(name, file)? {
            return Ok(());
        }
        neon_compute::kill_everything(&pgdata)?;
        let timeline = match self.pages.get(file.timeline) {
            Ok(timeline) => timeline,
            // One that never became history went before its directory did.
            Err(PageStoreError::NoSuchTimeline(_)) => return Ok(()),
            Err(error) => return Err(error.into()),
        };
        timeline.index_wal()?;
        let from = timeline.end();
        let prev = timeline.record_at_or_before(from)?.start;
        // A directory that was built at `from` begins with a boot record that links to the same record.
        let salvaged = neon_compute::salvage(
            &pgdata,
            from,
            Some(prev),
            &stream_params(&timeline),
            &mut |at, bytes| {
                timeline
                    .append_wal(at, bytes)
                    .map_err(|error| neon_compute::ComputeError::Source(Box::new(error)))
            },
        )?;
        timeline.sync_wal()?;
        let end = timeline.index_wal()?;
        if end > from {
            tracing::info!(endpoint = name, %from, %end, "took in WAL of a dead endpoint");
        }
        match salvaged.beyond {
            Some(seen) => Err(RepoError::Ahead {
                branch: name.to_owned(),
                held: end,
                seen,
            }),
            None => Ok(()),
        }
    }

    /// Returns true when the directory was stopped cleanly and everything in it reached us.
    pub(crate) fn is_clean(&self, name: &str, file: &EndpointFile) -> Result<bool> {
        let Some(stamp) = neon_compute::Stamp::read(&stamp_of(&self.neon_dir, name))
            .ok()
            .flatten()
        else {
            return Ok(false);
        };
        let Ok(timeline) = self.pages.get(file.timeline) else {
            return Ok(false);
        };
        Ok(stamp.clean && stamp.timeline == file.timeline && stamp.end == timeline.end())
    }

    /// Returns what a commit of the branch's endpoint says of the Postgres that wrote it.
    pub(crate) fn endpoint_environment(&self, branch: &str, head: &Commit) -> Result<Environment> {
        let mut environment = head.environment.clone();
        if let Some(file) = self.endpoint_file(branch)?
            && file.pg_version_num != 0
        {
            environment.pg_version_num = file.pg_version_num;
        }
        Ok(environment)
    }

    /// Drops the housekeeping tail of a branch that is about to move elsewhere, with the directory that wrote it.
    pub(crate) fn drop_tail(&self, branch: &str) -> Result<()> {
        if self.endpoint_is_running(branch)? {
            return Err(RepoError::EndpointRuns(branch.to_owned()));
        }
        let Some(file) = self.endpoint_file(branch)? else {
            return Ok(());
        };
        if let Some(kept) = self.discard_directory(branch)? {
            tracing::warn!(branch, kept);
        }
        if let Ok(timeline) = self.pages.get(file.timeline) {
            self.close(&timeline)?;
        }
        Ok(())
    }

    /// Closes a timeline to writing: removed when it never became history, cut to what was published else.
    fn close(&self, timeline: &Arc<Timeline>) -> Result<()> {
        if timeline.state().provisional {
            return Ok(self.pages.remove(timeline.id())?);
        }
        timeline.update_state(|state| state.branch = None)?;
        Ok(())
    }
}

/// Returns how to read the WAL of a timeline.
pub(crate) fn stream_params(timeline: &Timeline) -> StreamParams {
    let state = timeline.state();
    StreamParams {
        version: state.version,
        system_id: state.system_id,
        tli: state.tli,
        segment_size: state.segment_size,
    }
}
