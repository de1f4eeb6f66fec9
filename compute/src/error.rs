//! What can go wrong between a position and a running Postgres.

use std::io;
use std::path::{Path, PathBuf};

use neon_types::{Lsn, RelTag};

use crate::installation::NotFound;

/// Any error that a [`crate::PageSource`] meets on its side.
pub type BoxError = Box<dyn std::error::Error + Send + Sync + 'static>;

/// A relation whose pages cannot be rebuilt at a position, because a record before it has no redo here.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Unbuildable {
    /// The relation fork.
    pub rel: RelTag,
    /// The record's name as `pg_waldump` prints it.
    pub record: String,
    /// The end of the record.
    pub lsn: Lsn,
}

/// Errors of this crate; one variant for each decision that a caller can take.
#[derive(Debug, thiserror::Error)]
pub enum ComputeError {
    /// No Postgres of the wanted version was found.
    #[error(transparent)]
    NotFound(#[from] NotFound),
    /// A file or directory could not be read or written.
    #[error("cannot {action} {}", path.display())]
    Io {
        /// What was tried, as a verb.
        action: &'static str,
        /// On which path.
        path: PathBuf,
        /// What the system said.
        #[source]
        source: io::Error,
    },
    /// A program could not be run.
    #[error("cannot run {}", program.display())]
    Spawn {
        /// The program.
        program: PathBuf,
        /// What the system said.
        #[source]
        source: io::Error,
    },
    /// `initdb` or another program failed.
    #[error("{program} failed ({status}): {output}")]
    Program {
        /// The program's name.
        program: &'static str,
        /// How it ended.
        status: String,
        /// The end of what it wrote.
        output: String,
    },
    /// Whoever is told of the progress wanted the work to end; nothing is left of it.
    #[error("interrupted")]
    Interrupted,
    /// We run as root; Postgres does not.
    #[error("postgres does not run as root")]
    Root,
    /// The directory to be made exists and is not empty.
    #[error("{} exists and is not empty", .0.display())]
    NotEmpty(PathBuf),
    /// The source of pages failed.
    #[error("cannot read the pages of this position")]
    Source(#[source] BoxError),
    /// The source of pages contradicts itself or holds something that no data directory can.
    #[error("the state at this position is damaged: {0}")]
    Damaged(String),
    /// Relations at this position cannot be rebuilt; nothing was written.
    #[error("{} cannot be rebuilt at this position, first {}", neon_types::counted(.0.len(), "relation"), first_unbuildable(.0))]
    Unbuildable(Vec<Unbuildable>),
    /// A setting that we pin was given.
    #[error("setting '{0}' is pinned by neon and cannot be given")]
    PinnedSetting(String),
    /// The directory of the Unix socket has a path that is longer than the system takes.
    #[error("the path of the socket directory {} is too long for a socket", .0.display())]
    SocketPath(PathBuf),
    /// Another program listens on the port.
    #[error("port {0} is taken")]
    PortTaken(u16),
    /// This user may not listen on the port.
    #[error("this user may not listen on port {0}")]
    PortDenied(u16),
    /// Postgres refused to start or ended at once.
    #[error("postgres refused to start ({status}):\n{log}")]
    Refused {
        /// How it ended.
        status: String,
        /// The last lines of its log.
        log: String,
    },
    /// Postgres runs and did not accept connections in time.
    #[error("postgres (pid {pid}) did not accept connections within {seconds} s:\n{log}")]
    NotReady {
        /// Its process id.
        pid: i32,
        /// How long we waited.
        seconds: u64,
        /// The last lines of its log.
        log: String,
    },
    /// A Postgres runs in the directory.
    #[error("a postgres (pid {pid}) runs in {}", pgdata.display())]
    Running {
        /// Its process id.
        pid: i32,
        /// The data directory.
        pgdata: PathBuf,
    },
    /// We cannot prove that every process of a dead directory is gone; its files must not be touched.
    #[error("cannot make sure that no process uses {}: {why}", pgdata.display())]
    StillInUse {
        /// The data directory.
        pgdata: PathBuf,
        /// What stands in the way.
        why: String,
    },
    /// The stamp of a directory is not readable as one.
    #[error("{} is not a stamp: {why}", path.display())]
    Stamp {
        /// The file.
        path: PathBuf,
        /// What is wrong.
        why: String,
    },
    /// The WAL of a dead directory is damaged before its end.
    #[error("the WAL in {} is damaged at {lsn}: {why}", pgdata.display())]
    DamagedWal {
        /// The data directory.
        pgdata: PathBuf,
        /// Where.
        lsn: Lsn,
        /// What is wrong.
        why: String,
    },
}

fn first_unbuildable(all: &[Unbuildable]) -> String {
    all.first().map_or_else(String::new, |one| {
        format!("{} (record {} that ends at {})", one.rel, one.record, one.lsn)
    })
}

impl ComputeError {
    /// Returns an adapter that names the path of an I/O error.
    pub(crate) fn io(action: &'static str, path: &Path) -> impl FnOnce(io::Error) -> ComputeError + use<> {
        let path = path.to_owned();
        move |source| ComputeError::Io { action, path, source }
    }
}

/// Result of this crate.
pub type Result<T, E = ComputeError> = std::result::Result<T, E>;
