//! A stock Postgres for a test: made by initdb, on a Unix socket and a loopback port, gone when dropped.

use std::os::unix::fs::PermissionsExt;
use std::os::unix::process::CommandExt;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

/// Where Debian puts Postgres.
const DEBIAN: &str = "/usr/lib/postgresql";

/// Returns the `bin` directories of the versions to test, from `NEON_PG_DIRS` and Debian's place; one for each major version.
pub fn installations() -> Vec<(u32, PathBuf)> {
    let below = |dir: &Path| -> Vec<PathBuf> {
        std::fs::read_dir(dir)
            .into_iter()
            .flatten()
            .flatten()
            .map(|entry| entry.path().join("bin"))
            .collect()
    };
    let listed = std::env::var_os("NEON_PG_DIRS").unwrap_or_default();
    let mut candidates = Vec::new();
    for dir in std::env::split_paths(&listed).filter(|dir| !dir.as_os_str().is_empty()) {
        candidates.extend(below(&dir));
        candidates.extend([dir.join("bin"), dir]);
    }
    candidates.extend(below(Path::new(DEBIAN)));
    let mut found: Vec<(u32, PathBuf)> = Vec::new();
    for bin in candidates.into_iter().filter(|bin| bin.join("initdb").is_file()) {
        let output = Command::new(bin.join("postgres"))
            .arg("--version")
            .output()
            .unwrap();
        let text = String::from_utf8(output.stdout).unwrap();
        let major = text
            .split_whitespace()
            .nth(2)
            .and_then(|v| v.split('.').next())
            .unwrap()
            .parse()
            .unwrap();
        if (14..=18).contains(&major) && !found.iter().any(|(have, _)| *have == major) {
            found.push((major, bin));
        }
    }
    assert!(
        !found.is_empty(),
        "no Postgres found: install postgresql, or name directories in NEON_PG_DIRS"
    );
    found.sort();
    found
}

/// Returns Debian's psql, or any.
pub fn psql() -> PathBuf {
    let found = installations()
        .into_iter()
        .map(|(_, bin)| bin.join("psql"))
        .find(|psql| psql.is_file());
    found.expect("no psql found")
}

pub struct StockServer {
    pub bin: PathBuf,
    pub dir: tempfile::TempDir,
    pub port: u16,
}

impl StockServer {
    pub fn start(bin: &Path, settings: &str) -> StockServer {
        let dir = tempfile::Builder::new().prefix("pg").tempdir().unwrap();
        std::fs::set_permissions(dir.path(), std::fs::Permissions::from_mode(0o777)).unwrap();
        let port = std::net::TcpListener::bind(("127.0.0.1", 0))
            .unwrap()
            .local_addr()
            .unwrap()
            .port();
        let server = StockServer {
            bin: bin.to_owned(),
            dir,
            port,
        };
        let pwfile = server.dir.path().join("pw");
        std::fs::write(&pwfile, "se cret").unwrap();
        std::fs::set_permissions(&pwfile, std::fs::Permissions::from_mode(0o644)).unwrap();
        let initdb =
            "initdb --no-sync -U postgres --auth-local=trust --auth-host=scram-sha-256 --no-locale -E UTF8";
        server.run(&format!(
            "{initdb} -D {} --pwfile={}",
            server.data(),
            pwfile.display()
        ));
        let conf = format!(
            "listen_addresses='127.0.0.1'\nport={port}\nunix_socket_directories='{}'\nfsync=off\n{settings}\n",
            server.dir.path().display()
        );
        let auto = Path::new(&server.data()).join("postgresql.auto.conf");
        std::fs::write(auto, conf).unwrap();
        server.ctl("start");
        server
    }

    pub fn data(&self) -> String {
        self.dir.path().join("data").display().to_string()
    }

    pub fn ctl(&self, what: &str) {
        self.run(&format!(
            "pg_ctl -w -s -D {} -l {}/log {what}",
            self.data(),
            self.dir.path().display()
        ));
    }

    pub fn sql(&self, sql: &str) -> String {
        let output = Command::new(psql())
            .args([
                "-h",
                self.dir.path().to_str().unwrap(),
                "-p",
                &self.port.to_string(),
                "-U",
                "postgres",
            ])
            .args(["-X", "-q", "-A", "-t", "-v", "ON_ERROR_STOP=1", "-c", sql])
            .output()
            .unwrap();
        assert!(
            output.status.success(),
            "{sql}: {}",
            String::from_utf8_lossy(&output.stderr)
        );
        String::from_utf8(output.stdout).unwrap().trim().to_owned()
    }

    /// Runs a program of the installation as somebody whom Postgres accepts.
    fn run(&self, line: &str) {
        let words: Vec<&str> = line.split_whitespace().collect();
        let mut command = Command::new(self.bin.join(words[0]));
        command
            .args(&words[1..])
            .current_dir(self.dir.path())
            .stdin(Stdio::null())
            .stdout(Stdio::null());
        if std::fs::metadata("/proc/self").is_ok_and(|m| std::os::unix::fs::MetadataExt::uid(&m) == 0) {
            let id = |flag: &str| -> u32 {
                let output = Command::new("id").args([flag, "postgres"]).output().unwrap();
                String::from_utf8(output.stdout)
                    .unwrap()
                    .trim()
                    .parse()
                    .expect("no user postgres")
            };
            command.uid(id("-u")).gid(id("-g"));
        }
        // A server inherits this, so a file and no pipe: a pipe would never end.
        let log = self.dir.path().join("out");
        command.stderr(
            std::fs::File::options()
                .append(true)
                .create(true)
                .open(&log)
                .unwrap(),
        );
        let status = command.status().unwrap();
        assert!(
            status.success(),
            "{line}: {}",
            std::fs::read_to_string(&log).unwrap_or_default()
        );
    }
}

impl Drop for StockServer {
    fn drop(&mut self) {
        if Path::new(&self.data()).join("postmaster.pid").exists() {
            self.ctl("stop -m immediate");
        }
    }
}
