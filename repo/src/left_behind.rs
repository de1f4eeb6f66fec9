//! What a dead process left: it can be seen, and may still be lost.
//!
//! Between a write or rename and its fsync everybody sees what only memory has. A process that dies there leaves such a thing to the next
//! one, which would build on it: a commit of WAL that a power cut takes back, an answer that names a ref that is gone afterwards. So
//! all of it is made durable before anything is read.

use std::fs::{self, File};
use std::io;
use std::path::Path;

use crate::error::{RepoError, Result};

/// Makes durable what is in a `.neon/`. Objects are only named when they are durable, so that of them it is the names; WAL is seen to by
/// whoever opens it; data directories answer for themselves (law 9).
pub(crate) fn make_durable(neon_dir: &Path) -> Result<()> {
    for tree in ["refs", "log"] {
        sync(&neon_dir.join(tree), &|_| true)?;
    }
    sync(&neon_dir.join("timelines"), &|path| !path.ends_with("wal"))?;
    sync_directories(&neon_dir.join("objects"))?;
    let endpoints = neon_dir.join("endpoints");
    sync(&endpoints, &|path| path.parent() == Some(&endpoints))?;
    sync(neon_dir, &|_| false)?;
    // Its own name, too: it may just have been made.
    match neon_dir.parent() {
        Some(directory) => Ok(neon_objects::durable::sync_directory(directory)?),
        None => Ok(()),
    }
}

/// Makes a directory durable with its files, and with the directories in it that `enters` is true for.
fn sync(directory: &Path, enters: &dyn Fn(&Path) -> bool) -> Result<()> {
    let failed = |path: &Path, error: io::Error| Err(RepoError::io("fsync", path)(error));
    let entries = match fs::read_dir(directory) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(()),
        entries => entries.map_err(RepoError::io("list", directory))?,
    };
    for entry in entries {
        let entry = entry.map_err(RepoError::io("list", directory))?;
        let (path, kind) = (entry.path(), entry.file_type());
        let kind = kind.map_err(RepoError::io("look at", &path))?;
        if kind.is_dir() && enters(&path) {
            sync(&path, enters)?;
        } else if kind.is_file()
            && let Err(error) = File::open(&path).and_then(|file| file.sync_all())
        {
            return failed(&path, error);
        }
    }
    Ok(neon_objects::durable::sync_directory(directory)?)
}

/// Makes the names in a directory durable, and those in its directories.
fn sync_directories(directory: &Path) -> Result<()> {
    let entries = match fs::read_dir(directory) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(()),
        entries => entries.map_err(RepoError::io("list", directory))?,
    };
    for entry in entries {
        let path = entry.map_err(RepoError::io("list", directory))?.path();
        if path.is_dir() {
            neon_objects::durable::sync_directory(&path)?;
        }
    }
    Ok(neon_objects::durable::sync_directory(directory)?)
}
