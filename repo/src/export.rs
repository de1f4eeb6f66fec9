//! Exports: a plain data directory at a position, for stock Postgres without us.

use std::path::Path;
use std::sync::Arc;

use neon_compute::TimelineSource;
use neon_compute::conf::{Settings, Why, quoted};
use neon_compute::settings::SwitchedOff;
use neon_types::on_one_line;

use crate::api::{Exported, ProgressSink};
use crate::catalog::Access;
use crate::directory::{report, told};
use crate::error::{RepoError, Result};
use crate::not_wal;
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
            let settings = Some(Settings::read(&target.commit.settings));
            neon_compute::export(&source, pgdata, tli, history, settings, tell)
        })?;
        notes.extend(told(built.switched_off.iter().map(switched_off)));
        notes.extend(told(
            built.left_out.iter().map(|line| format!("left out: {line}")),
        ));
        notes.extend(not_wal::unlogged(built.unlogged));
        notes.extend(self.slots_of(Some(rev))?);
        let way = "to apply them: ALTER SYSTEM RESET max_logical_replication_workers, and a restart";
        // Whoever cannot be logged in as has it exported for that.
        let access = Access::read(&timeline, position.lsn).ok();
        notes.extend(access.and_then(|access| not_wal::subscriptions(&access, way)));
        Ok(Exported {
            pgdata: pgdata.to_owned(),
            lsn: position.lsn,
            tli,
            bytes: built.bytes,
            notes,
        })
    }
}

/// Says what is off, and how it comes on.
fn switched_off(off: &SwitchedOff) -> String {
    let (name, value) = (&off.name, on_one_line(&quoted(&off.configured)));
    let way = match off.why {
        Why::Include => "write its lines into postgresql.conf".to_owned(),
        Why::Unknown => format!("if this Postgres knows it: ALTER SYSTEM SET {name} = {value}"),
        Why::Original | Why::Machine | Why::Library => {
            format!("to have it: ALTER SYSTEM SET {name} = {value}")
        }
    };
    format!("{name} = {value} is switched off: {}; {way}", off.why)
}
