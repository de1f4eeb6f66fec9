//! Who may write in an open repository: whoever has its lock, or nobody.

use std::path::Path;
use std::sync::Arc;

use neon_objects::{ObjectsError, ReadLock, RepoLock, check_writable, refuses_writes};

use crate::api::Request;
use crate::error::{RepoError, Result};
use crate::repository::Repository;

/// How a process has a repository.
pub(crate) enum Hold {
    /// It writes.
    Writer(RepoLock),
    /// It reads, where nothing can be written: on a read-only file system, or without the right to write.
    Reader {
        /// What the system says to whoever would write.
        why: Arc<ObjectsError>,
        /// Others may read as well.
        _lock: ReadLock,
    },
}

impl Hold {
    /// Takes the repository, or says who has it ([`ObjectsError::Locked`]).
    pub(crate) fn try_take(neon_dir: &Path, purpose: &str) -> Result<Hold> {
        let writable = check_writable(neon_dir).and_then(|()| RepoLock::try_acquire(neon_dir, purpose));
        match writable {
            Ok(lock) => Ok(Hold::Writer(lock)),
            Err(ObjectsError::Io { action, path, source }) if refuses_writes(&source) => Ok(Hold::Reader {
                why: Arc::new(ObjectsError::Io { action, path, source }),
                _lock: ReadLock::try_acquire(neon_dir)?,
            }),
            Err(error) => Err(error.into()),
        }
    }

    /// Returns true as long as the repository is where it was taken.
    pub(crate) fn is_in_place(&self) -> bool {
        match self {
            Hold::Writer(lock) => lock.is_in_place(),
            Hold::Reader { .. } => true,
        }
    }
}

impl Repository {
    /// Returns true when nothing can be written here.
    pub fn is_read_only(&self) -> bool {
        matches!(self.hold, Hold::Reader { .. })
    }

    /// Refuses to go on where nothing can be written.
    ///
    /// # Errors
    /// [`RepoError::ReadOnly`]
    pub fn check_writable(&self) -> Result<()> {
        match &self.hold {
            Hold::Writer(_) => Ok(()),
            Hold::Reader { why, .. } => Err(RepoError::ReadOnly {
                directory: self.directory(),
                source: Arc::clone(why),
            }),
        }
    }
}

/// Returns true when nothing can be written in a `.neon/`, as far as that is seen without opening it.
pub fn is_read_only(neon_dir: &Path) -> bool {
    matches!(check_writable(neon_dir), Err(ObjectsError::Io { source, .. }) if refuses_writes(&source))
}

impl Request {
    /// Returns true for a request that changes nothing in the repository.
    pub(crate) fn only_reads(&self) -> bool {
        match self {
            Request::Status
            | Request::BranchList
            | Request::TagList
            | Request::Log { .. }
            | Request::Show { .. }
            | Request::Compare { .. }
            | Request::Wal { .. }
            | Request::OriginList
            | Request::Usage
            | Request::UsageOf { .. }
            | Request::Layers { .. }
            | Request::Uri { .. }
            | Request::ConfigGet { .. }
            | Request::Export { .. } => true,
            Request::Fsck(fsck) => !fsck.boot && fsck.repair.is_none(),
            Request::Retention(retain) => retain.keep.is_none() && retain.keep_wal.is_none(),
            Request::Start { .. }
            | Request::Stop { .. }
            | Request::BranchCreate { .. }
            | Request::BranchDelete { .. }
            | Request::BranchRename { .. }
            | Request::TagCreate { .. }
            | Request::TagDelete { .. }
            | Request::Commit { .. }
            | Request::Switch { .. }
            | Request::OriginAdd { .. }
            | Request::OriginRemove { .. }
            | Request::OriginRename { .. }
            | Request::OriginSetUrl { .. }
            | Request::Push(_)
            | Request::Pull(_)
            | Request::Fetch(_)
            | Request::Gc(_)
            | Request::ConfigSet { .. }
            | Request::Listen { .. } => false,
        }
    }
}
