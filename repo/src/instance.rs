//! Which directory this is: a copied repository notices that it is a copy and is not the writer any more (law 1).
//!
//! `instance` holds one line: the writer id and the device and inode of the `.neon/` that it was drawn for. A copy has another
//! inode; it draws a new writer id, so every timeline that the original may still extend is somebody else's here. A directory
//! that was renamed keeps its inode and stays the writer.

use std::fs;
use std::os::unix::fs::MetadataExt;
use std::path::Path;

use neon_objects::durable;
use neon_objects::owned::{self, Access, Owner};
use neon_types::RepoId;

use crate::endpoint;
use crate::error::{RepoError, Result};
use crate::world::World;

const FILE: &str = "instance";
/// Longest one that is read, bytes.
const MAX_FILE: u64 = 4096;

/// Returns the writer id of this very directory; draws one when there is none for it.
pub fn writer(neon_dir: &Path, world: &dyn World) -> Result<RepoId> {
    let path = neon_dir.join(FILE);
    let metadata = fs::metadata(neon_dir).map_err(RepoError::io("read", neon_dir))?;
    let place = format!("{}:{}", metadata.dev(), metadata.ino());
    let copied = match owned::read(&path, Owner::Us, Access::Readable, MAX_FILE)? {
        Some(text) => {
            if let Some((id, stamp)) = text.trim_end().split_once(' ')
                && stamp == place
                && let Ok(id) = id.parse()
            {
                return Ok(id);
            }
            tracing::warn!("this repository was copied or restored: it continues on timelines of its own");
            true
        }
        None => false,
    };
    if copied {
        forget_processes(neon_dir)?;
    }
    let id = crate::world::new_repo_id(world);
    durable::replace(&path, format!("{id} {place}\n").as_bytes(), 0o600)?;
    Ok(id)
}

/// Removes the `postmaster.pid` files that were copied along: they name processes and shared memory of the original's servers,
/// which may well be running.
fn forget_processes(neon_dir: &Path) -> Result<()> {
    for name in endpoint::names(neon_dir)? {
        let pid_file = endpoint::pgdata_of(neon_dir, &name).join("postmaster.pid");
        match fs::remove_file(&pid_file) {
            Err(error) if error.kind() != std::io::ErrorKind::NotFound => {
                return Err(RepoError::io("remove", pid_file)(error));
            }
            _ => {}
        }
    }
    Ok(())
}
