//! A stopped data directory against a position: is what we would lay out there what Postgres has?

use std::collections::BTreeSet;
use std::path::Path;

use neon_pagestore::compare::{self, AtPosition, Peer};
use neon_pagestore::import::{self, ImportSource};
use neon_postgres::timeline_history::{self, TimelineHistory};
use neon_types::Lsn;

use crate::api::{Compared, ComparedClass, Progress, ProgressSink};
use crate::error::{RepoError, Result};
use crate::repository::Repository;

impl Repository {
    pub(crate) fn compare(
        &self,
        rev: &str,
        pgdata: &Path,
        progress: &mut dyn ProgressSink,
    ) -> Result<Compared> {
        let target = self.resolve(Some(rev))?;
        self.check_readable_place(&target.place)?;
        let position = target.place.position();
        let directory = import::inspect(pgdata)?;
        let (_, stopped_at) = import::position(&directory)?;
        let recovered_to = recovered_to(&directory)?;
        let recovered = stopped_at != position.lsn;
        if recovered && recovered_to != Some(position.lsn) {
            let recovered_to =
                recovered_to.map_or(String::new(), |lsn| format!(" and was recovered to {lsn}"));
            return Err(RepoError::refused(
                format!(
                    "{} was stopped at {stopped_at}{recovered_to}, not at {}",
                    pgdata.display(),
                    position.lsn
                ),
                "recover it with recovery_target_lsn, recovery_target_inclusive = off and recovery_target_action = promote, then stop it",
            ));
        }
        let peer = if recovered {
            Peer::Replayed
        } else {
            Peer::Wrote {
                copied_by_wal: BTreeSet::new(),
            }
        };
        let subject = AtPosition {
            timeline: self.timeline(position.timeline)?,
            lsn: position.lsn,
        };
        let (report, _) = compare::compare(&subject, &directory, &peer, &mut |done, total| {
            progress.report(&Progress {
                label: "comparing".into(),
                done,
                total,
                unit: "bytes".into(),
            });
            !progress.cancelled()
        })?;
        Ok(Compared {
            pgdata: pgdata.to_owned(),
            lsn: position.lsn,
            recovered,
            total: report.total(),
            classes: report
                .classes
                .iter()
                .map(|(class, tally)| ComparedClass {
                    name: class.name().to_owned(),
                    tally: *tally,
                })
                .collect(),
            differences: report.differences,
            allowed: report.allowed,
            not_replayed: report.not_replayed,
            notes: target.notes,
        })
    }
}

/// Returns where the timeline before that of the directory was left: the end of the recovery that began its timeline.
fn recovered_to(directory: &ImportSource) -> Result<Option<Lsn>> {
    let tli = directory.control.checkpoint().tli;
    let path = directory
        .pgdata
        .join("pg_wal")
        .join(timeline_history::file_name(tli));
    match std::fs::read_to_string(&path) {
        Ok(text) => {
            let history = TimelineHistory::parse(&text).map_err(|error| {
                RepoError::refused(
                    format!("{} is damaged: {error}", path.display()),
                    "take a fresh directory",
                )
            })?;
            Ok(history.entries.last().map(|entry| entry.end))
        }
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => Ok(None),
        Err(error) => Err(RepoError::io("read", &path)(error)),
    }
}
