//! May this directory be imported?

use std::fs;
use std::os::unix::fs::MetadataExt;
use std::path::Path;

use neon_postgres::PgVersion;
use neon_postgres::control::{CONTROL_FILE_SIZE, ControlError, ControlFile, DbState};

use super::survey::Survey;
use super::{ImportError, ImportSource, slrus};

/// Looks at a data directory and refuses, by name, every one that cannot be imported as it is. Reads nothing but the
/// control file, `PG_VERSION` and directories, so it is fast.
pub fn inspect(pgdata: &Path) -> Result<ImportSource, ImportError> {
    let path = || pgdata.to_owned();
    let metadata = fs::metadata(pgdata).map_err(ImportError::io(pgdata))?;
    if !metadata.is_dir() {
        return Err(ImportError::NotADataDirectory {
            path: path(),
            reason: "it is not a directory".to_owned(),
        });
    }
    for needed in ["PG_VERSION", "global/pg_control", "base", "pg_wal"] {
        if !pgdata.join(needed).exists() {
            return Err(ImportError::NotADataDirectory {
                path: path(),
                reason: format!("it has no {needed}"),
            });
        }
    }
    let ours = rustix::process::geteuid().as_raw();
    if metadata.uid() != ours {
        return Err(ImportError::NotOwned {
            path: path(),
            owner: metadata.uid(),
            ours,
        });
    }
    let version = read_version(pgdata)?;
    refuse_running(pgdata)?;
    refuse_recovery(pgdata)?;
    let control = read_control(pgdata, version)?;
    refuse_sizes(pgdata, &control)?;
    refuse_state(pgdata, &control)?;

    let survey = Survey::of(pgdata, version)?;
    if !survey.tablespaces.is_empty() {
        return Err(ImportError::Tablespaces {
            path: path(),
            tablespaces: survey.tablespaces,
        });
    }
    if !survey.unknown.is_empty() {
        return Err(ImportError::UnknownFiles {
            path: path(),
            files: survey.unknown,
        });
    }
    slrus::check(pgdata, &control, &survey)?;
    Ok(ImportSource {
        pgdata: path(),
        version,
        control,
        left_behind: survey.left_behind(),
        survey,
    })
}

fn read_version(pgdata: &Path) -> Result<PgVersion, ImportError> {
    let file = pgdata.join("PG_VERSION");
    let text = fs::read(&file).map_err(ImportError::io(&file))?;
    let text = String::from_utf8_lossy(&text);
    let found = text.trim();
    let major = found.parse().ok().and_then(PgVersion::from_major);
    major.ok_or_else(|| ImportError::Version {
        path: pgdata.to_owned(),
        found: found.chars().take(20).collect(),
    })
}

/// A pid file is left behind by a crash; it counts only while its process lives.
fn refuse_running(pgdata: &Path) -> Result<(), ImportError> {
    let file = pgdata.join("postmaster.pid");
    let text = match fs::read(&file) {
        Ok(text) => text,
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => return Ok(()),
        Err(error) => return Err(ImportError::io(&file)(error)),
    };
    let text = String::from_utf8_lossy(&text);
    // A single-user backend writes its pid negated.
    let pid = text
        .lines()
        .next()
        .and_then(|line| line.trim().parse::<i32>().ok())
        .map(i32::wrapping_abs);
    let Some(pid) = pid.filter(|pid| *pid > 0) else {
        return Ok(());
    };
    let alive = rustix::process::Pid::from_raw(pid)
        .is_some_and(|pid| rustix::process::test_kill_process(pid) != Err(rustix::io::Errno::SRCH));
    if alive {
        return Err(ImportError::Running {
            path: pgdata.to_owned(),
            pid,
        });
    }
    Ok(())
}

fn refuse_recovery(pgdata: &Path) -> Result<(), ImportError> {
    for signal in ["standby.signal", "recovery.signal", "recovery.conf"] {
        if pgdata.join(signal).exists() {
            return Err(ImportError::Standby {
                path: pgdata.to_owned(),
                reason: format!("{signal} is there"),
            });
        }
    }
    if pgdata.join("backup_label").exists() {
        return Err(ImportError::Backup {
            path: pgdata.to_owned(),
        });
    }
    Ok(())
}

fn read_control(pgdata: &Path, version: PgVersion) -> Result<ControlFile, ImportError> {
    let file = pgdata.join("global/pg_control");
    let damaged = |reason: String| ImportError::Control {
        path: pgdata.to_owned(),
        reason,
    };
    let length = fs::metadata(&file).map_err(ImportError::io(&file))?.len();
    if length > CONTROL_FILE_SIZE as u64 {
        return Err(damaged(format!("it has {length} bytes")));
    }
    let bytes = fs::read(&file).map_err(ImportError::io(&file))?;
    let control = ControlFile::parse(&bytes).map_err(|error| damaged(error.to_string()))?;
    if control.version() != version {
        return Err(damaged(format!(
            "it was made by Postgres {}, and PG_VERSION says {}",
            control.version().major(),
            version.major()
        )));
    }
    Ok(control)
}

fn refuse_sizes(pgdata: &Path, control: &ControlFile) -> Result<(), ImportError> {
    control.check_layout().map_err(|error| match error {
        ControlError::Layout {
            what,
            found,
            expected,
        } => ImportError::BlockSize {
            path: pgdata.to_owned(),
            what,
            found,
            expected,
        },
        other => ImportError::Control {
            path: pgdata.to_owned(),
            reason: other.to_string(),
        },
    })
}

fn refuse_state(pgdata: &Path, control: &ControlFile) -> Result<(), ImportError> {
    let state = match control.state() {
        Some(DbState::ShutDowned) => return Ok(()),
        Some(DbState::ShutDownedInRecovery | DbState::InArchiveRecovery) => {
            return Err(ImportError::Standby {
                path: pgdata.to_owned(),
                reason: "it was in recovery when it stopped".to_owned(),
            });
        }
        Some(DbState::Startup) => "was starting up",
        Some(DbState::ShuttingDown) => "was shutting down",
        Some(DbState::InCrashRecovery) => "was in crash recovery",
        Some(DbState::InProduction) => "was in production",
        None => "was in an unknown state",
    };
    Err(ImportError::Unclean {
        path: pgdata.to_owned(),
        state: state.to_owned(),
    })
}
