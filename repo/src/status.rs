//! The repository at a glance.

use std::fs;
use std::path::Path;

use neon_types::with_causes;

use crate::api;
use crate::endpoint;
use crate::error::Result;
use crate::repository::Repository;

impl Repository {
    pub(crate) fn status(&self) -> Result<api::Status> {
        let mut endpoints = Vec::new();
        for name in endpoint::names(&self.neon_dir)? {
            match self.endpoint_state(&name) {
                Ok(state) => endpoints.extend(state),
                Err(error) => endpoints.push(api::EndpointStatus {
                    state: "damaged".to_owned(),
                    pid: self.endpoint_pid(&name),
                    trouble: Some(with_causes(&error)),
                    name,
                    port: 0,
                    read_only: false,
                    received: None,
                }),
            }
        }
        let branches = self.list_branches()?;
        let versions = branches
            .iter()
            .filter_map(|branch| self.pages.state_of(branch.timeline).ok())
            .map(|state| state.version.major());
        let pg_version = versions.max().unwrap_or(0);
        Ok(api::Status {
            directory: self.directory(),
            repository: self.config()?.repository(),
            head: self.refs.head()?,
            pg_version,
            daemon: daemon_pid(&self.neon_dir),
            endpoints,
            branches,
            aside: self.kept_aside()?,
            size: bytes_below(&self.neon_dir.join("objects")) + bytes_below(&self.neon_dir.join("timelines")),
        })
    }
}

fn daemon_pid(neon_dir: &Path) -> Option<u32> {
    crate::sockets::connect(&crate::sockets::daemon(neon_dir)).ok()?;
    fs::read_to_string(neon_dir.join("neon.pid"))
        .ok()?
        .trim()
        .parse()
        .ok()
}

/// Returns the bytes of the files below a directory; what vanishes meanwhile does not count.
pub(crate) fn bytes_below(directory: &Path) -> u64 {
    let Ok(entries) = fs::read_dir(directory) else {
        return 0;
    };
    entries
        .flatten()
        .map(|entry| match entry.metadata() {
            Ok(metadata) if metadata.is_dir() => bytes_below(&entry.path()),
            Ok(metadata) => metadata.len(),
            Err(_) => 0,
        })
        .sum()
}
