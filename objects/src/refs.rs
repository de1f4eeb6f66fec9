//! Refs: one file a ref below `.neon/refs/`, moved by compare-and-swap, several of them all or none.
//!
//! An edit takes `refs.lock` (flock), compares, and checks names. One of several refs then writes what it will do to
//! `refs.pending` (durably: this is the point of no return); log lines, deletions and new values follow, and `refs.pending` goes.
//! Whoever finds `refs.pending` carries it out first; every step may be done twice. So a crash leaves all of an edit or none of it,
//! log included. An edit of one ref needs no `refs.pending`: its log line is written first, and a crash before the ref follows leaves
//! a line whose move was not made.

use std::collections::{BTreeMap, BTreeSet};
use std::fs::{self, File, OpenOptions};
use std::io::{self, Read};
use std::os::unix::fs::OpenOptionsExt;
use std::path::{Path, PathBuf};

use neon_types::{CommitId, RefName};

use crate::durable::{self, create_directories, sync_directory};
use crate::mode::refuses_writes;
use crate::reflog::{self, ReflogEntry, id_text, parse_id};
use crate::{ObjectsError, Result};

const LOCK: &str = "refs.lock";
const PENDING: &str = "refs.pending";
/// Longest `refs.pending` that is read: some ten thousand moves.
const MAX_PENDING: u64 = 32 << 20;

/// The refs of one repository. Processes and threads may use them at once.
#[derive(Clone, Debug)]
pub struct Refs {
    directory: PathBuf,
}

/// What a ref must name for an edit to be made.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Expect {
    /// Whatever it names, or nothing.
    Any,
    /// It must not exist.
    Absent,
    /// It must name this commit.
    Exactly(CommitId),
}

/// One ref to be moved.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct RefEdit {
    /// Which.
    pub name: RefName,
    /// What it must name before.
    pub expect: Expect,
    /// What it names after; absent: it is deleted.
    pub new: Option<CommitId>,
}

/// One move that is decided: what `refs.pending` holds, a line each.
struct Move {
    name: RefName,
    entry: ReflogEntry,
}

impl Refs {
    /// Opens the refs of a `.neon` directory, and finishes an edit that a crash interrupted.
    pub fn open(neon_dir: impl Into<PathBuf>) -> Result<Refs> {
        let refs = Refs {
            directory: neon_dir.into(),
        };
        refs.recover()?;
        Ok(refs)
    }

    /// Returns the `.neon` directory.
    pub fn directory(&self) -> &Path {
        &self.directory
    }

    /// Returns the commit that the ref names; absent when there is no such ref.
    pub fn get(&self, name: &RefName) -> Result<Option<CommitId>> {
        self.recover()?;
        self.read(name)
    }

    /// Returns all refs whose full name begins with `prefix` (`refs/heads/`, or empty for all), as of one moment. Those that cannot be read are
    /// left out: [`Refs::survey`] tells them.
    pub fn list(&self, prefix: &str) -> Result<BTreeMap<RefName, CommitId>> {
        Ok(self.survey(prefix)?.0)
    }

    /// Returns the same, and the refs whose files are damaged.
    pub fn survey(&self, prefix: &str) -> Result<(BTreeMap<RefName, CommitId>, BTreeSet<RefName>)> {
        self.recover()?;
        let _lock = self.lock_shared()?;
        let (mut found, mut damaged) = (BTreeMap::new(), BTreeSet::new());
        let (directory, _) = prefix.rsplit_once('/').unwrap_or(("refs", ""));
        for name in self.names_below(directory)? {
            if !name.to_string().starts_with(prefix) {
                continue;
            }
            match self.read(&name) {
                Ok(Some(commit)) => {
                    found.insert(name, commit);
                }
                Ok(None) => {}
                Err(ObjectsError::DamagedRef { .. }) => {
                    damaged.insert(name);
                }
                Err(error) => return Err(error),
            }
        }
        Ok((found, damaged))
    }

    /// Makes all edits or none, durably, each with a line in its log.
    ///
    /// `who` is `Name <mail>`, `why` the command, `now` microseconds since 1970. A move to where the ref is already leaves no line. A ref that is
    /// damaged meets [`Expect::Any`] alone.
    /// Errors: [`ObjectsError::RefMoved`] for the first expectation that does not hold, [`ObjectsError::NamesCollide`],
    /// [`ObjectsError::Name`] for a new ref whose name may not be given any more.
    pub fn edit(&self, edits: &[RefEdit], who: &str, why: &str, now: i64) -> Result<()> {
        let _lock = self.lock()?;
        durable::settle(&self.directory)?;
        self.finish_pending()?;
        let mut moves: Vec<Move> = Vec::new();
        let mut edited = BTreeSet::new();
        for edit in edits {
            if !edited.insert(&edit.name) {
                return Err(ObjectsError::EditedTwice(edit.name.clone()));
            }
            let (found, is_damaged) = match (self.read(&edit.name), edit.expect) {
                (Err(ObjectsError::DamagedRef { .. }), Expect::Any) => (None, true),
                (found, _) => (found?, false),
            };
            let expected = match edit.expect {
                Expect::Any => found,
                Expect::Absent => None,
                Expect::Exactly(commit) => Some(commit),
            };
            if found != expected {
                return Err(ObjectsError::RefMoved {
                    name: edit.name.clone(),
                    expected,
                    found,
                });
            }
            if found.is_none() && !is_damaged && edit.new.is_some() {
                edit.name.check_new()?;
            }
            if found != edit.new || is_damaged {
                moves.push(Move {
                    name: edit.name.clone(),
                    entry: ReflogEntry {
                        old: found,
                        new: edit.new,
                        time: now,
                        who: who.to_owned(),
                        why: why.to_owned(),
                    },
                });
            }
        }
        if moves.is_empty() {
            return Ok(());
        }
        self.refuse_collisions(&moves)?;
        if let [only] = moves.as_slice() {
            // One rename is all or nothing by itself.
            return self.carry_out(std::slice::from_ref(only));
        }
        let mut pending = String::new();
        for decided in &moves {
            pending.push_str(&format!("{} {}", decided.name, decided.entry.to_line()));
        }
        durable::replace(&self.directory.join(PENDING), pending.as_bytes(), 0o600)?;
        self.finish_pending()
    }

    /// Returns every recorded move of the ref, oldest first; also of one that was deleted.
    pub fn read_reflog(&self, name: &RefName) -> Result<Vec<ReflogEntry>> {
        self.recover()?;
        reflog::read(&self.directory, name)
    }

    fn path(&self, name: &RefName) -> PathBuf {
        self.directory.join(name.to_string())
    }

    fn read(&self, name: &RefName) -> Result<Option<CommitId>> {
        let path = self.path(name);
        let mut text = String::new();
        let read = File::open(&path).and_then(|file| file.take(100).read_to_string(&mut text));
        match read {
            Ok(_) => {}
            Err(error) if is_absent(&error) => return Ok(None),
            Err(error) if error.kind() == io::ErrorKind::InvalidData => text.clear(),
            Err(error) => return Err(ObjectsError::io("read", &path)(error)),
        }
        let id = text.strip_suffix('\n').and_then(parse_id).flatten();
        id.map(Some).ok_or_else(|| ObjectsError::DamagedRef {
            name: name.clone(),
            path,
        })
    }

    /// Returns the names of all files below a directory, as `refs/heads`, that are names of refs.
    fn names_below(&self, directory: &str) -> Result<Vec<RefName>> {
        let mut names = Vec::new();
        let mut directories = vec![directory.to_owned()];
        while let Some(directory) = directories.pop() {
            let path = self.directory.join(&directory);
            let entries = match fs::read_dir(&path) {
                Ok(entries) => entries,
                Err(error) if is_absent(&error) => continue,
                Err(error) => return Err(ObjectsError::io("list", &path)(error)),
            };
            for entry in entries {
                let entry = entry.map_err(ObjectsError::io("list", &path))?;
                let kind = entry
                    .file_type()
                    .map_err(ObjectsError::io("look at", entry.path()))?;
                let Ok(name) = entry.file_name().into_string() else {
                    continue;
                };
                let name = format!("{directory}/{name}");
                if kind.is_dir() {
                    directories.push(name);
                } else if let Ok(name) = name.parse::<RefName>() {
                    names.push(name);
                }
            }
        }
        Ok(names)
    }

    /// Refuses names one of which would be a directory on the way to another once all moves are made.
    fn refuse_collisions(&self, moves: &[Move]) -> Result<()> {
        let after: BTreeMap<&RefName, bool> = moves
            .iter()
            .map(|decided| (&decided.name, decided.entry.new.is_some()))
            .collect();
        for (new, _) in after.iter().filter(|(_, exists)| **exists) {
            let full = new.to_string();
            // On the way to it, and below it, whether it is there or is about to be.
            let way = full
                .match_indices('/')
                .filter_map(|(end, _)| full.get(..end)?.parse().ok());
            let mut others: Vec<RefName> = way.filter(|name| self.path(name).is_file()).collect();
            others.extend(self.names_below(&full)?);
            others.retain(|name| *after.get(name).unwrap_or(&true));
            let below = |longer: &str, shorter: &str| {
                longer
                    .strip_prefix(shorter)
                    .is_some_and(|rest| rest.starts_with('/'))
            };
            let made = after
                .iter()
                .filter(|(_, exists)| **exists)
                .map(|(name, _)| (*name, name.to_string()));
            let made = made.filter(|(_, there)| below(&full, there) || below(there, &full));
            let existing = others
                .into_iter()
                .next()
                .or(made.map(|(name, _)| name.clone()).next());
            if let Some(existing) = existing {
                return Err(ObjectsError::NamesCollide {
                    new: (*new).clone(),
                    existing,
                });
            }
        }
        Ok(())
    }

    /// Carries out an edit that a crash interrupted, if there is one, and makes durable what an edit that failed may have left.
    fn recover(&self) -> Result<()> {
        durable::settle(&self.directory)?;
        if self.directory.join(PENDING).exists() {
            let _lock = self.lock()?;
            self.finish_pending()?;
        }
        Ok(())
    }

    /// Carries out `refs.pending`; the caller holds the lock.
    fn finish_pending(&self) -> Result<()> {
        let path = self.directory.join(PENDING);
        let mut text = String::new();
        match File::open(&path).and_then(|file| file.take(MAX_PENDING).read_to_string(&mut text)) {
            Ok(_) => {}
            Err(error) if is_absent(&error) => return Ok(()),
            Err(error) => return Err(ObjectsError::io("read", &path)(error)),
        }
        let mut moves = Vec::new();
        for (index, line) in text.split_inclusive('\n').enumerate() {
            moves.push(parse_move(line).ok_or_else(|| ObjectsError::DamagedLog {
                path: path.clone(),
                line: index + 1,
            })?);
        }
        self.carry_out(&moves)?;
        durable::remove(&path)?;
        Ok(())
    }

    /// Makes the moves, each durable: log lines, then deletions, then new values.
    fn carry_out(&self, moves: &[Move]) -> Result<()> {
        for decided in moves {
            reflog::append(&self.directory, &decided.name, &decided.entry.to_line())?;
        }
        // Deletions first: `a` may go so that `a/b` can come.
        for decided in moves.iter().filter(|decided| decided.entry.new.is_none()) {
            self.delete(&decided.name)?;
        }
        for decided in moves {
            if let Some(new) = decided.entry.new {
                self.write(&decided.name, new)?;
            }
        }
        Ok(())
    }

    fn write(&self, name: &RefName, commit: CommitId) -> Result<()> {
        let path = self.path(name);
        let directory = path.parent().unwrap_or(&self.directory);
        create_directories(&self.directory, directory)?;
        if path.is_dir() {
            // Empty directories of refs that are gone; one with a ref in it would have collided.
            remove_empty_tree(&path)?;
        }
        durable::replace(&path, format!("{}\n", id_text(Some(commit))).as_bytes(), 0o600)
    }

    /// Removes the ref's file, and the directories that it leaves empty.
    fn delete(&self, name: &RefName) -> Result<()> {
        let path = self.path(name);
        match fs::remove_file(&path) {
            Ok(()) => {}
            Err(error) if is_absent(&error) => {}
            Err(error) => return Err(ObjectsError::io("remove", &path)(error)),
        }
        let keep = self.directory.join("refs");
        let mut directory = path.parent();
        while let Some(above) = directory {
            // The namespaces themselves stay.
            if above.parent() == Some(keep.as_path()) || above == keep {
                break;
            }
            match fs::remove_dir(above) {
                Ok(()) => {}
                Err(error) if is_absent(&error) => {}
                Err(_) => break,
            }
            directory = above.parent();
        }
        match directory {
            Some(above) if above.is_dir() => sync_directory(above),
            _ => Ok(()),
        }
    }

    fn lock(&self) -> Result<File> {
        let file = self.open_lock()?;
        file.lock()
            .map_err(ObjectsError::io("lock", self.directory.join(LOCK)))?;
        Ok(file)
    }

    /// Returns none where nobody can make a lock, and so nobody can write either.
    fn lock_shared(&self) -> Result<Option<File>> {
        let path = self.directory.join(LOCK);
        let file = match self.open_lock() {
            Err(ObjectsError::Io { source, .. }) if refuses_writes(&source) => match File::open(&path) {
                Err(error) if is_absent(&error) => return Ok(None),
                file => file.map_err(ObjectsError::io("open", &path))?,
            },
            file => file?,
        };
        file.lock_shared().map_err(ObjectsError::io("lock", &path))?;
        Ok(Some(file))
    }

    fn open_lock(&self) -> Result<File> {
        let path = self.directory.join(LOCK);
        OpenOptions::new()
            .write(true)
            .create(true)
            .truncate(false)
            .mode(0o600)
            .open(&path)
            .map_err(ObjectsError::io("open", &path))
    }
}

fn parse_move(line: &str) -> Option<Move> {
    let (name, entry) = line.strip_suffix('\n')?.split_once(' ')?;
    Some(Move {
        name: name.parse().ok()?,
        entry: ReflogEntry::parse(entry)?,
    })
}

fn remove_empty_tree(directory: &Path) -> Result<()> {
    let list = fs::read_dir(directory).map_err(ObjectsError::io("list", directory))?;
    for entry in list {
        let entry = entry.map_err(ObjectsError::io("list", directory))?;
        if entry.path().is_dir() {
            remove_empty_tree(&entry.path())?;
        } else if entry
            .file_name()
            .to_str()
            .is_some_and(|name| name.starts_with(durable::TEMPORARY_PREFIX))
        {
            fs::remove_file(entry.path()).map_err(ObjectsError::io("remove", entry.path()))?;
        }
    }
    fs::remove_dir(directory).map_err(ObjectsError::io("remove", directory))
}

/// A directory on the way that is a file, or a name that is a directory, has no such ref either.
fn is_absent(error: &io::Error) -> bool {
    matches!(
        error.kind(),
        io::ErrorKind::NotFound | io::ErrorKind::NotADirectory | io::ErrorKind::IsADirectory
    )
}

#[cfg(test)]
mod tests;
