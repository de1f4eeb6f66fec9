//! The one recipe for durable files: temporary file, fsync, rename, fsync of the directory.

use std::collections::BTreeSet;
use std::fs::{self, DirBuilder, File, OpenOptions, Permissions};
use std::io::{self, Write};
use std::os::unix::fs::{DirBuilderExt, OpenOptionsExt, PermissionsExt};
use std::path::{Path, PathBuf};
use std::process;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Mutex, MutexGuard, PoisonError};

use crate::{ObjectsError, Result};

/// Prefix of every temporary file: what bears it may be deleted when nobody holds the repository's lock.
pub const TEMPORARY_PREFIX: &str = ".tmp-";

/// Directories whose fsync failed: names are seen in them, or gone from them, that a power cut would turn back (law 10).
static OWED: Mutex<BTreeSet<PathBuf>> = Mutex::new(BTreeSet::new());
/// Whether there are any.
static OWES: AtomicBool = AtomicBool::new(false);

fn owed() -> MutexGuard<'static, BTreeSet<PathBuf>> {
    OWED.lock().unwrap_or_else(PoisonError::into_inner)
}

/// Makes entries of `directory` that were created, renamed or removed durable. What fails is owed: see [`settle`].
pub fn sync_directory(directory: &Path) -> Result<()> {
    let synced = File::open(directory).and_then(|directory| directory.sync_all());
    if synced.is_err() || OWES.load(Ordering::Acquire) {
        let mut owed = owed();
        match &synced {
            Ok(()) => owed.remove(directory),
            Err(_) => owed.insert(directory.to_owned()),
        };
        OWES.store(!owed.is_empty(), Ordering::Release);
    }
    synced.map_err(ObjectsError::io("fsync the directory", directory))
}

/// Makes durable what this process could not make durable in directories at or below `above` when it had to. To be called before what is
/// seen there is relied upon: it may be what a command left that failed.
pub fn settle(above: &Path) -> Result<()> {
    for directory in owed_below(above) {
        if directory.is_dir() {
            sync_directory(&directory)?;
        } else {
            owed().remove(&directory);
        }
    }
    Ok(())
}

/// Returns the directories at or below `above` whose fsync failed and was not made up for.
pub(crate) fn owed_below(above: &Path) -> Vec<PathBuf> {
    if !OWES.load(Ordering::Acquire) {
        return Vec::new();
    }
    let owed = owed();
    owed.iter()
        .filter(|path| path.starts_with(above))
        .cloned()
        .collect()
}

/// Makes `directory` (0700) and those above it up to `root`, which must exist, and makes each new entry durable.
///
/// Returns true when something was made.
pub fn create_directories(root: &Path, directory: &Path) -> Result<bool> {
    let mut missing: Vec<&Path> = Vec::new();
    for above in directory.ancestors() {
        if above == root || above.is_dir() {
            break;
        }
        missing.push(above);
    }
    for path in missing.iter().rev() {
        match DirBuilder::new().mode(0o700).create(path) {
            Ok(()) => {}
            Err(error) if error.kind() == io::ErrorKind::AlreadyExists => {}
            Err(error) => return Err(ObjectsError::io("make the directory", path)(error)),
        }
        if let Some(parent) = path.parent() {
            sync_directory(parent)?;
        }
    }
    Ok(!missing.is_empty())
}

/// Puts `bytes` at `path` with the permission bits `mode`, replacing what is there, so that after a crash either the old or the
/// new content is there in full.
pub fn replace(path: &Path, bytes: &[u8], mode: u32) -> Result<()> {
    let directory = path.parent().unwrap_or(Path::new("."));
    let (mut file, temporary) = create_temporary(directory, mode)?;
    let written = file
        .set_permissions(Permissions::from_mode(mode))
        .and_then(|()| file.write_all(bytes))
        .and_then(|()| file.sync_all())
        .and_then(|()| fs::rename(&temporary, path));
    if let Err(error) = written {
        // The temporary file is ours alone; that it could not be removed either says nothing new.
        let _ = fs::remove_file(&temporary);
        return Err(ObjectsError::io("write", path)(error));
    }
    sync_directory(directory)
}

/// Removes the file at `path` durably; returns false when there was none.
pub fn remove(path: &Path) -> Result<bool> {
    match fs::remove_file(path) {
        Ok(()) => {}
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(false),
        Err(error) => return Err(ObjectsError::io("remove", path)(error)),
    }
    sync_directory(path.parent().unwrap_or(Path::new(".")))?;
    Ok(true)
}

/// Makes a new empty file in `directory` that no other process or thread has, open for writing.
pub(crate) fn create_temporary(directory: &Path, mode: u32) -> Result<(File, PathBuf)> {
    static NEXT: AtomicU64 = AtomicU64::new(0);
    loop {
        let number = NEXT.fetch_add(1, Ordering::Relaxed);
        let path = directory.join(format!("{TEMPORARY_PREFIX}{}-{number}", process::id()));
        match OpenOptions::new()
            .write(true)
            .create_new(true)
            .mode(mode | 0o200)
            .open(&path)
        {
            Ok(file) => return Ok((file, path)),
            // Left by a dead process that had our id.
            Err(error) if error.kind() == io::ErrorKind::AlreadyExists => {}
            Err(error) => return Err(ObjectsError::io("create a file in", directory)(error)),
        }
    }
}

/// Removes what writers that died left in `directory`; only while nobody else writes there.
pub(crate) fn sweep_temporaries(directory: &Path) -> Result<usize> {
    let mut removed = 0;
    let entries = fs::read_dir(directory).map_err(ObjectsError::io("list", directory))?;
    for entry in entries {
        let entry = entry.map_err(ObjectsError::io("list", directory))?;
        if entry
            .file_name()
            .to_str()
            .is_some_and(|name| name.starts_with(TEMPORARY_PREFIX))
        {
            fs::remove_file(entry.path()).map_err(ObjectsError::io("remove", entry.path()))?;
            removed += 1;
        }
    }
    Ok(removed)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn replacing_keeps_mode_and_leaves_no_temporary() {
        let dir = tempfile::tempdir().expect("a directory");
        let path = dir.path().join("config.toml");
        replace(&path, b"one", 0o600).expect("written");
        replace(&path, b"two", 0o600).expect("replaced");
        assert_eq!(fs::read(&path).expect("read"), b"two");
        assert_eq!(
            fs::metadata(&path).expect("metadata").permissions().mode() & 0o777,
            0o600
        );
        assert_eq!(fs::read_dir(dir.path()).expect("listed").count(), 1);
    }

    #[test]
    fn a_failed_replacement_leaves_the_old_content_and_no_temporary() {
        let dir = tempfile::tempdir().expect("a directory");
        let path = dir.path().join("target");
        fs::create_dir(&path).expect("a directory in the way");
        fs::write(path.join("kept"), b"x").expect("written");
        assert!(replace(&path, b"new", 0o600).is_err());
        assert!(path.join("kept").exists());
        assert_eq!(fs::read_dir(dir.path()).expect("listed").count(), 1);
    }

    #[test]
    fn directories_are_made_below_the_root_only() {
        let dir = tempfile::tempdir().expect("a directory");
        let deep = dir.path().join("a/b/c");
        assert!(create_directories(dir.path(), &deep).expect("made"));
        assert!(!create_directories(dir.path(), &deep).expect("there"));
        assert!(deep.is_dir());
    }

    #[test]
    fn a_failed_fsync_is_made_up_for_before_what_is_seen_is_relied_upon() {
        let dir = tempfile::tempdir().expect("a directory");
        let (here, gone) = (dir.path().join("here"), dir.path().join("gone"));
        assert!(sync_directory(&here).is_err() && sync_directory(&gone).is_err());
        assert_eq!(owed_below(dir.path()), [gone, here.clone()]);
        fs::create_dir(&here).expect("made");
        assert!(owed_below(&dir.path().join("elsewhere")).is_empty());
        settle(dir.path()).expect("synced, or not there any more");
        assert!(owed_below(dir.path()).is_empty());
    }
}
