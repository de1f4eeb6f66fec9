//! Processes as `/proc` shows them: which belong to a data directory, and making an end of them (law 8).
//!
//! Children of Postgres make sessions of their own, so neither process group nor session says what belongs to a
//! directory. All of them have it as their working directory, and that is compared by device and inode: a renamed
//! directory is still found.

use std::collections::BTreeSet;
use std::fs;
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use rustix::process::{Pid, Signal};

use crate::error::{ComputeError, Result};
use crate::pid_file::{self, PidFile, SharedMemory};

/// How long killed processes may take to vanish.
const PATIENCE: Duration = Duration::from_secs(30);
/// How often we look.
const STEP: Duration = Duration::from_millis(10);

/// A process that cannot be mistaken for a later one with the same number.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Process {
    pub pid: i32,
    /// Clock ticks from system boot to its start.
    started: u64,
    parent: i32,
}

impl Process {
    /// Returns the process of that number, unless it is gone or a zombie.
    pub(crate) fn of(pid: i32) -> Option<Process> {
        let stat = fs::read_to_string(format!("/proc/{pid}/stat")).ok()?;
        // The command name, in parentheses, may hold anything.
        let (_, fields) = stat.rsplit_once(") ")?;
        let fields: Vec<&str> = fields.split_whitespace().collect();
        if matches!(fields.first(), Some(&"Z" | &"X")) {
            return None;
        }
        Some(Process {
            pid,
            parent: fields.get(1)?.parse().ok()?,
            started: fields.get(19)?.parse().ok()?,
        })
    }

    /// Returns a stand-in for a process that was gone before it could be looked at.
    pub(crate) fn ended(pid: i32) -> Process {
        Process {
            pid,
            started: u64::MAX,
            parent: 0,
        }
    }

    /// Returns true while exactly this process runs.
    pub(crate) fn is_alive(&self) -> bool {
        Process::of(self.pid).is_some_and(|now| now.started == self.started)
    }

    /// Returns the process that made it, or that took it over.
    pub(crate) fn parent(&self) -> Option<Process> {
        Process::of(self.parent)
    }

    /// Returns the name of the program that it runs.
    fn program(&self) -> Option<String> {
        let path = fs::read_link(format!("/proc/{}/exe", self.pid)).ok()?;
        let name = path.file_name()?.to_string_lossy().into_owned();
        // The kernel says so when the file was replaced by an upgrade.
        Some(
            name.strip_suffix(" (deleted)")
                .map_or(name.clone(), str::to_owned),
        )
    }

    /// Returns true when the program is `postgres`.
    pub(crate) fn is_postgres(&self) -> bool {
        self.program()
            .is_some_and(|name| name == "postgres" || name == "postmaster")
    }

    /// Returns true when the directory with that identity is its working directory.
    pub(crate) fn works_in(&self, directory: Identity) -> bool {
        Identity::of(Path::new(&format!("/proc/{}/cwd", self.pid))) == Some(directory)
    }

    /// Returns the files below `/dev/shm` that it has mapped for Postgres, and whether it has `memory` attached.
    fn shared(&self, memory: Option<SharedMemory>) -> (BTreeSet<PathBuf>, bool) {
        let maps = fs::read_to_string(format!("/proc/{}/maps", self.pid)).unwrap_or_default();
        let mut files = BTreeSet::new();
        let mut attached = false;
        for line in maps.lines() {
            // address perms offset dev inode path
            let mut words = line.split_whitespace().skip(4);
            let (Some(inode), Some(path)) = (words.next(), words.next()) else {
                continue;
            };
            if path.starts_with("/dev/shm/PostgreSQL.") {
                files.insert(PathBuf::from(path));
            }
            if path.starts_with("/SYSV") && memory.is_some_and(|memory| inode == memory.id.to_string()) {
                attached = true;
            }
        }
        (files, attached)
    }

    /// Sends a signal, to this process or to none.
    pub(crate) fn signal(&self, signal: Signal) {
        let Some(pid) = Pid::from_raw(self.pid) else {
            return;
        };
        // The descriptor pins the process; only then is it certain which one is signalled.
        #[cfg(target_os = "linux")]
        match rustix::process::pidfd_open(pid, rustix::process::PidfdFlags::empty()) {
            Ok(pinned) => {
                if self.is_alive() {
                    let _ = rustix::process::pidfd_send_signal(pinned, signal);
                }
                return;
            }
            Err(rustix::io::Errno::NOSYS) => {}
            Err(_) => return,
        }
        if self.is_alive() {
            let _ = rustix::process::kill_process(pid, signal);
        }
    }
}

/// Device and inode of a directory.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Identity(u64, u64);

impl Identity {
    pub(crate) fn of(path: &Path) -> Option<Identity> {
        let metadata = fs::metadata(path).ok()?;
        Some(Identity(metadata.dev(), metadata.ino()))
    }
}

fn every_process() -> std::io::Result<Vec<Process>> {
    let mut all = Vec::new();
    for entry in fs::read_dir("/proc")? {
        let name = entry?.file_name();
        if let Some(process) = name
            .to_str()
            .and_then(|name| name.parse().ok())
            .and_then(Process::of)
        {
            all.push(process);
        }
    }
    Ok(all)
}

/// What [`kill_everything`] did.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Killed {
    /// Processes of Postgres, and their descendants, that were killed and are gone.
    pub pids: BTreeSet<i32>,
    /// Other processes that work in the directory, such as a shell; left alone.
    pub bystanders: BTreeSet<i32>,
}

/// Kills every process of the Postgres in `pgdata` and waits until all are gone and its shared memory is unattached (law 8).
///
/// A process belongs to it when the directory is its working directory and its program is `postgres`, or when it is a
/// descendant of such a process or has the shared memory of `postmaster.pid` attached. A shell that somebody left in the
/// directory is not touched. Files of dynamic shared memory that the killed had mapped are removed, and `postmaster.pid`
/// too, since its number may be another's by the next start. An absent directory has no processes.
///
/// # Errors
/// [`ComputeError::StillInUse`] when the end of them cannot be proved: do not read, rename or reuse the directory then.
pub fn kill_everything(pgdata: &Path) -> Result<Killed> {
    let mut killed = Killed::default();
    let Some(directory) = Identity::of(pgdata) else {
        return Ok(killed);
    };
    let refuse = |why: String| ComputeError::StillInUse {
        pgdata: pgdata.to_owned(),
        why,
    };
    let memory = PidFile::read(pgdata)?.and_then(|file| file.memory);
    let mut segments = BTreeSet::new();
    let deadline = Instant::now() + PATIENCE;
    loop {
        let all = every_process().map_err(|error| refuse(format!("/proc is not readable: {error}")))?;
        let (doomed, bystanders) = belonging(&all, directory, memory, &mut segments);
        killed.bystanders = bystanders;
        let attached = memory.map_or(Ok(0), attachments).map_err(&refuse)?;
        if doomed.is_empty() && attached == 0 {
            break;
        }
        if Instant::now() >= deadline {
            let pids: Vec<String> = doomed.iter().map(|process| process.pid.to_string()).collect();
            return Err(refuse(if pids.is_empty() {
                format!("{attached} processes that we do not see have its shared memory attached")
            } else {
                format!("these processes do not end: {}", pids.join(", "))
            }));
        }
        for process in &doomed {
            process.signal(Signal::KILL);
            killed.pids.insert(process.pid);
        }
        std::thread::sleep(STEP);
    }
    for segment in &segments {
        // Gone already is as good.
        let _ = fs::remove_file(segment);
    }
    let pid_file = pgdata.join(pid_file::NAME);
    match fs::remove_file(&pid_file) {
        Err(error) if error.kind() != std::io::ErrorKind::NotFound => {
            Err(ComputeError::io("remove", &pid_file)(error))
        }
        _ => Ok(killed),
    }
}

/// Returns true when a process of Postgres works in the directory.
pub fn is_in_use(pgdata: &Path) -> Result<bool> {
    let Some(directory) = Identity::of(pgdata) else {
        return Ok(false);
    };
    let all = every_process().map_err(ComputeError::io("list", Path::new("/proc")))?;
    Ok(all
        .iter()
        .any(|process| process.works_in(directory) && process.is_postgres()))
}

/// Splits the processes that have to do with the directory into those to end and those that only happen to be there.
fn belonging(
    all: &[Process],
    directory: Identity,
    memory: Option<SharedMemory>,
    segments: &mut BTreeSet<PathBuf>,
) -> (Vec<Process>, BTreeSet<i32>) {
    let ourselves = i32::try_from(std::process::id()).unwrap_or(0);
    let mut doomed = BTreeSet::new();
    let mut present = BTreeSet::new();
    for process in all.iter().filter(|process| process.pid != ourselves) {
        let here = process.works_in(directory);
        if here {
            present.insert(process.pid);
        }
        if (here || memory.is_some()) && process.is_postgres() {
            let (files, attached) = process.shared(memory);
            if here || attached {
                segments.extend(files);
                doomed.insert(process.pid);
            }
        }
    }
    loop {
        let children: Vec<i32> = all
            .iter()
            .filter(|process| doomed.contains(&process.parent) && !doomed.contains(&process.pid))
            .filter(|process| process.pid != ourselves)
            .map(|process| process.pid)
            .collect();
        if children.is_empty() {
            break;
        }
        doomed.extend(children);
    }
    let bystanders = present.difference(&doomed).copied().collect();
    (
        all.iter()
            .filter(|process| doomed.contains(&process.pid))
            .copied()
            .collect(),
        bystanders,
    )
}

/// Returns how many processes have the segment attached.
fn attachments(memory: SharedMemory) -> std::result::Result<u64, String> {
    let table = fs::read_to_string("/proc/sysvipc/shm")
        .map_err(|error| format!("/proc/sysvipc/shm is not readable: {error}"))?;
    attachments_in(&table, memory)
        .ok_or_else(|| "/proc/sysvipc/shm has a form that we do not know".to_owned())
}

/// Finds a segment in the text of `/proc/sysvipc/shm`: 0 when it is not there, `None` when the table is not understood.
fn attachments_in(table: &str, memory: SharedMemory) -> Option<u64> {
    let mut lines = table.lines();
    let names: Vec<&str> = lines.next()?.split_whitespace().collect();
    let column = |name: &str| names.iter().position(|n| *n == name);
    let (key, id, attached) = (column("key")?, column("shmid")?, column("nattch")?);
    for line in lines {
        let words: Vec<&str> = line.split_whitespace().collect();
        // Keys are printed signed; postmaster.pid has them unsigned.
        let key_here = words.get(key)?.parse::<i64>().ok()?;
        let same_key = u32::try_from(memory.key)
            .is_ok_and(|wanted| key_here == i64::from(wanted.cast_signed()))
            || u64::try_from(key_here) == Ok(memory.key);
        if same_key && words.get(id)?.parse::<u64>().ok()? == memory.id {
            return words.get(attached)?.parse().ok();
        }
    }
    Some(0)
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::process::Command;

    #[test]
    fn shared_memory_is_found_by_key_and_id() {
        let table = "       key      shmid perms                  size  cpid  lpid nattch   uid   gid\n \
                      7603      32769   600                    56  4711  4800      3   101   104\n \
                      -5         4     600                    56  4711  4800      1   101   104\n";
        let segment = |key, id| SharedMemory { key, id };
        assert_eq!(attachments_in(table, segment(7603, 32769)), Some(3));
        assert_eq!(attachments_in(table, segment(7603, 1)), Some(0));
        assert_eq!(
            attachments_in(table, segment(u64::from(u32::MAX - 4), 4)),
            Some(1)
        );
        assert_eq!(attachments_in("nonsense", segment(1, 1)), None);
    }

    #[test]
    fn a_process_is_known_by_number_and_start() {
        let mut child = Command::new("sleep").arg("60").spawn().expect("sleep runs");
        let process = Process::of(child.id().cast_signed()).expect("it is there");
        assert!(process.is_alive());
        assert!(!process.is_postgres());
        let other = Process {
            started: process.started + 1,
            ..process
        };
        assert!(!other.is_alive());
        other.signal(Signal::KILL);
        assert!(
            process.is_alive(),
            "a signal reached a process that it was not for"
        );
        process.signal(Signal::KILL);
        child.wait().expect("it ends");
        assert!(!process.is_alive());
    }

    #[test]
    fn a_shell_in_the_directory_is_left_alone() {
        let directory = tempfile::tempdir().expect("temporary directory");
        let mut child = Command::new("sleep")
            .arg("60")
            .current_dir(directory.path())
            .spawn()
            .expect("sleep runs");
        let killed = kill_everything(directory.path()).expect("nothing stands in the way");
        assert!(killed.pids.is_empty());
        assert!(killed.bystanders.contains(&child.id().cast_signed()));
        assert!(Process::of(child.id().cast_signed()).is_some());
        child.kill().expect("kill");
        child.wait().expect("it ends");
        assert_eq!(
            kill_everything(&directory.path().join("absent")).expect("no directory"),
            Killed::default()
        );
    }
}
