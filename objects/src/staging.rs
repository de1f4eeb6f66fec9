//! An object on its way in: resumable, and believed only when its bytes hash to the name that was promised.

use std::fs::{self, File, OpenOptions, Permissions, TryLockError};
use std::io::{self, Read, Write};
use std::os::unix::fs::{MetadataExt, OpenOptionsExt, PermissionsExt};
use std::path::{Path, PathBuf};

use neon_types::ObjectId;

use crate::durable::{create_temporary, sync_directory};
use crate::store::ObjectStore;
use crate::{ObjectsError, Result};

/// Receives one object whose name is known. Dropped unfinished, what came so far stays in `objects/incoming/` and the next
/// [`ObjectStore::staging`] of the same name goes on behind it. While one transfer receives an object, another that brings the same
/// has a file of its own, of which nothing stays.
#[derive(Debug)]
pub struct Staging {
    store: ObjectStore,
    expected: ObjectId,
    path: PathBuf,
    /// Nobody goes on behind it: it is removed unless it becomes the object.
    passing: bool,
    file: File,
    hasher: blake3::Hasher,
    len: u64,
    limit: u64,
    poisoned: bool,
}

impl Staging {
    pub(crate) fn open(store: ObjectStore, expected: ObjectId) -> Result<Staging> {
        let mut path = store.incoming_path(expected);
        let shared = open_locked(&path)?;
        let passing = shared.is_none();
        let (file, (hasher, len)) = match shared {
            Some(mut file) => {
                let so_far = hash_so_far(&mut file).map_err(ObjectsError::io("read", &path))?;
                (file, so_far)
            }
            None => {
                let (file, own) = create_temporary(store.directory(), 0o600)?;
                path = own;
                (file, (blake3::Hasher::new(), 0))
            }
        };
        Ok(Staging {
            store,
            expected,
            path,
            passing,
            file,
            hasher,
            len,
            limit: u64::MAX,
            poisoned: false,
        })
    }

    /// Returns how many bytes of an object an earlier transfer left at `path`; 0 while another one goes on there.
    pub(crate) fn left_behind(path: &Path) -> Result<u64> {
        match Staging::lock_idle(path)? {
            Some(file) => Ok(file.metadata().map_err(ObjectsError::io("look at", path))?.len()),
            None => Ok(0),
        }
    }

    /// Returns the lock of a file that is being received, none when a transfer has it or it is gone.
    pub(crate) fn lock_idle(path: &Path) -> Result<Option<File>> {
        let file = match File::open(path) {
            Ok(file) => file,
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(None),
            Err(error) => return Err(ObjectsError::io("open", path)(error)),
        };
        match file.try_lock() {
            Ok(()) => Ok(Some(file)),
            Err(TryLockError::WouldBlock) => Ok(None),
            Err(TryLockError::Error(error)) => Err(ObjectsError::io("lock", path)(error)),
        }
    }

    /// Refuses to grow beyond `bytes`: a sender cannot fill the disk with an object that was announced to be short.
    pub fn limited(mut self, bytes: u64) -> Staging {
        self.limit = bytes;
        self
    }

    /// Returns the number of bytes received so far: where the sender goes on.
    pub fn len(&self) -> u64 {
        self.len
    }

    /// Returns true when nothing was received yet.
    pub fn is_empty(&self) -> bool {
        self.len == 0
    }

    /// Returns the name that was promised.
    pub fn expected(&self) -> ObjectId {
        self.expected
    }

    /// Takes the next bytes.
    pub fn append(&mut self, bytes: &[u8]) -> Result<()> {
        if self.poisoned {
            return Err(ObjectsError::Poisoned(self.path.clone()));
        }
        let len = self.len.saturating_add(bytes.len() as u64);
        if len > self.limit {
            return Err(ObjectsError::TooLong {
                id: self.expected,
                len,
                limit: self.limit,
            });
        }
        if let Err(error) = self.file.write_all(bytes) {
            self.poisoned = true;
            // Back to the last whole append, so that a resumed transfer starts at a length that we vouch for.
            let _ = self.file.set_len(self.len);
            return Err(ObjectsError::io("write", &self.path)(error));
        }
        self.hasher.update(bytes);
        self.len = len;
        Ok(())
    }

    /// Forgets what was received, to begin again.
    pub fn restart(&mut self) -> Result<()> {
        self.file
            .set_len(0)
            .map_err(ObjectsError::io("truncate", &self.path))?;
        self.hasher = blake3::Hasher::new();
        self.len = 0;
        self.poisoned = false;
        Ok(())
    }

    /// Makes the object durable and visible; [`ObjectsError::Damaged`] when its bytes are not those of its name, and then
    /// nothing of it is kept.
    pub fn finish(mut self) -> Result<ObjectId> {
        if self.poisoned {
            return Err(ObjectsError::Poisoned(self.path.clone()));
        }
        let found = ObjectId::from_bytes(*self.hasher.finalize().as_bytes());
        if found != self.expected {
            fs::remove_file(&self.path).map_err(ObjectsError::io("remove", &self.path))?;
            return Err(ObjectsError::Damaged {
                id: self.expected,
                found,
            });
        }
        if let Err(error) = self.store.install(&self.file, &self.path, self.expected) {
            // Bytes whose fsync failed can be read, and the next fsync would not say that they are not on disk: they have to come again.
            let _ = fs::remove_file(&self.path);
            return Err(error);
        }
        self.passing = false;
        if let Some(directory) = self.path.parent() {
            sync_directory(directory)?;
        }
        Ok(self.expected)
    }
}

impl Drop for Staging {
    fn drop(&mut self) {
        if self.passing {
            // What stays behind is swept at the next start.
            let _ = fs::remove_file(&self.path);
        }
    }
}

/// Opens the file of a transfer for us alone; none when another one has it.
fn open_locked(path: &Path) -> Result<Option<File>> {
    let open = || {
        OpenOptions::new()
            .read(true)
            .append(true)
            .create(true)
            .mode(0o600)
            .open(path)
    };
    loop {
        let file = match open() {
            // It was whole and about to be an object when its process died, or the disk was full.
            Err(error) if error.kind() == io::ErrorKind::PermissionDenied => {
                fs::set_permissions(path, Permissions::from_mode(0o600)).and_then(|()| open())
            }
            opened => opened,
        };
        let file = file.map_err(ObjectsError::io("open", path))?;
        match file.try_lock() {
            Ok(()) => {}
            Err(TryLockError::WouldBlock) => return Ok(None),
            Err(TryLockError::Error(error)) => return Err(ObjectsError::io("lock", path)(error)),
        }
        // Whoever had the lock may have moved the file into the store meanwhile: then this is an object, not ours to write.
        let ours = file.metadata().map_err(ObjectsError::io("look at", path))?;
        match fs::metadata(path) {
            Ok(there) if (there.dev(), there.ino()) == (ours.dev(), ours.ino()) => return Ok(Some(file)),
            Ok(_) => {}
            Err(error) if error.kind() == io::ErrorKind::NotFound => {}
            Err(error) => return Err(ObjectsError::io("look at", path)(error)),
        }
    }
}

fn hash_so_far(file: &mut File) -> io::Result<(blake3::Hasher, u64)> {
    let mut hasher = blake3::Hasher::new();
    let mut chunk = vec![0; 1 << 20];
    let mut len = 0;
    loop {
        match file.read(&mut chunk) {
            Ok(0) => return Ok((hasher, len)),
            Ok(read) => {
                hasher.update(chunk.get(..read).unwrap_or_default());
                len += read as u64;
            }
            Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
            Err(error) => return Err(error),
        }
    }
}
