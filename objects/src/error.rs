//! What can go wrong here, a variant per decision that a caller can take.

use std::io;
use std::path::{Path, PathBuf};

use neon_types::{CommitId, ObjectId, Prefix, RefName, RefNameError};

use crate::lock::Holder;
use crate::owned::NotOurs;

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
    /// It is, or may become, somebody else's doing (law 16).
    #[error(transparent)]
    NotOurs(#[from] NotOurs),
}

impl ObjectsError {
    /// Returns a closure for `map_err` that says what was tried on which file.
    pub(crate) fn io(action: &'static str, path: impl AsRef<Path>) -> impl FnOnce(io::Error) -> ObjectsError {
        let path = path.as_ref().to_owned();
        move |source| ObjectsError::Io { action, path, source }
    }

    /// Returns a word for programs that tell errors apart.
    pub fn code(&self) -> &'static str {
        match self {
            ObjectsError::Io { .. } if self.is_disk_full() => "disk_full",
            ObjectsError::Io { .. } => "io",
            ObjectsError::Missing(_) => "missing_object",
            ObjectsError::Damaged { .. } => "damaged_object",
            ObjectsError::TooLong { .. } => "object_too_long",
            ObjectsError::Poisoned(_) => "poisoned",
            ObjectsError::Unknown(_) => "unknown_object",
            ObjectsError::BadCommit(_) => "bad_commit",
            ObjectsError::NotACommit(_) => "not_a_commit",
            ObjectsError::DamagedRef { .. } => "damaged_ref",
            ObjectsError::DamagedHead(_) => "damaged_head",
            ObjectsError::DamagedLog { .. } => "damaged_log",
            ObjectsError::RefMoved { .. } => "ref_moved",
            ObjectsError::NamesCollide { .. } => "names_collide",
            ObjectsError::EditedTwice(_) => "edited_twice",
            ObjectsError::Name(_) => "bad_name",
            ObjectsError::Locked { .. } => "locked",
            ObjectsError::BadConfig { .. } => "bad_config",
            ObjectsError::Format { .. } => "format",
            ObjectsError::UnknownSetting { .. } => "unknown_setting",
            ObjectsError::BadSetting { .. } => "bad_setting",
            ObjectsError::FixedSetting { .. } => "fixed_setting",
            ObjectsError::OriginExists(_) => "origin_exists",
            ObjectsError::NoOrigin(_) => "no_origin",
            ObjectsError::NotOurs(error) => error.code(),
        }
    }

    /// Returns what to do next, when there is something to advise.
    pub fn hint(&self) -> Option<String> {
        let hint = match self {
            ObjectsError::Io { .. } if self.is_disk_full() => {
                "free disk space, then run the command again; nothing was lost".to_owned()
            }
            ObjectsError::Missing(_) | ObjectsError::Damaged { .. } => {
                "'neon fsck' lists everything that is damaged; fetching from an origin that has it brings it back".to_owned()
            }
            ObjectsError::DamagedRef { name, .. } => format!("its last values are in log/{name}"),
            ObjectsError::RefMoved { .. } => "run the command again".to_owned(),
            ObjectsError::NamesCollide { .. } => "choose another name".to_owned(),
            ObjectsError::Locked { .. } => "wait until it is done, or stop it".to_owned(),
            ObjectsError::Format { .. } => "upgrade neon".to_owned(),
            ObjectsError::BadConfig { path, .. } => format!("repair {} with an editor", path.display()),
            ObjectsError::UnknownSetting { known, .. } => format!("settings are: {}", known.join(", ")),
            ObjectsError::OriginExists(name) => {
                format!("choose another name, or point it elsewhere: neon origin set-url {name} URI")
            }
            ObjectsError::NoOrigin(_) => {
                "'neon origin list' lists them, 'neon origin add NAME URI' makes one known".to_owned()
            }
            ObjectsError::NotOurs(error) => error.hint(),
            _ => return None,
        };
        Some(hint)
    }

    /// Returns true when an object, a ref or its log is damaged or missing: others need not be.
    pub fn is_damage(&self) -> bool {
        matches!(
            self,
            ObjectsError::Missing(_)
                | ObjectsError::Damaged { .. }
                | ObjectsError::TooLong { .. }
                | ObjectsError::BadCommit(_)
                | ObjectsError::NotACommit(_)
                | ObjectsError::DamagedRef { .. }
                | ObjectsError::DamagedLog { .. }
        )
    }

    /// Returns true when it is this machine's fault that the object, ref or setting could not be had, not that of its bytes.
    pub fn is_of_this_machine(&self) -> bool {
        matches!(
            self,
            ObjectsError::Io { .. } | ObjectsError::Poisoned(_) | ObjectsError::Missing(_)
        )
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
