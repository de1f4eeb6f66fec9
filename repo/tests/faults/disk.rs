//! A disk as a power cut finds it: for each file and each directory what programs see, and what of that is durable.
//!
//! Bytes and lengths become durable with an fsync of their file, names with an fsync of their directory, and nothing else makes them so: less
//! than what real file systems promise. After a failed fsync what it was to write is lost for good, as Linux has it: the next
//! one succeeds without having written it.

use std::collections::{BTreeMap, BTreeSet};
use std::hash::{DefaultHasher, Hash, Hasher};
use std::sync::Arc;

use crate::leftovers::{Left, Leftovers, rewrite, rewritten};

/// A file or a directory, whatever its name.
pub type Node = usize;
/// The directory that the test owns.
pub const ROOT: Node = 0;

/// One call that changed something.
#[derive(Clone, Debug)]
pub enum Change {
    Create {
        directory: Node,
        name: String,
        mode: u32,
    },
    MakeDirectory {
        directory: Node,
        name: String,
        mode: u32,
    },
    Write {
        file: Node,
        at: u64,
        bytes: Arc<[u8]>,
    },
    Truncate {
        file: Node,
        len: u64,
    },
    Sync(Node),
    /// An fsync that failed.
    SyncFailed(Node),
    Rename {
        from: (Node, String),
        to: (Node, String),
    },
    Remove {
        directory: Node,
        name: String,
    },
    Mode {
        node: Node,
        mode: u32,
    },
}

impl Change {
    /// Returns true for what a full disk refuses.
    pub fn takes_space(&self) -> bool {
        matches!(
            self,
            Change::Create { .. }
                | Change::MakeDirectory { .. }
                | Change::Write { .. }
                | Change::Rename { .. }
        )
    }

    /// Returns true for what decides about durability: names and fsyncs.
    pub fn is_a_turn(&self) -> bool {
        !matches!(
            self,
            Change::Write { .. } | Change::Create { .. } | Change::Mode { .. }
        )
    }
}

/// How much of what was not durable a crash leaves.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum Cut {
    /// The process died: everything is there.
    Killed,
    /// The power went: nothing that was not made durable is there.
    Lost,
    /// Names as before; of the writes to each file the first half, the last of them torn.
    Torn,
    /// All names are there, but of the bytes only what was made durable: a rename that overtook its data.
    NamesFirst,
    /// Of the names those up to some moment, of each file some first part of what was written to it, by that seed.
    Mixed(u64),
}

#[derive(Clone, Debug)]
enum Edit {
    Write { at: u64, bytes: Arc<[u8]> },
    Truncate(u64),
}

impl Edit {
    fn apply(&self, content: &mut Vec<u8>) {
        match self {
            Edit::Write { at, bytes } => {
                let at = usize::try_from(*at).expect("small files");
                let end = at + bytes.len();
                if content.len() < end {
                    content.resize(end, 0);
                }
                content[at..end].copy_from_slice(bytes);
            }
            Edit::Truncate(len) => content.resize(usize::try_from(*len).expect("small files"), 0),
        }
    }

    fn half(&self) -> Option<Edit> {
        match self {
            Edit::Write { at, bytes } if bytes.len() > 1 => Some(Edit::Write {
                at: *at,
                bytes: bytes[..bytes.len() / 2].into(),
            }),
            _ => None,
        }
    }
}

#[derive(Clone, Debug, Default)]
struct File {
    now: Arc<Vec<u8>>,
    durable: Arc<Vec<u8>>,
    pending: Vec<Edit>,
    /// An fsync failed: what is durable is not what is seen.
    lost: bool,
}

type Names = BTreeMap<String, Node>;

#[derive(Clone, Debug, Default)]
struct Directory {
    now: Names,
    durable: Names,
    /// With the number of the change: a rename is one.
    pending: Vec<(u64, String, Option<Node>)>,
}

#[derive(Clone, Debug)]
enum Kind {
    File(File),
    Directory(Directory),
}

#[derive(Clone, Debug)]
struct Inode {
    mode: u32,
    kind: Kind,
}

/// Files and directories below one root.
#[derive(Clone, Debug)]
pub struct Disk {
    inodes: Vec<Inode>,
    changes: u64,
}

impl Disk {
    pub fn new() -> Disk {
        Disk {
            inodes: vec![Inode {
                mode: 0o755,
                kind: Kind::Directory(Directory::default()),
            }],
            changes: 0,
        }
    }

    /// Returns the disk that has exactly these files, all durable.
    pub fn of(leftovers: &Leftovers) -> Disk {
        let mut disk = Disk::new();
        for (path, (mode, left)) in leftovers {
            let (directory, name) = disk.place(path).expect("directories come first");
            match left {
                Left::Directory => disk.apply(&Change::MakeDirectory {
                    directory,
                    name,
                    mode: *mode,
                }),
                Left::File(bytes) => {
                    let file = disk.inodes.len();
                    disk.apply(&Change::Create {
                        directory,
                        name,
                        mode: *mode,
                    });
                    let Kind::File(file) = &mut disk.inodes[file].kind else {
                        unreachable!("made as a file");
                    };
                    (file.now, file.durable) = (Arc::clone(bytes), Arc::clone(bytes));
                }
            }
        }
        for node in 0..disk.inodes.len() {
            disk.apply(&Change::Sync(node));
        }
        disk
    }

    /// Returns the directory and name of a path below the root; none when that directory is not there.
    pub fn place(&self, path: &str) -> Option<(Node, String)> {
        let (above, name) = path.rsplit_once('/').unwrap_or(("", path));
        Some((self.find(above)?, name.to_owned()))
    }

    /// Returns what is at a path now.
    pub fn find(&self, path: &str) -> Option<Node> {
        let mut node = ROOT;
        for name in path.split('/').filter(|name| !name.is_empty()) {
            node = *self.names(node)?.get(name)?;
        }
        Some(node)
    }

    fn names(&self, node: Node) -> Option<&Names> {
        match &self.inodes[node].kind {
            Kind::Directory(directory) => Some(&directory.now),
            Kind::File(_) => None,
        }
    }

    /// Returns what bears a name in a directory now.
    pub fn child(&self, directory: Node, name: &str) -> Option<Node> {
        self.names(directory)?.get(name).copied()
    }

    /// Returns the node that is made next.
    pub fn next(&self) -> Node {
        self.inodes.len()
    }

    /// Returns a file's length.
    pub fn len(&self, node: Node) -> u64 {
        match &self.inodes[node].kind {
            Kind::File(file) => file.now.len() as u64,
            Kind::Directory(_) => 0,
        }
    }

    fn file(&mut self, node: Node) -> &mut File {
        match &mut self.inodes[node].kind {
            Kind::File(file) => file,
            Kind::Directory(_) => panic!("node {node} is a directory"),
        }
    }

    fn name(&mut self, directory: Node, name: &str, node: Option<Node>) {
        let change = self.changes;
        let Kind::Directory(directory) = &mut self.inodes[directory].kind else {
            panic!("node {directory} is a file");
        };
        match node {
            Some(node) => directory.now.insert(name.to_owned(), node),
            None => directory.now.remove(name),
        };
        directory.pending.push((change, name.to_owned(), node));
    }

    fn add(&mut self, directory: Node, name: &str, mode: u32, kind: Kind) {
        let node = self.next();
        self.inodes.push(Inode { mode, kind });
        self.name(directory, name, Some(node));
    }

    fn edit(&mut self, file: Node, edit: Edit) {
        let file = self.file(file);
        edit.apply(Arc::make_mut(&mut file.now));
        file.pending.push(edit);
    }

    pub fn apply(&mut self, change: &Change) {
        self.changes += 1;
        match change {
            Change::Create {
                directory,
                name,
                mode,
            } => self.add(*directory, name, *mode, Kind::File(File::default())),
            Change::MakeDirectory {
                directory,
                name,
                mode,
            } => self.add(*directory, name, *mode, Kind::Directory(Directory::default())),
            Change::Write { file, at, bytes } => self.edit(
                *file,
                Edit::Write {
                    at: *at,
                    bytes: Arc::clone(bytes),
                },
            ),
            Change::Truncate { file, len } => self.edit(*file, Edit::Truncate(*len)),
            Change::Sync(node) => match &mut self.inodes[*node].kind {
                Kind::Directory(directory) => {
                    directory.durable = directory.now.clone();
                    directory.pending.clear();
                }
                Kind::File(file) => {
                    let pending = std::mem::take(&mut file.pending);
                    if file.lost {
                        let durable = Arc::make_mut(&mut file.durable);
                        pending.iter().for_each(|edit| edit.apply(durable));
                    } else {
                        file.durable = Arc::clone(&file.now);
                    }
                }
            },
            Change::SyncFailed(node) => match &mut self.inodes[*node].kind {
                // What a directory's journal could not write stays dirty.
                Kind::Directory(_) => {}
                Kind::File(file) => {
                    file.lost |= !file.pending.is_empty();
                    file.pending.clear();
                }
            },
            Change::Rename { from, to } => {
                let node = self.names(from.0).and_then(|names| names.get(&from.1)).copied();
                let node = node.expect("what is renamed is there");
                self.name(from.0, &from.1, None);
                self.name(to.0, &to.1, Some(node));
            }
            Change::Remove { directory, name } => self.name(*directory, name, None),
            Change::Mode { node, mode } => self.inodes[*node].mode = *mode,
        }
    }

    /// Puts some text in the place of another of the same length, in small files.
    pub fn rewrite(&mut self, old: &str, new: &str) {
        for inode in &mut self.inodes {
            let Kind::File(file) = &mut inode.kind else {
                continue;
            };
            rewrite(&mut file.now, old, new);
            rewrite(&mut file.durable, old, new);
            for edit in &mut file.pending {
                if let Edit::Write { bytes, .. } = edit
                    && let Some(changed) = rewritten(bytes, old, new)
                {
                    *bytes = changed.into();
                }
            }
        }
    }

    /// Puts a file's content, durably.
    pub fn set(&mut self, file: Node, content: Vec<u8>) {
        let file = self.file(file);
        let content = Arc::new(content);
        (file.now, file.durable) = (Arc::clone(&content), content);
        file.pending.clear();
    }

    /// Returns what is there after a crash.
    pub fn after(&self, cut: Cut) -> Leftovers {
        let mut left = Leftovers::new();
        let mut seen = BTreeSet::new();
        let journal = match cut {
            Cut::Killed | Cut::NamesFirst => u64::MAX,
            Cut::Lost | Cut::Torn => 0,
            Cut::Mixed(seed) => self.some_moment(seed),
        };
        self.walk(ROOT, "", (cut, journal), &mut seen, &mut left);
        left
    }

    /// Returns the number of a change since the first one of a name that is not durable.
    fn some_moment(&self, seed: u64) -> u64 {
        let pending = self.inodes.iter().filter_map(|inode| match &inode.kind {
            Kind::Directory(directory) => directory.pending.first().map(|(change, ..)| *change),
            Kind::File(_) => None,
        });
        let first = pending.min().unwrap_or(self.changes);
        first + share(seed, ROOT, self.changes - first)
    }

    fn walk(
        &self,
        node: Node,
        path: &str,
        (cut, journal): (Cut, u64),
        seen: &mut BTreeSet<Node>,
        left: &mut Leftovers,
    ) {
        let inode = &self.inodes[node];
        match &inode.kind {
            Kind::File(file) => {
                left.insert(path.to_owned(), (inode.mode, Left::File(file.after(cut, node))));
            }
            Kind::Directory(directory) => {
                // A directory that was renamed may have its old and its new name.
                if !seen.insert(node) {
                    return;
                }
                if node != ROOT {
                    left.insert(path.to_owned(), (inode.mode, Left::Directory));
                }
                for (name, child) in directory.after(journal) {
                    let below = if path.is_empty() {
                        name
                    } else {
                        format!("{path}/{name}")
                    };
                    self.walk(child, &below, (cut, journal), seen, left);
                }
            }
        }
    }
}

/// Returns how many of `count` pending changes of a node a seed lets through.
fn share(seed: u64, node: Node, count: u64) -> u64 {
    let mut hasher = DefaultHasher::new();
    (seed, node, count).hash(&mut hasher);
    hasher.finish() % (count + 1)
}

impl File {
    fn after(&self, cut: Cut, node: Node) -> Arc<Vec<u8>> {
        let through = match cut {
            Cut::Killed => return Arc::clone(&self.now),
            Cut::Lost | Cut::NamesFirst => return Arc::clone(&self.durable),
            Cut::Torn => self.pending.len() / 2,
            Cut::Mixed(seed) => {
                let through = share(seed, node, self.pending.len() as u64);
                usize::try_from(through).expect("few")
            }
        };
        if self.pending.is_empty() {
            return Arc::clone(&self.durable);
        }
        let mut content = Vec::clone(&self.durable);
        self.pending[..through]
            .iter()
            .for_each(|edit| edit.apply(&mut content));
        if let Some(half) = self.pending.get(through).and_then(Edit::half) {
            half.apply(&mut content);
        }
        Arc::new(content)
    }
}

impl Directory {
    /// Returns the names whose changes up to that one came through.
    fn after(&self, journal: u64) -> Names {
        let mut names = self.durable.clone();
        for (_, name, node) in self.pending.iter().take_while(|(change, ..)| *change <= journal) {
            match node {
                Some(node) => names.insert(name.clone(), *node),
                None => names.remove(name),
            };
        }
        names
    }
}

#[cfg(test)]
mod tests;
