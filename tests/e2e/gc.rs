//! Garbage goes, and nothing else: disk comes back, while endpoints write, pushes run and the program is killed.

use std::fs;
use std::path::Path;
use std::time::{Duration, Instant};

use neon_tests_kit::{Serve, TestEnvironment, TestPostgres, TestRepo, Writer, assert_same, on_both};
use serde_json::Value;

on_both!(
    a_deleted_branch_gives_its_disk_back,
    nothing_in_use_is_collected,
    a_killed_collection_is_gone_on_with,
    history_is_kept_as_long_as_retention_says
);

/// Three megabytes that do not compress.
const NOISE: &str = "create table noise(x bytea); alter table noise alter x set storage external; insert into noise select \
                     decode(string_agg(md5(i::text || j::text || random()::text), ''), 'hex') from generate_series(1, 96) i, \
                     generate_series(1, 2048) j group by i";

/// Returns how many things a collection lists under a key.
fn count(collected: &Value, key: &str) -> usize {
    collected[key].as_array().expect("a list").len()
}

/// Bytes of objects and of the WAL of timelines.
fn disk(repo: &TestRepo<'_>) -> u64 {
    repo.json(&["status"])["size"].as_u64().expect("a size")
}

/// Makes a branch with some megabytes of its own, and deletes it.
fn make_garbage(repo: &TestRepo<'_>, name: &str) {
    repo.ok(&["branch", name]);
    repo.sql_on(name, NOISE);
    repo.ok(&["stop", name]);
    repo.ok(&["branch", "-D", name]);
}

fn a_deleted_branch_gives_its_disk_back(environment: &TestEnvironment, postgres: &TestPostgres) {
    let shop = environment.init("shop", postgres);
    shop.set("pagestore.seal_megabytes", "1");
    // Whatever it replaces is garbage too.
    shop.set("pagestore.compaction", "off");
    shop.sql_on("main", "create table t(i int); insert into t values (1)");
    shop.ok(&["tag", "v1"]);
    shop.sql("main", "insert into t values (2)");
    shop.ok(&["commit", "main", "-m", "two"]);
    assert_eq!(
        count(&shop.json(&["gc", "--grace", "0s"]), "deleted"),
        0,
        "nothing is garbage"
    );
    let before = disk(&shop);
    shop.ok(&["branch", "other", "v1"]);
    make_garbage(&shop, "try");
    let with_garbage = disk(&shop);
    assert!(
        with_garbage > before + (6 << 20),
        "layers and WAL: {before} {with_garbage}"
    );

    let planned = shop.json(&["gc", "--dry-run"]);
    assert!(
        count(&planned, "condemned") > 2 && count(&planned, "deleted") == 0,
        "{planned}"
    );
    assert!(!shop.inside("condemned").exists(), "a dry run writes nothing");
    let condemned = shop.json(&["gc"]);
    assert_eq!(
        condemned["condemned"].as_array().map(Vec::len),
        condemned["waiting"].as_array().map(Vec::len)
    );
    assert_eq!(condemned["grace_seconds"], 86_400);
    let again = shop.json(&["gc"]);
    assert_eq!(
        (count(&again, "condemned"), count(&again, "deleted")),
        (0, 0),
        "{again}"
    );
    assert_eq!(
        again["waiting"], condemned["waiting"],
        "it was found the first time"
    );
    assert!(shop.inside("condemned").exists() && disk(&shop) >= with_garbage);
    let planned = shop.json(&["gc", "--dry-run", "--grace", "0s"]);
    let deleted = shop.json(&["gc", "--grace", "0s"]);
    assert_eq!(
        planned["deleted"].as_array().map(Vec::len),
        deleted["deleted"].as_array().map(Vec::len)
    );
    let kinds: Vec<&str> = deleted["deleted"]
        .as_array()
        .expect("a list")
        .iter()
        .filter_map(|garbage| garbage["kind"].as_str())
        .collect();
    for kind in ["commit", "timeline", "layer", "map"] {
        assert!(kinds.contains(&kind), "{kind}: {deleted}");
    }
    assert!(
        disk(&shop) < before + (2 << 20),
        "{before} {with_garbage} {}",
        disk(&shop)
    );
    assert!(shop.ok(&["gc", "--grace", "0s"]).contains("there is no garbage"));
    assert!(!shop.inside("condemned").exists());

    shop.fsck();
    assert_eq!(shop.sql("main", "select sum(i) from t"), "3");
    assert_eq!(shop.sql_on("other", "select sum(i) from t"), "1");
    assert!(shop.ok(&["log", "main"]).contains("two"));
    shop.ok(&["stop", "--all"]);
    shop.fsck();
    shop.ok(&[
        "export",
        "v1",
        "--pgdata",
        environment.path("plain").to_str().expect("a path"),
    ]);
}

/// Collects without grace all the time, while a branch is written, sealed, pushed, cloned and pulled.
fn nothing_in_use_is_collected(environment: &TestEnvironment, postgres: &TestPostgres) {
    let serve = Serve::start(environment, "srv");
    let shop = environment.init("shop", postgres);
    shop.set("pagestore.seal_megabytes", "1");
    let uri = shop.start("main");
    TestPostgres::sql(&uri, Writer::TABLE);
    shop.ok(&["origin", "add", "cloud", &serve.uri("shop")]);
    shop.ok(&["push", "main", "cloud"]);
    let hosted = environment.repo_at(&serve.root().join("shop"));
    let copy = environment.clone(&serve.uri("shop"), "copy");
    let writer = Writer::start(&uri, 1);
    let mut deleted = 0;
    std::thread::scope(|scope| {
        let pushing = scope.spawn(|| {
            for round in 0..6 {
                let filled = TestPostgres::try_sql(&uri, &NOISE.replace("noise", &format!("noise{round}")));
                assert!(filled.status.success(), "{}", filled.describe());
                shop.ok(&["push"]);
                copy.ok(&["pull"]);
            }
        });
        while !pushing.is_finished() {
            for repo in [&shop, &hosted, &copy] {
                deleted += count(&repo.json(&["gc", "--grace", "0s"]), "deleted");
            }
        }
        pushing.join().expect("every push and pull succeeded");
    });
    eprintln!("{deleted} things were collected meanwhile");
    let acknowledged = writer.end();
    shop.ok(&["stop"]);
    shop.ok(&["push"]);
    copy.ok(&["pull"]);
    for repo in [&shop, &hosted, &copy] {
        repo.ok(&["gc", "--grace", "0s"]);
        repo.fsck();
    }
    let (ours, theirs) = (shop.start("main"), copy.start("main"));
    assert_same(
        &postgres.content(&ours),
        &postgres.content(&theirs),
        "what was pulled",
    );
    let rows = TestPostgres::sql(&theirs, "select count(*) from acknowledged");
    assert!(rows.parse::<usize>().expect("a number") >= acknowledged.len());
}

/// `kill -9` after each step; the next run finds what is left, and the one after it nothing.
fn a_killed_collection_is_gone_on_with(environment: &TestEnvironment, postgres: &TestPostgres) {
    let shop = environment.init("shop", postgres);
    shop.set("pagestore.seal_megabytes", "1");
    // Whatever it replaces is garbage too.
    shop.set("pagestore.compaction", "off");
    shop.sql_on("main", "create table t(i int); insert into t values (1)");
    let garbage = disk(&shop);
    make_garbage(&shop, "try");
    make_garbage(&shop, "again");
    shop.ok(&["stop", "--all"]);
    shop.quit();
    assert!(disk(&shop) > garbage + (4 << 20));
    let steps = [
        "gc-after-list",
        "gc-after-commit",
        "gc-after-timeline",
        "gc-timelines-aside",
        "gc-after-object",
        "gc-after-object",
    ];
    for step in steps {
        let mut command = shop.command(&["gc", "--grace", "0s"]);
        let output = neon_tests_kit::Output::of(command.env("NEON_FAILPOINTS", format!("{step}=kill")));
        assert!(
            !output.status.success() && output.stderr.contains(&format!("failpoint {step}")),
            "{}",
            output.describe()
        );
        shop.fsck();
    }
    let rest = shop.json(&["gc", "--grace", "0s"]);
    assert!(count(&rest, "deleted") > 0, "{rest}");
    assert!(shop.ok(&["gc", "--grace", "0s"]).contains("there is no garbage"));
    shop.fsck();
    assert!(disk(&shop) < garbage + (2 << 20), "{garbage} {}", disk(&shop));
    assert_eq!(left_in(&shop.inside("timelines")), 0, "nothing half-removed");
    assert_eq!(shop.sql_on("main", "select i from t"), "1");
}

/// A head that only the reflog remembers is not worth its pages any more, once retention says so; its commit is.
fn history_is_kept_as_long_as_retention_says(environment: &TestEnvironment, postgres: &TestPostgres) {
    let serve = Serve::start(environment, "srv");
    let shop = environment.init("shop", postgres);
    shop.set("pagestore.seal_megabytes", "1");
    shop.sql_on("main", "create table t(i int); insert into t values (1)");
    shop.ok(&["origin", "add", "cloud", &serve.uri("shop")]);
    shop.ok(&["push", "main", "cloud"]);
    let copy = environment.clone(&serve.uri("shop"), "copy");
    copy.sql_on("main", "insert into t values (2)");
    copy.ok(&["stop"]);
    copy.ok(&["push"]);
    // The first seal may lie across the position at which the histories part, and is shared then.
    shop.sql("main", NOISE);
    shop.sql("main", &NOISE.replace("noise", "louder"));
    shop.ok(&["stop"]);
    let old = shop.place("main");
    shop.ok(&["tag", "kept"]);
    shop.ok(&["pull", "--force"]);
    let shown = shop.json(&["retention"]);
    assert_eq!(
        (&shown[0]["branch"], &shown[0]["keep"]),
        (&Value::Null, &"forever".into())
    );
    assert_eq!(
        (&shown[1]["branch"], &shown[1]["keep_wal"]),
        (&"main".into(), &(256 << 20).into())
    );
    let collected = shop.json(&["gc", "--grace", "0s"]);
    assert_eq!(count(&collected, "dropped"), 0, "{collected}");

    // By time, with a tag in the way, without it.
    assert!(
        shop.refused(&["retention", "main", "--keep", "soon"])
            .message
            .contains("soon")
    );
    assert!(
        shop.refused(&["retention", "nobody", "--keep", "7d"])
            .message
            .contains("nobody")
    );
    shop.ok(&["retention", "main", "--keep", "7d", "--keep-wal", "1MB"]);
    let week = shop.json(&["gc", "--grace", "0s"]);
    assert_eq!(count(&week, "dropped"), 0, "it was received just now: {week}");
    shop.ok(&["retention", "main", "--keep", "0s"]);
    assert_eq!(
        count(&shop.json(&["gc", "--grace", "0s"]), "dropped"),
        0,
        "the tag keeps it"
    );
    shop.ok(&["tag", "-d", "kept"]);
    let before = disk(&shop);
    let planned = shop.json(&["gc", "--dry-run"]);
    assert!(
        count(&planned, "dropped") == 1 && disk(&shop) == before,
        "{planned}"
    );
    assert_eq!(planned["dropped"][0]["timeline"], old.timeline.as_str());
    shop.ok(&[
        "export",
        &old.commit,
        "--pgdata",
        environment.path("old").to_str().expect("a path"),
    ]);
    let done = shop.json(&["gc", "--grace", "0s"]);
    assert_eq!(done["dropped"], planned["dropped"]);
    assert!(disk(&shop) + (2 << 20) < before, "{before} {}", disk(&shop));
    shop.fsck();
    let refused = shop.refused(&[
        "export",
        &old.commit,
        "--pgdata",
        environment.path("never").to_str().expect("a path"),
    ]);
    assert!(refused.message.contains("dropped by retention"), "{refused:?}");
    assert!(refused.hint.contains("neon retention"), "{refused:?}");
    assert!(
        shop.ok(&["show", &old.commit]).contains(&old.lsn),
        "the commit is still known"
    );

    // What is left goes on as before, through another process too.
    assert_eq!(
        shop.sql_on("main", "insert into t values (3); select sum(i) from t"),
        "6"
    );
    shop.ok(&["stop"]);
    shop.ok(&["push"]);
    copy.ok(&["pull"]);
    assert_eq!(copy.sql_on("main", "select sum(i) from t"), "6");
    assert!(shop.ok(&["log"]).contains("changes on main"));
    shop.ok(&["retention", "main", "--keep", "default", "--keep-wal", "default"]);
    let shown = shop.ok(&["retention", "main"]);
    assert!(
        shown.contains("(forever)") && shown.contains("(256.0 MiB)"),
        "{shown}"
    );
    shop.fsck();
}

#[test]
fn a_daemon_collects_by_itself() {
    let environment = TestEnvironment::new(env!("CARGO_BIN_EXE_neon"));
    let shop = environment.init("shop", &TestPostgres::find(15));
    shop.set("gc.interval", "1s");
    shop.set("gc.grace", "0s");
    shop.sql_on("main", "create table t(i int); insert into t values (1)");
    let before = disk(&shop);
    // Commits of deleted branches may be anybody's for as long as the reflog is.
    shop.set("gc.reflog", "0s");
    make_garbage(&shop, "try");
    let began = Instant::now();
    while disk(&shop) > before + (2 << 20) {
        assert!(began.elapsed() < Duration::from_secs(120), "nobody collects");
        std::thread::sleep(Duration::from_millis(200));
    }
    assert_eq!(shop.sql_on("main", "select i from t"), "1");
    shop.ok(&["stop"]);
    shop.fsck();
}

/// Counts the entries of a directory that are temporary.
fn left_in(directory: &Path) -> usize {
    let entries = fs::read_dir(directory).expect("a directory");
    entries
        .filter(|entry| {
            let name = entry.as_ref().expect("an entry").file_name();
            name.to_string_lossy().starts_with(".tmp-")
        })
        .count()
}
