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

use crate::api;
use crate::aside::reach_of;
use crate::directory;
use crate::endpoint_file::{self, EndpointFile, Found};
use crate::error::{RepoError, Result};
use crate::receiver::Receiver;
use crate::repository::Repository;

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
        let name = entry.file_name().to_string_lossy().replace('%', "/");
        if !matches!(endpoint_file::look(neon_dir, &name), Found::Nothing) {
            names.push(name);
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
            trouble: self.trouble_of(name, &file, pid.is_some()),
        }))
    }

    /// Returns why what an endpoint wrote is not received, or cannot be taken in any more.
    fn trouble_of(&self, name: &str, file: &EndpointFile, runs: bool) -> Option<String> {
        if runs {
            let trouble = self.endpoints.receiver(name)?.trouble()?;
            return Some(format!("its WAL is not received: {}", with_causes(&trouble)));
        }
        if file.branch.is_none() || self.is_clean(name, file).unwrap_or(true) {
            return None;
        }
        let timeline = self.pages.get(file.timeline).ok()?;
        let (held, seen) = reach_of(&timeline, &pgdata_of(&self.neon_dir, name))?;
        Some(with_causes(&RepoError::Ahead {
            branch: name.to_owned(),
            held,
            seen: seen?,
        }))
    }

    /// Returns where the WAL ends that we ourselves wrote on a branch's endpoint.
    pub(crate) fn housekeeping_end(&self, branch: &str) -> Result<Lsn> {
        Ok(self
            .endpoint_file(branch)?
            .map_or(Lsn::INVALID, |file| file.housekeeping_end))
    }

    /// Forgets an endpoint: its directory, unless something of that is nowhere else, and its timeline when that never became history.
    /// Returns where the directory is kept.
    pub(crate) fn remove_endpoint(&self, name: &str) -> Result<Option<String>> {
        let directory = directory_of(&self.neon_dir, name);
        if !directory.exists() {
            return Ok(None);
        }
        // Whatever it was, it goes.
        let file = self.endpoint_file(name).ok().flatten();
        self.endpoints.receivers().remove(name);
        let kept = self.discard_directory(name)?;
        fs::remove_dir_all(&directory).map_err(RepoError::io("remove", &directory))?;
        if let Some(file) = file {
            self.drop_unless_history(file.timeline)?;
        }
        Ok(kept)
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
