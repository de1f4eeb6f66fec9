//! Files and directories that a crash leaves, or that are there.

use std::collections::BTreeMap;
use std::os::unix::fs::PermissionsExt;
use std::path::Path;
use std::sync::Arc;
use std::{fs, io};

/// What a crash leaves at one path.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub enum Left {
    Directory,
    File(Arc<Vec<u8>>),
}

/// What a crash leaves, by path below the root; directories before what they hold.
pub type Leftovers = BTreeMap<String, (u32, Left)>;

/// Longest file in which paths are looked for: configurations are short.
const CONFIGURATION: usize = 16 << 10;

/// Returns a small file's bytes with some text in the place of another of the same length; none when it does not say it.
pub fn rewritten(content: &[u8], old: &str, new: &str) -> Option<Vec<u8>> {
    if content.len() > CONFIGURATION {
        return None;
    }
    let text = std::str::from_utf8(content).ok()?;
    text.contains(old).then(|| text.replace(old, new).into_bytes())
}

/// Puts some text in the place of another of the same length, in a small file.
pub fn rewrite(content: &mut Arc<Vec<u8>>, old: &str, new: &str) {
    if let Some(changed) = rewritten(content, old, new) {
        *content = Arc::new(changed);
    }
}

/// Writes what a crash left into an empty directory.
pub fn write(leftovers: &Leftovers, root: &Path) -> io::Result<()> {
    for (path, (mode, left)) in leftovers {
        let path = root.join(path);
        match left {
            Left::Directory => fs::create_dir(&path)?,
            Left::File(bytes) => fs::write(&path, bytes.as_slice())?,
        }
        fs::set_permissions(&path, fs::Permissions::from_mode(*mode))?;
    }
    Ok(())
}

/// Reads everything below a directory.
pub fn read(root: &Path) -> io::Result<Leftovers> {
    let mut found = Leftovers::new();
    let mut directories = vec![root.to_owned()];
    while let Some(directory) = directories.pop() {
        for entry in fs::read_dir(&directory)? {
            let path = entry?.path();
            let below = path.strip_prefix(root).expect("below the root");
            let name = below.to_str().expect("a name in UTF-8").to_owned();
            let metadata = fs::metadata(&path)?;
            let left = if metadata.is_dir() {
                directories.push(path);
                Left::Directory
            } else {
                Left::File(Arc::new(fs::read(&path)?))
            };
            found.insert(name, (metadata.permissions().mode() & 0o7777, left));
        }
    }
    Ok(found)
}

/// Returns the paths where two differ.
pub fn differences(one: &Leftovers, other: &Leftovers) -> Vec<String> {
    let paths = one.keys().chain(other.keys());
    let mut differ: Vec<String> = paths
        .filter(|path| one.get(*path) != other.get(*path))
        .cloned()
        .collect();
    differ.dedup();
    differ
}
