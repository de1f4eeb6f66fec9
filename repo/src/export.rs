//! Exports: a plain data directory at a position, for stock Postgres without us.

use std::path::Path;
use std::sync::Arc;

use neon_compute::TimelineSource;

use crate::api::{Exported, ProgressSink};
use crate::directory::{history_of, report};
use crate::error::{RepoError, Result};
use crate::repository::Repository;
use crate::{tli, world};

impl Repository {
    pub(crate) fn export(
        &self,
        rev: &str,
        pgdata: &Path,
        progress: &mut dyn ProgressSink,
    ) -> Result<Exported> {
        if pgdata
            .read_dir()
            .is_ok_and(|mut entries| entries.next().is_some())
        {
            return Err(RepoError::NotEmpty(pgdata.to_owned()));
        }
        let (target, mut notes) = self.resolve_current(Some(rev))?;
        notes.extend(target.notes.iter().cloned());
        let position = target.place.position();
        let timeline = self.timeline(position.timeline)?;
        // An export is a fork like any other (law 1), of which we never hear again.
        let parent = target.place.path.last().map_or(1, |fork| fork.tli);
        let tli = tli::fork_tli(parent, world::new_timeline_id(&*self.world)).ok_or(RepoError::NoTli)?;
        let mut history = history_of(&target.place.path);
        history
            .entries
            .push(neon_postgres::timeline_history::HistoryEntry {
                tli: parent,
                end: position.lsn,
                reason: "exported by neon".to_owned(),
            });
        let source = TimelineSource::new(Arc::clone(&timeline), position.lsn);
        let built = report(progress, |tell| {
            neon_compute::export(&source, pgdata, tli, history, tell)
        })?;
        notes.extend(
            built
                .switched_off
                .iter()
                .map(|off| format!("{} = {} is switched off", off.name, off.configured)),
        );
        Ok(Exported {
            pgdata: pgdata.to_owned(),
            lsn: position.lsn,
            tli,
            bytes: built.bytes,
            notes,
        })
    }
}
