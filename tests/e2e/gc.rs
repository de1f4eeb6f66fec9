//! Garbage goes, and nothing else: disk comes back, while endpoints write, pushes run and the program is killed.

use std::fs;
use std::path::Path;

use neon_tests_kit::{Serve, TestEnvironment, TestPostgres, TestRepo, Writer, assert_same, on_both};
use serde_json::Value;

on_both!(
    a_deleted_branch_gives_its_disk_back,
    nothing_in_use_is_collected,
    a_killed_collection_is_gone_on_with
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
    quit(&shop);
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

/// Ends the daemon.
fn quit(repo: &TestRepo<'_>) {
    let Some(daemon) = repo.daemon() else { return };
    neon_tests_kit::kill(daemon, rustix::process::Signal::TERM);
    for _ in 0..1000 {
        if !Path::new(&format!("/proc/{daemon}")).exists() {
            return;
        }
        std::thread::sleep(std::time::Duration::from_millis(10));
    }
    panic!("the daemon {daemon} does not end");
}
