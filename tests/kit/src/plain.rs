//! A stock Postgres on a data directory of its own, without neon.

use std::fs;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use rustix::process::Signal;

use crate::environment::TestEnvironment;
use crate::output::Output;
use crate::postgres::TestPostgres;
use crate::process;

/// A server that stock `pg_ctl` started; killed when dropped.
pub struct PlainServer<'e> {
    environment: &'e TestEnvironment,
    postgres: TestPostgres,
    pgdata: PathBuf,
    port: u16,
}

impl<'e> PlainServer<'e> {
    /// Runs initdb: superuser and database `postgres`, anybody on the machine may connect.
    pub fn initdb(environment: &'e TestEnvironment, postgres: &TestPostgres, name: &str) -> PathBuf {
        let pgdata = environment.path(name);
        let mut command = environment.command(postgres.bin("initdb"), environment.root());
        command
            .args([
                "--no-sync",
                "--data-checksums",
                "-U",
                "postgres",
                "-A",
                "trust",
                "--locale",
                "C.UTF-8",
                "-D",
            ])
            .arg(&pgdata);
        Output::of(&mut command).success();
        pgdata
    }

    /// Starts a server on a data directory and waits until it answers.
    #[track_caller]
    pub fn start(
        environment: &'e TestEnvironment,
        postgres: &TestPostgres,
        pgdata: &Path,
    ) -> PlainServer<'e> {
        let server = PlainServer {
            environment,
            postgres: postgres.clone(),
            pgdata: pgdata.to_owned(),
            port: environment.port(),
        };
        let options = format!(
            "-p {} -k {} -c listen_addresses=127.0.0.1",
            server.port,
            environment.path("tmp").display()
        );
        let log = environment.path(&format!("plain-{}.log", server.port));
        // Not through a pipe: the server would hold it open.
        let quiet = fs::File::create(environment.path("pg_ctl.out")).expect("a file");
        let status = environment
            .command(postgres.bin("pg_ctl"), environment.root())
            .args(["start", "-w", "-o", &options, "-D"])
            .arg(pgdata)
            .arg("-l")
            .arg(&log)
            .stdout(quiet.try_clone().expect("a file"))
            .stderr(quiet)
            .status()
            .expect("pg_ctl runs");
        let said = fs::read_to_string(log).unwrap_or_default();
        assert!(status.success(), "pg_ctl start: {status}\n{said}");
        server
    }

    /// Starts a server on a directory with `recovery.signal`, and waits until it has reached its target and promoted itself. Nobody has
    /// connected to it then.
    #[track_caller]
    pub fn recover(
        environment: &'e TestEnvironment,
        postgres: &TestPostgres,
        pgdata: &Path,
    ) -> PlainServer<'e> {
        let server = PlainServer::start(environment, postgres, pgdata);
        let log = environment.path(&format!("plain-{}.log", server.port));
        let began = Instant::now();
        loop {
            let said = fs::read_to_string(&log).unwrap_or_default();
            if said.contains("database system is ready to accept connections") {
                return server;
            }
            let lives =
                process::postmaster_of(pgdata).is_some() && began.elapsed() < Duration::from_secs(120);
            assert!(lives, "no recovery:\n{said}");
            std::thread::sleep(Duration::from_millis(20));
        }
    }

    /// Returns where it answers, over its Unix socket.
    pub fn uri(&self) -> String {
        let directory = self.environment.path("tmp").to_string_lossy().replace('/', "%2F");
        format!("postgresql://postgres@{directory}:{}/postgres", self.port)
    }

    /// Returns the TCP port.
    pub fn port(&self) -> u16 {
        self.port
    }

    /// Runs SQL.
    #[track_caller]
    pub fn sql(&self, sql: &str) -> String {
        TestPostgres::sql(&self.uri(), sql)
    }

    /// Stops it with a shutdown checkpoint.
    pub fn stop(self) {
        self.end("fast");
    }

    /// Stops it as a crash would.
    pub fn crash(self) {
        self.end("immediate");
    }

    fn end(self, mode: &str) {
        let mut command = self
            .environment
            .command(self.postgres.bin("pg_ctl"), self.environment.root());
        command.args(["stop", "-w", "-m", mode, "-D"]).arg(&self.pgdata);
        Output::of(&mut command).success();
    }
}

impl Drop for PlainServer<'_> {
    fn drop(&mut self) {
        if let Some(pid) = process::postmaster_of(&self.pgdata) {
            process::kill(pid, Signal::QUIT);
        }
    }
}
