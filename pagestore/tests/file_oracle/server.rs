//! A real Postgres for the test: found, made, started, stopped.

use std::fs;
use std::os::unix::fs::{MetadataExt, chown};
use std::path::{Path, PathBuf};
use std::process::{Command, Output, Stdio};

/// Programs of one Postgres version.
pub struct Installation {
    pub major: u16,
    pub bin: PathBuf,
}

/// Returns the places where programs may be: those of `NEON_PG_DIRS`, and where Debian puts them.
fn places() -> Vec<PathBuf> {
    let named = std::env::var("NEON_PG_DIRS").unwrap_or_default();
    let mut places: Vec<PathBuf> = named
        .split(':')
        .filter(|dir| !dir.is_empty())
        .flat_map(|dir| [PathBuf::from(dir), Path::new(dir).join("bin")])
        .collect();
    places.extend((14..=18).map(|major| PathBuf::from(format!("/usr/lib/postgresql/{major}/bin"))));
    places
}

/// Returns the installation of that version.
pub fn find(major: u16) -> Option<Installation> {
    places().into_iter().find_map(|bin| {
        let version = Command::new(bin.join("postgres"))
            .arg("--version")
            .output()
            .ok()?;
        let text = String::from_utf8_lossy(&version.stdout).into_owned();
        let number = text.split_whitespace().nth(2)?;
        (number.split('.').next()? == major.to_string()).then_some(Installation { major, bin })
    })
}

/// A data directory and the socket directory of its server.
pub struct Server {
    bin: PathBuf,
    root: tempfile::TempDir,
    port: u16,
    running: bool,
}

impl Server {
    /// Runs initdb.
    pub fn init(installation: &Installation, port: u16, initdb: &[&str]) -> Server {
        let root = tempfile::tempdir().expect("tempdir");
        let server = Server {
            bin: installation.bin.clone(),
            root,
            port,
            running: false,
        };
        for directory in [server.root.path().to_owned(), server.pgdata()] {
            fs::create_dir_all(&directory).expect("mkdir");
            give_away(&directory);
        }
        let pgdata = server.pgdata();
        let mut arguments = vec!["-D", path(&pgdata), "-U", "postgres", "-A", "trust", "--no-sync"];
        arguments.extend_from_slice(initdb);
        server.run("initdb", &arguments);
        server
    }

    pub fn pgdata(&self) -> PathBuf {
        self.root.path().join("pgdata")
    }

    /// Adds lines to `postgresql.conf`.
    pub fn configure(&self, lines: &str) {
        let file = self.pgdata().join("postgresql.conf");
        let mut text = fs::read_to_string(&file).expect("postgresql.conf");
        text.push_str(lines);
        fs::write(&file, text).expect("postgresql.conf");
    }

    pub fn start(&mut self) {
        let options = format!(
            "-p {} -k {} -c listen_addresses=",
            self.port,
            self.root.path().display()
        );
        let pgdata = self.pgdata();
        let log = self.root.path().join("postgres.log");
        self.run(
            "pg_ctl",
            &[
                "-D",
                path(&pgdata),
                "-l",
                path(&log),
                "-o",
                &options,
                "-w",
                "start",
            ],
        );
        self.running = true;
    }

    pub fn stop(&mut self) {
        let pgdata = self.pgdata();
        self.run("pg_ctl", &["-D", path(&pgdata), "-m", "fast", "-w", "stop"]);
        self.running = false;
    }

    /// Runs SQL, each statement on its own; a failing statement fails the test.
    pub fn sql(&self, database: &str, sql: &str) -> String {
        let port = self.port.to_string();
        let directory = self.root.path().to_owned();
        let arguments = [
            "-h",
            path(&directory),
            "-p",
            &port,
            "-U",
            "postgres",
            "-X",
            "-q",
            "-A",
            "-t",
            "-v",
            "ON_ERROR_STOP=1",
            "-d",
            database,
        ];
        let mut command = self.command("psql", &arguments);
        let script = self.root.path().join("script.sql");
        fs::write(&script, sql).expect("script");
        let output = command.arg("-f").arg(&script).output().expect("psql runs");
        checked("psql", &output)
    }

    /// Runs a pgbench script.
    pub fn pgbench(&self, script: &str, clients: u32, transactions: u32) {
        let file = self.root.path().join("bench.sql");
        fs::write(&file, script).expect("script");
        let (port, clients, transactions) = (
            self.port.to_string(),
            clients.to_string(),
            transactions.to_string(),
        );
        let directory = self.root.path().to_owned();
        self.run(
            "pgbench",
            &[
                "-n",
                "-h",
                path(&directory),
                "-p",
                &port,
                "-U",
                "postgres",
                "-f",
                path(&file),
                "-c",
                &clients,
                "-j",
                "2",
                "-t",
                &transactions,
                "postgres",
            ],
        );
    }

    /// Returns a copy of the stopped directory that belongs to us.
    pub fn snapshot(&self, name: &str) -> PathBuf {
        assert!(!self.running, "a running directory cannot be copied");
        let copy = self.root.path().join(name);
        let output = Command::new("cp")
            .arg("-a")
            .arg(self.pgdata())
            .arg(&copy)
            .output();
        checked("cp", &output.expect("cp runs"));
        let us = fs::metadata("/proc/self").expect("proc").uid();
        own(&copy, us);
        copy
    }

    /// Returns the program; client programs may be those of another version.
    fn program(&self, program: &str) -> PathBuf {
        let own = self.bin.join(program);
        if own.exists() {
            return own;
        }
        let others = places().into_iter().map(|bin| bin.join(program));
        others.into_iter().find(|path| path.exists()).unwrap_or(own)
    }

    fn command(&self, program: &str, arguments: &[&str]) -> Command {
        // Postgres refuses to be root.
        let mut command = if is_root() {
            let mut command = Command::new("setpriv");
            command.args(["--reuid", "postgres", "--regid", "postgres", "--clear-groups"]);
            command.arg(self.program(program));
            command
        } else {
            Command::new(self.program(program))
        };
        command.args(arguments).stdin(Stdio::null()).current_dir("/");
        command
            .env("PGOPTIONS", "-c client_min_messages=warning -c lock_timeout=60s")
            .env("LC_ALL", "C");
        command
    }

    fn run(&self, program: &str, arguments: &[&str]) {
        let log = self.root.path().join(format!("{program}.out"));
        let file = fs::File::create(&log).expect("log");
        // Not a pipe: the server that pg_ctl leaves behind would hold it open.
        let status = self
            .command(program, arguments)
            .stdout(file.try_clone().expect("log"))
            .stderr(file)
            .status()
            .expect("it runs");
        if !status.success() {
            let server = fs::read_to_string(self.root.path().join("postgres.log")).unwrap_or_default();
            panic!(
                "{program} failed: {}\n{server}",
                fs::read_to_string(log).unwrap_or_default()
            );
        }
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        if self.running {
            let pgdata = self.pgdata();
            let _ = self
                .command("pg_ctl", &["-D", path(&pgdata), "-m", "immediate", "-w", "stop"])
                .status();
        }
    }
}

fn path(path: &Path) -> &str {
    path.to_str().expect("a path in UTF-8")
}

fn is_root() -> bool {
    fs::metadata("/proc/self").is_ok_and(|metadata| metadata.uid() == 0)
}

/// Gives a directory to the user that runs the server.
fn give_away(directory: &Path) {
    if is_root() {
        let id = Command::new("id")
            .args(["-u", "postgres"])
            .output()
            .expect("id runs");
        let uid = checked("id", &id).trim().parse().expect("a user id");
        chown(directory, Some(uid), None).expect("chown");
    }
}

fn own(path: &Path, uid: u32) {
    std::os::unix::fs::lchown(path, Some(uid), None).expect("chown");
    if fs::symlink_metadata(path).expect("metadata").is_dir() {
        for entry in fs::read_dir(path).expect("readdir") {
            own(&entry.expect("entry").path(), uid);
        }
    }
}

fn checked(program: &str, output: &Output) -> String {
    let text = String::from_utf8_lossy(&output.stdout).into_owned();
    assert!(
        output.status.success(),
        "{program} failed: {text}{}",
        String::from_utf8_lossy(&output.stderr)
    );
    text
}
