//! Starting a daemon.

use std::ffi::OsStr;
use std::fs::File;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use neon_repo::api::{ApiError, ProgressSink};

use crate::client::local;
use crate::talk;

/// How long a command waits for a daemon that it started to answer.
const DAEMON_START: Duration = Duration::from_secs(20);
const LOOK: Duration = Duration::from_millis(5);
/// How much of the end of its log is read when it does not come up.
const LOG_LINES: usize = 3;

/// Starts a daemon in a session of its own and waits until it answers.
pub(crate) async fn daemon(neon_dir: &Path, progress: &dyn ProgressSink) -> Result<(), ApiError> {
    let log = neon_dir.join("daemon.log");
    let before = std::fs::metadata(&log).map_or(0, |log| log.len());
    let mut child = spawn(neon_dir, &log)?;
    let began = Instant::now();
    loop {
        let ended = child.try_wait().ok().flatten();
        // Another command may have started one at the same time and won the lock.
        if talk::answers(neon_dir).await {
            return Ok(());
        }
        if ended.is_some() || began.elapsed() > DAEMON_START || progress.cancelled() {
            return Err(ApiError {
                code: "daemon_failed".into(),
                message: "the daemon did not come up".into(),
                caused_by: last_lines(&log, before),
                hint: Some(format!("its log is {}", log.display())),
            });
        }
        tokio::time::sleep(LOOK).await;
    }
}

fn spawn(neon_dir: &Path, log_path: &Path) -> Result<Child, ApiError> {
    let program = std::env::current_exe().map_err(|error| local("exe", "cannot find this program", error))?;
    let open = || {
        File::options()
            .create(true)
            .append(true)
            .open(log_path)
            .map_err(|error| local("log", &format!("cannot write {}", log_path.display()), error))
    };
    let (stdout, stderr) = (open()?, open()?);
    let directory: PathBuf = neon_dir.parent().unwrap_or(neon_dir).to_owned();
    Command::new("setsid")
        .arg(program)
        .arg("-C")
        .arg(directory)
        .arg("daemon")
        .env_clear()
        .envs(std::env::vars_os().filter(|(name, _)| is_for_a_daemon(name)))
        .current_dir("/")
        .stdin(Stdio::null())
        .stdout(stdout)
        .stderr(stderr)
        .spawn()
        .map_err(|error| local("daemon", "cannot start the daemon", error))
}

/// Returns true for a variable that a daemon is started with: how programs run on this machine, and what this program is to log. What is the
/// caller's, as a password or a time zone, comes with each request.
fn is_for_a_daemon(name: &OsStr) -> bool {
    const ALL: [&str; 11] = [
        "HOME",
        "USER",
        "LOGNAME",
        "SHELL",
        "PATH",
        "TMPDIR",
        "XDG_RUNTIME_DIR",
        "XDG_CONFIG_HOME",
        "LD_LIBRARY_PATH",
        "LD_PRELOAD",
        "RUST_BACKTRACE",
    ];
    // Which repository and which Postgres are the caller's, too.
    const NOT: [&str; 2] = ["NEON_DIR", "NEON_PG_DIRS"];
    let Some(name) = name.to_str() else {
        return false;
    };
    ALL.contains(&name) || (name.starts_with("NEON_") && !NOT.contains(&name))
}

/// Returns the last lines that were written to a file behind `from`.
fn last_lines(path: &Path, from: u64) -> Vec<String> {
    let text = std::fs::read(path).unwrap_or_default();
    let new = usize::try_from(from).ok().and_then(|from| text.get(from..));
    let text = String::from_utf8_lossy(new.unwrap_or_default()).into_owned();
    let lines: Vec<&str> = text.lines().collect();
    lines
        .iter()
        .skip(lines.len().saturating_sub(LOG_LINES))
        .map(|line| (*line).to_owned())
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_daemon_gets_nothing_of_its_starter() {
        for kept in ["PATH", "HOME", "NEON_LOG", "NEON_HOME"] {
            assert!(is_for_a_daemon(OsStr::new(kept)), "{kept}");
        }
        for not in [
            "PGPASSWORD",
            "PGUSER",
            "PGPASSFILE",
            "TZ",
            "LC_ALL",
            "LANG",
            "NEON_DIR",
            "NEON_PG_DIRS",
            "SECRET",
        ] {
            assert!(!is_for_a_daemon(OsStr::new(not)), "{not}");
        }
    }

    #[test]
    fn only_what_is_new_in_a_log_is_told() {
        let directory = tempfile::tempdir().expect("a directory");
        let path = directory.path().join("log");
        std::fs::write(&path, "old\none\ntwo\n").expect("written");
        assert_eq!(last_lines(&path, 4), ["one", "two"]);
        assert!(last_lines(&path, 99).is_empty());
    }
}
