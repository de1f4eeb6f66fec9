//! Writes a new object whose name is known only at the end.

use std::fs::{self, File};
use std::io::{self, Write};
use std::path::PathBuf;

use neon_types::ObjectId;

use crate::durable::create_temporary;
use crate::store::ObjectStore;
use crate::{ObjectsError, Result};

/// Large enough for BLAKE3 to use its wide kernels and for few system calls.
const BUFFER: usize = 256 << 10;

/// Takes the bytes of a new object and hashes them on the way. Dropped unfinished, it leaves nothing behind.
#[derive(Debug)]
pub struct ObjectWriter {
    store: ObjectStore,
    file: File,
    temporary: Option<PathBuf>,
    hasher: blake3::Hasher,
    buffer: Vec<u8>,
    len: u64,
    poisoned: bool,
}

impl ObjectWriter {
    pub(crate) fn create(store: ObjectStore) -> Result<ObjectWriter> {
        let (file, temporary) = create_temporary(&store.room()?, 0o600)?;
        Ok(ObjectWriter {
            store,
            file,
            temporary: Some(temporary),
            hasher: blake3::Hasher::new(),
            buffer: Vec::with_capacity(BUFFER),
            len: 0,
            poisoned: false,
        })
    }

    /// Returns the number of bytes taken so far.
    pub fn len(&self) -> u64 {
        self.len
    }

    /// Returns true when nothing was written.
    pub fn is_empty(&self) -> bool {
        self.len == 0
    }

    /// Takes more bytes; as [`Write::write_all`], with this crate's error.
    pub fn append(&mut self, bytes: &[u8]) -> Result<()> {
        self.write_all(bytes)
            .map_err(ObjectsError::io("write an object in", self.store.directory()))
    }

    /// Makes the object durable and visible, and returns its name.
    pub fn finish(mut self) -> Result<ObjectId> {
        let temporary = self.temporary.clone().unwrap_or_default();
        if self.poisoned {
            return Err(ObjectsError::Poisoned(temporary));
        }
        self.drain().map_err(ObjectsError::io("write", &temporary))?;
        let id = ObjectId::from_bytes(*self.hasher.finalize().as_bytes());
        self.store.install(&self.file, &temporary, id)?;
        self.temporary = None;
        Ok(id)
    }

    fn drain(&mut self) -> io::Result<()> {
        self.hasher.update(&self.buffer);
        // After a failed write nobody knows what the file holds.
        self.poisoned = true;
        self.file.write_all(&self.buffer)?;
        self.poisoned = false;
        self.buffer.clear();
        Ok(())
    }
}

impl Write for ObjectWriter {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        if self.poisoned {
            return Err(io::Error::other("an earlier write to this object failed"));
        }
        let room = BUFFER - self.buffer.len();
        let taken = bytes.get(..room).unwrap_or(bytes);
        self.buffer.extend_from_slice(taken);
        self.len += taken.len() as u64;
        if self.buffer.len() == BUFFER {
            self.drain()?;
        }
        Ok(taken.len())
    }

    /// Hands what is buffered to the operating system; durability comes with [`ObjectWriter::finish`].
    fn flush(&mut self) -> io::Result<()> {
        if self.poisoned {
            return Err(io::Error::other("an earlier write to this object failed"));
        }
        self.drain()
    }
}

impl Drop for ObjectWriter {
    fn drop(&mut self) {
        if let Some(temporary) = &self.temporary {
            // What stays behind is swept at the next start.
            let _ = fs::remove_file(temporary);
        }
    }
}
