//! What can go wrong here, a variant per decision that a caller can take.

use std::io;
use std::path::{Path, PathBuf};

use neon_types::{CommitId, ObjectId, Prefix, RefName, RefNameError};

use crate::lock::Holder;

/// Shorthand for results of this crate.
pub type Result<T> = std::result::Result<T, ObjectsError>;

/// Why an object, ref, lock or setting could not be had.
#[derive(Debug, thiserror::Error)]
pub enum ObjectsError {
    /// The operating system refused.
    #[error("cannot {action} {}", path.display())]
    Io {
        /// What was tried, as "read".
        action: &'static str,
        /// On which file.
        path: PathBuf,
        /// What it said.
        source: io::Error,
    },
    /// The object is not in this repository.
    #[error("object {0} is missing")]
    Missing(ObjectId),
    /// The object's bytes are not those that its name promises.
    #[error("object {id} is damaged: its bytes hash to {found}")]
    Damaged {
        /// Its name.
        id: ObjectId,
        /// BLAKE3 of what is there.
        found: ObjectId,
    },
    /// The object is longer than the reader is prepared to take.
    #[error("object {id} has {len} bytes, more than the {limit} that are allowed here")]
    TooLong {
        /// Its name.
        id: ObjectId,
        /// Its length in bytes.
        len: u64,
        /// What was allowed, in bytes.
        limit: u64,
    },
    /// Another process or thread receives the same object now.
    #[error("object {0} is being received by another transfer")]
    StagingBusy(ObjectId),
    /// An earlier write to this file failed, so what it holds is unknown.
    #[error("an earlier write to {} failed; it cannot be finished", .0.display())]
    Poisoned(PathBuf),
    /// No object begins with these digits.
    #[error("no object begins with {0}")]
    Unknown(Prefix),
    /// The bytes are not a commit.
    #[error("not a valid commit: {0}")]
    BadCommit(String),
    /// The object is something else than a commit.
    #[error("object {0} is not a commit")]
    NotACommit(ObjectId),
    /// The file of a ref does not hold a commit id.
    #[error("ref {name} is damaged: {} does not hold a commit id", path.display())]
    DamagedRef {
        /// The ref.
        name: RefName,
        /// Its file.
        path: PathBuf,
    },
    /// HEAD does not name a branch.
    #[error("HEAD is damaged: {} does not name a branch", .0.display())]
    DamagedHead(PathBuf),
    /// A line of the reflog, or of an unfinished ref transaction, cannot be read.
    #[error("{} is damaged at line {line}", path.display())]
    DamagedLog {
        /// The file.
        path: PathBuf,
        /// Line, from 1.
        line: usize,
    },
    /// Compare-and-swap found another value.
    #[error("{name} moved: expected {}, found {}", absent(expected), absent(found))]
    RefMoved {
        /// The ref.
        name: RefName,
        /// What the caller had seen.
        expected: Option<CommitId>,
        /// What is there.
        found: Option<CommitId>,
    },
    /// Two refs cannot exist at once because one would be the other's directory.
    #[error("{new} cannot exist beside {existing}: one name would be a directory of the other")]
    NamesCollide {
        /// The ref to be made.
        new: RefName,
        /// The ref that is there, or that the same edit makes.
        existing: RefName,
    },
    /// One edit names a ref twice.
    #[error("{0} is edited twice at once")]
    EditedTwice(RefName),
    /// A name that must not become a path.
    #[error(transparent)]
    Name(#[from] RefNameError),
    /// Somebody else has the repository's lock.
    #[error("the repository {} is in use by {holder}", directory.display())]
    Locked {
        /// The `.neon` directory.
        directory: PathBuf,
        /// Who has it, as far as the lock file tells.
        holder: Holder,
    },
    /// The configuration file cannot be understood.
    #[error("{} is not a valid configuration: {problem}", path.display())]
    BadConfig {
        /// The file.
        path: PathBuf,
        /// What is wrong, with the place.
        problem: String,
    },
    /// The repository was made by a newer program.
    #[error("the repository has format {found}; this program knows format {known}")]
    Format {
        /// What `config.toml` says.
        found: i64,
        /// The newest that we read.
        known: i64,
    },
    /// No such setting.
    #[error("unknown setting '{key}'")]
    UnknownSetting {
        /// What was asked for.
        key: String,
        /// Names that exist and look alike; all when none does.
        known: Vec<String>,
    },
    /// The setting exists but not with that value.
    #[error("'{value}' is not a valid value of {key}: {problem}")]
    BadSetting {
        /// The setting.
        key: String,
        /// What was to be set.
        value: String,
        /// What is expected.
        problem: String,
    },
    /// The setting is not written by hand.
    #[error("{key} cannot be set: {reason}")]
    FixedSetting {
        /// The setting.
        key: String,
        /// Why, and what to do instead.
        reason: &'static str,
    },
    /// An origin of that name exists.
    #[error("origin '{0}' already exists")]
    OriginExists(String),
    /// No origin of that name.
    #[error("there is no origin '{0}'")]
    NoOrigin(String),
}

impl ObjectsError {
    /// Returns a closure for `map_err` that says what was tried on which file.
    pub(crate) fn io(action: &'static str, path: impl AsRef<Path>) -> impl FnOnce(io::Error) -> ObjectsError {
        let path = path.as_ref().to_owned();
        move |source| ObjectsError::Io { action, path, source }
    }

    /// Returns true when the file system or a quota is full: nothing is damaged, the same call works with more room.
    pub fn is_disk_full(&self) -> bool {
        matches!(self, ObjectsError::Io { source, .. }
            if matches!(source.kind(), io::ErrorKind::StorageFull | io::ErrorKind::QuotaExceeded))
    }
}

fn absent(id: &Option<CommitId>) -> String {
    id.map_or_else(|| "nothing".to_owned(), CommitId::short)
}
