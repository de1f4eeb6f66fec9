//! `endpoint.toml`: what a data directory is; and, when the file is lost, what the directory itself says.

use std::fs;
use std::io::ErrorKind;
use std::path::Path;

use neon_compute::{PidFile, Stamp, read_control};
use neon_objects::durable;
use neon_types::{Lsn, TimelineId, checked_text, with_checksum};
use serde::{Deserialize, Serialize};

use crate::endpoint::{directory_of, pgdata_of, stamp_of};
use crate::error::{RepoError, Result};
use crate::repository::Repository;

const FILE: &str = "endpoint.toml";
/// Longest file that is read, in bytes.
const LIMIT: u64 = 64 << 10;

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

/// What was found where the file should be.
pub(crate) enum Found {
    /// The file.
    Whole(EndpointFile),
    /// Neither a file nor a data directory.
    Nothing,
    /// A data directory whose file is missing or damaged, and why.
    Lost(String),
}

impl EndpointFile {
    fn read(path: &Path) -> std::result::Result<Option<EndpointFile>, String> {
        match fs::metadata(path) {
            Err(error) if error.kind() == ErrorKind::NotFound => return Ok(None),
            Ok(metadata) if metadata.len() > LIMIT => return Err("it is too long".to_owned()),
            _ => {}
        }
        let bytes = fs::read(path).map_err(|error| error.to_string())?;
        let text = checked_text(&bytes).map_err(|error| error.to_string())?;
        toml_edit::de::from_str(text)
            .map(Some)
            .map_err(|error| error.message().to_owned())
    }
}

/// Looks for the file of an endpoint.
pub(crate) fn look(neon_dir: &Path, name: &str) -> Found {
    let path = directory_of(neon_dir, name).join(FILE);
    match EndpointFile::read(&path) {
        Ok(Some(file)) => Found::Whole(file),
        Ok(None) if !pgdata_of(neon_dir, name).is_dir() => Found::Nothing,
        Ok(None) => Found::Lost(format!("{} is missing", path.display())),
        Err(why) => Found::Lost(format!("{}: {why}", path.display())),
    }
}

impl Repository {
    /// Returns what the endpoint is; nothing when it never was. A file that is missing or damaged is made up for from the directory.
    ///
    /// Errors: the directory does not say it either.
    pub(crate) fn endpoint_file(&self, name: &str) -> Result<Option<EndpointFile>> {
        match look(&self.neon_dir, name) {
            Found::Whole(file) => Ok(Some(file)),
            Found::Nothing => Ok(None),
            Found::Lost(why) => match self.endpoint_by_its_directory(name) {
                Some(file) => {
                    tracing::warn!(
                        endpoint = name,
                        why,
                        "its file is made again from its data directory"
                    );
                    Ok(Some(file))
                }
                None => Err(RepoError::LostEndpoint {
                    name: name.to_owned(),
                    why,
                }),
            },
        }
    }

    pub(crate) fn write_endpoint_file(&self, name: &str, file: &EndpointFile) -> Result<()> {
        let directory = directory_of(&self.neon_dir, name);
        fs::create_dir_all(&directory).map_err(RepoError::io("create", &directory))?;
        let text = toml_edit::ser::to_string(file).map_err(|error| {
            RepoError::refused(format!("endpoint.toml cannot be written: {error}"), "report this")
        })?;
        Ok(durable::replace(
            &directory.join(FILE),
            with_checksum(&text).as_bytes(),
            0o600,
        )?)
    }

    /// Returns what the directory says that it is: its stamp, or its `pg_control` by the timeline's number.
    fn endpoint_by_its_directory(&self, name: &str) -> Option<EndpointFile> {
        let pgdata = pgdata_of(&self.neon_dir, name);
        let stamp = Stamp::read(&stamp_of(&self.neon_dir, name)).ok().flatten();
        let control = read_control(&pgdata).ok();
        let states = || {
            self.pages
                .list()
                .into_iter()
                .filter_map(|id| self.pages.state_of(id).ok())
        };
        let by_number = |number: u32, system_id: u64| {
            let mut all: Vec<_> = states()
                .filter(|state| state.tli == number && state.system_id == system_id)
                .collect();
            // Two histories may share a number; that which is open for the branch is meant, else there is one.
            all.sort_by_key(|state| state.branch.as_deref() != Some(name));
            all.into_iter().next().map(|state| state.id)
        };
        let timeline = match (&stamp, &control) {
            (Some(stamp), _) if self.pages.contains(stamp.timeline) => stamp.timeline,
            (_, Some(control)) => by_number(control.checkpoint().tli, control.system_id())?,
            _ => return None,
        };
        let branch = self
            .heads()
            .ok()?
            .into_iter()
            .find(|(branch, _)| branch == name)
            .map(|(branch, _)| branch);
        let port = PidFile::read(&pgdata)
            .ok()
            .flatten()
            .and_then(|file| file.port)
            .or_else(|| port_of_last_start(&pgdata));
        Some(EndpointFile {
            branch,
            timeline,
            built_at: control.map_or(Lsn::INVALID, |control| control.checkpoint().redo),
            port: port.unwrap_or(neon_compute::FIRST_PORT),
            housekeeping_end: Lsn::INVALID,
            boot_id: stamp.map(|stamp| stamp.boot_id).unwrap_or_default(),
            pg_version_num: 0,
        })
    }
}

/// Returns the port on the command line that Postgres noted of its last start.
fn port_of_last_start(pgdata: &Path) -> Option<u16> {
    let text = fs::read_to_string(pgdata.join("postmaster.opts")).ok()?;
    let (_, rest) = text.split_once("\"port=")?;
    rest.split_once('"')?.0.parse().ok()
}
