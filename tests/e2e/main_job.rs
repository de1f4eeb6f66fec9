//! The main job on one machine: init, start, load, commit, branch, diverge, stop, export.

use std::fs;
use std::path::{Path, PathBuf};
use std::time::SystemTime;

use neon_tests_kit::{
    PlainServer, Serve, TestEnvironment, TestPostgres, TestRepo, assert_same, kill, on_both, on_every,
    postmaster_family,
};
use rustix::process::Signal;
use serde_json::Value;

on_every!(
    a_cluster_is_branched_and_exported,
    tablespaces_stay_inside,
    every_type_of_index_goes_along
);
on_both!(
    endpoints_come_and_go,
    housekeeping_is_no_history,
    looking_at_much_is_no_history,
    json_has_its_shapes,
    a_data_directory_is_taken_in
);

/// Two tables with an index and a sequence, some of it large enough for TOAST.
const SHOP: &str = "create table customer(id serial primary key, name text unique, note text); \
     create table orders(id bigint primary key, customer int references customer, price numeric(10,2)); \
     insert into customer(name, note) select 'customer ' || i, repeat(md5(i::text), 200) from generate_series(1, 200) i; \
     insert into orders select i, 1 + i % 200, i * 0.37 from generate_series(1, 5000) i; \
     create index on orders(customer)";

fn a_cluster_is_branched_and_exported(environment: &TestEnvironment, postgres: &TestPostgres) {
    let repo = environment.init("shop", postgres);
    let uri = repo.start("main");
    let version = repo.sql("main", "show server_version_num");
    assert_eq!(version[..2].parse(), Ok(postgres.major()));
    assert_eq!(repo.sql("main", "show data_checksums"), "on");
    assert_eq!(repo.sql("main", "select datcollate || ' ' || pg_encoding_to_char(encoding) from pg_database where datname = 'postgres'"), "C.UTF-8 UTF8");
    TestPostgres::sql(&uri, SHOP);
    repo.ok(&["commit", "-m", "customers and orders"]);

    repo.ok(&["branch", "dev"]);
    let dev = repo.start("dev");
    assert_ne!(dev, uri, "two endpoints beside each other");
    assert_same(
        &TestPostgres::digests(&dev),
        &TestPostgres::digests(&uri),
        "tables of the branch",
    );
    // Both go on, each for itself, on the same rows, blocks and sequence.
    TestPostgres::sql(
        &dev,
        "update orders set price = 0 where id <= 10; delete from customer where id = 200 and false; insert into customer(name) values ('of dev')",
    );
    TestPostgres::sql(
        &uri,
        "delete from orders where id > 4000; insert into customer(name) values ('of main'); alter table orders add column paid bool default false",
    );
    let counts = "select (select count(*) from orders), (select sum(price) from orders where id <= 10), (select string_agg(name, ',') from customer where name like 'of %')";
    assert_eq!(TestPostgres::sql(&dev, counts), "5000|0.00|of dev");
    assert_eq!(TestPostgres::sql(&uri, counts), "4000|20.35|of main");

    // A branch of a branch, and one of a running branch: they hold what was acknowledged a moment ago.
    repo.ok(&["branch", "nightly", "dev"]);
    TestPostgres::sql(&dev, "drop table orders cascade");
    let nightly = repo.start("nightly");
    assert_eq!(TestPostgres::sql(&nightly, counts), "5000|0.00|of dev");
    assert!(TestPostgres::amcheck(&nightly) > 100);
    assert!(TestPostgres::amcheck(&dev) > 100);

    let content = postgres.content(&uri);
    let digests = TestPostgres::digests(&uri);
    repo.ok(&["stop", "--all"]);
    repo.fsck();
    export_equals(&repo, postgres, "main", &content, &digests);
}

/// Exports a revision and compares what stock Postgres makes of it.
fn export_equals(repo: &TestRepo<'_>, postgres: &TestPostgres, revision: &str, content: &str, digests: &str) {
    let environment = repo.environment();
    let plain = environment.path("plain");
    let exported = repo.json(&["export", revision, "--pgdata", plain.to_str().expect("text")]);
    assert_eq!(exported["lsn"], repo.json(&["show", revision])["lsn"]);
    let server = PlainServer::start(environment, postgres, &plain);
    assert_same(
        &postgres.content(&server.uri()),
        content,
        "contents of the export",
    );
    assert_same(
        &TestPostgres::digests(&server.uri()),
        digests,
        "tables of the export",
    );
    assert_eq!(server.sql("select pg_is_in_recovery()"), "f");
    server.sql("insert into customer(name) values ('outside')");
    assert!(TestPostgres::amcheck(&server.uri()) > 100);
    server.stop();
    // Its directory is not empty now.
    let refused = repo.refused(&["export", revision, "--pgdata", plain.to_str().expect("text")]);
    assert!(refused.says("not empty"), "{refused:?}");
}

fn endpoints_come_and_go(environment: &TestEnvironment, postgres: &TestPostgres) {
    let repo = environment.init("shop", postgres);
    let port = environment.port().to_string();
    let uri = repo.ok(&["start", "--port", &port]);
    assert!(
        uri.starts_with("postgresql://postgres:") && uri.ends_with(&format!("@127.0.0.1:{port}/postgres")),
        "{uri}"
    );
    TestPostgres::sql(&uri, SHOP);
    let again = repo.neon(&["start"]);
    assert_eq!(again.success(), uri, "a second start prints the same");
    assert!(again.stderr.contains("runs already"), "{}", again.stderr);
    assert_eq!(repo.uri("main"), uri);
    assert_eq!(repo.ok(&["uri"]), uri);
    assert_eq!(
        repo.ok(&["psql", "--", "-Atc", "select count(*) from orders"]),
        "5000"
    );
    assert_eq!(
        repo.neon(&["psql", "main", "--", "-c", "select 1/0"]).code(),
        Some(1),
        "psql's own exit code"
    );
    let status = repo.json(&["status"]);
    assert_eq!(status["daemon"].as_u64(), repo.daemon().map(u64::from));
    assert_eq!(status["endpoints"][0]["state"], "running");
    assert_eq!(status["endpoints"][0]["port"].to_string(), port);
    assert_eq!(
        status["endpoints"][0]["pid"].as_u64(),
        repo.postmaster("main").map(u64::from)
    );

    let pid = repo.postmaster("main").expect("it runs");
    let stopped = repo.json(&["stop"]);
    assert_eq!(stopped[0]["was_running"], true);
    assert!(
        stopped[0]["commit"].is_string(),
        "what was written is committed: {stopped}"
    );
    assert!(!std::path::Path::new(&format!("/proc/{pid}")).exists());
    assert!(repo.refused(&["uri"]).says("neon start main"));
    let again = repo.json(&["stop"]);
    assert_eq!(again[0]["was_running"], false, "a second stop does nothing");

    assert_eq!(repo.start("main"), uri, "same port, same password");
    assert_eq!(
        repo.sql("main", "select count(*), max(price) from orders"),
        "5000|1850.00"
    );
    // The default branch of commands.
    repo.ok(&["branch", "other"]);
    repo.ok(&["switch", "other"]);
    assert_eq!(repo.json(&["status"])["head"], "other");
    let other = repo.ok(&["start"]);
    assert_ne!(other, uri);
    repo.ok(&["stop", "--all"]);
    let states = repo.json(&["status"])["endpoints"].clone();
    assert!(
        states
            .as_array()
            .expect("a list")
            .iter()
            .all(|one| one["state"] != "running"),
        "{states}"
    );
    assert_eq!(repo.start("main"), uri);
}

/// Looking does not write: neither commits nor divergence come of starting, reading, vacuuming and stopping.
fn housekeeping_is_no_history(environment: &TestEnvironment, postgres: &TestPostgres) {
    let repo = environment.init("shop", postgres);
    let uri = repo.start("main");
    TestPostgres::sql(&uri, SHOP);
    repo.ok(&["stop"]);
    let before = repo.place("main");
    let log = repo.json(&["log"]);
    for _ in 0..2 {
        let uri = repo.start("main");
        TestPostgres::sql(&uri, "select count(*) from orders where price > 5; checkpoint");
        assert!(repo.json(&["stop"])[0]["commit"].is_null());
    }
    repo.ok(&["branch", "look"]);
    let look = repo.start("look");
    TestPostgres::sql(&look, "select sum(price) from orders");
    repo.ok(&["stop", "look"]);
    assert_eq!(repo.place("look"), before);
    assert_eq!(repo.place("main"), before);
    assert_eq!(
        repo.json(&["log"]).as_array().map(Vec::len),
        log.as_array().map(Vec::len)
    );
}

/// The first look at what was loaded writes an image of each page, for its hint bits: much more WAL than is kept.
fn looking_at_much_is_no_history(environment: &TestEnvironment, postgres: &TestPostgres) {
    let repo = environment.init("shop", postgres);
    repo.set("pagestore.seal_megabytes", "1");
    repo.set("retention.keep_wal", "0B");
    let uri = repo.start("main");
    TestPostgres::sql(
        &uri,
        "create table t as select i, repeat('x', 500) x from generate_series(1, 60000) i; checkpoint",
    );
    repo.ok(&["commit", "-m", "loaded"]);
    let before = repo.place("main");
    let wal = "select pg_current_wal_lsn() - '0/0'::pg_lsn";
    let written = |uri: &str| TestPostgres::sql(uri, wal).parse::<u64>().expect("a number");
    let from = written(&uri);
    TestPostgres::sql(&uri, "select count(*) from t");
    assert!(written(&uri) - from > 20 << 20, "images of all pages");
    // Segments of it are not kept any more.
    let kept = || {
        let timelines = fs::read_dir(repo.inside("timelines"))
            .expect("timelines")
            .flatten();
        let segments =
            timelines.flat_map(|timeline| fs::read_dir(timeline.path().join("wal")).into_iter().flatten());
        segments.flatten().count()
    };
    repo.ok(&["branch", "look"]);
    assert_eq!(repo.place("look"), before);
    let moved = repo.json(&["commit", "-m", "nothing but a message"]);
    assert_eq!(moved["lsn"], before.lsn.as_str(), "{moved}");
    let stopped = repo.json(&["stop"]);
    assert!(stopped[0]["commit"].is_null(), "{stopped}");
    // They go in the background.
    for _ in 0..600 {
        if kept() == 1 {
            break;
        }
        std::thread::sleep(std::time::Duration::from_millis(50));
    }
    assert_eq!(kept(), 1);
    assert_eq!(repo.place("main").lsn, before.lsn);
    // What comes after it is.
    let uri = repo.start("main");
    TestPostgres::sql(&uri, "insert into t values (0, 'new')");
    assert!(!repo.json(&["stop"])[0]["commit"].is_null());
    repo.fsck();
}

#[track_caller]
fn assert_keys(value: &Value, keys: &[&str]) {
    let mut wanted = keys.to_vec();
    wanted.sort_unstable();
    let mut found: Vec<&str> = value
        .as_object()
        .expect("an object")
        .keys()
        .map(String::as_str)
        .collect();
    found.sort_unstable();
    assert_eq!(found, wanted, "{value}");
}

fn json_has_its_shapes(environment: &TestEnvironment, postgres: &TestPostgres) {
    let version = postgres.major().to_string();
    let made = environment
        .neon(&["init", "shop", "--pg-version", &version, "--json"])
        .json();
    assert_keys(
        &made,
        &[
            "directory",
            "repository",
            "branch",
            "commit",
            "lsn",
            "pg_version",
            "notes",
        ],
    );
    assert_eq!(made["pg_version"], postgres.major());
    assert_eq!(made["branch"], "main");
    let repo = environment.repo("shop");
    let endpoint = repo.json(&["start"]);
    assert_keys(
        &endpoint,
        &[
            "name",
            "uri",
            "port",
            "socket_directory",
            "user",
            "database",
            "read_only",
            "already_running",
            "pid",
            "timeline",
            "lsn",
            "notes",
        ],
    );
    TestPostgres::sql(
        endpoint["uri"].as_str().expect("text"),
        "create table t as select 1 as one",
    );
    let moved = repo.json(&[
        "commit",
        "-m",
        "one\n\nand only",
        "--author",
        "Ada <ada@example.org>",
    ]);
    assert_keys(
        &moved,
        &["name", "commit", "timeline", "lsn", "made_commit", "notes"],
    );
    assert_eq!(moved["made_commit"], true);
    let tag = repo.json(&["tag", "v1"]);
    assert_eq!(
        (&tag["commit"], &tag["made_commit"]),
        (&moved["commit"], &Value::Bool(false))
    );
    let tags = repo.json(&["tag"]);
    assert_keys(&tags[0], &["name", "commit", "lsn", "message"]);
    assert_eq!(tags[0]["message"], "one", "the first line");
    let branches = repo.json(&["branch"]);
    assert_keys(
        &branches[0],
        &[
            "name", "head", "commit", "timeline", "lsn", "parent", "fork_lsn", "endpoint", "port", "size",
            "upstream", "tracking", "damaged",
        ],
    );
    assert_eq!(
        (&branches[0]["name"], &branches[0]["endpoint"]),
        (&"main".into(), &"running".into())
    );
    assert!(branches[0]["size"].as_u64() > Some(5 << 20), "{branches}");
    let status = repo.json(&["status"]);
    assert_keys(
        &status,
        &[
            "directory",
            "repository",
            "head",
            "pg_version",
            "daemon",
            "endpoints",
            "branches",
            "size",
            "aside",
        ],
    );
    assert_keys(
        &status["endpoints"][0],
        &["name", "state", "port", "pid", "read_only", "received"],
    );

    let log = repo.json(&["log"]);
    let commit_keys = &[
        "id",
        "timeline",
        "lsn",
        "parents",
        "refs",
        "author",
        "time",
        "message",
        "pg_version_num",
        "system_id",
        "last_transaction_time",
        "size",
        "path",
        "wal_segments",
    ];
    assert_keys(&log[0], commit_keys);
    let ids: Vec<&Value> = log
        .as_array()
        .expect("a list")
        .iter()
        .map(|commit| &commit["id"])
        .collect();
    assert_eq!(ids, [&moved["commit"], &made["commit"]], "newest first");
    assert_eq!(log[0]["author"], "Ada <ada@example.org>");
    assert_eq!(log[0]["parents"][0], made["commit"]);
    let refs: Vec<&str> = log[0]["refs"]
        .as_array()
        .expect("a list")
        .iter()
        .filter_map(Value::as_str)
        .collect();
    assert!(
        refs.iter().any(|name| name.ends_with("main")) && refs.iter().any(|name| name.ends_with("v1")),
        "{refs:?}"
    );
    assert_eq!(
        repo.json(&["log", "-n", "1"]).as_array().expect("a list").len(),
        1
    );
    let shown = repo.json(&["show", "v1"]);
    assert_keys(&shown, commit_keys);
    assert_eq!(shown["id"], moved["commit"]);
    assert!(shown["size"].as_u64() > Some(5 << 20), "{shown}");
    assert!(!shown["path"].as_array().expect("a list").is_empty());
    assert!(shown["last_transaction_time"].is_string(), "{shown}");
    let text = repo.ok(&["log"]);
    assert!(
        text.contains("Ada <ada@example.org>") && text.contains("one"),
        "{text}"
    );

    let setting = repo.json(&["config", "get", "pagestore.seal_megabytes"]);
    assert_keys(&setting, &["key", "value"]);
    let stopped = repo.json(&["stop", "--all"]);
    assert_keys(&stopped[0], &["name", "commit", "lsn", "was_running"]);
    let checked = repo.json(&["fsck"]);
    assert_keys(
        &checked,
        &[
            "objects",
            "bytes",
            "refs",
            "commits",
            "layer_maps",
            "repair",
            "rederived",
            "booted",
            "findings",
        ],
    );
    let checked = repo.json(&["fsck", "--deep", "--repair"]);
    assert_keys(&checked["repair"], &["repaired", "left", "notes"]);
    assert_keys(
        &checked["rederived"],
        &["wal_bytes", "versions", "images", "skipped"],
    );
    assert_eq!(checked["findings"].as_array().map(Vec::len), Some(0));
    let error = repo.neon(&["show", "nowhere", "--json"]);
    assert_eq!((error.code(), error.stdout.as_str()), (Some(1), ""));
    let error: Value = serde_json::from_str(&error.stderr).expect("errors are JSON too");
    assert_keys(&error["error"], &["code", "message", "caused_by", "hint"]);
    assert_eq!(error["error"]["code"], "unknown_revision");
}

fn a_data_directory_is_taken_in(environment: &TestEnvironment, postgres: &TestPostgres) {
    let pgdata = PlainServer::initdb(environment, postgres, "plain");
    let server = PlainServer::start(environment, postgres, &pgdata);
    server.sql(SHOP);
    server.sql("create database second");
    server
        .sql("create unlogged table u (i int); select pg_create_physical_replication_slot('standby', true)");
    fs::write(pgdata.join("pg_hba.conf.bak"), "mine").expect("written");
    let (content, digests) = (
        postgres.content(&server.uri()),
        TestPostgres::digests(&server.uri()),
    );
    let from = pgdata.to_str().expect("text");
    let running = environment.neon(&["init", "shop", "--from", from]).refused();
    assert!(running.says("running") && running.says("stop"), "{running:?}");
    assert!(!environment.path("shop/.neon").exists(), "nothing half-made");
    server.stop();

    let made = environment
        .neon(&["init", "shop", "--from", from, "--json"])
        .json();
    assert_eq!(made["pg_version"], postgres.major());
    let notes = made["notes"].to_string();
    for told in [
        "slot standby does not come along",
        "unlogged relations come out empty",
        "pg_hba.conf.bak is left",
    ] {
        assert!(notes.contains(told), "{notes}");
    }
    let repo = environment.repo("shop");
    let uri = repo.start("main");
    assert_same(&postgres.content(&uri), &content, "contents of the import");
    assert_same(&TestPostgres::digests(&uri), &digests, "tables of the import");
    assert_eq!(
        TestPostgres::sql(&uri, "select count(*) from pg_database where datname = 'second'"),
        "1"
    );
    TestPostgres::sql(&uri, "insert into customer(name) values ('inside')");
    assert!(TestPostgres::amcheck(&uri) > 100);
    repo.ok(&["stop"]);
    repo.fsck();
    // The same directory, taken in twice, is the same history.
    environment.neon(&["init", "twin", "--from", from]).success();
    let twin = environment.repo("twin");
    assert_eq!(twin.place("main").timeline, repo.place("main~1").timeline);
}

/// A tablespace lies inside each data directory that is made: endpoints of one history never share a path.
fn tablespaces_stay_inside(environment: &TestEnvironment, postgres: &TestPostgres) {
    let repo = environment.init("shop", postgres);
    let main = repo.start("main");
    let outside = environment.path("fast");
    fs::create_dir(&outside).expect("created");
    TestPostgres::sql(
        &main,
        &format!("create tablespace fast location '{}'", outside.display()),
    );
    TestPostgres::sql(&main, "create database beside tablespace fast");
    TestPostgres::sql(
        &main,
        "create table t(a int primary key using index tablespace fast, b text) tablespace fast; \
         insert into t select i, repeat('x', 100) from generate_series(1, 2000) i",
    );
    let beside = |uri: &str| format!("{}/beside", uri.rsplit_once('/').expect("a path").0);
    TestPostgres::sql(&beside(&main), "create table s as select 1 a");

    repo.ok(&["branch", "dev"]);
    let dev = repo.start("dev");
    let location = "select pg_tablespace_location(oid) from pg_tablespace where spcname = 'fast'";
    assert_eq!(
        TestPostgres::sql(&main, location),
        outside.to_str().expect("text")
    );
    assert!(
        !TestPostgres::sql(&dev, location).starts_with('/'),
        "inside the data directory"
    );
    let before = files_below(&outside);
    TestPostgres::sql(
        &dev,
        "delete from t where a > 500; create table u tablespace fast as select * from t; create index on u(b) tablespace fast; checkpoint",
    );
    TestPostgres::sql(&beside(&dev), "insert into s values (2); checkpoint");
    assert_eq!(
        files_below(&outside),
        before,
        "what dev writes does not come here"
    );
    assert_eq!(TestPostgres::sql(&main, "select count(*) from t"), "2000");
    TestPostgres::sql(&main, "vacuum t");

    // Crash recovery in place, a fork of the branch, a clone, an export: always inside.
    for process in postmaster_family(repo.postmaster("dev").expect("runs")) {
        kill(process, Signal::KILL);
    }
    let dev = repo.start("dev");
    let counts = "select (select count(*) from t), (select count(*) from u)";
    assert_eq!(TestPostgres::sql(&dev, counts), "500|500");
    assert_eq!(TestPostgres::sql(&beside(&dev), "select sum(a) from s"), "3");
    repo.ok(&["commit", "-m", "in a tablespace", "dev"]);
    TestPostgres::sql(&dev, "drop table u; alter table t set tablespace pg_default");
    TestPostgres::sql(&dev, "alter index t_pkey set tablespace pg_default");
    TestPostgres::sql(&dev, "drop database beside");
    TestPostgres::sql(&dev, "drop tablespace fast");
    assert_eq!(TestPostgres::sql(&dev, "select count(*) from t"), "500");
    assert_eq!(TestPostgres::sql(&beside(&main), "select sum(a) from s"), "1");
    let serve = Serve::start(environment, "srv");
    repo.ok(&["origin", "add", "cloud", &serve.uri("shop")]);
    repo.ok(&["branch", "old", "dev~1"]);
    repo.ok(&["push", "old", "cloud"]);
    environment
        .neon(&["clone", &serve.uri("shop"), "copy", "--branch", "old"])
        .success();
    let copy = environment.repo("copy");
    let old = copy.start("old");
    assert_eq!(TestPostgres::sql(&old, counts), "500|500");
    assert!(TestPostgres::amcheck(&old) > 100);
    let plain = environment.path("plain");
    copy.ok(&["export", "old", "--pgdata", plain.to_str().expect("text")]);
    let server = PlainServer::start(environment, postgres, &plain);
    assert_eq!(TestPostgres::sql(&server.uri(), counts), "500|500");
    assert_eq!(
        TestPostgres::sql(&beside(&server.uri()), "select sum(a) from s"),
        "3"
    );
    server.stop();
    copy.ok(&["stop", "--all"]);
    repo.ok(&["stop", "--all"]);
    copy.fsck();
    repo.fsck();
}

/// Returns the files below a directory with their lengths and times.
fn files_below(directory: &Path) -> Vec<(PathBuf, u64, SystemTime)> {
    let mut files = Vec::new();
    for entry in fs::read_dir(directory).expect("listed") {
        let path = entry.expect("listed").path();
        let metadata = fs::metadata(&path).expect("is there");
        if metadata.is_dir() {
            files.extend(files_below(&path));
        } else {
            files.push((path, metadata.len(), metadata.modified().expect("known")));
        }
    }
    files.sort();
    files
}

/// A table with an index of each type, and questions that only the index is asked.
const INDEXED: &str = "create extension bloom; \
     create table doc(id int, words text[], body tsvector, place point, span int4range, name text, number int, day date); \
     create index words on doc using gin(words); create index body on doc using gin(body) with (fastupdate = off); \
     create index place on doc using gist(place); create index span on doc using gist(span); \
     create index name on doc using spgist(name); create index spot on doc using spgist(place); \
     create index number on doc using hash(number); create index day on doc using brin(day) with (pages_per_range = 2); \
     create index id on doc using bloom(id); \
     create function fill(first int, last int) returns void language sql as $$ \
     insert into doc select i, array['w' || i % 97, 'v' || i % 11], to_tsvector('simple', 'a' || i % 53 || ' b' || i), \
       point(i % 100, i / 100), int4range(i, i + 10), 'name ' || md5(i::text), i % 1000, date '2020-01-01' + i / 50 \
       from generate_series(first, last) i $$;";
const QUESTIONS: [&str; 8] = [
    "select count(*), sum(id) from doc where words @> array['w7']",
    "select count(*), sum(id) from doc where body @@ 'a5'",
    "select count(*), sum(id) from doc where place <@ box '(10,10),(30,40)'",
    "select count(*), sum(id) from doc where span && int4range(100, 200)",
    "select count(*), sum(id) from doc where name ^@ 'name a'",
    "select count(*), sum(id) from doc where number = 77",
    "select count(*), sum(id) from doc where day between '2020-01-20' and '2020-02-10'",
    "select count(*), sum(id) from doc where id = 1234",
];

/// Asks each question of the table and of its index, which must agree; returns the answers.
fn ask(uri: &str) -> String {
    let answers = |settings: &str| TestPostgres::sql(uri, &format!("{settings}; {}", QUESTIONS.join("; ")));
    let indexed = answers("set enable_seqscan = off");
    assert_same(
        &indexed,
        &answers("set enable_indexscan = off; set enable_bitmapscan = off; set enable_indexonlyscan = off"),
        "what the indexes say and what the table says",
    );
    indexed
}

fn every_type_of_index_goes_along(environment: &TestEnvironment, postgres: &TestPostgres) {
    let repo = environment.init("shop", postgres);
    repo.set("pagestore.seal_megabytes", "8");
    let main = repo.start("main");
    TestPostgres::sql(&main, &format!("{INDEXED} select fill(1, 6000)"));
    TestPostgres::sql(
        &main,
        "delete from doc where id % 3 = 0; vacuum doc; select fill(6001, 9000)",
    );
    repo.ok(&["commit", "-m", "indexed"]);
    let then = ask(&main);
    TestPostgres::sql(
        &main,
        "update doc set words = words || array['w7'], place = point(20, 20), name = 'name a' || name, number = 77 where id % 5 = 1; \
         delete from doc where id < 2000; vacuum doc; reindex index span; select fill(9001, 9500)",
    );
    repo.ok(&["branch", "now", "main"]);
    let at = repo.place("now");
    assert_same(&ask(&repo.start("now")), &ask(&main), "a fork of now");
    // The fork goes on, and recovers in place.
    let fork = repo.uri("now");
    TestPostgres::sql(
        &fork,
        "delete from doc where id % 2 = 0; vacuum doc; select fill(20001, 21000)",
    );
    for process in postmaster_family(repo.postmaster("now").expect("runs")) {
        kill(process, Signal::KILL);
    }
    ask(&repo.start("now"));
    repo.ok(&["branch", "then", "main~1"]);
    assert_same(&ask(&repo.start("then")), &then, "a fork of the past");
    assert!(TestPostgres::amcheck(&repo.uri("then")) > 50);
    let plain = environment.path("plain");
    repo.ok(&[
        "export",
        &format!("main@{}", at.lsn),
        "--pgdata",
        plain.to_str().expect("text"),
    ]);
    let server = PlainServer::start(environment, postgres, &plain);
    assert_same(&ask(&server.uri()), &ask(&main), "an export");
    server.stop();
    repo.ok(&["stop", "--all"]);
    repo.fsck();
}
