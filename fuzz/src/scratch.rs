//! A directory for what can only be read from files.

use std::fs;
use std::path::{Path, PathBuf};

/// Returns an empty directory below the one for temporary files, the same for each call of this process.
///
/// # Panics
/// It cannot be made or emptied.
pub fn empty() -> PathBuf {
    let path = std::env::temp_dir().join(format!("neon-fuzz-{}", std::process::id()));
    let _ = fs::remove_dir_all(&path);
    fs::create_dir_all(&path).expect("a directory for temporary files");
    path
}

/// Writes a file below the directory, and the directories on the way to it.
///
/// # Panics
/// It cannot be written.
pub fn write(directory: &Path, name: &str, bytes: &[u8]) {
    let path = directory.join(name);
    fs::create_dir_all(path.parent().unwrap_or(directory)).expect("can be made");
    fs::write(path, bytes).expect("can be written");
}
