//! Small files that survive a crash whole or not at all.

use std::fs::{self, File, OpenOptions};
use std::io::Write;
use std::os::unix::fs::OpenOptionsExt;
use std::path::Path;

use crate::error::{ComputeError, Result};

/// Replaces `path` by `bytes`: temporary file, fsync, rename, fsync of the directory.
pub(crate) fn replace(path: &Path, bytes: &[u8], mode: u32) -> Result<()> {
    let mut name = path.as_os_str().to_owned();
    name.push(".new");
    let temporary = Path::new(&name);
    let mut file = OpenOptions::new()
        .write(true)
        .create(true)
        .truncate(true)
        .mode(mode)
        .open(temporary)
        .map_err(ComputeError::io("create", temporary))?;
    file.write_all(bytes)
        .and_then(|()| file.sync_all())
        .map_err(ComputeError::io("write", temporary))?;
    fs::rename(temporary, path).map_err(ComputeError::io("rename", temporary))?;
    sync_directory_of(path)
}

/// Makes the entry of `path` in its directory durable.
pub(crate) fn sync_directory_of(path: &Path) -> Result<()> {
    let parent = match path.parent() {
        Some(parent) if !parent.as_os_str().is_empty() => parent,
        _ => Path::new("."),
    };
    File::open(parent)
        .and_then(|directory| directory.sync_all())
        .map_err(ComputeError::io("sync", parent))
}

/// Makes everything below `directory` durable, names included.
///
/// One `syncfs` where the system has it (Linux reports write errors of the file system through it), else an fsync of every file.
pub(crate) fn sync_tree(directory: &Path) -> Result<()> {
    #[cfg(target_os = "linux")]
    {
        let file = File::open(directory).map_err(ComputeError::io("open", directory))?;
        rustix::fs::syncfs(&file).map_err(|e| ComputeError::io("sync", directory)(e.into()))
    }
    #[cfg(not(target_os = "linux"))]
    {
        for entry in fs::read_dir(directory).map_err(ComputeError::io("list", directory))? {
            let entry = entry.map_err(ComputeError::io("list", directory))?;
            let kind = entry
                .file_type()
                .map_err(ComputeError::io("inspect", directory))?;
            let path = entry.path();
            if kind.is_dir() {
                sync_tree(&path)?;
            } else if kind.is_file() {
                File::open(&path)
                    .and_then(|file| file.sync_all())
                    .map_err(ComputeError::io("sync", &path))?;
            }
        }
        File::open(directory)
            .and_then(|file| file.sync_all())
            .map_err(ComputeError::io("sync", directory))
    }
}
