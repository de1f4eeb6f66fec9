//! The reflog: every move of a ref, in a file a ref below `.neon/log/`, one line a move, oldest first.
//!
//! ```text
//! <old id or 64 zeros> SP <new id or 64 zeros> SP <microseconds since 1970> SP <who> TAB <why> LF
//! ```
//!
//! `who` and `why` have backslash, tab, newline and carriage return escaped. The file's name is the ref's with each `/` behind
//! the namespace written `%2F`, so that the logs of deleted `a` and of living `a/b` can both stay.

use std::fs::{self, OpenOptions};
use std::io::{self, Read, Seek, SeekFrom, Write};
use std::os::unix::fs::OpenOptionsExt;
use std::path::{Path, PathBuf};

use neon_types::{CommitId, ObjectId, RefName};

use crate::durable::{create_directories, sync_directory};
use crate::{ObjectsError, Result};

/// Longest text in a line; longer ones are cut when written.
const MAX_TEXT: usize = 1000;
/// Longest line: two ids, a time, two texts that double when escaped.
const MAX_LINE: u64 = 8 << 10;

/// One move of a ref.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ReflogEntry {
    /// What the ref named before; absent when it did not exist.
    pub old: Option<CommitId>,
    /// What it names after; absent when it was deleted.
    pub new: Option<CommitId>,
    /// When, in microseconds since 1970-01-01 00:00 UTC, by our own clock.
    pub time: i64,
    /// `Name <mail>`
    pub who: String,
    /// The command or event, as "push: fast-forward".
    pub why: String,
}

impl ReflogEntry {
    pub(crate) fn to_line(&self) -> String {
        format!(
            "{} {} {} {}\t{}\n",
            id_text(self.old),
            id_text(self.new),
            self.time,
            escape(&self.who),
            escape(&self.why)
        )
    }

    pub(crate) fn parse(line: &str) -> Option<ReflogEntry> {
        let (head, why) = line.split_once('\t')?;
        let mut fields = head.splitn(4, ' ');
        Some(ReflogEntry {
            old: parse_id(fields.next()?)?,
            new: parse_id(fields.next()?)?,
            time: fields.next()?.parse().ok()?,
            who: unescape(fields.next()?)?,
            why: unescape(why)?,
        })
    }
}

/// Returns the log file of a ref.
pub(crate) fn path(neon_dir: &Path, name: &RefName) -> PathBuf {
    let log = neon_dir.join("log").join("refs");
    match name {
        RefName::Branch(name) => log.join("heads").join(flat(name)),
        RefName::Tag(name) => log.join("tags").join(flat(name)),
        RefName::Origin { origin, branch } => log.join("origins").join(origin).join(flat(branch)),
    }
}

/// Appends the line durably, once: an interrupted edit may be carried out again.
pub(crate) fn append(neon_dir: &Path, name: &RefName, line: &str) -> Result<()> {
    let path = path(neon_dir, name);
    let directory = path.parent().unwrap_or(neon_dir);
    create_directories(neon_dir, directory)?;
    let is_new = !path.exists();
    let mut file = OpenOptions::new()
        .read(true)
        .write(true)
        .create(true)
        .truncate(false)
        .mode(0o600)
        .open(&path)
        .map_err(ObjectsError::io("open", &path))?;
    let mut write = || -> io::Result<()> {
        let (whole, last) = last_line(&mut file)?;
        // A line that is there may be one whose fsync failed: only what is written again is sure to be on disk.
        let begin = match last {
            Some(last) if last == line => whole - line.len() as u64,
            _ => whole,
        };
        file.set_len(begin)?;
        file.seek(SeekFrom::Start(begin))?;
        let written = file.write_all(line.as_bytes()).and_then(|()| file.sync_all());
        if written.is_err() {
            // Later lines must not follow on one that is not on disk.
            let _ = file.set_len(begin);
        }
        written
    };
    write().map_err(ObjectsError::io("append to", &path))?;
    if is_new {
        sync_directory(directory)?;
    }
    Ok(())
}

/// Returns all entries, oldest first; none when the ref was never moved. A line cut by a crash at the end is left out.
pub(crate) fn read(neon_dir: &Path, name: &RefName) -> Result<Vec<ReflogEntry>> {
    let path = path(neon_dir, name);
    let text = match fs::read_to_string(&path) {
        Ok(text) => text,
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(Vec::new()),
        Err(error) => return Err(ObjectsError::io("read", &path)(error)),
    };
    text.split_inclusive('\n')
        .filter_map(|line| line.strip_suffix('\n'))
        .enumerate()
        .map(|(index, line)| {
            ReflogEntry::parse(line).ok_or_else(|| ObjectsError::DamagedLog {
                path: path.clone(),
                line: index + 1,
            })
        })
        .collect()
}

/// Returns the length up to and with the last newline, and the last whole line.
fn last_line(file: &mut std::fs::File) -> io::Result<(u64, Option<String>)> {
    let len = file.metadata()?.len();
    let from = len.saturating_sub(2 * MAX_LINE);
    file.seek(SeekFrom::Start(from))?;
    let mut tail = Vec::new();
    file.take(2 * MAX_LINE).read_to_end(&mut tail)?;
    let whole = tail
        .iter()
        .rposition(|byte| *byte == b'\n')
        .map_or(0, |index| index + 1);
    let lines = tail.get(..whole).unwrap_or_default();
    let last = lines.split_inclusive(|byte| *byte == b'\n').next_back();
    let last = last.map(|line| String::from_utf8_lossy(line).into_owned());
    Ok((from + whole as u64, last))
}

fn flat(name: &str) -> String {
    name.replace('/', "%2F")
}

pub(crate) fn id_text(id: Option<CommitId>) -> String {
    id.map_or_else(|| "0".repeat(64), |id| id.to_string())
}

pub(crate) fn parse_id(text: &str) -> Option<Option<CommitId>> {
    let id: ObjectId = text.parse().ok()?;
    Some((id.to_bytes() != [0; 32]).then_some(CommitId(id)))
}

fn escape(text: &str) -> String {
    let mut escaped = String::with_capacity(text.len());
    for character in text.chars() {
        match character {
            '\\' => escaped.push_str("\\\\"),
            '\t' => escaped.push_str("\\t"),
            '\n' => escaped.push_str("\\n"),
            '\r' => escaped.push_str("\\r"),
            other => escaped.push(other),
        }
        if escaped.len() >= MAX_TEXT {
            break;
        }
    }
    escaped
}

fn unescape(text: &str) -> Option<String> {
    let mut plain = String::with_capacity(text.len());
    let mut characters = text.chars();
    while let Some(character) = characters.next() {
        plain.push(match character {
            '\\' => match characters.next()? {
                '\\' => '\\',
                't' => '\t',
                'n' => '\n',
                'r' => '\r',
                _ => return None,
            },
            other => other,
        });
    }
    Some(plain)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn entry(why: &str) -> ReflogEntry {
        ReflogEntry {
            old: None,
            new: Some(CommitId(ObjectId::from_bytes([7; 32]))),
            time: -5,
            who: "Ada Lovelace <ada@example.org>".to_owned(),
            why: why.to_owned(),
        }
    }

    #[test]
    fn a_line_is_one_line_whatever_is_in_it() {
        let entry = entry("a\tb\nc\\n\rd");
        let line = entry.to_line();
        assert_eq!(line.matches('\n').count(), 1);
        assert_eq!(ReflogEntry::parse(line.trim_end_matches('\n')), Some(entry));
        assert_eq!(ReflogEntry::parse("nonsense"), None);
    }

    #[test]
    fn a_line_is_written_once_and_a_torn_one_is_cut() {
        let dir = tempfile::tempdir().expect("a directory");
        let name = RefName::branch("feature/one").expect("a name");
        let (first, second) = (entry("one"), entry("two"));
        append(dir.path(), &name, &first.to_line()).expect("appended");
        append(dir.path(), &name, &first.to_line()).expect("there already");
        let path = path(dir.path(), &name);
        assert!(path.ends_with("log/refs/heads/feature%2Fone"));
        let mut torn = fs::read(&path).expect("read");
        torn.extend_from_slice(b"0000 torn");
        fs::write(&path, torn).expect("written");
        assert_eq!(
            read(dir.path(), &name).expect("read"),
            std::slice::from_ref(&first)
        );
        append(dir.path(), &name, &second.to_line()).expect("appended");
        assert_eq!(read(dir.path(), &name).expect("read"), [first, second]);
    }
}
