//! Which directory this is: a copied repository notices that it is a copy and is not the writer any more (law 1).
//!
//! `instance` holds one line: the seed of the writer's key, and the device and inode of the `.neon/` that it was drawn for. A copy has another
//! inode; it draws a new key, so every timeline that the original may still extend is somebody else's here. A directory
//! that was renamed keeps its inode and stays the writer.

use std::fs;
use std::os::unix::fs::MetadataExt;
use std::path::Path;

use neon_objects::owned::{self, Access, Owner};
use neon_objects::{WriterKey, durable};
use neon_types::{ObjectId, RepoId, with_causes};

use crate::endpoint;
use crate::error::{RepoError, Result};
use crate::hold::Hold;
use crate::repository::Repository;
use crate::world::{self, World};

const FILE: &str = "instance";
/// Longest one that is read, bytes.
const MAX_FILE: u64 = 4096;

/// Who writes in a directory, and who did before.
pub(crate) struct Instance {
    /// The key of this very directory.
    pub key: WriterKey,
    /// Device and inode.
    place: String,
    before: Before,
}

/// What the file says.
enum Before {
    /// This is the directory that the key was drawn for.
    Same(WriterKey),
    /// There is no file.
    Nobody,
    /// This is a copy of another directory; with the key of that one, if it can be read.
    Original(Option<WriterKey>),
    /// This directory writes under an id without a key, as repositories did once.
    Keyless(RepoId),
}

impl Before {
    fn read(text: &str, place: &str) -> Before {
        let (who, stamp) = text.trim_end().split_once(' ').unwrap_or_default();
        let key = || {
            who.parse()
                .map(|seed: ObjectId| WriterKey::from_seed(&seed.to_bytes()))
                .ok()
        };
        match (key(), who.parse()) {
            (Some(key), _) if stamp == place => Before::Same(key),
            (None, Ok(id)) if stamp == place => Before::Keyless(id),
            (key, _) => Before::Original(key),
        }
    }
}

impl Instance {
    /// Looks who writes in a `.neon/`; draws a key when none was drawn for it. Nothing is written before [`Repository::take_over`].
    pub(crate) fn look(neon_dir: &Path, world: &dyn World) -> Result<Instance> {
        let path = neon_dir.join(FILE);
        let metadata = fs::metadata(neon_dir).map_err(RepoError::io("read", neon_dir))?;
        let place = format!("{}:{}", metadata.dev(), metadata.ino());
        // Who can read the key is the writer.
        let before = match owned::read(&path, Owner::Us, Access::Secret, MAX_FILE)? {
            Some(text) => Before::read(&text, &place),
            None => Before::Nobody,
        };
        let key = match &before {
            Before::Same(key) => key.clone(),
            _ => world::new_writer_key(world),
        };
        Ok(Instance { key, place, before })
    }

    /// Returns the key of an open repository. One that is only read writes nothing, so a copy hands on what its original wrote in its name.
    pub(crate) fn key_of(&self, hold: &Hold) -> WriterKey {
        match (hold, &self.before) {
            (Hold::Reader { .. }, Before::Original(Some(theirs))) => theirs.clone(),
            _ => self.key.clone(),
        }
    }
}

impl Repository {
    /// Becomes the writer here, when a key was drawn. What the original of a copy wrote stays the original's; its key, which was copied along,
    /// signs how far that reaches, and is forgotten.
    pub(crate) fn take_over(&self, instance: &Instance) -> Result<()> {
        match &instance.before {
            Before::Same(_) => return Ok(()),
            Before::Nobody => {}
            Before::Original(theirs) => {
                tracing::warn!(
                    "this repository was copied or restored: it continues on timelines of its own"
                );
                forget_processes(&self.neon_dir)?;
                if let Some(theirs) = theirs {
                    self.sign_all(theirs);
                }
            }
            Before::Keyless(id) => self.rename_writer(*id, instance.key.id()),
        }
        let seed = ObjectId::from_bytes(instance.key.seed());
        let line = format!("{seed} {}\n", instance.place);
        Ok(durable::replace(
            &self.neon_dir.join(FILE),
            line.as_bytes(),
            0o600,
        )?)
    }

    /// Signs everything that is held of the timelines of a key's holder, so that it can be handed on.
    fn sign_all(&self, key: &WriterKey) {
        for id in self.pages.list() {
            let signed = || -> Result<()> {
                let timeline = self.timeline(id)?;
                if timeline.state().writer == key.id() {
                    let all =
                        crate::attest::attest(&timeline, key, timeline.start(), timeline.end(), usize::MAX)?;
                    timeline.keep_attestations(&all)?;
                }
                Ok(())
            };
            if let Err(error) = signed() {
                tracing::warn!(timeline = %id, error = with_causes(&error), "what its writer wrote cannot be signed");
            }
        }
    }

    fn rename_writer(&self, old: RepoId, new: RepoId) {
        for id in self.pages.list() {
            let renamed = || -> Result<()> {
                let timeline = self.timeline(id)?;
                if timeline.state().writer == old {
                    timeline.update_state(|state| state.writer = new)?;
                }
                Ok(())
            };
            if let Err(error) = renamed() {
                tracing::warn!(timeline = %id, error = with_causes(&error), "its writer cannot be named anew");
            }
        }
    }
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

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_copy_a_stranger_and_an_older_file_are_told_apart() {
        let seed = "07".repeat(32);
        let id = "09".repeat(16);
        let read = |text: String| Before::read(&text, "1:2");
        assert!(matches!(read(format!("{seed} 1:2\n")), Before::Same(key) if key.seed() == [7; 32]));
        assert!(
            matches!(read(format!("{seed} 1:3\n")), Before::Original(Some(key)) if key.seed() == [7; 32])
        );
        assert!(matches!(
            read(format!("{id} 1:2\n")),
            Before::Keyless(RepoId([9, ..]))
        ));
        for other in [
            format!("{id} 1:3\n"),
            String::new(),
            "noise".to_owned(),
            format!("{seed}\n"),
        ] {
            assert!(matches!(read(other), Before::Original(None)));
        }
    }
}
