//! The daemon's socket: `neon.sock` in the repository, by whatever path that is reached.

use std::path::{Path, PathBuf};

pub use neon_compute::socket::{Inherited, bind, connect, fits};

/// Returns the path of the socket on which a repository's daemon answers. It may be longer than the system takes: use [`connect`] and [`bind`].
pub fn daemon(neon_dir: &Path) -> PathBuf {
    neon_dir.join("neon.sock")
}
