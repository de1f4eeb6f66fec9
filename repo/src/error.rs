//! What can go wrong, and what to tell the user about it.

use std::io;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use neon_compute::ComputeError;
use neon_objects::ObjectsError;
use neon_pagestore::PageStoreError;
use neon_pagestore::import::ImportError;
use neon_remotes::{LocalError, RemoteError};
use neon_transport::TransportError;
use neon_types::{CommitId, Lsn, ObjectId};

use crate::api::ApiError;
use crate::moment::MomentError;
use crate::revision::RevisionError;

/// Shorthand for results of this crate.
pub type Result<T> = std::result::Result<T, RepoError>;

/// Why a command was refused or failed.
#[derive(Debug, thiserror::Error)]
pub enum RepoError {
    /// There is a repository already.
    #[error("{} is a repository already", .0.display())]
    AlreadyARepository(PathBuf),
    /// The directory that is to get a repository belongs to Postgres.
    #[error("{} is a data directory of Postgres", .0.display())]
    InsideADataDirectory(PathBuf),
    /// A path origin has no repository.
    #[error("there is no repository in {}", .0.display())]
    NoRepository(PathBuf),
    /// Nothing can be written in the repository.
    #[error("the repository {} can only be read here", directory.display())]
    ReadOnly {
        /// Where it is.
        directory: PathBuf,
        /// What the system says.
        source: Arc<ObjectsError>,
    },
    /// The target directory holds something.
    #[error("{} is not empty", .0.display())]
    NotEmpty(PathBuf),
    /// The repository was made by a newer program.
    #[error("this repository has format {found}; this program reads {known}")]
    Format {
        /// What it has.
        found: i64,
        /// What we know.
        known: i64,
    },
    /// The revision cannot be read.
    #[error(transparent)]
    Revision(#[from] RevisionError),
    /// No branch, tag, fetched branch or commit of that name.
    #[error("'{0}' is not a branch, tag, fetched branch or commit here")]
    UnknownRevision(String),
    /// Several commits begin with these digits.
    #[error("'{prefix}' could be {} commits: {}", candidates.len(), list(candidates))]
    AmbiguousRevision {
        /// The digits.
        prefix: String,
        /// What they could be.
        candidates: Vec<CommitId>,
    },
    /// Refs of several kinds have this name.
    #[error("'{name}' is ambiguous: it is {}", meanings.join(" and "))]
    AmbiguousName {
        /// The name.
        name: String,
        /// Each of the refs, with its kind.
        meanings: Vec<String>,
    },
    /// No read-only endpoint was started at that position.
    #[error("no read-only endpoint runs at '{rev}' ({lsn})")]
    NotShown {
        /// The revision.
        rev: String,
        /// Where that is.
        lsn: Lsn,
    },
    /// The commit has fewer ancestors.
    #[error("'{base}' has only {} before it", neon_types::counted(*.available, "commit"))]
    NoSuchAncestor {
        /// The revision before `~`.
        base: String,
        /// How far back one can go.
        available: u32,
    },
    /// An LSN above what the branch holds.
    #[error("{lsn} is beyond the end of '{base}', which is {end}")]
    BeyondEnd {
        /// What was asked.
        lsn: Lsn,
        /// On which revision.
        base: String,
        /// Its durable end.
        end: Lsn,
    },
    /// An LSN or time before everything that this repository holds.
    #[error("'{what}' is before the beginning of this history ({start})")]
    BeforeBeginning {
        /// What was asked.
        what: String,
        /// First readable position, with its time where a time was asked for.
        start: String,
    },
    /// No such branch.
    #[error("there is no branch '{0}'")]
    NoBranch(String),
    /// No such tag.
    #[error("there is no tag '{0}'")]
    NoTag(String),
    /// The branch exists.
    #[error("branch '{0}' exists already")]
    BranchExists(String),
    /// The tag exists.
    #[error("tag '{0}' exists already")]
    TagExists(String),
    /// The branch has a running endpoint.
    #[error("an endpoint is running on branch '{0}'")]
    EndpointRuns(String),
    /// Deleting the branch would lose commits.
    #[error("branch '{branch}' holds history that no other ref or origin has (since {since})")]
    WouldLose {
        /// The branch.
        branch: String,
        /// Where the history that only it holds begins.
        since: Lsn,
    },
    /// HEAD cannot be deleted.
    #[error("'{0}' is HEAD, the default branch of other commands")]
    IsHead(String),
    /// The last branch cannot be deleted.
    #[error("'{0}' is the only branch of this repository")]
    IsLast(String),
    /// No endpoint runs there.
    #[error("no endpoint is running on '{0}'")]
    NotRunning(String),
    /// The repository has no history yet.
    #[error("this repository has no history yet")]
    Empty,
    /// The pages at the position need redo that this release does not have.
    #[error("{} at {lsn} was changed by {record}, which this release cannot replay (record ends at {record_lsn})", .relation)]
    Unsupported {
        /// The relation.
        relation: String,
        /// Name of the record type.
        record: String,
        /// Where that record ends.
        record_lsn: Lsn,
        /// The position that was wanted.
        lsn: Lsn,
    },
    /// No origin was named and the branch has none.
    #[error("branch '{0}' has no default origin")]
    NoOrigin(String),
    /// Somebody else moved the ref meanwhile.
    #[error("branch '{0}' moved while the command ran")]
    Raced(String),
    /// What Postgres had written when it was asked did not arrive, and nothing moved any more.
    #[error(
        "the WAL of the endpoint of '{branch}' did not arrive up to {wanted} (received up to {received})"
    )]
    NotFlushed {
        /// The branch.
        branch: String,
        /// Insert position when we asked.
        wanted: Lsn,
        /// What arrived.
        received: Lsn,
        /// Why nothing is received, when we know.
        source: Option<Arc<RepoError>>,
    },
    /// The data directory of a branch went on where its WAL could not be followed.
    #[error(
        "the data directory of '{branch}' went on to {seen} at least, and its WAL is here up to {held} only: what was written after that is in that directory alone"
    )]
    Ahead {
        /// The branch.
        branch: String,
        /// Up to where its WAL is here.
        held: Lsn,
        /// How far its server certainly came.
        seen: Lsn,
    },
    /// Neither the file of an endpoint nor its data directory says what it is.
    #[error("{why}, and its data directory does not say what it was")]
    LostEndpoint {
        /// The endpoint's name.
        name: String,
        /// What is wrong with the file.
        why: String,
    },
    /// A daemon is needed.
    #[error("this needs the daemon of the repository")]
    NeedsDaemon,
    /// A timeline number above what Postgres takes.
    #[error("no Postgres timeline number is left below 0x7FFFFFFF for a fork here")]
    NoTli,
    /// An object is damaged or missing.
    #[error("object {id} cannot be read: {reason}")]
    Damaged {
        /// Which.
        id: ObjectId,
        /// Why.
        reason: String,
    },
    /// Objects, refs, locks, config.
    #[error(transparent)]
    Objects(#[from] ObjectsError),
    /// The page store.
    #[error(transparent)]
    Pages(#[from] neon_pagestore::PageStoreError),
    /// An import was refused.
    #[error(transparent)]
    Import(#[from] neon_pagestore::import::ImportError),
    /// Data directories and Postgres processes.
    #[error(transparent)]
    Compute(#[from] neon_compute::ComputeError),
    /// The conversation with another repository.
    #[error(transparent)]
    Remote(#[from] neon_remotes::RemoteError),
    /// The connection to another repository.
    #[error(transparent)]
    Transport(#[from] neon_transport::TransportError),
    /// The daemon of a repository on this machine.
    #[error("{0}")]
    Neighbour(ApiError),
    /// The operating system refused.
    #[error("cannot {action} {}", path.display())]
    Io {
        /// What was tried.
        action: &'static str,
        /// On which file.
        path: PathBuf,
        /// What it said.
        source: io::Error,
    },
    /// Nobody waits for the result any more.
    #[error("interrupted")]
    Interrupted,
    /// A request makes no sense as it is.
    #[error("{message}")]
    Refused {
        /// What is wrong.
        message: String,
        /// What to do.
        hint: String,
    },
}

fn list(candidates: &[CommitId]) -> String {
    candidates
        .iter()
        .map(|id| id.short())
        .collect::<Vec<_>>()
        .join(", ")
}

impl RepoError {
    /// Makes an [`RepoError::Io`] of an error on `path`.
    pub fn io(action: &'static str, path: impl Into<PathBuf>) -> impl FnOnce(io::Error) -> RepoError {
        let path = path.into();
        move |source| RepoError::Io { action, path, source }
    }

    /// Makes an [`RepoError::Refused`].
    pub fn refused(message: impl Into<String>, hint: impl Into<String>) -> RepoError {
        RepoError::Refused {
            message: message.into(),
            hint: hint.into(),
        }
    }

    /// Returns true when it only says that nobody waits for the result any more, whoever noticed it.
    fn is_interruption(&self) -> bool {
        let of_import = |error: &ImportError| matches!(error, ImportError::Interrupted);
        match self {
            RepoError::Interrupted
            | RepoError::Compute(ComputeError::Interrupted)
            | RepoError::Pages(PageStoreError::Interrupted) => true,
            RepoError::Pages(PageStoreError::Import(error)) => of_import(error),
            RepoError::Import(error) => of_import(error),
            _ => false,
        }
    }

    /// Returns true when something that is stored here is damaged or missing: others need not be.
    pub(crate) fn is_damage(&self) -> bool {
        match self {
            RepoError::Damaged { .. } | RepoError::LostEndpoint { .. } => true,
            RepoError::Objects(error) => error.is_damage(),
            RepoError::Pages(error) => error.is_damage(),
            _ => false,
        }
    }

    /// Returns true when the disk has no room.
    pub(crate) fn is_full_disk(&self) -> bool {
        matches!(
            self.io_cause(),
            Some(io::ErrorKind::StorageFull | io::ErrorKind::QuotaExceeded)
        )
    }

    /// Returns the kind of the operating system's error that is the cause of it all.
    fn io_cause(&self) -> Option<io::ErrorKind> {
        let mut cause: Option<&(dyn std::error::Error + 'static)> = Some(self);
        while let Some(error) = cause {
            if let Some(error) = error.downcast_ref::<io::Error>() {
                return Some(error.kind());
            }
            cause = error.source();
        }
        None
    }

    /// Returns the error of this repository that a conversation with another ended with.
    fn own_cause(&self) -> Option<&RepoError> {
        match self {
            RepoError::Remote(RemoteError::Local(LocalError::Other(cause))) => cause.downcast_ref(),
            _ => None,
        }
    }

    fn code(&self) -> &'static str {
        if self.is_interruption() {
            return "interrupted";
        }
        if let Some(own) = self.own_cause() {
            return own.code();
        }
        match self {
            RepoError::AlreadyARepository(_) => "already_a_repository",
            RepoError::InsideADataDirectory(_) => "data_directory",
            RepoError::NoRepository(_) => "not_a_repository",
            RepoError::ReadOnly { .. } => "read_only",
            RepoError::NotEmpty(_) => "not_empty",
            RepoError::Format { .. } => "format",
            RepoError::Revision(_) => "bad_revision",
            RepoError::UnknownRevision(_) => "unknown_revision",
            RepoError::AmbiguousRevision { .. } => "ambiguous_revision",
            RepoError::AmbiguousName { .. } => "ambiguous_name",
            RepoError::NotShown { .. } => "not_running",
            RepoError::NoSuchAncestor { .. } => "no_such_ancestor",
            RepoError::BeyondEnd { .. } => "beyond_end",
            RepoError::BeforeBeginning { .. } => "before_beginning",
            RepoError::NoBranch(_) => "no_branch",
            RepoError::NoTag(_) => "no_tag",
            RepoError::BranchExists(_) => "branch_exists",
            RepoError::TagExists(_) => "tag_exists",
            RepoError::EndpointRuns(_) => "endpoint_runs",
            RepoError::WouldLose { .. } => "would_lose",
            RepoError::IsHead(_) => "is_head",
            RepoError::IsLast(_) => "is_last",
            RepoError::NotRunning(_) => "not_running",
            RepoError::Empty => "empty",
            RepoError::Unsupported { .. } => "unsupported_record",
            RepoError::NoOrigin(_) => "no_origin",
            RepoError::Raced(_) => "raced",
            RepoError::NotFlushed { .. } => "not_flushed",
            RepoError::Ahead { .. } => "ahead_of_wal",
            RepoError::LostEndpoint { .. } => "lost_endpoint",
            RepoError::NeedsDaemon => "needs_daemon",
            RepoError::NoTli => "no_tli",
            RepoError::Damaged { .. } => "damaged",
            RepoError::Objects(error) => error.code(),
            RepoError::Pages(neon_pagestore::PageStoreError::Dropped { .. }) => "dropped",
            RepoError::Pages(_) => "pages",
            RepoError::Import(_) => "import",
            RepoError::Compute(_) => "compute",
            RepoError::Interrupted => "interrupted",
            RepoError::Remote(RemoteError::Transport(error)) | RepoError::Transport(error) => {
                transport_code(error)
            }
            RepoError::Remote(_) => "remote",
            RepoError::Neighbour(_) => "neighbour",
            RepoError::Io { .. } => "io",
            RepoError::Refused { .. } => "refused",
        }
    }

    /// Returns what to do next, when there is something to advise.
    pub fn hint(&self) -> Option<String> {
        if self.is_interruption() {
            return Some(
                "run the same command again: what arrived whole is kept, nothing is half-made".to_owned(),
            );
        }
        if let Some(own) = self.own_cause() {
            return own.hint();
        }
        if let Some(hint) = room_hint(self) {
            return Some(hint.to_owned());
        }
        let hint = match self {
            RepoError::AlreadyARepository(_) => "work in it, or name another directory: neon init DIR".into(),
            RepoError::InsideADataDirectory(pgdata) => format!(
                "to take it in, name another directory for the repository: neon init DIR --from {}",
                pgdata.display()
            ),
            RepoError::NoRepository(path) => no_repository_hint(path),
            RepoError::ReadOnly { directory, .. } => format!(
                "what only reads works, as log, show, status, fsck and export; to go on from it elsewhere: neon clone {}",
                directory.display()
            ),
            RepoError::NotEmpty(_) => "name a directory that does not exist or is empty".into(),
            RepoError::Format { .. } => "upgrade neon".into(),
            RepoError::Revision(RevisionError::NotATime(error)) => moment_hint(error).into(),
            RepoError::Revision(_) => {
                "a revision is main, main@0/16B3748, main~3, v1.0, 3f9a12, cloud/main or main@{2 hours ago}"
                    .into()
            }
            RepoError::UnknownRevision(_) => {
                "'neon branch', 'neon tag' and 'neon log' list what there is".into()
            }
            RepoError::AmbiguousRevision { .. } => "give more digits".into(),
            RepoError::AmbiguousName { meanings, .. } => format!("say {}", meanings.join(" or ")),
            RepoError::NotShown { rev, .. } => {
                format!("start one: neon start '{rev}'; 'neon status' lists what runs")
            }
            RepoError::NoSuchAncestor { base, .. } => format!("'neon log {base}' lists them"),
            RepoError::BeyondEnd { end, base, .. } => format!("the newest position is {base}@{end}"),
            RepoError::BeforeBeginning { start, .. } => format!("the oldest readable position is {start}"),
            RepoError::NoBranch(_) => "'neon branch' lists the branches, 'neon branch NAME' makes one".into(),
            RepoError::NoTag(_) => "'neon tag' lists the tags".into(),
            RepoError::BranchExists(name) => {
                format!("choose another name, or delete it first: neon branch -d {name}")
            }
            RepoError::TagExists(name) => {
                format!("choose another name, or delete it first: neon tag -d {name}")
            }
            RepoError::EndpointRuns(name) => format!("stop it first: neon stop {name}"),
            RepoError::WouldLose { branch, .. } => {
                format!("push it, tag it, or delete it all the same: neon branch -D {branch}")
            }
            RepoError::IsHead(_) => "make another branch the default first: neon switch BRANCH".into(),
            RepoError::IsLast(name) => format!(
                "make another one first: neon branch NAME REV, then neon switch NAME; to rename it: neon branch -m {name} NEW"
            ),
            RepoError::NotRunning(name) => format!("start it: neon start {name}"),
            RepoError::Empty => "push a branch to it, or use 'neon init'".into(),
            RepoError::Unsupported { .. } => REDO_HINT.into(),
            RepoError::NoOrigin(_) => {
                "name one: neon push BRANCH ORIGIN; 'neon origin add NAME URI' makes one known".into()
            }
            RepoError::Raced(_) => "run the command again".into(),
            RepoError::NotFlushed { .. } => {
                "look at the endpoint's postgres.log, then run the command again; when it says that WAL was removed: 'neon stop', then 'neon start --resync'".into()
            }
            RepoError::LostEndpoint { name, .. } => {
                format!("begin again from the branch's head and keep the directory aside: neon start --set-aside {name}")
            }
            RepoError::Ahead { branch, .. } => format!(
                "take it in as it is: neon start --resync {branch}; or keep it aside and begin again from the last commit: neon start --set-aside {branch}"
            ),
            RepoError::Damaged { .. } => "'neon fsck' lists everything that is damaged".into(),
            RepoError::Refused { hint, .. } => hint.clone(),
            RepoError::Pages(neon_pagestore::PageStoreError::Dropped { .. }) => {
                "'neon retention' shows from where on each branch can be read; tags and branches keep positions".into()
            }
            RepoError::Objects(error) => return error.hint(),
            RepoError::Remote(error) => return Some(error.hint()).filter(|hint| !hint.is_empty()),
            RepoError::Compute(error) => return compute_hint(error),
            RepoError::Import(error) => return import_hint(error),
            RepoError::Transport(error) => return error.hint(),
            RepoError::Neighbour(error) => return error.hint.clone(),
            _ => return None,
        };
        Some(hint)
    }
}

/// Returns what somebody may have meant by a path where no repository is.
fn no_repository_hint(path: &Path) -> String {
    let inside = path
        .ancestors()
        .find(|above| above.join(".neon/config.toml").is_file());
    match inside {
        _ if crate::is_data_directory(path) => {
            format!("it is a data directory of Postgres: neon init DIR --from {}", path.display())
        }
        Some(inside) => format!("did you mean {}?", inside.display()),
        None if !path.exists() => "there is no such directory; name one that holds .neon/, or postgresql://USER@HOST:PORT/REPOSITORY".into(),
        None => "name the directory that holds .neon/, or postgresql://USER@HOST:PORT/REPOSITORY".into(),
    }
}

fn moment_hint(error: &MomentError) -> &'static str {
    match error {
        MomentError::Unreadable(_) => {
            "write main@{2026-01-01 12:00:00+01}, {2026-01-01 12:00 Europe/Berlin}, {12:00}, {2 hours ago} or {@1767265200}; \
             'neon --help' says more"
        }
        MomentError::NoZone(_) => {
            "write a name of the tz database, as Europe/Berlin, or an offset, as +01:00; 'neon --help' says which abbreviations are known"
        }
        MomentError::TwoZones(_) => "write the offset or the zone alone",
    }
}

/// What to do where redo lacks what only an extension knows.
const REDO_HINT: &str = "an extension changed pages with WAL records that only it can replay; positions before that, or after the \
                         relation is dropped, work";

/// Returns what to do when the cause of it all is that a file could not grow.
fn room_hint(error: &RepoError) -> Option<&'static str> {
    match error.io_cause()? {
        io::ErrorKind::StorageFull | io::ErrorKind::QuotaExceeded => Some(
            "free disk space ('neon gc --grace 0s' works on a full disk), then run the command again; nothing was lost",
        ),
        io::ErrorKind::FileTooLarge => Some(
            "raise the limit on the size of files (ulimit -f), then run the command again; nothing was lost",
        ),
        _ => None,
    }
}

/// The command line asks for a password on these two.
fn transport_code(error: &TransportError) -> &'static str {
    match error {
        TransportError::PasswordMissing { .. } => "password_required",
        TransportError::WrongPassword { .. } => "wrong_password",
        _ => "transport",
    }
}

fn compute_hint(error: &ComputeError) -> Option<String> {
    let hint = match error {
        ComputeError::NotFound(error) => {
            format!(
                "{}; or name its bin directory: NEON_PG_DIRS, or pg_dirs in the user's config.toml",
                error.hint
            )
        }
        ComputeError::Root => "run the command as an ordinary user".into(),
        ComputeError::PortTaken(_) => "choose another: neon start --port P".into(),
        ComputeError::PortDenied(_) => {
            "ports below 1024 take a right that ordinary users do not have; choose a higher one: neon start --port P".into()
        }
        ComputeError::NotEmpty(_) => "name a directory that does not exist or is empty".into(),
        ComputeError::Unbuildable(_) => REDO_HINT.into(),
        ComputeError::SocketPath { .. } => "move the repository to a shorter path".into(),
        ComputeError::PinnedSetting(name) => format!("unset it: neon config set endpoint.settings.{name}"),
        ComputeError::Refused { .. } => {
            "its settings are what ALTER SYSTEM set on the branch and endpoint.settings in .neon/config.toml; postgres.log of the endpoint says more"
                .into()
        }
        ComputeError::Running { .. } | ComputeError::StillInUse { .. } => {
            "'neon status' shows what runs".into()
        }
        _ => return None,
    };
    Some(hint)
}

fn import_hint(error: &ImportError) -> Option<String> {
    let hint = match error {
        ImportError::Running { .. } => "stop it first: pg_ctl -D PGDATA -m fast stop",
        ImportError::Unclean { .. } => {
            "start it once, so that it recovers, then stop it: pg_ctl -D PGDATA start, pg_ctl -D PGDATA -m fast stop"
        }
        ImportError::NotADataDirectory { .. } => {
            "name the directory that holds PG_VERSION and global/pg_control"
        }
        ImportError::NotOwned { .. } => "run the command as the user who owns it",
        ImportError::UnknownFiles { .. } => {
            "put the files themselves in the place of links; move away what DROP DATABASE left"
        }
        _ => return None,
    };
    Some(hint.to_owned())
}

impl From<RepoError> for ApiError {
    fn from(error: RepoError) -> ApiError {
        if let RepoError::Neighbour(error) = error {
            return error;
        }
        if error.is_interruption() {
            return ApiError {
                code: error.code().to_owned(),
                message: "interrupted".to_owned(),
                caused_by: Vec::new(),
                hint: error.hint(),
            };
        }
        let mut caused_by = Vec::new();
        let mut source = std::error::Error::source(&error);
        while let Some(cause) = source {
            caused_by.push(cause.to_string());
            source = cause.source();
        }
        let code = error.code().to_owned();
        ApiError {
            code,
            message: error.to_string(),
            caused_by,
            hint: error.hint(),
        }
    }
}
