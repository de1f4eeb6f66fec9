//! Watches every change below one directory, in order, and lets one of them fail when it is told to.

use std::collections::HashMap;
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError, RwLock};

use crate::disk::{Change, Disk, Node};

/// What goes wrong.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Fault {
    /// The change of that number fails with an I/O error, once.
    Broken(usize),
    /// From the change of that number on there is no room: what takes space fails, the first write after half of its bytes.
    Full(usize),
}

impl Fault {
    pub fn errno(self) -> i32 {
        match self {
            Fault::Broken(_) => libc::EIO,
            Fault::Full(_) => libc::ENOSPC,
        }
    }
}

/// What becomes of a call.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Verdict {
    Passes,
    /// Half of the bytes are written.
    Half,
    Fails(i32),
}

/// A change, and which step of the course it belonged to.
#[derive(Clone, Debug)]
pub struct Logged {
    pub change: Change,
    pub step: usize,
}

#[derive(Default)]
struct Inodes {
    nodes: HashMap<(u64, u64), Node>,
    numbers: HashMap<Node, (u64, u64)>,
}

impl Inodes {
    fn add(&mut self, number: (u64, u64), node: Node) {
        self.nodes.insert(number, node);
        self.numbers.insert(node, number);
    }

    fn forget(&mut self, node: Node) {
        if let Some(number) = self.numbers.remove(&node) {
            self.nodes.remove(&number);
        }
    }
}

/// What a session has seen.
pub struct Seen {
    pub disk: Disk,
    pub log: Vec<Logged>,
    pub step: usize,
    fault: Option<Fault>,
    /// Calls that were made to fail, as text.
    pub struck: Vec<String>,
    inodes: Inodes,
}

impl Seen {
    fn verdict(&mut self, change: &Change) -> Verdict {
        let number = self.log.len();
        let verdict = match self.fault {
            Some(Fault::Broken(at)) if number == at && self.struck.is_empty() => Verdict::Fails(libc::EIO),
            Some(Fault::Full(from)) if number >= from && change.takes_space() => match change {
                Change::Write { bytes, .. } if bytes.len() > 1 && self.struck.is_empty() => Verdict::Half,
                _ => Verdict::Fails(libc::ENOSPC),
            },
            _ => Verdict::Passes,
        };
        if verdict != Verdict::Passes {
            let what = match change {
                Change::Write { file, at, bytes } => {
                    format!("write of {} bytes at {at} of {file}", bytes.len())
                }
                other => format!("{other:?}"),
            };
            self.struck.push(format!("{number}: {what}"));
        }
        verdict
    }

    fn note(&mut self, change: Change) {
        self.disk.apply(&change);
        let step = self.step;
        self.log.push(Logged { change, step });
    }
}

/// The watch over one directory; it ends when this is dropped.
pub struct Session {
    root: PathBuf,
    seen: Mutex<Seen>,
}

static SESSIONS: RwLock<Vec<Arc<Session>>> = RwLock::new(Vec::new());
static WATCHED: AtomicUsize = AtomicUsize::new(0);

/// Keeps a session until it is dropped.
pub struct Watch(pub Arc<Session>);

impl Drop for Watch {
    fn drop(&mut self) {
        let mut sessions = SESSIONS.write().unwrap_or_else(PoisonError::into_inner);
        sessions.retain(|session| !Arc::ptr_eq(session, &self.0));
        WATCHED.store(sessions.len(), Ordering::SeqCst);
    }
}

/// Watches a directory whose files are those of `disk` now.
pub fn watch(root: &Path, disk: Disk, fault: Option<Fault>) -> Watch {
    let mut inodes = Inodes::default();
    let mut add = |path: &Path| {
        let below = path.strip_prefix(root).expect("below").to_str().expect("UTF-8");
        let metadata = std::fs::metadata(path).expect("it is there");
        let node = disk.find(below).expect("the disk has what is there");
        inodes.add((metadata.dev(), metadata.ino()), node);
        metadata.is_dir()
    };
    let mut directories = vec![root.to_owned()];
    add(root);
    while let Some(directory) = directories.pop() {
        for entry in std::fs::read_dir(directory).expect("a directory") {
            let path = entry.expect("an entry").path();
            if add(&path) {
                directories.push(path);
            }
        }
    }
    let session = Arc::new(Session {
        root: root.to_owned(),
        seen: Mutex::new(Seen {
            disk,
            log: Vec::new(),
            step: 0,
            fault,
            struck: Vec::new(),
            inodes,
        }),
    });
    let mut sessions = SESSIONS.write().unwrap_or_else(PoisonError::into_inner);
    sessions.push(Arc::clone(&session));
    WATCHED.store(sessions.len(), Ordering::SeqCst);
    Watch(session)
}

/// Returns true when nothing is watched.
pub fn idle() -> bool {
    WATCHED.load(Ordering::Relaxed) == 0
}

fn sessions() -> Vec<Arc<Session>> {
    SESSIONS.read().unwrap_or_else(PoisonError::into_inner).clone()
}

/// Returns who watches a path, and the path below the root.
pub fn of_path(path: &Path) -> Option<(Arc<Session>, String)> {
    sessions().into_iter().find_map(|session| {
        let below = path.strip_prefix(&session.root).ok()?.to_str()?.to_owned();
        Some((session, below))
    })
}

/// Returns who watches an inode.
pub fn of_inode(number: (u64, u64)) -> Option<(Arc<Session>, Node)> {
    sessions().into_iter().find_map(|session| {
        let node = session.seen().inodes.nodes.get(&number).copied()?;
        Some((session, node))
    })
}

impl Session {
    pub fn seen(&self) -> MutexGuard<'_, Seen> {
        self.seen.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Begins a step of the course.
    pub fn begin(&self, step: usize) {
        self.seen().step = step;
    }

    /// Takes the fault away; returns the calls that it struck.
    pub fn heal(&self) -> Vec<String> {
        let mut seen = self.seen();
        seen.fault = None;
        std::mem::take(&mut seen.struck)
    }

    /// Makes a call, unless it has to fail. `change` says what it changes, none when nothing; `call` makes it, with half of its bytes if
    /// it is told so, and returns its result and, of what it made, the inode.
    ///
    /// Nobody else changes anything meanwhile.
    pub fn perform(
        &self,
        change: impl FnOnce(&Disk) -> Option<Change>,
        call: impl FnOnce(bool) -> Result<(i64, Option<(u64, u64)>), i32>,
    ) -> Result<i64, i32> {
        let mut seen = self.seen();
        let Some(mut change) = change(&seen.disk) else {
            drop(seen);
            return call(false).map(|(result, _)| result);
        };
        let half = match seen.verdict(&change) {
            Verdict::Passes => false,
            Verdict::Half => true,
            Verdict::Fails(errno) => {
                if let Change::Sync(node) = change {
                    seen.note(Change::SyncFailed(node));
                }
                return Err(errno);
            }
        };
        let next = seen.disk.next();
        let (result, made) = call(half)?;
        if let Some(number) = made {
            seen.inodes.add(number, next);
        }
        match &mut change {
            Change::Write { bytes, .. } => {
                let written = usize::try_from(result).unwrap_or(0);
                *bytes = bytes[..written].into();
            }
            Change::Rename {
                to: (directory, name),
                ..
            }
            | Change::Remove { directory, name } => {
                if let Some(gone) = seen.disk.child(*directory, name) {
                    seen.inodes.forget(gone);
                }
            }
            _ => {}
        }
        seen.note(change);
        Ok(result)
    }
}
