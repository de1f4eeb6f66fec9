//! What is built from a position is that position: for writing, for reading, for export.

use std::collections::BTreeMap;
use std::fs;
use std::path::Path;
use std::process::Command;

use neon_compute::conf::Settings;
use neon_compute::{
    Boot, ComputeError, DataDirectory, PageSource, Purpose, Unbuildable, export, read_control,
};
use neon_postgres::control::DbState;
use neon_postgres::timeline_history::{HistoryEntry, TimelineHistory};
use neon_types::{Fork, Lsn, RelTag};

use crate::cluster::{PATIENCE, Place, Server, installations};
use crate::directory_source::DirectorySource;

/// A TLI as a fork gets it.
pub const TLI: u32 = 0x5A1;

pub const SCHEMA: &str = "
create table t (id int primary key, v text, n numeric);
insert into t select i, repeat(md5(i::text), 1 + i % 60), i / 7.0 from generate_series(1, 20000) i;
create index on t (v text_pattern_ops);
delete from t where id % 3 = 0;
vacuum t;
update t set n = n + 1 where id % 5 = 0;
create table big (a text);
insert into big select string_agg(md5(i::text || j::text), '') from generate_series(1, 500) i, generate_series(1, 400) j group by i;
create table empty ();
create unlogged table u (id int primary key);
insert into u select generate_series(1, 1000);
create table m (id int primary key, v int);
insert into m select i, 0 from generate_series(1, 100) i;
create sequence s;
select setval('s', 4711);
create table p (id int);
begin; insert into p values (1); savepoint a; insert into p values (2); prepare transaction 'waits for us';
begin; select count(*) from (select from m where id < 50 for share) locked; savepoint x; update m set v = 1 where id = 1; commit;
select pg_replication_origin_create('elsewhere');
select pg_replication_origin_advance('elsewhere', '0/ABCDE0');
set allow_in_place_tablespaces = on;
create tablespace inplace location '';
create table tt tablespace inplace as select i from generate_series(1, 5000) i;
";

/// A digest of every table that survives, and of the catalogs.
pub const DIGEST: &str = "
select 't', count(*), md5(string_agg(t::text, '|' order by id)) from t
union all select 'big', count(*), md5(string_agg(a, '|' order by a)) from big
union all select 'm', count(*), md5(string_agg(m::text, '|' order by id)) from m
union all select 'tt', count(*), md5(string_agg(i::text, '|' order by i)) from tt
union all select 's', last_value, is_called::text from s
union all select 'class', count(*), md5(string_agg(relname || relpages || relfilenode, '|' order by oid)) from pg_class
union all select 'db', count(*), md5(string_agg(datname, '|' order by oid)) from pg_database
order by 1
";

pub fn amcheck(server: &Server) {
    // A server-only installation comes without it.
    if server.query("select count(*) from pg_available_extensions where name = 'amcheck'") == "0" {
        return;
    }
    server.query("set client_min_messages = error; create extension if not exists amcheck");
    let bad = server.query(
        "set lock_timeout = '20s';
         select bt_index_parent_check(c.oid, true, true) from pg_class c join pg_am a on a.oid = c.relam
          where a.amname = 'btree' and c.relkind = 'i' and c.relpersistence = 'p';
         select c.relname, v.* from pg_class c, lateral verify_heapam(c.oid) v
          where c.relkind in ('r', 't', 'm') and c.relpersistence = 'p'",
    );
    assert_eq!(bad.replace('\n', ""), "");
}

/// A stopped cluster with a bit of everything, and the digest of its data.
pub fn origin(place: &Place) -> (DirectorySource, String) {
    let server = place.start(&place.settings());
    server.query("create database other");
    let schema = place.root.path().join("schema.sql");
    fs::write(&schema, SCHEMA).expect("write");
    let output = server
        .command("postgres")
        .arg("-f")
        .arg(schema)
        .output()
        .expect("psql runs");
    assert!(
        output.status.success(),
        "{}",
        String::from_utf8_lossy(&output.stderr)
    );
    server.query_in(
        "other",
        "create table elsewhere as select generate_series(1, 300)",
    );
    let digest = server.query(DIGEST);
    server.stop();
    (DirectorySource::open(&place.pgdata()), digest)
}

fn history(source: &DirectorySource) -> TimelineHistory {
    TimelineHistory {
        entries: vec![HistoryEntry {
            tli: source.tli(),
            end: source.lsn(),
            reason: "branch".to_owned(),
        }],
    }
}

pub fn boot(source: &DirectorySource, purpose: Purpose) -> Boot {
    Boot {
        tli: TLI,
        history: history(source),
        purpose,
        slot: Some("neon".to_owned()),
        settings: None,
    }
}

pub fn check_checksums(place: &Place) {
    let program = place.installation.program("pg_checksums");
    if !program.exists() {
        // A server-only installation; that of another version does not do.
        return;
    }
    let output = Command::new(program)
        .arg("--check")
        .arg("-D")
        .arg(place.pgdata())
        .output()
        .expect("it runs");
    let text =
        String::from_utf8_lossy(&output.stdout).into_owned() + &String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success(), "{text}");
    assert!(text.contains("Bad checksums:  0"), "{text}");
}

#[test]
fn a_built_directory_is_the_position_and_goes_on_from_there() {
    for installation in installations() {
        let old = Place::with_cluster(&installation);
        let (source, digest) = origin(&old);
        let new = Place::new(&installation);
        let told = std::sync::atomic::AtomicU32::new(0);
        let ended = DataDirectory::build(
            &source,
            &new.pgdata(),
            &boot(&source, Purpose::ReadWrite),
            &|_, _| told.fetch_add(1, std::sync::atomic::Ordering::Relaxed) < 9,
        );
        assert!(matches!(ended, Err(ComputeError::Interrupted)), "{ended:?}");
        assert!(!new.pgdata().exists() && !new.pgdata().with_extension("building").exists());
        let steps = std::sync::Mutex::new((0, 0));
        let built = DataDirectory::build(
            &source,
            &new.pgdata(),
            &boot(&source, Purpose::ReadWrite),
            &|done, total| {
                let mut steps = steps.lock().expect("no panic");
                *steps = (steps.0.max(done), total);
                true
            },
        )
        .expect("built");
        let (done, total) = *steps.lock().expect("no panic");
        assert_eq!(done, total);
        assert_eq!(built.wal_start, source.lsn());
        assert!(built.boot_end > built.wal_start);
        assert_eq!(built.prepared.len(), 1);
        assert_eq!(built.prepared[0].gid, "waits for us");
        assert_eq!(built.unlogged, 2);
        check_checksums(&new);
        same_files(&old.pgdata(), &new.pgdata(), &source);

        let settings = new.settings();
        let server = new.start(&settings);
        assert_eq!(server.query(DIGEST), digest);
        assert_eq!(server.query_in("other", "select count(*) from elsewhere"), "300");
        assert_eq!(server.query("select count(*) from u"), "0");
        assert_eq!(server.query("select gid from pg_prepared_xacts"), "waits for us");
        assert_eq!(server.query("select count(*) from p"), "0");
        let lsn = server.query("select restart_lsn from pg_replication_slots where slot_name = 'neon'");
        assert_eq!(lsn.parse::<Lsn>(), Ok(source.lsn()));
        assert_eq!(
            server.query("select external_id, remote_lsn from pg_replication_origin_status"),
            "elsewhere|0/ABCDE0"
        );
        assert_eq!(
            server.query("select timeline_id from pg_control_checkpoint()"),
            TLI.to_string()
        );
        server.query("commit prepared 'waits for us'");
        assert_eq!(server.query("select count(*) from p"), "2");
        amcheck(&server);
        server.query("insert into t select i, 'new', 0 from generate_series(100001, 101000) i");
        server.query("insert into u values (7)");
        server.query("vacuum full m");
        server.query("create index on tt (i)");
        let digest = server.query(DIGEST);
        server.stop();
        assert_eq!(
            read_control(&new.pgdata()).expect("control").state(),
            Some(DbState::ShutDowned)
        );

        let server = new.start(&settings);
        assert_eq!(server.query(DIGEST), digest);
        assert_eq!(server.query("select count(*) from u"), "1");
        amcheck(&server);
        server.stop();
    }
}

/// Compares every relation and SLRU file of two directories, checksums included.
fn same_files(old: &Path, new: &Path, source: &DirectorySource) {
    let unlogged = unlogged(source);
    let mut compared = 0;
    for directory in [
        "global",
        "base",
        "pg_xact",
        "pg_multixact",
        "pg_twophase",
        "pg_tblspc",
    ] {
        let (a, b) = (files(&old.join(directory)), files(&new.join(directory)));
        for (name, bytes) in &a {
            let file = name.rsplit('/').next().unwrap_or(name);
            let relation = file.split(['_', '.']).next().unwrap_or(file);
            let skip = name.ends_with("_fsm") || name == "pg_control" || file.starts_with("pg_internal.init");
            if skip
                || unlogged.contains(&relation.to_owned())
                || directory == "pg_tblspc" && file == "PG_VERSION"
            {
                continue;
            }
            assert!(b.get(name) == Some(bytes), "{directory}/{name} differs");
            compared += 1;
        }
    }
    assert!(compared > 500, "only {compared} files were compared");
}

fn unlogged(source: &DirectorySource) -> Vec<String> {
    let mut all = Vec::new();
    source
        .items(&mut |item| {
            if let neon_compute::Item::Relation { rel, .. } = item
                && rel.fork == Fork::Init
            {
                all.push(rel.rel.to_string());
            }
            Ok(())
        })
        .expect("items");
    all
}

/// Returns every file below a directory with its bytes.
pub fn files(root: &Path) -> BTreeMap<String, Vec<u8>> {
    fn walk(root: &Path, directory: &Path, all: &mut BTreeMap<String, Vec<u8>>) {
        for entry in fs::read_dir(directory).expect("directory") {
            let path = entry.expect("entry").path();
            if path.is_dir() {
                walk(root, &path, all);
            } else {
                let name = path
                    .strip_prefix(root)
                    .expect("below")
                    .to_string_lossy()
                    .into_owned();
                all.insert(name, fs::read(&path).expect("file"));
            }
        }
    }
    let mut all = BTreeMap::new();
    walk(root, root, &mut all);
    all
}

#[test]
fn a_read_only_directory_shows_the_position_and_makes_no_wal() {
    for installation in installations() {
        let old = Place::with_cluster(&installation);
        let (source, digest) = origin(&old);
        let new = Place::new(&installation);
        let mut read_only = boot(&source, Purpose::ReadOnly);
        read_only.slot = None;
        let built = DataDirectory::build(&source, &new.pgdata(), &read_only, &|_, _| true).expect("built");
        assert_eq!(built.prepared.len(), 1);
        let wal = files(&new.pgdata().join("pg_wal"));
        let settings = neon_compute::settings::EndpointSettings {
            read_only: true,
            ..new.settings()
        };
        let server = new.start(&settings);
        assert_eq!(server.query(DIGEST), digest);
        assert_eq!(server.query("select count(*) from p"), "0");
        assert_eq!(server.query("select pg_is_in_recovery()"), "t");
        let refused = server
            .try_query("postgres", "insert into m values (1000, 1)")
            .expect_err("a write was taken");
        assert!(refused.contains("read-only"), "{refused}");
        // Reading everything sets hint bits, which a primary would log.
        server.query("select count(*) from t, lateral (select 1) x");
        server.stop();
        assert!(wal == files(&new.pgdata().join("pg_wal")), "pg_wal has changed");
        let server = new.start(&settings);
        assert_eq!(server.query(DIGEST), digest);
        server.stop();
    }
}

#[test]
fn an_export_starts_without_us() {
    for installation in installations() {
        let old = Place::with_cluster(&installation);
        let auto = old.pgdata().join("postgresql.auto.conf");
        fs::write(
            &auto,
            "archive_mode = 'on'\narchive_command = 'false'\nmax_prepared_transactions = '5'\n",
        )
        .expect("write");
        let (source, digest) = origin(&old);
        let new = Place::new(&installation);
        // The settings of the position, which are no longer those that the directory had; a prepared transaction waits there.
        let settings = Settings::read(
            "archive_mode = on\narchive_command = 'false'\nwork_mem = '77MB'\ndata_directory = '/nowhere'\nunix_socket_directories = '/nowhere'\n",
        );
        let built = export(
            &source,
            &new.pgdata(),
            TLI,
            history(&source),
            Some(settings),
            &|_, _| true,
        )
        .expect("exported");
        let off: Vec<&str> = built.switched_off.iter().map(|off| off.name.as_str()).collect();
        assert_eq!(
            off,
            [
                "archive_command",
                "archive_mode",
                "data_directory",
                "unix_socket_directories"
            ]
        );
        let control = read_control(&new.pgdata()).expect("control");
        assert!(
            control.checkpoint_lsn() >= source.lsn()
                && control.checkpoint_lsn().bytes_since(source.lsn()) <= 40
        );

        let settings = new.settings();
        fs::create_dir(&settings.socket_dir).expect("mkdir");
        let pg_ctl = |arguments: &[&str]| {
            let status = Command::new(installation.program("pg_ctl"))
                .arg("-D")
                .arg(new.pgdata())
                .arg("-w")
                .args(arguments)
                .stdout(std::process::Stdio::null())
                .status()
                .expect("pg_ctl runs");
            assert!(
                status.success(),
                "{}",
                fs::read_to_string(new.log()).unwrap_or_default()
            );
        };
        let options = format!(
            "-p {} -c listen_addresses='' -k {}",
            settings.port,
            settings.socket_dir.display()
        );
        pg_ctl(&["-o", &options, "-l", &new.log().to_string_lossy(), "start"]);
        let adopted = neon_compute::Postmaster::adopt(&new.pgdata(), &new.log()).expect("readable");
        let neon_compute::Adoption::Adopted(mut postmaster) = adopted else {
            panic!("{adopted:?}")
        };
        let query = |sql: &str| {
            let psql = crate::cluster::psql(&installation);
            let mut command = crate::cluster::command(&psql, &settings.socket_dir, settings.port, "postgres");
            let output = command.arg("-c").arg(sql).output().expect("psql");
            assert!(
                output.status.success(),
                "{}",
                String::from_utf8_lossy(&output.stderr)
            );
            String::from_utf8_lossy(&output.stdout).trim_end().to_owned()
        };
        assert_eq!(query(DIGEST), digest);
        assert_eq!(query("show archive_mode"), "off");
        assert_eq!(query("show work_mem"), "77MB");
        assert_eq!(query("select gid from pg_prepared_xacts"), "waits for us");
        assert_eq!(
            query("select timeline_id from pg_control_checkpoint()"),
            TLI.to_string()
        );
        assert_eq!(
            postmaster.stop(PATIENCE).expect("stop"),
            neon_compute::Stopped::Fast
        );
    }
}

#[test]
fn nothing_is_written_when_a_relation_cannot_be_rebuilt() {
    let installation = &installations()[0];
    let old = Place::with_cluster(installation);
    let server = old.start(&old.settings());
    server.stop();
    let mut source = DirectorySource::open(&old.pgdata());
    let rel = RelTag {
        spc: 1663,
        db: 5,
        rel: 16384,
        fork: Fork::Main,
    };
    source.unbuildable = vec![Unbuildable {
        rel,
        record: "Gin/INSERT".to_owned(),
        lsn: Lsn(8),
    }];
    let new = Place::new(installation);
    let error = DataDirectory::build(
        &source,
        &new.pgdata(),
        &boot(&source, Purpose::ReadWrite),
        &|_, _| true,
    );
    assert!(
        matches!(&error, Err(ComputeError::Unbuildable(all)) if all.len() == 1),
        "{error:?}"
    );
    assert_eq!(fs::read_dir(new.root.path()).expect("directory").count(), 0);

    source.unbuildable.clear();
    fs::create_dir(new.pgdata()).expect("mkdir");
    fs::write(new.pgdata().join("mine"), "").expect("write");
    let error = DataDirectory::build(
        &source,
        &new.pgdata(),
        &boot(&source, Purpose::ReadWrite),
        &|_, _| true,
    );
    assert!(matches!(error, Err(ComputeError::NotEmpty(_))));
    assert!(new.pgdata().join("mine").exists());

    // What a build left that was cut does not stand in the way, and does not stay.
    fs::remove_file(new.pgdata().join("mine")).expect("remove");
    let building = new.root.path().join("pgdata.building");
    fs::create_dir_all(building.join("base")).expect("mkdir");
    DataDirectory::build(
        &source,
        &new.pgdata(),
        &boot(&source, Purpose::ReadWrite),
        &|_, _| true,
    )
    .expect("built");
    assert!(!building.exists() && new.pgdata().join("PG_VERSION").exists());
}
