//! One test's own world: a directory, an environment of variables, ports, and the end of everything that was started in it.

use std::ffi::OsStr;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::sync::atomic::{AtomicU16, Ordering};

use tempfile::TempDir;

use crate::output::Output;
use crate::postgres::{TestPostgres, search_path};
use crate::process;
use crate::repo::TestRepo;

/// Set in every process of an environment, so that it is found again.
const MARK: &str = "NEON_TEST_ENVIRONMENT";
/// Ports of one environment.
const PORTS_EACH: u16 = 40;
/// Ports below those that the kernel gives out by itself.
const PORTS: std::ops::Range<u16> = 12_000..32_000;

/// A directory for one test, in which `neon` sees nothing of the machine's user.
pub struct TestEnvironment {
    program: PathBuf,
    root: TempDir,
    first_port: u16,
    ports_given: AtomicU16,
}

impl TestEnvironment {
    /// Makes one below `NEON_TEST_TMP` or the system's temporary directory; `program` is the `neon` to test.
    ///
    /// # Panics
    /// As root: Postgres does not run as root (`scripts/test` runs tests as another user).
    pub fn new(program: &str) -> TestEnvironment {
        assert!(
            !rustix::process::geteuid().is_root(),
            "Postgres does not run as root: run 'make test', which runs tests as another user"
        );
        let base = std::env::var_os("NEON_TEST_TMP").map_or_else(std::env::temp_dir, PathBuf::from);
        // Short, because paths of sockets are; canonical, because processes are found by their directory.
        let base = fs::canonicalize(base).expect("the temporary directory exists");
        let root = tempfile::Builder::new()
            .prefix("e2e-")
            .rand_bytes(6)
            .tempdir_in(base)
            .expect("a directory for the test");
        for inside in ["home", "config", "tmp"] {
            fs::create_dir(root.path().join(inside)).expect("a directory inside");
        }
        TestEnvironment {
            program: PathBuf::from(program),
            root,
            first_port: port_range(),
            ports_given: AtomicU16::new(0),
        }
    }

    /// Returns the directory of the test.
    pub fn root(&self) -> &Path {
        self.root.path()
    }

    /// Returns a path in the directory of the test.
    pub fn path(&self, name: &str) -> PathBuf {
        self.root.path().join(name)
    }

    /// Returns a port that nobody listens on and that this environment has not given out before.
    pub fn port(&self) -> u16 {
        for _ in 0..PORTS_EACH {
            let offset = self.ports_given.fetch_add(1, Ordering::SeqCst);
            assert!(offset < PORTS_EACH, "a test needs more than {PORTS_EACH} ports");
            let port = self.first_port + offset;
            if std::net::TcpListener::bind(("127.0.0.1", port)).is_ok() {
                return port;
            }
        }
        panic!("no port is free from {}", self.first_port);
    }

    /// Returns a command that sees only this environment.
    pub fn command(&self, program: impl AsRef<OsStr>, directory: &Path) -> Command {
        let mut command = Command::new(program);
        command
            .env_clear()
            .env(MARK, self.root())
            .env("PATH", "/usr/local/bin:/usr/bin:/bin:/usr/sbin:/sbin")
            .env("HOME", self.path("home"))
            .env("USER", "tester")
            .env("TMPDIR", self.path("tmp"))
            .env("XDG_RUNTIME_DIR", self.path("tmp"))
            .env("NEON_HOME", self.path("config"))
            .env("NEON_PG_DIRS", search_path())
            .env("LC_ALL", "C.UTF-8")
            .env("TZ", "UTC")
            .env("NO_COLOR", "1")
            .current_dir(directory)
            .stdin(Stdio::null());
        command
    }

    /// Returns the `neon` to test.
    pub(crate) fn program(&self) -> &Path {
        &self.program
    }

    /// Returns `neon` with arguments, not started.
    pub fn neon_command(&self, directory: &Path, args: &[&str]) -> Command {
        let mut command = self.command(&self.program, directory);
        command.args(args);
        command
    }

    /// Runs `neon` in the directory of the test.
    pub fn neon(&self, args: &[&str]) -> Output {
        self.neon_in(self.root(), args)
    }

    /// Runs `neon` in a directory.
    pub fn neon_in(&self, directory: &Path, args: &[&str]) -> Output {
        Output::of(&mut self.neon_command(directory, args))
    }

    /// Makes a repository of a fresh cluster.
    pub fn init(&self, name: &str, postgres: &TestPostgres) -> TestRepo<'_> {
        let version = postgres.major().to_string();
        self.neon(&["init", name, "--pg-version", &version]).success();
        self.repo(name)
    }

    /// Clones a repository from a URI.
    pub fn clone(&self, uri: &str, name: &str) -> TestRepo<'_> {
        self.neon(&["clone", uri, name]).success();
        self.repo(name)
    }

    /// Returns a repository that is there, as it is.
    pub fn repo_at(&self, directory: &Path) -> TestRepo<'_> {
        TestRepo::new(self, directory.to_owned())
    }

    /// Returns a repository that is there; its endpoints get ports of this environment.
    pub fn repo(&self, name: &str) -> TestRepo<'_> {
        let repo = TestRepo::new(self, self.path(name));
        repo.neon(&["config", "set", "endpoint.first_port", &self.port().to_string()])
            .success();
        repo
    }
}

impl Drop for TestEnvironment {
    fn drop(&mut self) {
        process::end_everything(self.root(), MARK);
        if std::thread::panicking() && std::env::var_os("NEON_TEST_KEEP").is_some() {
            eprintln!("kept: {}", self.root().display());
            self.root.disable_cleanup(true);
        }
    }
}

/// Returns the first port of a range that other environments, of this and of other processes, are unlikely to use.
fn port_range() -> u16 {
    static NEXT: AtomicU16 = AtomicU16::new(0);
    let count = (PORTS.end - PORTS.start) / PORTS_EACH;
    let seed = u16::try_from(std::process::id() % u32::from(count)).unwrap_or(0);
    let slot = (seed.wrapping_mul(7) % count + NEXT.fetch_add(1, Ordering::SeqCst)) % count;
    PORTS.start + slot * PORTS_EACH
}
