//! Processes of a test, found by what they were started with and where they work, and ended by their ids.

use std::collections::BTreeSet;
use std::fs;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use rustix::process::{Pid, Resource, Rlimit, Signal, getrlimit, kill_process, prlimit};

/// How long servers get to end by themselves.
const PATIENCE: Duration = Duration::from_secs(10);

/// Sends a signal to a process that may be gone.
pub fn kill(pid: u32, signal: Signal) {
    if let Some(pid) = i32::try_from(pid).ok().and_then(Pid::from_raw) {
        // Gone already is as good.
        let _ = kill_process(pid, signal);
    }
}

/// Lets a process write no byte of a file beyond `bytes`, or, with none, as much as before.
pub fn limit_file_size(pid: u32, bytes: Option<u64>) {
    let pid = i32::try_from(pid)
        .ok()
        .and_then(Pid::from_raw)
        .expect("a process id");
    let maximum = getrlimit(Resource::Fsize).maximum;
    let limit = Rlimit {
        current: bytes.or(maximum),
        maximum,
    };
    prlimit(Some(pid), Resource::Fsize, limit).expect("the limit of a process of our own");
}

/// Returns every process.
fn processes() -> impl Iterator<Item = u32> {
    fs::read_dir("/proc")
        .expect("/proc is there")
        .filter_map(|entry| entry.ok()?.file_name().to_str()?.parse().ok())
}

/// Returns the processes whose working directory is `directory` or below: all of a Postgres whose data directory that is.
pub fn processes_below(directory: &Path) -> Vec<u32> {
    processes()
        .filter(|pid| {
            fs::read_link(format!("/proc/{pid}/cwd")).is_ok_and(|cwd| cwd.starts_with(directory))
                && !is_dead(*pid)
        })
        .collect()
}

/// Returns a postmaster and its children.
pub fn postmaster_family(postmaster: u32) -> Vec<u32> {
    let mut family = vec![postmaster];
    family.extend(processes().filter(|pid| stat(*pid).is_some_and(|(_, parent)| parent == postmaster)));
    family
}

/// Returns the state and the parent of a process.
fn stat(pid: u32) -> Option<(char, u32)> {
    let stat = fs::read_to_string(format!("/proc/{pid}/stat")).ok()?;
    let mut fields = stat.get(stat.rfind(')')? + 2..)?.split(' ');
    Some((fields.next()?.chars().next()?, fields.next()?.parse().ok()?))
}

fn is_dead(pid: u32) -> bool {
    stat(pid).is_none_or(|(state, _)| state == 'Z')
}

/// Ends every process of an environment: those that carry its mark, and every Postgres below its directory.
pub(crate) fn end_everything(root: &Path, mark: &str) {
    let mark = [mark.as_bytes(), b"=", root.as_os_str().as_encoded_bytes()].concat();
    let me = std::process::id();
    // Postgres overwrites its environment, so what is found by mark are programs of ours and clients.
    let marked = || {
        processes()
            .filter(|pid| *pid != me)
            .filter(|pid| {
                fs::read(format!("/proc/{pid}/environ"))
                    .is_ok_and(|environ| environ.split(|byte| *byte == 0).any(|one| one == mark))
            })
            .collect::<BTreeSet<u32>>()
    };
    let began = Instant::now();
    let mut asked = BTreeSet::new();
    loop {
        let postmasters = postmasters_below(root);
        for pid in marked().difference(&postmasters.iter().copied().collect()) {
            kill(*pid, Signal::KILL);
        }
        // An immediate shutdown: shared memory is given back, which kill -9 would leave.
        for pid in postmasters {
            if asked.insert(pid) {
                kill(pid, Signal::QUIT);
            }
        }
        let left: Vec<u32> = processes_below(root)
            .into_iter()
            .filter(|pid| *pid != me)
            .collect();
        if left.is_empty() {
            return;
        }
        if began.elapsed() > PATIENCE {
            for pid in left {
                kill(pid, Signal::KILL);
            }
        }
        std::thread::sleep(Duration::from_millis(10));
    }
}

/// Returns the postmasters whose data directory lies below `root`.
fn postmasters_below(root: &Path) -> Vec<u32> {
    let mut found = Vec::new();
    for pid in processes_below(root) {
        let Ok(directory) = fs::read_link(format!("/proc/{pid}/cwd")) else {
            continue;
        };
        if postmaster_of(&directory) == Some(pid) {
            found.push(pid);
        }
    }
    found
}

/// Returns the process that `postmaster.pid` in a data directory names.
pub(crate) fn postmaster_of(pgdata: &Path) -> Option<u32> {
    let file: PathBuf = pgdata.join("postmaster.pid");
    fs::read_to_string(file).ok()?.lines().next()?.trim().parse().ok()
}
