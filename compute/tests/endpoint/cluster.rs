//! Clusters to test with: real Postgres, in directories that go with the test.

use std::ffi::OsString;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::time::Duration;

use neon_compute::settings::{EndpointSettings, Pinned, pin_directory};
use neon_compute::{
    FIRST_PORT, InitOptions, Installation, Postmaster, SearchPath, Start, Stopped, find_client, free_port,
    hba, initdb,
};
use neon_postgres::PgVersion;

/// Long enough for a loaded machine; no test depends on how long anything takes.
pub const PATIENCE: Duration = Duration::from_secs(120);

pub fn search() -> SearchPath {
    SearchPath::new(
        std::env::var_os("NEON_PG_DIRS").as_deref(),
        &[],
        std::env::var_os("PATH"),
    )
}

/// Returns the versions to test with: `NEON_TEST_PG`, such as `15,17`, which is also what it is by default.
pub fn installations() -> Vec<Installation> {
    neon_compute::refuse_root()
        .expect("run these tests as an unprivileged user: Postgres does not run as root");
    let versions = std::env::var("NEON_TEST_PG").unwrap_or_else(|_| "15,17".to_owned());
    versions
        .split(',')
        .map(|version| {
            let version = version.trim().parse().ok().and_then(PgVersion::from_major);
            let version = version.expect("NEON_TEST_PG lists major versions");
            Installation::find(Some(version), &search())
                .unwrap_or_else(|error| panic!("{error}; {}", error.hint))
        })
        .collect()
}

/// A directory of its own for one server: data directory, socket, log.
pub struct Place {
    pub root: tempfile::TempDir,
    pub installation: Installation,
}

impl Place {
    pub fn new(installation: &Installation) -> Place {
        Place {
            root: tempfile::Builder::new()
                .prefix("neon-c")
                .tempdir()
                .expect("temporary directory"),
            installation: installation.clone(),
        }
    }

    /// Makes a new cluster that can be started as an endpoint.
    pub fn with_cluster(installation: &Installation) -> Place {
        let place = Place::new(installation);
        let options = InitOptions {
            password: Some("secret".to_owned()),
            ..InitOptions::default()
        };
        initdb(installation, &place.pgdata(), &options).expect("initdb");
        fs::write(place.pgdata().join(hba::NAME), hba::TEXT).expect("write");
        place
    }

    pub fn pgdata(&self) -> PathBuf {
        self.root.path().join("pgdata")
    }

    pub fn log(&self) -> PathBuf {
        self.root.path().join("postgres.log")
    }

    pub fn settings(&self) -> EndpointSettings {
        EndpointSettings {
            name: "test".to_owned(),
            port: free_port(FIRST_PORT, |port| {
                port % 50 != u16::try_from(std::process::id() % 50).unwrap_or(0)
            })
            .expect("a port"),
            socket_dir: self.root.path().join("s"),
            tcp: false,
            autovacuum: false,
            read_only: false,
            act_as_primary: false,
            preload_allowed: Vec::new(),
            extra: vec![("max_prepared_transactions".to_owned(), "10".to_owned())],
        }
    }

    pub fn pinned(&self, settings: &EndpointSettings) -> Pinned {
        pin_directory(self.installation.version(), &self.pgdata(), settings).expect("settings")
    }

    pub fn start(&self, settings: &EndpointSettings) -> Server {
        let postmaster = self.try_start(settings).unwrap_or_else(|error| panic!("{error}"));
        Server {
            postmaster,
            psql: psql(&self.installation),
        }
    }

    pub fn try_start(&self, settings: &EndpointSettings) -> neon_compute::Result<Postmaster> {
        let pinned = self.pinned(settings);
        let mut postmaster = Postmaster::start(&Start {
            installation: &self.installation,
            pgdata: &self.pgdata(),
            port: settings.port,
            socket_dir: &settings.socket_dir,
            log: &self.log(),
            locale: &[],
            pinned: &pinned,
        })?;
        postmaster.wait_ready(PATIENCE)?;
        Ok(postmaster)
    }
}

impl Drop for Place {
    fn drop(&mut self) {
        let _ = neon_compute::kill_everything(&self.pgdata());
        if std::thread::panicking() {
            eprintln!(
                "log of {}:\n{}",
                self.pgdata().display(),
                fs::read_to_string(self.log()).unwrap_or_default()
            );
        }
    }
}

pub fn psql(installation: &Installation) -> PathBuf {
    find_client("psql", Some(installation), &search()).expect("psql is needed")
}

/// A server that accepts connections.
pub struct Server {
    pub postmaster: Postmaster,
    psql: PathBuf,
}

impl Server {
    pub fn command(&self, database: &str) -> Command {
        command(
            &self.psql,
            self.postmaster.socket_dir(),
            self.postmaster.port(),
            database,
        )
    }

    /// Runs SQL and returns what psql prints, unaligned.
    pub fn query(&self, sql: &str) -> String {
        self.query_in("postgres", sql)
    }

    pub fn query_in(&self, database: &str, sql: &str) -> String {
        match self.try_query(database, sql) {
            Ok(text) => text,
            Err(text) => panic!("{sql}: {text}"),
        }
    }

    pub fn try_query(&self, database: &str, sql: &str) -> Result<String, String> {
        let output = self
            .command(database)
            .arg("-c")
            .arg(sql)
            .output()
            .expect("psql runs");
        if output.status.success() {
            Ok(String::from_utf8_lossy(&output.stdout).trim_end().to_owned())
        } else {
            Err(String::from_utf8_lossy(&output.stderr).into_owned())
        }
    }

    pub fn stop(mut self) {
        assert_eq!(self.postmaster.stop(PATIENCE).expect("stop"), Stopped::Fast);
    }
}

pub fn command(psql: &Path, socket_dir: &Path, port: u16, database: &str) -> Command {
    let mut command = Command::new(psql);
    let port: OsString = port.to_string().into();
    command
        .args([
            "-X",
            "-A",
            "-t",
            "-q",
            "-v",
            "ON_ERROR_STOP=1",
            "-U",
            "postgres",
            "-d",
            database,
            "-h",
        ])
        .arg(socket_dir)
        .arg("-p")
        .arg(port)
        .stdin(Stdio::null());
    command
}
