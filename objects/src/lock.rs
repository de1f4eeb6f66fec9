//! The repository's lock: one process owns the write side.

use std::fmt;
use std::fs::{self, File, Metadata, OpenOptions, TryLockError};
use std::io::{Read, Seek, Write};
use std::os::unix::fs::{MetadataExt, OpenOptionsExt};
use std::path::{Path, PathBuf};
use std::process;
use std::thread;
use std::time::{Duration, Instant};

use crate::{ObjectsError, Result, durable};

const FILE: &str = "lock";
const POLL: Duration = Duration::from_millis(25);
/// Bytes of the file's text, without the newline.
const NOTE: usize = 255;
const MAX_NOTE: u64 = 512;
const UNNAMED_TRIES: u32 = 20;

/// Who holds the lock, as the lock file says.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Holder {
    /// Process id; absent when the holder has not written it yet.
    pub pid: Option<u32>,
    /// What it does, as "neon daemon".
    pub purpose: String,
}

impl fmt::Display for Holder {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.pid {
            Some(pid) => write!(f, "process {pid} ({})", self.purpose),
            None => f.write_str("another process"),
        }
    }
}

/// The lock, held until dropped or until the process dies, however it dies. Not inherited by children.
#[derive(Debug)]
pub struct RepoLock {
    file: File,
    path: PathBuf,
    after_a_death: bool,
}

impl RepoLock {
    /// Takes the lock of the `.neon` directory, or says at once who has it ([`ObjectsError::Locked`]).
    pub fn try_acquire(neon_dir: &Path, purpose: &str) -> Result<RepoLock> {
        let path = neon_dir.join(FILE);
        let mut file = OpenOptions::new()
            .read(true)
            .write(true)
            .create(true)
            .truncate(false)
            .mode(0o600)
            .open(&path)
            .map_err(ObjectsError::io("open", &path))?;
        let mut tries = 0;
        loop {
            match file.try_lock() {
                Ok(()) => break,
                Err(TryLockError::WouldBlock) => {
                    let holder = read_holder(&mut file);
                    // Nobody's name: the holder is about to write it, or only looks who holds the lock.
                    if holder.pid.is_some() || tries == UNNAMED_TRIES {
                        return Err(ObjectsError::Locked {
                            directory: neon_dir.to_owned(),
                            holder,
                        });
                    }
                    tries += 1;
                    thread::sleep(POLL / 5);
                }
                Err(TryLockError::Error(error)) => return Err(ObjectsError::io("lock", &path)(error)),
            }
        }
        let after_a_death = read_holder(&mut file).pid.is_some();
        let purpose: String = purpose
            .chars()
            .filter(|c| c.is_ascii() && !c.is_control())
            .take(200)
            .collect();
        write_note(&mut file, &format!("{} {purpose}", process::id()))
            .map_err(ObjectsError::io("write", &path))?;
        Ok(RepoLock {
            file,
            path,
            after_a_death,
        })
    }

    /// Takes the lock, waiting at most so long for whoever has it.
    pub fn acquire_within(neon_dir: &Path, purpose: &str, patience: Duration) -> Result<RepoLock> {
        let begun = Instant::now();
        loop {
            match RepoLock::try_acquire(neon_dir, purpose) {
                Err(ObjectsError::Locked { .. }) if begun.elapsed() < patience => thread::sleep(POLL),
                other => return other,
            }
        }
    }

    /// Returns who holds the lock of the `.neon` directory now; absent when nobody does.
    pub fn holder(neon_dir: &Path) -> Result<Option<Holder>> {
        let path = neon_dir.join(FILE);
        let mut file = match File::open(&path) {
            Ok(file) => file,
            Err(error) if error.kind() == std::io::ErrorKind::NotFound => return Ok(None),
            Err(error) => return Err(ObjectsError::io("open", &path)(error)),
        };
        match file.try_lock_shared() {
            Ok(()) => Ok(None),
            Err(TryLockError::WouldBlock) => Ok(Some(read_holder(&mut file))),
            Err(TryLockError::Error(error)) => Err(ObjectsError::io("lock", &path)(error)),
        }
    }

    /// Returns true when whoever held the lock before died with it, or could not fsync something: what it had written may be there without
    /// being durable.
    pub fn is_after_a_death(&self) -> bool {
        self.after_a_death
    }

    /// Says that what the dead left is durable now. Until then the next one that gets the lock is after a death too.
    pub fn settled(&mut self) {
        self.after_a_death = false;
    }

    /// Returns true as long as the locked file is the one that its path names: the repository was neither moved nor removed.
    pub fn is_in_place(&self) -> bool {
        let place = |metadata: Metadata| (metadata.dev(), metadata.ino());
        match (self.file.metadata(), fs::metadata(&self.path)) {
            (Ok(held), Ok(there)) => place(held) == place(there),
            _ => false,
        }
    }

    /// Returns the lock file.
    pub fn path(&self) -> &Path {
        &self.path
    }
}

/// The lock as those have it who only read where nobody can write: others may read, too.
#[derive(Debug)]
pub struct ReadLock(#[expect(dead_code, reason = "it is its life that counts")] Option<File>);

impl ReadLock {
    /// Takes it, or says at once who writes ([`ObjectsError::Locked`]): through another mount of the same file system, say.
    pub fn try_acquire(neon_dir: &Path) -> Result<ReadLock> {
        let path = neon_dir.join(FILE);
        let mut file = match File::open(&path) {
            Ok(file) => file,
            Err(error) if error.kind() == std::io::ErrorKind::NotFound => return Ok(ReadLock(None)),
            Err(error) => return Err(ObjectsError::io("open", &path)(error)),
        };
        match file.try_lock_shared() {
            Ok(()) => Ok(ReadLock(Some(file))),
            Err(TryLockError::WouldBlock) => Err(ObjectsError::Locked {
                directory: neon_dir.to_owned(),
                holder: read_holder(&mut file),
            }),
            Err(TryLockError::Error(error)) => Err(ObjectsError::io("lock", &path)(error)),
        }
    }
}

impl Drop for RepoLock {
    fn drop(&mut self) {
        // The lock goes with the descriptor; the note would otherwise name a process that has long gone. It stays when something could
        // not be made durable: whoever comes next has to see to that.
        if !self.after_a_death
            && self
                .path
                .parent()
                .is_some_and(|neon_dir| durable::owed_below(neon_dir).is_empty())
        {
            let _ = write_note(&mut self.file, "");
        }
    }
}

/// Writes over what is there, always as many bytes: a full disk has no room for more, and who makes room needs the lock.
fn write_note(file: &mut File, note: &str) -> std::io::Result<()> {
    file.rewind()?;
    file.write_all(format!("{note:<NOTE$}\n").as_bytes())?;
    file.set_len(NOTE as u64 + 1)
}

fn read_holder(file: &mut File) -> Holder {
    let mut text = String::new();
    if file.rewind().is_err() || file.take(MAX_NOTE).read_to_string(&mut text).is_err() {
        return Holder::default();
    }
    let (pid, purpose) = text.trim_end().split_once(' ').unwrap_or_default();
    Holder {
        pid: pid.parse().ok(),
        purpose: purpose.to_owned(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn several_read_where_nobody_writes() {
        let dir = tempfile::tempdir().expect("a directory");
        assert!(ReadLock::try_acquire(dir.path()).is_ok(), "nobody ever wrote");
        let writer = RepoLock::try_acquire(dir.path(), "neon push").expect("free");
        let refused = ReadLock::try_acquire(dir.path()).expect_err("somebody writes");
        assert!(refused.to_string().contains("neon push"), "{refused}");
        drop(writer);
        let _one = ReadLock::try_acquire(dir.path()).expect("free");
        let _other = ReadLock::try_acquire(dir.path()).expect("shared");
        assert!(matches!(
            RepoLock::try_acquire(dir.path(), "x"),
            Err(ObjectsError::Locked { .. })
        ));
    }

    #[test]
    fn the_second_is_told_who_the_first_is() {
        let dir = tempfile::tempdir().expect("a directory");
        let lock = RepoLock::try_acquire(dir.path(), "neon daemon").expect("free");
        let refused = RepoLock::acquire_within(dir.path(), "neon push", Duration::from_millis(60))
            .expect_err("taken by the first");
        let text = refused.to_string();
        assert!(
            text.contains(&format!("process {} (neon daemon)", process::id())),
            "{text}"
        );
        let holder = RepoLock::holder(dir.path()).expect("looked").expect("held");
        assert_eq!(holder.pid, Some(process::id()));
        let length = || fs::metadata(dir.path().join(FILE)).expect("a file").len();
        let held = length();
        drop(lock);
        assert_eq!(length(), held, "a full disk has room for the next note");
        assert_eq!(RepoLock::holder(dir.path()).expect("looked"), None);
        let lock = RepoLock::try_acquire(dir.path(), "neon push").expect("free again");
        assert!(!lock.is_after_a_death());
        drop(lock);
        std::fs::write(dir.path().join(FILE), "1 neon daemon\n").expect("as a dead process leaves it");
        let lock = RepoLock::try_acquire(dir.path(), "neon push").expect("nobody holds it");
        assert!(lock.is_after_a_death());
        drop(lock);
        let mut lock = RepoLock::try_acquire(dir.path(), "neon push").expect("free");
        assert!(lock.is_after_a_death(), "nobody has seen to it");
        lock.settled();
        drop(lock);
        let lock = RepoLock::try_acquire(dir.path(), "neon push").expect("free");
        assert!(!lock.is_after_a_death());
    }

    #[test]
    fn a_repository_that_was_moved_is_not_in_its_place() {
        let dir = tempfile::tempdir().expect("a directory");
        let (here, there) = (dir.path().join("here"), dir.path().join("there"));
        fs::create_dir(&here).expect("made");
        let lock = RepoLock::try_acquire(&here, "neon daemon").expect("free");
        assert!(lock.is_in_place());
        fs::rename(&here, &there).expect("moved");
        assert!(!lock.is_in_place());
        fs::create_dir(&here).expect("another one");
        drop(RepoLock::try_acquire(&here, "another").expect("free"));
        assert!(!lock.is_in_place(), "another one has its place");
        fs::remove_dir_all(&here).expect("removed");
        fs::rename(&there, &here).expect("moved back");
        assert!(lock.is_in_place());
    }

    #[test]
    fn who_waits_gets_it_when_it_is_free() {
        let dir = tempfile::tempdir().expect("a directory");
        let lock = RepoLock::try_acquire(dir.path(), "first").expect("free");
        let path = dir.path().to_owned();
        let waiting =
            thread::spawn(move || RepoLock::acquire_within(&path, "second", Duration::from_secs(60)).is_ok());
        thread::sleep(Duration::from_millis(50));
        drop(lock);
        assert!(waiting.join().expect("the thread ended well"));
    }
}
