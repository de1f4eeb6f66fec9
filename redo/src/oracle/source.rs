//! Where segment files come from: a directory, or a list that grows while the server writes.

use std::ffi::OsString;
use std::fs;
use std::io::{BufRead, Read};
use std::os::unix::ffi::OsStringExt;
use std::path::{Path, PathBuf};

use neon_postgres::wal::segment;

use super::segments::{OracleError, read_error};

/// Smallest segments, bytes: the names of all sizes have the form of theirs.
const MIN_SEGMENT: u32 = 1 << 20;
/// Longest path in a list, bytes (`PATH_MAX`).
const MAX_PATH: u64 = 4096;

/// Segment files in the order of the log.
pub(super) enum Source<'a> {
    /// Those of a directory.
    Sorted(std::vec::IntoIter<PathBuf>),
    /// One path a line.
    Listed {
        lines: Box<dyn BufRead + 'a>,
        delete: bool,
    },
}

impl<'a> Source<'a> {
    /// Finds the segment files of a directory.
    pub(super) fn directory(dir: &Path) -> Result<Source<'a>, OracleError> {
        let mut paths = Vec::new();
        for entry in fs::read_dir(dir).map_err(|source| read_error(dir, source))? {
            let path = entry.map_err(|source| read_error(dir, source))?.path();
            if is_segment(&path) {
                paths.push(path);
            }
        }
        if paths.is_empty() {
            return Err(OracleError::NoSegments(dir.to_owned()));
        }
        paths.sort();
        Ok(Source::Sorted(paths.into_iter()))
    }

    /// Returns the next segment file; waits for it where the list is still written. What an archive holds besides segments
    /// (histories, backup labels, partial segments) is passed over.
    pub(super) fn next(&mut self) -> Result<Option<PathBuf>, OracleError> {
        match self {
            Source::Sorted(paths) => Ok(paths.next()),
            Source::Listed { lines, delete } => loop {
                let Some(path) = next_line(lines)? else {
                    return Ok(None);
                };
                if is_segment(&path) {
                    return Ok(Some(path));
                }
                if *delete {
                    remove(&path)?;
                }
            },
        }
    }

    /// Does with a file that is passed over what is done with those that were read.
    pub(super) fn discard(&self, path: &Path) -> Result<(), OracleError> {
        // A segment that is named twice is gone already.
        if matches!(self, Source::Listed { delete: true, .. }) && path.exists() {
            remove(path)?;
        }
        Ok(())
    }

    /// Reads a file; what the caller of the list wants deleted is deleted then.
    pub(super) fn read(&self, path: &Path) -> Result<Vec<u8>, OracleError> {
        let bytes = fs::read(path).map_err(|source| read_error(path, source))?;
        if matches!(self, Source::Listed { delete: true, .. }) {
            remove(path)?;
        }
        Ok(bytes)
    }
}

fn next_line(lines: &mut Box<dyn BufRead + '_>) -> Result<Option<PathBuf>, OracleError> {
    let mut line = Vec::new();
    let read = lines.take(MAX_PATH + 1).read_until(b'\n', &mut line);
    read.map_err(|source| read_error(Path::new("the list of segments"), source))?;
    if line.is_empty() {
        return Ok(None);
    }
    // A last line that was cut off may name another file than was meant.
    if line.pop() != Some(b'\n') {
        return Err(OracleError::List);
    }
    Ok(Some(OsString::from_vec(line).into()))
}

fn remove(path: &Path) -> Result<(), OracleError> {
    fs::remove_file(path).map_err(|source| OracleError::Delete {
        path: path.to_owned(),
        source,
    })
}

/// Returns true for names of segments.
fn is_segment(path: &Path) -> bool {
    let name = path.file_name().and_then(|name| name.to_str());
    name.is_some_and(|name| segment::parse_file_name(name, MIN_SEGMENT).is_some())
}
