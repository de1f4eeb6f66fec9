//! Data directories and the Postgres in them, as this repository uses `neon_compute`.

use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

use neon_compute::conf::Settings;
use neon_compute::settings::{EndpointSettings, SwitchedOff, pin_directory};
use neon_compute::{
    Adoption, Boot, ComputeError, DataDirectory, Installation, Postmaster, Purpose, Start, Stopped,
    TimelineSource, find_client,
};
use neon_objects::Fork;
use neon_pagestore::Timeline;
use neon_postgres::PgVersion;
use neon_postgres::control::DbState;
use neon_postgres::timeline_history::{HistoryEntry, TimelineHistory};
use neon_types::{Lsn, on_one_line};

use crate::api::{ApiError, Caller, Progress, ProgressSink, Role};
use crate::aside::kept_remark;
use crate::endpoint::{directory_of, pgdata_of};
use crate::error::{RepoError, Result};
use crate::history::Place;
use crate::not_wal;
use crate::receiver::SLOT;
use crate::repository::Repository;
use crate::tli;
use crate::world;

/// How long a Postgres gets to come up, recovery in place included.
const START_PATIENCE: Duration = Duration::from_secs(300);
/// How often we look whether anybody still waits for it.
const START_LOOK: Duration = Duration::from_millis(200);
/// How long it gets to stop; a stop waits until its WAL is received.
const STOP_PATIENCE: Duration = Duration::from_secs(120);

/// How an endpoint is run.
pub(crate) struct Run {
    /// TCP port and number of the socket.
    pub port: u16,
    /// Directory of the socket.
    pub socket_directory: PathBuf,
    /// Autovacuum from the start on (law 3).
    pub autovacuum: bool,
    /// A standby that nobody feeds.
    pub read_only: bool,
    /// What it may do.
    pub role: Role,
}

/// A Postgres that came up.
pub(crate) struct Started {
    pub pid: u32,
    pub version_num: u32,
    pub notes: Vec<String>,
}

/// Returns the Postgres to run, of the wanted version or the newest, from where the caller looks for it.
pub(crate) fn find_installation(caller: &Caller, wanted: Option<PgVersion>) -> Result<Installation> {
    Ok(Installation::find(wanted, &caller.search_path()).map_err(neon_compute::ComputeError::from)?)
}

/// Returns the `psql` to run.
pub fn find_psql(caller: &Caller) -> std::result::Result<PathBuf, ApiError> {
    find_client("psql", None, &caller.search_path()).ok_or_else(|| {
        ApiError::from(RepoError::refused(
            "psql was not found",
            "install Postgres's client programs (postgresql-client), or use 'neon uri' with another client",
        ))
    })
}

/// Returns the postmaster that runs in a data directory, if one does.
pub(crate) fn running(pgdata: &Path) -> Option<Postmaster> {
    match Postmaster::adopt(pgdata, &pgdata.with_file_name("postgres.log")) {
        Ok(Adoption::Adopted(postmaster)) => Some(postmaster),
        _ => None,
    }
}

/// Returns what the control file of a directory says of its state; nothing when it cannot be read.
pub(crate) fn control_state(pgdata: &Path) -> Option<DbState> {
    neon_compute::read_control(pgdata)
        .ok()
        .and_then(|control| control.state())
}

/// Returns the control file of a directory; nothing when it cannot be read.
pub(crate) fn control_bytes(pgdata: &Path) -> Option<Vec<u8>> {
    std::fs::read(pgdata.join("global/pg_control")).ok()
}

/// Returns the history file's entries of a path: every timeline number before the last, with where it was left.
pub(crate) fn history_of(path: &[Fork]) -> TimelineHistory {
    let entries = path
        .iter()
        .zip(path.iter().skip(1))
        .map(|(parent, child)| HistoryEntry {
            tli: parent.tli,
            end: child.start,
            reason: "forked by neon".to_owned(),
        })
        .collect();
    TimelineHistory { entries }
}

impl Repository {
    /// Returns a TLI that no other history has, for a server that goes on from a place without us, and the history before it (law 1: a fork
    /// like any other, of which we never hear again).
    pub(crate) fn number_of_its_own(&self, place: &Place, reason: &str) -> Result<(u32, TimelineHistory)> {
        let parent = place.path.last().map_or(1, |fork| fork.tli);
        let tli = tli::fork_tli(parent, world::new_timeline_id(self.world())).ok_or(RepoError::NoTli)?;
        let mut history = history_of(&place.path);
        history.entries.push(HistoryEntry {
            tli: parent,
            end: place.lsn,
            reason: reason.to_owned(),
        });
        Ok((tli, history))
    }

    /// Builds the data directory of an endpoint at an LSN of a timeline; an older one there goes first. Returns remarks.
    pub(crate) fn build(
        &self,
        name: &str,
        timeline: &Arc<Timeline>,
        lsn: Lsn,
        boot: &Boot,
        settings: &str,
        progress: &mut dyn ProgressSink,
    ) -> Result<Vec<String>> {
        let pgdata = pgdata_of(&self.neon_dir, name);
        let mut aside = pgdata.with_extension("old");
        let mut notes = Vec::new();
        neon_compute::kill_everything(&pgdata)?;
        if pgdata.exists() {
            // What a read-only server wrote is nobody's.
            if boot.purpose == Purpose::ReadOnly || self.is_drained(name) {
                remove_tree(&aside)?;
                std::fs::rename(&pgdata, &aside).map_err(RepoError::io("rename", &pgdata))?;
            } else {
                aside = self.set_aside(name)?;
                notes.push(kept_remark(&aside));
            }
        }
        std::fs::create_dir_all(directory_of(&self.neon_dir, name))
            .map_err(RepoError::io("create", directory_of(&self.neon_dir, name)))?;
        let source = TimelineSource::new(Arc::clone(timeline), lsn);
        let boot = &Boot {
            settings: Some(Settings::read(settings)),
            ..boot.clone()
        };
        let built = report(progress, |tell| {
            DataDirectory::build(&source, &pgdata, boot, tell)
        });
        if built.is_err() {
            // Of an endpoint that never was nothing is left; what is there of another one stays.
            let _ = std::fs::remove_dir(directory_of(&self.neon_dir, name));
        }
        let built = built?;
        if aside.exists() {
            // It goes when the new one has been stopped properly (law 8): until then it is the last witness of what died in it.
            neon_compute::carry_configuration(&aside, &pgdata)?;
        }
        let mut notes = told(built.switched_off.iter().map(not_taken_over));
        notes.extend(told(
            built.left_out.iter().map(|line| format!("left out: {line}")),
        ));
        notes.extend(not_wal::unlogged(built.unlogged));
        notes.extend(not_wal::slots(&aside));
        if boot.purpose == Purpose::ReadOnly && !built.prepared.is_empty() {
            let waiting = neon_types::counted(built.prepared.len(), "prepared transaction");
            notes.push(format!(
                "{waiting} here that nobody has ended; a read-only endpoint does not list them"
            ));
        }
        Ok(notes)
    }

    /// Starts Postgres in an endpoint's data directory and waits until it answers.
    pub(crate) fn run_postgres(
        &self,
        name: &str,
        installation: &Installation,
        run: &Run,
        progress: &dyn ProgressSink,
    ) -> Result<Started> {
        let version = installation.version();
        let pgdata = pgdata_of(&self.neon_dir, name);
        let wanted = EndpointSettings {
            name: name.to_owned(),
            port: run.port,
            socket_dir: run.socket_directory.clone(),
            tcp: true,
            autovacuum: run.autovacuum,
            read_only: run.read_only,
            act_as_primary: run.role == Role::Primary,
            preload_allowed: Vec::new(),
            extra: self.config()?.postgres_settings()?,
        };
        let mut pinned = pin_directory(version, &pgdata, &wanted)?;
        // Autovacuum comes on at the first transaction of a user (law 3), and what stands on the command line cannot change: it goes
        // into a configuration file of ours that includes the user's.
        let config = write_configuration(&pgdata, run.autovacuum)?;
        pinned
            .settings
            .retain(|(name, _)| name != "autovacuum" || run.read_only);
        pinned
            .settings
            .push(("config_file".to_owned(), config.to_string_lossy().into_owned()));
        // None of ours runs there: a pid file that is left may name anybody, and Postgres would wait for that one to end.
        neon_compute::kill_everything(&pgdata)?;
        let mut postmaster = Postmaster::start(&Start {
            installation,
            pgdata: &pgdata,
            port: run.port,
            socket_dir: &run.socket_directory,
            log: &pgdata.with_file_name("postgres.log"),
            locale: &self.caller.locale,
            pinned: &pinned,
        })?;
        if let Err(error) = wait_ready(&mut postmaster, progress) {
            let _ = postmaster.stop_now(STOP_PATIENCE);
            return Err(error);
        }
        let notes = told(pinned.switched_off.iter().map(|off| {
            format!(
                "{} = {} is switched off: {}",
                off.name,
                on_one_line(&off.configured),
                off.why
            )
        }));
        let pid = u32::try_from(postmaster.pid()).unwrap_or_default();
        self.endpoints.postmasters().insert(name.to_owned(), postmaster);
        Ok(Started {
            pid,
            version_num: installation.version_num(),
            notes,
        })
    }

    /// Removes the directory that a rebuilt one took the place of.
    pub(crate) fn remove_old_directory(&self, name: &str) -> Result<()> {
        remove_tree(&pgdata_of(&self.neon_dir, name).with_extension("old"))
    }

    /// Stops the Postgres of an endpoint. True when it ended with a shutdown checkpoint.
    pub(crate) fn stop_postgres(&self, name: &str) -> Result<bool> {
        let pgdata = pgdata_of(&self.neon_dir, name);
        let known = self.endpoints.postmasters().remove(name);
        let Some(mut postmaster) = known.or_else(|| running(&pgdata)) else {
            return Ok(false);
        };
        Ok(postmaster.stop(STOP_PATIENCE)? == Stopped::Fast)
    }

    /// Returns how a data directory begins that continues a branch on `path`.
    pub(crate) fn boot_read_write(path: &[Fork]) -> Boot {
        Boot {
            tli: path.last().map_or(1, |fork| fork.tli),
            history: history_of(path),
            purpose: Purpose::ReadWrite,
            slot: Some(SLOT.to_owned()),
            settings: None,
        }
    }
}

/// Says what of a configuration does not hold in a directory.
pub(crate) fn not_taken_over(off: &SwitchedOff) -> String {
    let configured = on_one_line(&off.configured);
    format!("{} = {configured} is not taken over: {}", off.name, off.why)
}

/// Returns the first of many remarks, and how many more there are.
pub(crate) fn told(remarks: impl ExactSizeIterator<Item = String>) -> Vec<String> {
    const SHOWN: usize = 20;
    let more = remarks.len().saturating_sub(SHOWN);
    let mut told: Vec<String> = remarks.take(SHOWN).collect();
    if more > 0 {
        told.push(format!("and {more} more of this kind"));
    }
    told
}

/// Waits until a server accepts connections, as long as somebody waits for that.
fn wait_ready(postmaster: &mut Postmaster, progress: &dyn ProgressSink) -> Result<()> {
    let began = Instant::now();
    loop {
        match postmaster.wait_ready(START_LOOK) {
            Err(ComputeError::NotReady { pid, log, .. }) => {
                if progress.cancelled() {
                    return Err(RepoError::Interrupted);
                }
                let waited = began.elapsed();
                if waited > START_PATIENCE {
                    let seconds = waited.as_secs();
                    return Err(ComputeError::NotReady { pid, seconds, log }.into());
                }
            }
            other => return Ok(other?),
        }
    }
}

/// Writes `neon.conf` beside a data directory: the user's `postgresql.conf`, and whether autovacuum is held back.
pub(crate) fn write_configuration(pgdata: &Path, autovacuum: bool) -> Result<PathBuf> {
    let path = pgdata.with_file_name("neon.conf");
    let theirs = pgdata
        .join("postgresql.conf")
        .to_string_lossy()
        .replace('\'', "''");
    let held = if autovacuum { "" } else { "autovacuum = off\n" };
    let text = format!(
        "# Written by neon at each start. Settings of yours belong into postgresql.conf or ALTER SYSTEM.\ninclude '{theirs}'\n{held}"
    );
    neon_objects::durable::replace(&path, text.as_bytes(), 0o600)?;
    Ok(path)
}

/// Runs `work` with a listener that passes bytes on to `progress`, and ends it when nobody waits for the result any more.
pub(crate) fn report<T>(
    progress: &mut dyn ProgressSink,
    work: impl FnOnce(neon_compute::Progress<'_>) -> neon_compute::Result<T>,
) -> Result<T> {
    let shared = Mutex::new(progress);
    let tell = |done: u64, total: u64| {
        let report = Progress {
            label: "writing pages".into(),
            done,
            total,
            unit: "bytes".into(),
        };
        let mut progress = shared.lock().unwrap_or_else(PoisonError::into_inner);
        progress.report(&report);
        !progress.cancelled()
    };
    Ok(work(&tell)?)
}

pub(crate) fn remove_tree(path: &Path) -> Result<()> {
    match std::fs::remove_dir_all(path) {
        Err(error) if error.kind() != std::io::ErrorKind::NotFound => {
            Err(RepoError::io("remove", path)(error))
        }
        _ => Ok(()),
    }
}
