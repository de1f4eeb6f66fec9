//! Why a data directory cannot be imported, by name.

use std::fmt;
use std::io;
use std::path::{Path, PathBuf};

use neon_types::Lsn;

use crate::PageStoreError;

/// A data directory was refused, or could not be read.
#[derive(Debug, thiserror::Error)]
pub enum ImportError {
    /// Nothing that Postgres made.
    #[error("{} is not a Postgres data directory: {reason}", path.display())]
    NotADataDirectory {
        /// The directory.
        path: PathBuf,
        /// What is missing.
        reason: String,
    },
    /// Another user owns it.
    #[error("{} belongs to user id {owner}, and we run as user id {ours}", path.display())]
    NotOwned {
        /// The directory.
        path: PathBuf,
        /// Who owns it.
        owner: u32,
        /// Who we are.
        ours: u32,
    },
    /// A server runs on it.
    #[error("a server is running on {} (process {pid})", path.display())]
    Running {
        /// The directory.
        path: PathBuf,
        /// The process that its `postmaster.pid` names.
        pid: i32,
    },
    /// Not a version of ours.
    #[error("{} was made by Postgres {found}; 14 to 18 can be imported", path.display())]
    Version {
        /// The directory.
        path: PathBuf,
        /// What its `PG_VERSION` says.
        found: String,
    },
    /// The control file cannot be read.
    #[error("the control file of {} is damaged: {reason}", path.display())]
    Control {
        /// The directory.
        path: PathBuf,
        /// What is wrong.
        reason: String,
    },
    /// It was not stopped cleanly.
    #[error("{} was not shut down cleanly: the server {state}", path.display())]
    Unclean {
        /// The directory.
        path: PathBuf,
        /// What its control file says.
        state: String,
    },
    /// It is a backup that was never started.
    #[error("{} is a base backup that has not been recovered (backup_label is there)", path.display())]
    Backup {
        /// The directory.
        path: PathBuf,
    },
    /// It follows another server.
    #[error("{} is a standby or is set to recover: {reason}", path.display())]
    Standby {
        /// The directory.
        path: PathBuf,
        /// How we know.
        reason: String,
    },
    /// Its server was built with other sizes.
    #[error("{} has a {what} of {found}; only {expected} is supported", path.display())]
    BlockSize {
        /// The directory.
        path: PathBuf,
        /// Which size.
        what: &'static str,
        /// Its value.
        found: u64,
        /// The one that we know.
        expected: u64,
    },
    /// Tablespaces are outside the directory.
    #[error("{} uses tablespaces elsewhere, which cannot be imported: {}", path.display(), Listed(tablespaces))]
    Tablespaces {
        /// The directory.
        path: PathBuf,
        /// Oid and location of each.
        tablespaces: Vec<String>,
    },
    /// Links, or databases without `PG_VERSION`, where data should be.
    #[error("{} has something else where data should be: {}", path.display(), Listed(files))]
    UnknownFiles {
        /// The directory.
        path: PathBuf,
        /// Their paths in it.
        files: Vec<String>,
    },
    /// A page's checksum is wrong.
    #[error("block {block} of {} is damaged: its checksum is {stored}, computed {computed}", path.display())]
    Checksum {
        /// The file.
        path: PathBuf,
        /// Block number in the relation.
        block: u32,
        /// The checksum in the page.
        stored: u16,
        /// The checksum of the page.
        computed: u16,
    },
    /// A file has a shape that Postgres does not make.
    #[error("{} is damaged: {reason}", path.display())]
    Damaged {
        /// The file.
        path: PathBuf,
        /// What is wrong.
        reason: String,
    },
    /// The shutdown checkpoint is not where the control file says.
    #[error("the shutdown checkpoint at {lsn} cannot be read from {}: {reason}", path.display())]
    CheckpointRecord {
        /// The WAL file or directory.
        path: PathBuf,
        /// Where it should begin.
        lsn: Lsn,
        /// What is wrong.
        reason: String,
    },
    /// The operating system refused.
    #[error("cannot read {}", path.display())]
    Io {
        /// Which file.
        path: PathBuf,
        /// What it said.
        source: io::Error,
    },
    /// Whoever is told of the progress wanted it to end.
    #[error("interrupted")]
    Interrupted,
    /// What was read could not be taken in.
    #[error(transparent)]
    Store(Box<PageStoreError>),
}

impl ImportError {
    /// Returns a closure for `map_err` that names the file.
    pub(super) fn io(path: &Path) -> impl FnOnce(io::Error) -> ImportError {
        let path = path.to_owned();
        move |source| ImportError::Io { path, source }
    }

    /// Returns a closure for `map_err` that says that a file is damaged.
    pub(super) fn damaged<E: fmt::Display>(path: &Path) -> impl FnOnce(E) -> ImportError {
        let path = path.to_owned();
        move |error| ImportError::Damaged {
            path,
            reason: error.to_string(),
        }
    }
}

/// Prints a list, its first ten entries at most.
struct Listed<'a>(&'a [String]);

impl fmt::Display for Listed<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        const SHOWN: usize = 10;
        for (index, entry) in self.0.iter().take(SHOWN).enumerate() {
            let separator = if index == 0 { "" } else { ", " };
            write!(f, "{separator}{entry}")?;
        }
        match self.0.len().saturating_sub(SHOWN) {
            0 => Ok(()),
            more => write!(f, " and {more} more"),
        }
    }
}
