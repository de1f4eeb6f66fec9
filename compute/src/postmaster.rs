//! One running Postgres: starting it so that it outlives us, watching it, stopping it, finding it again.

use std::ffi::OsString;
use std::fs::{self, File, OpenOptions};
use std::io::{self, Read, Seek, SeekFrom};
use std::os::unix::fs::OpenOptionsExt;
use std::os::unix::process::CommandExt;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use neon_postgres::control::DbState;
use rustix::process::Signal;

use crate::directory::read_control;
use crate::error::{ComputeError, Result};
use crate::initdb::{without_locale, without_postgres_variables};
use crate::installation::{Installation, refuse_root};
use crate::pid_file::PidFile;
use crate::port::check_port;
use crate::process::{self, Identity, Process};
use crate::settings::Pinned;
use crate::socket;

/// How often we look at a server that is starting or stopping.
const STEP: Duration = Duration::from_millis(10);
/// How much of the end of the log goes into an error.
const LOG_TAIL: u64 = 4096;
/// Lines of it.
const LOG_LINES: usize = 12;

/// A running postmaster. Dropping this does not stop it.
#[derive(Debug)]
pub struct Postmaster {
    process: Process,
    /// Present when it is our child: then it must be waited for.
    child: Option<Child>,
    pgdata: PathBuf,
    port: u16,
    socket_dir: PathBuf,
    log: PathBuf,
    /// Length of the log when it was started.
    log_start: u64,
}

/// What became of a server that was to stop.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Stopped {
    /// It ended by itself with a shutdown checkpoint: the directory is clean.
    Fast,
    /// It had to be told to end at once: the directory needs recovery.
    Immediate,
    /// It had to be killed: the directory needs recovery.
    Killed,
}

/// Whether a directory has a running server, as `postmaster.pid` and the processes say.
#[derive(Debug)]
pub enum Adoption {
    /// It runs, and is ours to watch and stop.
    Adopted(Postmaster),
    /// There is no `postmaster.pid`, or nothing of that number runs there. Orphans may still run: see
    /// [`crate::kill_everything`].
    Gone,
    /// A process of that number runs and is not the postmaster of this directory.
    Stranger {
        /// The number.
        pid: i32,
        /// How we know.
        why: &'static str,
    },
}

/// Where and how to start.
#[derive(Clone, Copy, Debug)]
pub struct Start<'a> {
    /// Whose `postgres` to run.
    pub installation: &'a Installation,
    /// The data directory.
    pub pgdata: &'a Path,
    /// Port and socket directory, as in the pinned settings.
    pub port: u16,
    /// Made with mode 0700 when it is absent.
    pub socket_dir: &'a Path,
    /// Appended to.
    pub log: &'a Path,
    /// Variables that say what its messages are in (`LANG`, `LC_ALL`...), in the place of ours.
    pub locale: &'a [(String, OsString)],
    /// From [`crate::settings::pin`].
    pub pinned: &'a Pinned,
}

impl Postmaster {
    /// Starts a postmaster in a process group of its own, so that it survives us and no terminal signal reaches it.
    ///
    /// Nothing may run in the directory: call [`crate::kill_everything`] first after a crash. Stale socket files are removed.
    ///
    /// # Errors
    /// [`ComputeError::Running`], [`ComputeError::PortTaken`], [`ComputeError::PortDenied`], [`ComputeError::Root`].
    pub fn start(start: &Start<'_>) -> Result<Postmaster> {
        refuse_root()?;
        if process::is_in_use(start.pgdata)? {
            return Err(ComputeError::Running {
                pid: PidFile::read(start.pgdata)?.map_or(0, |file| file.pid),
                pgdata: start.pgdata.to_owned(),
            });
        }
        let tcp = start
            .pinned
            .settings
            .iter()
            .any(|(name, value)| name == "listen_addresses" && !value.is_empty());
        if tcp {
            check_port(start.port)?;
        }
        prepare_socket_dir(start.socket_dir, start.port)?;
        let log = OpenOptions::new()
            .create(true)
            .append(true)
            .mode(0o600)
            .open(start.log)
            .map_err(ComputeError::io("open", start.log))?;
        let log_start = log
            .metadata()
            .map_err(ComputeError::io("inspect", start.log))?
            .len();
        let second = log.try_clone().map_err(ComputeError::io("open", start.log))?;
        let program = start.installation.program("postgres");
        let mut command = Command::new(&program);
        command
            .arg("-D")
            .arg(start.pgdata)
            .args(
                start
                    .pinned
                    .settings
                    .iter()
                    .flat_map(|(name, value)| ["-c".to_owned(), format!("{name}={value}")]),
            )
            .current_dir(start.pgdata)
            .stdin(Stdio::null())
            .stdout(log)
            .stderr(second)
            .process_group(0);
        without_postgres_variables(&mut command);
        without_locale(&mut command);
        command.envs(start.locale.iter().map(|(name, value)| (name, value)));
        let child = command
            .spawn()
            .map_err(|source| ComputeError::Spawn { program, source })?;
        let pid = child.id().cast_signed();
        let mut postmaster = Postmaster {
            process: Process::of(pid).unwrap_or(Process::ended(pid)),
            child: Some(child),
            pgdata: start.pgdata.to_owned(),
            port: start.port,
            socket_dir: start.socket_dir.to_owned(),
            log: start.log.to_owned(),
            log_start,
        };
        if !postmaster.is_running() {
            return Err(postmaster.refusal(tcp));
        }
        Ok(postmaster)
    }

    /// Waits until it accepts connections.
    ///
    /// # Errors
    /// [`ComputeError::Refused`] with the end of its log when it ended, [`ComputeError::PortTaken`] when that was why,
    /// [`ComputeError::NotReady`] when `patience` is over; it goes on running then.
    pub fn wait_ready(&mut self, patience: Duration) -> Result<()> {
        let deadline = Instant::now() + patience;
        loop {
            if !self.is_running() {
                return Err(self.refusal(true));
            }
            let ready =
                PidFile::read(&self.pgdata)?.is_some_and(|file| file.pid == self.process.pid && file.ready);
            if ready && socket::connect(&self.socket()).is_ok() {
                return Ok(());
            }
            if Instant::now() >= deadline {
                return Err(ComputeError::NotReady {
                    pid: self.process.pid,
                    seconds: patience.as_secs(),
                    log: self.log_tail(),
                });
            }
            std::thread::sleep(STEP);
        }
    }

    /// Returns true while it runs.
    pub fn is_running(&mut self) -> bool {
        if let Some(child) = &mut self.child {
            // Also takes the zombie away.
            return !matches!(child.try_wait(), Ok(Some(_)));
        }
        self.process.is_alive()
    }

    /// Stops it: fast, then immediately, then by killing every process of the directory, with `patience` for each of the first two.
    ///
    /// A fast stop waits until the receiver of its WAL has all of it, so keep receiving meanwhile.
    pub fn stop(&mut self, patience: Duration) -> Result<Stopped> {
        self.process.signal(Signal::INT);
        if self.wait_end(patience) && !process::is_in_use(&self.pgdata)? {
            // A server that crashed meanwhile has ended too.
            return Ok(match read_control(&self.pgdata)?.state() {
                Some(DbState::ShutDowned | DbState::ShutDownedInRecovery) => Stopped::Fast,
                _ => Stopped::Immediate,
            });
        }
        self.stop_now(patience)
    }

    /// Stops it without a shutdown checkpoint: the directory needs recovery.
    pub fn stop_now(&mut self, patience: Duration) -> Result<Stopped> {
        self.process.signal(Signal::QUIT);
        if self.wait_end(patience) && !process::is_in_use(&self.pgdata)? {
            return Ok(Stopped::Immediate);
        }
        let killed = process::kill_everything(&self.pgdata);
        self.wait_end(STEP);
        killed.map(|_| Stopped::Killed)
    }

    /// Makes it read its configuration files again.
    pub fn reload(&self) {
        self.process.signal(Signal::HUP);
    }

    /// Waits until it has ended; false when `patience` is over.
    pub fn wait_end(&mut self, patience: Duration) -> bool {
        let deadline = Instant::now() + patience;
        while self.is_running() {
            if Instant::now() >= deadline {
                return false;
            }
            std::thread::sleep(STEP);
        }
        true
    }

    /// Finds the server that runs in `pgdata` after whoever started it is gone.
    ///
    /// It is taken for that server when the process named by `postmaster.pid` runs `postgres`, works in that very directory, and is no
    /// child of another Postgres there. That is enough: backends that outlived their postmaster were made while it had the number. What the
    /// file says of its start is not asked, because that is what a clock said which may have been set since.
    pub fn adopt(pgdata: &Path, log: &Path) -> Result<Adoption> {
        let (Some(file), Some(directory)) = (PidFile::read(pgdata)?, Identity::of(pgdata)) else {
            return Ok(Adoption::Gone);
        };
        let Some(process) = Process::of(file.pid) else {
            return Ok(Adoption::Gone);
        };
        let stranger = |why| Ok(Adoption::Stranger { pid: file.pid, why });
        if !process.works_in(directory) {
            return stranger("it works in another directory");
        }
        if !process.is_postgres() {
            return stranger("it runs another program");
        }
        if process
            .parent()
            .is_some_and(|parent| parent.works_in(directory) && parent.is_postgres())
        {
            return stranger("it is a child of a server");
        }
        let (Some(port), Some(socket_dir)) = (file.port, file.socket_dir) else {
            return stranger("its socket is not known");
        };
        Ok(Adoption::Adopted(Postmaster {
            process,
            child: None,
            pgdata: pgdata.to_owned(),
            port,
            socket_dir: seen_from(pgdata, &socket_dir),
            log: log.to_owned(),
            log_start: 0,
        }))
    }

    /// Returns its process id.
    pub fn pid(&self) -> i32 {
        self.process.pid
    }

    /// Returns its port.
    pub fn port(&self) -> u16 {
        self.port
    }

    /// Returns the directory of its socket.
    pub fn socket_dir(&self) -> &Path {
        &self.socket_dir
    }

    /// Returns its data directory.
    pub fn pgdata(&self) -> &Path {
        &self.pgdata
    }

    /// Returns the path of its socket.
    pub fn socket(&self) -> PathBuf {
        self.socket_dir.join(socket_name(self.port))
    }

    /// Returns the last lines that it logged since it was started.
    pub fn log_tail(&self) -> String {
        log_tail(&self.log, self.log_start).unwrap_or_default()
    }

    /// Returns why it ended, by its exit status and log.
    fn refusal(&mut self, tcp: bool) -> ComputeError {
        let status = match self.child.as_mut().map(Child::try_wait) {
            Some(Ok(Some(status))) => status.to_string(),
            _ => "ended".to_owned(),
        };
        let log = self.log_tail();
        // What the log says is in the language of the cluster, so ask the port itself.
        let bind = log.contains(&self.port.to_string()) || log.contains("TCP/IP");
        if tcp
            && bind
            && let Err(error) = check_port(self.port)
        {
            return error;
        }
        ComputeError::Refused { status, log }
    }
}

/// Returns a directory that a server names from its own, `../socket`.
fn seen_from(pgdata: &Path, directory: &Path) -> PathBuf {
    match (directory.strip_prefix(".."), pgdata.parent()) {
        (Ok(beside), Some(parent)) => parent.join(beside),
        _ => pgdata.join(directory),
    }
}

/// Makes the directory of the socket, and removes what a dead server left there.
fn prepare_socket_dir(directory: &Path, port: u16) -> Result<()> {
    socket::make_directory(directory).map_err(ComputeError::io("make ours", directory))?;
    let socket = directory.join(socket_name(port));
    if socket::connect(&socket).is_ok() {
        return Err(ComputeError::PortTaken(port));
    }
    for stale in [directory.join(format!("{}.lock", socket_name(port))), socket] {
        match fs::remove_file(&stale) {
            Err(error) if error.kind() != io::ErrorKind::NotFound => {
                return Err(ComputeError::io("remove", &stale)(error));
            }
            _ => {}
        }
    }
    Ok(())
}

/// Returns the name of Postgres' socket.
pub fn socket_name(port: u16) -> String {
    format!(".s.PGSQL.{port}")
}

fn log_tail(path: &Path, from: u64) -> io::Result<String> {
    let mut file = File::open(path)?;
    let length = file.metadata()?.len();
    file.seek(SeekFrom::Start(
        from.min(length).max(length.saturating_sub(LOG_TAIL)),
    ))?;
    let mut bytes = Vec::new();
    file.take(LOG_TAIL).read_to_end(&mut bytes)?;
    let text = String::from_utf8_lossy(&bytes);
    let lines: Vec<&str> = text.lines().collect();
    Ok(lines
        .get(lines.len().saturating_sub(LOG_LINES)..)
        .unwrap_or_default()
        .join("\n"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_socket_beside_the_directory_moves_with_it() {
        let pgdata = Path::new("/new/endpoints/main/pgdata");
        assert_eq!(
            seen_from(pgdata, Path::new("../socket")),
            Path::new("/new/endpoints/main/socket")
        );
        assert_eq!(seen_from(pgdata, Path::new("/run/x")), Path::new("/run/x"));
    }

    #[test]
    fn the_log_of_this_start_alone_is_shown() {
        let directory = tempfile::tempdir().expect("temporary directory");
        let path = directory.path().join("log");
        fs::write(&path, "old\nnew one\nnew two\n").expect("write");
        assert_eq!(log_tail(&path, 4).expect("tail"), "new one\nnew two");
        assert_eq!(log_tail(&path, 4000).expect("tail"), "");
    }

    #[test]
    fn a_directory_without_a_pid_file_has_no_server() {
        let directory = tempfile::tempdir().expect("temporary directory");
        let adopt = || Postmaster::adopt(directory.path(), Path::new("/dev/null")).expect("readable");
        assert!(matches!(adopt(), Adoption::Gone));
        let ourselves = std::process::id();
        fs::write(
            directory.path().join("postmaster.pid"),
            format!("{ourselves}\n/x\n1\n5432\n/s\n\n"),
        )
        .expect("write");
        assert!(matches!(
            adopt(),
            Adoption::Stranger {
                why: "it works in another directory",
                ..
            }
        ));
        fs::write(directory.path().join("postmaster.pid"), "2147483647\n").expect("write");
        assert!(matches!(adopt(), Adoption::Gone));
    }
}
