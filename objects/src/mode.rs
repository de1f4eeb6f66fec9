//! Whether a repository is written here, or only read.

use std::io::ErrorKind;
use std::path::Path;

use rustix::fs::{Access, access};

use crate::{ObjectsError, Result};

/// What a process may do with a repository.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Mode {
    /// It has the lock, and changes what is there.
    Writing,
    /// Nobody writes meanwhile, and it does not either: the file system, or the modes of its files, do not let it.
    Reading,
}

/// Checks that this user may write in a directory.
///
/// # Errors
/// [`ObjectsError::Io`] with what the system says: see [`refuses_writes`].
pub fn check_writable(directory: &Path) -> Result<()> {
    access(directory, Access::WRITE_OK | Access::EXEC_OK)
        .map_err(|error| ObjectsError::io("write in", directory)(error.into()))
}

/// Returns true for what a system says where reading is all that can be done: a file system or modes without the right to write.
pub fn refuses_writes(error: &std::io::Error) -> bool {
    matches!(
        error.kind(),
        ErrorKind::ReadOnlyFilesystem | ErrorKind::PermissionDenied
    )
}

#[cfg(test)]
mod tests {
    use std::fs::{self, Permissions};
    use std::os::unix::fs::PermissionsExt;

    use super::*;

    #[test]
    fn a_directory_without_the_right_to_write_is_told() {
        let directory = tempfile::tempdir().expect("a directory");
        assert!(check_writable(directory.path()).is_ok());
        fs::set_permissions(directory.path(), Permissions::from_mode(0o500)).expect("ours");
        // Root may write everywhere.
        if !rustix::process::geteuid().is_root() {
            let Err(ObjectsError::Io { source, .. }) = check_writable(directory.path()) else {
                panic!("it may be written");
            };
            assert!(refuses_writes(&source), "{source}");
        }
        fs::set_permissions(directory.path(), Permissions::from_mode(0o700)).expect("ours");
    }
}
