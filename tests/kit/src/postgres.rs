//! Stock Postgres: where it is, its programs, and questions to a running one.

use std::ffi::OsString;
use std::path::{Path, PathBuf};
use std::process::Command;

use crate::output::Output;

/// Where Debian puts the Postgres that brings the client programs.
const CLIENTS: &str = "/usr/lib/postgresql/15/bin";

/// An installation of one major version.
#[derive(Clone, Debug)]
pub struct TestPostgres {
    major: u16,
    bin: PathBuf,
}

/// Returns the value of `NEON_PG_DIRS` that tests run with: that of the caller, then Debian's.
pub(crate) fn search_path() -> OsString {
    let mut directories: Vec<PathBuf> = std::env::var_os("NEON_PG_DIRS")
        .map(|given| std::env::split_paths(&given).collect())
        .unwrap_or_default();
    directories.push(PathBuf::from(CLIENTS));
    std::env::join_paths(directories).expect("directories without ':'")
}

impl TestPostgres {
    /// Finds one.
    ///
    /// # Panics
    /// When there is none: `scripts/setup` installs what tests need.
    pub fn find(major: u16) -> TestPostgres {
        let begins = format!("postgres (PostgreSQL) {major}.");
        for bin in std::env::split_paths(&search_path()) {
            let version = Command::new(bin.join("postgres")).arg("--version").output();
            if version.is_ok_and(|output| output.stdout.starts_with(begins.as_bytes())) {
                return TestPostgres { major, bin };
            }
        }
        panic!(
            "no Postgres {major} in {:?}: run scripts/setup and set NEON_PG_DIRS as scripts/test does",
            search_path()
        );
    }

    /// Returns the major version.
    pub fn major(&self) -> u16 {
        self.major
    }

    /// Returns the path of a server program.
    pub fn bin(&self, program: &str) -> PathBuf {
        self.bin.join(program)
    }

    /// Returns the path of a client program; those of one version talk to servers of the other.
    pub fn client(program: &str) -> PathBuf {
        Path::new(CLIENTS).join(program)
    }

    /// Returns the major version in digits that the other of the two versions has.
    pub fn other(&self) -> u16 {
        if self.major == 15 { 17 } else { 15 }
    }

    /// Runs a script of SQL and commands of psql, each statement by itself; returns rows with `|` between the columns.
    pub fn try_sql(uri: &str, script: &str) -> Output {
        let mut command = Command::new(TestPostgres::client("psql"));
        command
            .args([
                "-X",
                "-A",
                "-t",
                "-q",
                "-v",
                "ON_ERROR_STOP=1",
                "-d",
                uri,
                "-f",
                "-",
            ])
            .env_clear()
            .env("LC_ALL", "C.UTF-8")
            .env("PGTZ", "UTC")
            // A test that waits for a lock for good should say so.
            .env("PGOPTIONS", "-c lock_timeout=60s -c statement_timeout=300s")
            .env("PGCONNECT_TIMEOUT", "20");
        Output::fed(&mut command, script)
    }

    /// The same, which must succeed.
    #[track_caller]
    pub fn sql(uri: &str, sql: &str) -> String {
        TestPostgres::try_sql(uri, sql).success()
    }

    /// Runs pgbench.
    pub fn pgbench(uri: &str, directory: &Path, args: &[&str]) -> Output {
        Output::of(TestPostgres::pgbench_command(uri, directory).args(args))
    }

    /// Returns pgbench, not started.
    pub fn pgbench_command(uri: &str, directory: &Path) -> Command {
        let mut command = Command::new(TestPostgres::client("pgbench"));
        command
            .env_clear()
            .env("LC_ALL", "C.UTF-8")
            .current_dir(directory)
            .args(["-n", "-d", uri]);
        command
    }

    /// Returns everything that pg_dump says of a database; version 15 only, whose pg_dump is here.
    #[track_caller]
    pub fn dump(&self, uri: &str) -> String {
        assert_eq!(self.major, 15, "there is no pg_dump of version {}", self.major);
        let dump = Output::of(
            Command::new(self.bin("pg_dump"))
                .env_clear()
                .env("LC_ALL", "C.UTF-8")
                .args(["--no-sync", "-d", uri]),
        )
        .success();
        // A random word of the program's own in newer minor versions. And where sequences are: their WAL runs up to 32 values ahead
        // of them, so that whoever has it from the WAL (a standby, a clone) goes on behind a gap.
        let kept = dump.lines().filter(|line| {
            !["\\restrict", "\\unrestrict", "SELECT pg_catalog.setval("]
                .iter()
                .any(|begin| line.starts_with(begin))
        });
        kept.collect::<Vec<_>>().join("\n")
    }

    /// Returns one line for each table of a database, of the catalogs and of the user: rows and a digest of them in order.
    #[track_caller]
    pub fn digests(uri: &str) -> String {
        // In the order of ctid, because histories are equal byte for byte and not only by meaning. Without what autovacuum
        // writes, and without the passwords, which each repository sets for itself.
        let queries = TestPostgres::sql(
            uri,
            "select format('select %L, count(*), md5(coalesce(string_agg((%s)::text, E''\\n'' order by ctid), '''')) from %s t;', \
                           c.oid::regclass, \
                           case when c.relname in ('pg_class', 'pg_database') and n.nspname = 'pg_catalog' \
                                then 'to_jsonb(t) - ''{relpages,reltuples,relallvisible,relallfrozen,relfrozenxid,relminmxid,datfrozenxid,datminmxid}''::text[]' \
                                else 't' end, \
                           c.oid::regclass) \
             from pg_class c join pg_namespace n on n.oid = c.relnamespace \
             where c.relkind in ('r', 'm') and (n.nspname <> 'information_schema') \
               and c.relpersistence = 'p' \
               and c.relname not in ('pg_statistic', 'pg_statistic_ext_data', 'pg_authid') \
             order by 1",
        );
        TestPostgres::sql(uri, &queries)
    }

    /// Returns what is equal in two copies of one history: the dump where there is a pg_dump, else digests of all tables.
    #[track_caller]
    pub fn content(&self, uri: &str) -> String {
        if self.major == 15 {
            self.dump(uri)
        } else {
            TestPostgres::digests(uri)
        }
    }

    /// Checks every btree index against its table, and the tables themselves, with amcheck; returns how many relations.
    ///
    /// # Panics
    /// When one is damaged, naming it.
    #[track_caller]
    pub fn amcheck(uri: &str) -> u32 {
        TestPostgres::sql(
            uri,
            "set client_min_messages = error; create extension if not exists amcheck; \
             select set_config('max_parallel_workers_per_gather', '0', false)",
        );
        let indexes = TestPostgres::sql(
            uri,
            "select c.oid::regclass, bt_index_parent_check(c.oid, true, true) \
             from pg_class c join pg_am a on a.oid = c.relam join pg_index i on i.indexrelid = c.oid \
             where a.amname = 'btree' and c.relkind = 'i' and i.indisvalid and c.relpersistence = 'p'",
        );
        let heaps = TestPostgres::sql(
            uri,
            "select c.oid::regclass, v.* from pg_class c join pg_am a on a.oid = c.relam \
             cross join lateral verify_heapam(c.oid, check_toast => true) v \
             where a.amname = 'heap' and c.relkind in ('r', 't', 'm') and c.relpersistence = 'p'",
        );
        assert_eq!(heaps, "", "verify_heapam");
        u32::try_from(indexes.lines().count()).expect("few indexes")
    }
}
