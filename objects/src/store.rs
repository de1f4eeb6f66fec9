//! The content-addressed store: `objects/3f/9a12...`, each file named by the BLAKE3 of its bytes and never changed.

use std::collections::BTreeSet;
use std::fs::{self, File, Permissions};
use std::io::{self, Read};
use std::os::unix::fs::{MetadataExt, PermissionsExt};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::SystemTime;

use neon_types::{CommitId, ObjectId, Prefix};

use crate::commit::{COMMIT_MAGIC, Commit, MAX_COMMIT};
use crate::durable::{self, create_directories, sync_directory};
use crate::mode::Mode;
use crate::scratch::Scratch;
use crate::staging::Staging;
use crate::uses::{Hold, Sweep, Used, Uses};
use crate::writer::ObjectWriter;
use crate::{ObjectsError, Result};

/// Where objects that are still being received lie, by their expected name.
const INCOMING: &str = "incoming";
const READ_CHUNK: usize = 1 << 20;

/// Immutable files named by the BLAKE3 of their bytes. Shared between threads; several processes may use one directory.
/// Clones share one store.
#[derive(Clone, Debug)]
pub struct ObjectStore {
    directory: Arc<Path>,
    /// Fan-out directories whose entry in `objects/` this process knows to be durable.
    durable: Arc<[AtomicBool; 256]>,
    uses: Uses,
    /// Where new objects go in a store that is only read.
    scratch: Option<Arc<Scratch>>,
}

/// A file of the store, as a collector knows it again: one that was put again meanwhile is another file.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct StoredFile {
    /// Its length in bytes.
    pub len: u64,
    /// Its inode.
    pub inode: u64,
}

impl StoredFile {
    fn at(path: &Path) -> Result<Option<StoredFile>> {
        match fs::metadata(path) {
            Ok(metadata) => Ok(Some(StoredFile {
                len: metadata.len(),
                inode: metadata.ino(),
            })),
            Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(None),
            Err(error) => Err(ObjectsError::io("look at", path)(error)),
        }
    }
}

/// An object that was received in part.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Incoming {
    /// Its expected name.
    pub id: ObjectId,
    /// Bytes so far.
    pub len: u64,
}

impl ObjectStore {
    /// Opens the store in `directory` (`.neon/objects`), which is made when its parent exists.
    pub fn open(directory: impl Into<PathBuf>) -> Result<ObjectStore> {
        let directory = directory.into();
        let parent = directory.parent().unwrap_or(Path::new("."));
        create_directories(parent, &directory)?;
        create_directories(&directory, &directory.join(INCOMING))?;
        Ok(ObjectStore {
            directory: directory.into(),
            durable: Arc::new([const { AtomicBool::new(false) }; 256]),
            uses: Uses::default(),
            scratch: None,
        })
    }

    /// Opens a store that is only read. What is put there all the same, as a slice of a layer that a peer asks for, lies elsewhere, and is gone
    /// when the last clone of the store is.
    pub fn open_reading(directory: impl Into<PathBuf>) -> ObjectStore {
        let directory = directory.into();
        ObjectStore {
            directory: directory.into(),
            durable: Arc::new([const { AtomicBool::new(false) }; 256]),
            uses: Uses::default(),
            scratch: Some(Arc::default()),
        }
    }

    /// Returns whether the store is written, or only read.
    pub fn mode(&self) -> Mode {
        match self.scratch {
            None => Mode::Writing,
            Some(_) => Mode::Reading,
        }
    }

    /// Returns the directory that holds the store.
    pub fn directory(&self) -> &Path {
        &self.directory
    }

    /// Returns where the object is, or would be.
    pub fn path(&self, id: ObjectId) -> PathBuf {
        let name = id.to_string();
        let (fan, rest) = name.split_at(2);
        let here = self.directory.join(fan).join(rest);
        let made = |scratch: &Arc<Scratch>| scratch.if_made(|elsewhere| elsewhere.join(fan).join(rest));
        match self.scratch.as_ref().and_then(made) {
            Some(elsewhere) if !here.is_file() => elsewhere,
            _ => here,
        }
    }

    /// Returns the directory that new objects go to.
    pub(crate) fn room(&self) -> Result<PathBuf> {
        match &self.scratch {
            None => Ok(self.directory.to_path_buf()),
            Some(scratch) => scratch.with(Path::to_owned),
        }
    }

    /// Returns true when the object is here; its bytes are not looked at.
    pub fn contains(&self, id: ObjectId) -> bool {
        self.path(id).is_file()
    }

    /// Keeps objects that are put, or touched, from now on from being collected until the hold is dropped: to be taken before the first
    /// of them, and dropped when something names them.
    pub fn hold(&self) -> Hold {
        self.uses.hold()
    }

    /// Returns true when the object is here, and will be for as long as a hold lives that was taken before.
    pub fn touch(&self, id: ObjectId) -> bool {
        self.uses.using(Used::Object(id), || self.contains(id))
    }

    /// Returns the uses that a collector respects.
    pub fn uses(&self) -> &Uses {
        &self.uses
    }

    /// Returns what a collector must know of an object's file, none when it is not here.
    pub fn stored_file(&self, id: ObjectId) -> Result<Option<StoredFile>> {
        StoredFile::at(&self.path(id))
    }

    /// The same of an object that was received in part.
    pub fn incoming_file(&self, id: ObjectId) -> Result<Option<StoredFile>> {
        StoredFile::at(&self.incoming_path(id))
    }

    /// Deletes the object's very file, unless it is used; returns whether it went. The deletion is durable after
    /// [`ObjectStore::sync_removals`].
    pub fn remove_unused(&self, sweep: &Sweep, id: ObjectId, file: StoredFile) -> Result<bool> {
        let path = self.path(id);
        let removed = sweep.unless_used(Used::Object(id), || {
            if StoredFile::at(&path)? != Some(file) {
                return Ok(false);
            }
            fs::remove_file(&path)
                .map(|()| true)
                .map_err(ObjectsError::io("remove", &path))
        });
        removed.unwrap_or(Ok(false))
    }

    /// Deletes what was received of an object, unless a transfer goes on with it, or has since the file was looked at.
    pub fn remove_idle_incoming(&self, id: ObjectId, file: StoredFile) -> Result<bool> {
        let path = self.incoming_path(id);
        if StoredFile::at(&path)? != Some(file) {
            return Ok(false);
        }
        match Staging::lock_idle(&path)? {
            // It may have grown before the lock was ours.
            Some(_lock) if StoredFile::at(&path)? == Some(file) => durable::remove(&path),
            _ => Ok(false),
        }
    }

    /// Deletes what was received in part and was not gone on with since `before`. Returns the bytes that this freed.
    pub fn expire_incoming(&self, before: SystemTime) -> Result<u64> {
        let mut freed = 0;
        for Incoming { id, len } in self.incoming()? {
            let path = self.incoming_path(id);
            let written = fs::metadata(&path).and_then(|metadata| metadata.modified());
            // Gone already is as good.
            let (Ok(written), Some(file)) = (written, self.incoming_file(id)?) else {
                continue;
            };
            if written < before && self.remove_idle_incoming(id, file)? {
                freed += len;
            }
        }
        Ok(freed)
    }

    /// Makes deletions of these objects durable.
    pub fn sync_removals(&self, ids: impl IntoIterator<Item = ObjectId>) -> Result<()> {
        let fans: BTreeSet<PathBuf> = ids
            .into_iter()
            .filter_map(|id| self.path(id).parent().map(Path::to_owned))
            .collect();
        fans.iter().try_for_each(|fan| sync_directory(fan))
    }

    /// Makes up for fsyncs that failed: to be called before objects that were found here are named by something.
    pub fn settle(&self) -> Result<()> {
        durable::settle(&self.directory)
    }

    /// Opens the object for reading; its bytes are not verified.
    pub fn open_object(&self, id: ObjectId) -> Result<File> {
        let path = self.path(id);
        File::open(&path).map_err(|error| self.missing_or(id, "open", &path, error))
    }

    /// Returns the object's length in bytes.
    pub fn len(&self, id: ObjectId) -> Result<u64> {
        let path = self.path(id);
        match fs::metadata(&path) {
            Ok(metadata) => Ok(metadata.len()),
            Err(error) => Err(self.missing_or(id, "look at", &path, error)),
        }
    }

    /// Returns all bytes of the object, verified; [`ObjectsError::TooLong`] when they are more than `limit`.
    pub fn read(&self, id: ObjectId, limit: u64) -> Result<Vec<u8>> {
        let mut file = self.open_object(id)?;
        let path = self.path(id);
        let len = file.metadata().map_err(ObjectsError::io("look at", &path))?.len();
        let too_long = || ObjectsError::TooLong { id, len, limit };
        if len > limit {
            return Err(too_long());
        }
        let mut bytes = Vec::with_capacity(usize::try_from(len).map_err(|_| too_long())?);
        Read::take(&mut file, limit)
            .read_to_end(&mut bytes)
            .map_err(ObjectsError::io("read", &path))?;
        let found = ObjectId::from_bytes(*blake3::hash(&bytes).as_bytes());
        if found == id {
            Ok(bytes)
        } else {
            Err(ObjectsError::Damaged { id, found })
        }
    }

    /// Reads the object through and compares its hash with its name; returns its length in bytes.
    pub fn verify(&self, id: ObjectId) -> Result<u64> {
        let mut file = self.open_object(id)?;
        let path = self.path(id);
        let mut hasher = blake3::Hasher::new();
        let mut chunk = vec![0; READ_CHUNK];
        let mut len = 0;
        loop {
            let read = match file.read(&mut chunk) {
                Ok(0) => break,
                Ok(read) => read,
                Err(error) if error.kind() == io::ErrorKind::Interrupted => continue,
                Err(error) => return Err(ObjectsError::io("read", &path)(error)),
            };
            hasher.update(chunk.get(..read).unwrap_or_default());
            len += read as u64;
        }
        let found = ObjectId::from_bytes(*hasher.finalize().as_bytes());
        if found == id {
            Ok(len)
        } else {
            Err(ObjectsError::Damaged { id, found })
        }
    }

    /// Returns the first bytes of the object, at most `len`, not verified: enough to tell its kind.
    pub fn peek(&self, id: ObjectId, len: usize) -> Result<Vec<u8>> {
        let mut bytes = Vec::with_capacity(len.min(READ_CHUNK));
        self.open_object(id)?
            .take(len as u64)
            .read_to_end(&mut bytes)
            .map_err(ObjectsError::io("read", self.path(id)))?;
        Ok(bytes)
    }

    /// Returns a writer for a new object. Nothing is visible until [`ObjectWriter::finish`].
    pub fn writer(&self) -> Result<ObjectWriter> {
        ObjectWriter::create(self.clone())
    }

    /// Stores `bytes` durably and returns their name.
    pub fn put(&self, bytes: &[u8]) -> Result<ObjectId> {
        let mut writer = self.writer()?;
        writer.append(bytes)?;
        writer.finish()
    }

    /// Returns how many bytes of an object are here that [`ObjectStore::staging`] would go on behind.
    pub fn staged(&self, id: ObjectId) -> Result<u64> {
        Staging::left_behind(&self.incoming_path(id))
    }

    /// Goes on, or begins, to receive the object of that name. While another transfer receives it, begins anew beside it.
    pub fn staging(&self, expected: ObjectId) -> Result<Staging> {
        Staging::open(self.clone(), expected)
    }

    /// Returns the objects that were received in part, by name.
    pub fn incoming(&self) -> Result<Vec<Incoming>> {
        let directory = self.directory.join(INCOMING);
        let mut found = Vec::new();
        for (name, entry) in list(&directory)? {
            if let (Ok(id), Ok(metadata)) = (name.parse(), entry.metadata()) {
                found.push(Incoming {
                    id,
                    len: metadata.len(),
                });
            }
        }
        found.sort_by_key(|incoming| incoming.id);
        Ok(found)
    }

    /// Forgets what was received so far of an object.
    pub fn remove_incoming(&self, id: ObjectId) -> Result<bool> {
        durable::remove(&self.incoming_path(id))
    }

    /// Returns the ids of all objects in ascending order, as they are now.
    pub fn iter(&self) -> Result<impl Iterator<Item = ObjectId> + use<>> {
        let mut ids = Vec::new();
        for (fan, entry) in list(&self.directory)? {
            if is_fan_out(&fan) && entry.path().is_dir() {
                self.ids_in(&fan, &mut ids)?;
            }
        }
        ids.sort_unstable();
        Ok(ids.into_iter())
    }

    /// Returns every object whose id begins with these digits, in ascending order.
    pub fn resolve(&self, prefix: Prefix) -> Result<Vec<ObjectId>> {
        let digits = prefix.to_string();
        let Some(fan) = digits.get(..2) else {
            return Ok(Vec::new());
        };
        let mut ids = Vec::new();
        if self.directory.join(fan).is_dir() {
            self.ids_in(fan, &mut ids)?;
        }
        ids.retain(|id| prefix.matches(*id));
        ids.sort_unstable();
        Ok(ids)
    }

    /// Deletes the object; returns false when it was not here.
    pub fn remove(&self, id: ObjectId) -> Result<bool> {
        durable::remove(&self.path(id))
    }

    /// Stores a commit durably and returns its name; [`ObjectsError::BadCommit`] for one that could not be read back.
    pub fn write_commit(&self, commit: &Commit) -> Result<CommitId> {
        let bytes = commit.encode();
        Commit::decode(&bytes)?;
        self.put(&bytes).map(CommitId)
    }

    /// Returns the commit of that name, verified.
    pub fn read_commit(&self, id: CommitId) -> Result<Commit> {
        if self.peek(id.0, COMMIT_MAGIC.len())? != COMMIT_MAGIC {
            // A damaged commit may have lost its magic: say that it is damaged rather than something else.
            self.verify(id.0)?;
            return Err(ObjectsError::NotACommit(id.0));
        }
        Commit::decode(&self.read(id.0, MAX_COMMIT as u64)?)
    }

    /// Returns every commit whose id begins with these digits, in ascending order.
    pub fn resolve_commit(&self, prefix: Prefix) -> Result<Vec<CommitId>> {
        let mut commits = Vec::new();
        for id in self.resolve(prefix)? {
            if self.peek(id, COMMIT_MAGIC.len())? == COMMIT_MAGIC {
                commits.push(CommitId(id));
            }
        }
        Ok(commits)
    }

    /// Deletes temporary files of writers that died; returns how many. Only while holding the repository's lock.
    pub fn sweep_temporaries(&self) -> Result<usize> {
        durable::sweep_temporaries(&self.directory)
    }

    pub(crate) fn incoming_path(&self, id: ObjectId) -> PathBuf {
        self.directory.join(INCOMING).join(id.to_string())
    }

    /// Moves a complete, verified file to its name in the store; `from` is the directory that it leaves.
    pub(crate) fn install(&self, file: &File, temporary: &Path, id: ObjectId) -> Result<()> {
        let room = self.room()?;
        let path = self.path(id);
        if self.mode() == Mode::Reading && path.is_file() {
            return fs::remove_file(temporary).map_err(ObjectsError::io("remove", temporary));
        }
        let fan = path.parent().unwrap_or(&room);
        file.set_permissions(Permissions::from_mode(0o400))
            .and_then(|()| file.sync_all())
            .map_err(ObjectsError::io("fsync", temporary))?;
        create_directories(&room, fan)?;
        // Another process may have made the directory and died before it was durable.
        let known = id
            .to_bytes()
            .first()
            .and_then(|byte| self.durable.get(usize::from(*byte)));
        if !known.is_some_and(|known| known.load(Ordering::Acquire)) {
            sync_directory(&room)?;
            if let Some(known) = known {
                known.store(true, Ordering::Release);
            }
        }
        // An object that is already there is replaced: the same bytes, or a damaged copy that this heals.
        self.uses
            .using(Used::Object(id), || fs::rename(temporary, &path))
            .map_err(ObjectsError::io("rename a new object to", &path))?;
        sync_directory(fan)
    }

    fn ids_in(&self, fan: &str, ids: &mut Vec<ObjectId>) -> Result<()> {
        for (rest, _) in list(&self.directory.join(fan))? {
            // Names that are not ids are not objects.
            if let Ok(id) = format!("{fan}{rest}").parse::<ObjectId>()
                && id.to_string().ends_with(&rest)
            {
                ids.push(id);
            }
        }
        Ok(())
    }

    fn missing_or(&self, id: ObjectId, action: &'static str, path: &Path, error: io::Error) -> ObjectsError {
        if error.kind() == io::ErrorKind::NotFound {
            ObjectsError::Missing(id)
        } else {
            ObjectsError::io(action, path)(error)
        }
    }
}

fn is_fan_out(name: &str) -> bool {
    name.len() == 2 && name.bytes().all(|byte| matches!(byte, b'0'..=b'9' | b'a'..=b'f'))
}

fn list(directory: &Path) -> Result<Vec<(String, fs::DirEntry)>> {
    let mut entries = Vec::new();
    for entry in fs::read_dir(directory).map_err(ObjectsError::io("list", directory))? {
        let entry = entry.map_err(ObjectsError::io("list", directory))?;
        if let Ok(name) = entry.file_name().into_string() {
            entries.push((name, entry));
        }
    }
    Ok(entries)
}

#[cfg(test)]
mod tests;
