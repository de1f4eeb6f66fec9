//! `postmaster.pid`: what a running postmaster says about itself.
//!
//! ```text
//! line 1  process id (negative for a single-user server)
//! line 2  data directory
//! line 3  start time, seconds since 1970
//! line 4  port
//! line 5  first Unix socket directory (empty: none)
//! line 6  first listen address (empty: none)
//! line 7  shared memory: key and id, padded
//! line 8  "starting", "stopping", "ready   " or "standby "
//! ```

use std::fs;
use std::io;
use std::path::{Path, PathBuf};

use crate::error::{ComputeError, Result};

/// The name of the file in a data directory.
pub(crate) const NAME: &str = "postmaster.pid";

/// Longest file that is read; a real one has less than a kilobyte.
const LIMIT: u64 = 16 << 10;

/// A System V shared memory segment.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct SharedMemory {
    /// Its key.
    pub key: u64,
    /// Its id.
    pub id: u64,
}

/// The parts of `postmaster.pid` that we use. A starting postmaster writes the lines one after another.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct PidFile {
    /// Process id of the postmaster.
    pub pid: i32,
    /// Port.
    pub port: Option<u16>,
    /// Directory of the Unix socket.
    pub socket_dir: Option<PathBuf>,
    /// Its shared memory.
    pub memory: Option<SharedMemory>,
    /// Whether it accepts connections.
    pub ready: bool,
}

impl PidFile {
    /// Returns the file's content; `None` when there is no file or it does not begin with a process id.
    pub fn read(pgdata: &Path) -> Result<Option<PidFile>> {
        let path = pgdata.join(NAME);
        let length = match fs::metadata(&path) {
            Ok(metadata) => metadata.len(),
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(None),
            Err(error) => return Err(ComputeError::io("read", &path)(error)),
        };
        if length > LIMIT {
            return Ok(None);
        }
        match fs::read(&path) {
            Ok(bytes) => Ok(PidFile::parse(&String::from_utf8_lossy(&bytes))),
            Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(None),
            Err(error) => Err(ComputeError::io("read", &path)(error)),
        }
    }

    /// Parses the file's text; `None` when it does not begin with a process id.
    pub fn parse(text: &str) -> Option<PidFile> {
        let lines: Vec<&str> = text.lines().collect();
        let line = |number: usize| {
            lines
                .get(number - 1)
                .map(|line| line.trim())
                .filter(|line| !line.is_empty())
        };
        let pid: i32 = line(1)?.parse().ok()?;
        let memory = line(7).and_then(|text| {
            let mut words = text.split_whitespace();
            Some(SharedMemory {
                key: words.next()?.parse().ok()?,
                id: words.next()?.parse().ok()?,
            })
        });
        Some(PidFile {
            pid: pid.checked_abs().filter(|pid| *pid > 0)?,
            port: line(4).and_then(|text| text.parse().ok()),
            socket_dir: line(5).map(PathBuf::from),
            memory,
            ready: line(8) == Some("ready"),
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_real_file_is_understood_at_every_stage_of_its_making() {
        let whole = "4711\n/data\n1763716000\n55432\n/run/x\n127.0.0.1\n   7603    32769\nready   \n";
        let file = PidFile::parse(whole).expect("a pid file");
        assert_eq!(
            file,
            PidFile {
                pid: 4711,
                port: Some(55432),
                socket_dir: Some("/run/x".into()),
                memory: Some(SharedMemory { key: 7603, id: 32769 }),
                ready: true
            }
        );
        let starting = PidFile::parse("4711\n/data\n1763716000\n55432\n\n").expect("a pid file");
        assert!(!starting.ready && starting.memory.is_none() && starting.socket_dir.is_none());
        assert!(
            !PidFile::parse(&whole.replace("ready   ", "starting"))
                .expect("a pid file")
                .ready
        );
    }

    #[test]
    fn nonsense_is_no_pid_file() {
        for text in ["", "x\n", "0\n", "-2147483648\n", "99999999999\n"] {
            assert_eq!(PidFile::parse(text), None, "{text:?}");
        }
        assert_eq!(PidFile::parse("-17\n").map(|file| file.pid), Some(17));
    }
}
