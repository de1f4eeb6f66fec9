//! Endpoints: a Postgres on a branch head, or read-only at a position.
//!
//! ```text
//! endpoints/<name>/endpoint.toml   what it is, kept across restarts: docs/endpoint.md
//!                  pgdata/         the data directory; disposable once drained
//!                  postgres.log
//! ```

use std::collections::HashMap;
use std::fs;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use neon_compute::Postmaster;
use neon_objects::durable;
use neon_types::{Lsn, TimelineId, with_causes};
use serde::{Deserialize, Serialize};

use crate::api;
use crate::directory;
use crate::error::{RepoError, Result};
use crate::receiver::Receiver;
use crate::repository::Repository;

/// `endpoint.toml`.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct EndpointFile {
    /// Branch that it writes; absent for a read-only one.
    pub branch: Option<String>,
    /// Timeline that it writes or reads.
    pub timeline: TimelineId,
    /// Position at which its data directory was built.
    pub built_at: Lsn,
    /// TCP port, kept across restarts.
    pub port: u16,
    /// WAL up to here is ours, not the user's: the password that we set (law 3).
    pub housekeeping_end: Lsn,
    /// Names the last boot; the directory's stamp must say the same (law 9).
    pub boot_id: String,
    /// `server_version_num` of the Postgres that last ran it.
    pub pg_version_num: u32,
}

/// The endpoints of which this process receives WAL.
#[derive(Default)]
pub struct Endpoints {
    receivers: Mutex<HashMap<String, Arc<Receiver>>>,
    postmasters: Mutex<HashMap<String, Postmaster>>,
}

impl Endpoints {
    /// Returns the receivers by endpoint name.
    pub fn receivers(&self) -> MutexGuard<'_, HashMap<String, Arc<Receiver>>> {
        self.receivers.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Returns the servers that this process started, by endpoint name: as their parent it must take away what is left of them.
    pub fn postmasters(&self) -> MutexGuard<'_, HashMap<String, Postmaster>> {
        self.postmasters.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Returns the receiver of one endpoint.
    pub fn receiver(&self, name: &str) -> Option<Arc<Receiver>> {
        self.receivers().get(name).cloned()
    }
}

/// Returns the directory below `endpoints/` of an endpoint: a branch's name with `/` written `%`, which no name holds.
pub fn directory_of(neon_dir: &Path, name: &str) -> PathBuf {
    neon_dir.join("endpoints").join(name.replace('/', "%"))
}

/// Returns the data directory of an endpoint.
pub fn pgdata_of(neon_dir: &Path, name: &str) -> PathBuf {
    directory_of(neon_dir, name).join("pgdata")
}

/// Returns the stamp file of an endpoint's data directory.
pub fn stamp_of(neon_dir: &Path, name: &str) -> PathBuf {
    directory_of(neon_dir, name).join("stamp")
}

/// Returns the names of the endpoints that have a directory.
pub fn names(neon_dir: &Path) -> Result<Vec<String>> {
    let directory = neon_dir.join("endpoints");
    let entries = match fs::read_dir(&directory) {
        Ok(entries) => entries,
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => return Ok(Vec::new()),
        Err(error) => return Err(RepoError::io("read", directory)(error)),
    };
    let mut names = Vec::new();
    for entry in entries {
        let entry = entry.map_err(RepoError::io("read", &directory))?;
        if entry.path().join("endpoint.toml").is_file() {
            names.push(entry.file_name().to_string_lossy().replace('%', "/"));
        }
    }
    names.sort();
    Ok(names)
}

/// Returns true when a postmaster runs in some endpoint of the repository; needs no lock.
pub fn any_runs(neon_dir: &Path) -> bool {
    names(neon_dir)
        .unwrap_or_default()
        .iter()
        .any(|name| directory::running(&pgdata_of(neon_dir, name)).is_some())
}

impl Repository {
    pub(crate) fn endpoint_file(&self, name: &str) -> Result<Option<EndpointFile>> {
        let path = directory_of(&self.neon_dir, name).join("endpoint.toml");
        let text = match fs::read_to_string(&path) {
            Ok(text) => text,
            Err(error) if error.kind() == std::io::ErrorKind::NotFound => return Ok(None),
            Err(error) => return Err(RepoError::io("read", path)(error)),
        };
        toml_edit::de::from_str(&text).map(Some).map_err(|error| {
            RepoError::refused(
                format!("{} cannot be read: {}", path.display(), error.message()),
                "remove the endpoint's directory; its branch starts again from what is committed",
            )
        })
    }

    pub(crate) fn write_endpoint_file(&self, name: &str, file: &EndpointFile) -> Result<()> {
        let directory = directory_of(&self.neon_dir, name);
        fs::create_dir_all(&directory).map_err(RepoError::io("create", &directory))?;
        let text = toml_edit::ser::to_string(file).map_err(|error| {
            RepoError::refused(format!("endpoint.toml cannot be written: {error}"), "report this")
        })?;
        Ok(durable::replace(
            &directory.join("endpoint.toml"),
            text.as_bytes(),
            0o600,
        )?)
    }

    /// Returns the process id of the endpoint's postmaster, when it runs.
    pub(crate) fn endpoint_pid(&self, name: &str) -> Option<u32> {
        if let Some(postmaster) = self.endpoints.postmasters().get_mut(name) {
            // Also takes away a child that has ended.
            postmaster.is_running();
        }
        directory::running(&pgdata_of(&self.neon_dir, name))
            .and_then(|postmaster| u32::try_from(postmaster.pid()).ok())
    }

    pub(crate) fn endpoint_is_running(&self, name: &str) -> Result<bool> {
        Ok(self.endpoint_pid(name).is_some())
    }

    /// Returns what `status` says of an endpoint; nothing when it never was.
    pub(crate) fn endpoint_state(&self, name: &str) -> Result<Option<api::EndpointStatus>> {
        let Some(file) = self.endpoint_file(name)? else {
            return Ok(None);
        };
        let pid = self.endpoint_pid(name);
        let clean = neon_compute::Stamp::read(&stamp_of(&self.neon_dir, name))
            .ok()
            .flatten()
            .is_some_and(|stamp| stamp.clean);
        let state = match (pid, clean) {
            (Some(_), _) => "running",
            (None, true) => "stopped",
            (None, false) => "crashed",
        };
        let received = match self.pages.get(file.timeline) {
            Ok(timeline) if file.branch.is_some() => Some(timeline.end()),
            _ => None,
        };
        Ok(Some(api::EndpointStatus {
            name: name.to_owned(),
            state: state.to_owned(),
            port: file.port,
            pid,
            read_only: file.branch.is_none(),
            received,
            trouble: self
                .endpoints
                .receiver(name)
                .and_then(|receiver| receiver.trouble())
                .map(|error| with_causes(&error)),
        }))
    }

    /// Returns where the WAL ends that we ourselves wrote on a branch's endpoint.
    pub(crate) fn housekeeping_end(&self, branch: &str) -> Result<Lsn> {
        Ok(self
            .endpoint_file(branch)?
            .map_or(Lsn::INVALID, |file| file.housekeeping_end))
    }

    /// Forgets an endpoint: its directory, and its timeline when that never became history.
    pub(crate) fn remove_endpoint(&self, name: &str) -> Result<()> {
        let Some(file) = self.endpoint_file(name)? else {
            return Ok(());
        };
        let directory = directory_of(&self.neon_dir, name);
        neon_compute::kill_everything(&pgdata_of(&self.neon_dir, name))?;
        self.endpoints.receivers().remove(name);
        fs::remove_dir_all(&directory).map_err(RepoError::io("remove", &directory))?;
        self.drop_unless_history(file.timeline)
    }

    /// Removes a timeline that no commit was ever made on.
    pub(crate) fn drop_unless_history(&self, timeline: TimelineId) -> Result<()> {
        if self
            .pages
            .get(timeline)
            .is_ok_and(|timeline| timeline.state().provisional)
        {
            self.pages.remove(timeline)?;
        }
        Ok(())
    }

    pub(crate) fn rename_endpoint(&self, old: &str, new: &str) -> Result<()> {
        let Some(mut file) = self.endpoint_file(old)? else {
            return Ok(());
        };
        let (from, to) = (
            directory_of(&self.neon_dir, old),
            directory_of(&self.neon_dir, new),
        );
        fs::rename(&from, &to).map_err(RepoError::io("rename", &from))?;
        durable::sync_directory(&self.neon_dir.join("endpoints"))?;
        file.branch = Some(new.to_owned());
        self.write_endpoint_file(new, &file)
    }
}
