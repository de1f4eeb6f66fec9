//! `neon start --resync`: a data directory that went on where its WAL could not be followed is taken in as it is.

use neon_pagestore::import;
use neon_postgres::control::DbState;
use neon_types::{CommitId, Lsn, Position};

use crate::api::{Progress, ProgressSink, Role};
use crate::directory::{Run, control_state, find_installation};
use crate::endpoint::pgdata_of;
use crate::endpoint_file::EndpointFile;
use crate::error::{RepoError, Result};
use crate::history::Place;
use crate::repository::Repository;

impl Repository {
    /// Takes in the data directory of a branch whose WAL has a gap: what it has changed since the last position that is here becomes a timeline
    /// that forks there, and a commit. Returns remarks.
    ///
    /// Killed in between, it is as if it had not begun: the directory stays as it is until its branch has the commit.
    pub(crate) fn resync(&self, branch: &str, progress: &mut dyn ProgressSink) -> Result<Vec<String>> {
        if self.endpoint_is_running(branch)? {
            return Err(RepoError::EndpointRuns(branch.to_owned()));
        }
        let Some(file) = self.endpoint_file(branch)? else {
            return Err(RepoError::refused(
                format!("'{branch}' has no data directory"),
                format!("start it without --resync: neon start {branch}"),
            ));
        };
        let seen = match self.salvage(branch, &file) {
            Ok(()) => {
                return Ok(vec![
                    "everything that the data directory holds is here: there is nothing to take in anew"
                        .to_owned(),
                ]);
            }
            Err(RepoError::Ahead { seen, .. }) => seen,
            Err(error) => return Err(error),
        };
        let (_, head) = self.head_of(branch)?;
        let place = self.durable_place(branch, &head)?;
        self.commit_tail(branch, &place, None, None)?;
        let (id, head) = self.head_of(branch)?;
        let commit = if head.position.lsn > seen {
            // An earlier attempt died when all was done but this.
            self.now_on(branch, &file, head.position)?;
            id
        } else {
            self.end_cleanly(branch, &file, progress)?;
            self.take_in_directory(branch, &file, progress)?
        };
        Ok(vec![format!(
            "took in what the data directory had changed up to {seen}, as one step: committed {}",
            commit.short()
        )])
    }

    /// Lets Postgres recover a directory that was not stopped properly, and stop.
    fn end_cleanly(&self, branch: &str, file: &EndpointFile, progress: &mut dyn ProgressSink) -> Result<()> {
        let pgdata = pgdata_of(&self.neon_dir, branch);
        if control_state(&pgdata) == Some(DbState::ShutDowned) {
            return Ok(());
        }
        let (_, head) = self.head_of(branch)?;
        let version = self.timeline(head.position.timeline)?.state().version;
        let installation = find_installation(&self.caller, Some(version))?;
        let run = Run {
            port: self.choose_port(branch, None, Some(file))?,
            socket_directory: self.socket_directory(branch),
            autovacuum: false,
            read_only: false,
            role: Role::Copy,
        };
        progress.note(&format!("Postgres recovers the data directory of {branch}"));
        self.run_postgres(branch, &installation, &run, progress)?;
        match self.stop_postgres(branch)? {
            true => Ok(()),
            false => Err(RepoError::refused(
                format!("the data directory of '{branch}' could not be stopped properly"),
                "look at the endpoint's postgres.log, then run the command again",
            )),
        }
    }

    fn take_in_directory(
        &self,
        branch: &str,
        file: &EndpointFile,
        progress: &mut dyn ProgressSink,
    ) -> Result<CommitId> {
        let source = import::inspect(&pgdata_of(&self.neon_dir, branch))?;
        let (_, head) = self.head_of(branch)?;
        let new = self.draw_timeline(branch, &Place::of(&head).normal())?;
        // What follows on the head there is housekeeping; from here on the branch goes on elsewhere.
        if let Ok(old) = self.pages.get(file.timeline) {
            old.update_state(|state| state.branch = None)?;
        }
        let timeline = self.pages.resync(new, &source, &mut |done, total| {
            progress.report(&Progress {
                label: "comparing the data directory".into(),
                done,
                total,
                unit: "bytes".into(),
            });
            !progress.cancelled()
        })?;
        let place = Place {
            path: self.path_of(&timeline)?,
            lsn: timeline.end(),
        };
        self.now_on(branch, file, place.position())?;
        let message = format!("{branch} as its data directory was: its WAL had a gap");
        let commit = self.commit_tail(branch, &place, Some(&message), None)?;
        self.drop_unless_history(file.timeline)?;
        commit.ok_or_else(|| RepoError::refused("there was nothing to commit", "report this"))
    }

    /// Says that the branch's endpoint goes on at a position; the directory, which is that of another timeline, is made anew at the next start.
    fn now_on(&self, branch: &str, file: &EndpointFile, position: Position) -> Result<()> {
        let file = EndpointFile {
            timeline: position.timeline,
            built_at: position.lsn,
            housekeeping_end: Lsn::INVALID,
            boot_id: String::new(),
            ..file.clone()
        };
        self.write_endpoint_file(branch, &file)?;
        self.stamp_as_taken_in(branch, position)
    }
}
