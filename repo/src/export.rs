//! Exports: a plain data directory at a position, for stock Postgres without us.

use std::path::Path;
use std::sync::Arc;

use neon_compute::TimelineSource;

use crate::api::{Exported, ProgressSink};
use crate::directory::report;
use crate::error::{RepoError, Result};
use crate::repository::Repository;

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
        self.check_readable_place(&target.place)?;
        notes.extend(target.notes.iter().cloned());
        let position = target.place.position();
        let timeline = self.timeline(position.timeline)?;
        let (tli, history) = self.number_of_its_own(&target.place, "exported by neon")?;
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
