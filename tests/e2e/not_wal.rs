//! What is no WAL and does not come along: told in a line, with the way to have it.

use std::time::{Duration, Instant};

use neon_tests_kit::{TestEnvironment, TestPostgres, on_both};

on_both!(what_stays_behind_is_told, subscriptions_apply_when_asked_to);

fn what_stays_behind_is_told(environment: &TestEnvironment, postgres: &TestPostgres) {
    let repo = environment.init("shop", postgres);
    repo.sql_on(
        "main",
        "create unlogged table u (i int primary key); insert into u values (1); create table t (i int);
         select pg_create_physical_replication_slot('standby', true)",
    );
    let slot = "replication slot standby stays behind";
    let branched = repo.neon(&["branch", "other"]);
    branched.success();
    assert!(branched.stderr.contains(slot), "{}", branched.describe());
    let started = repo.neon(&["start", "other"]);
    started.success();
    assert!(
        started.stderr.contains("2 unlogged relations are empty here"),
        "{}",
        started.describe()
    );
    assert!(started.stderr.contains("SET LOGGED"), "{}", started.describe());
    assert_eq!(repo.sql("other", "select count(*) from u"), "0");
    let pgdata = environment.path("export");
    let exported = repo.neon(&["export", "main", "--pgdata", pgdata.to_str().expect("text")]);
    exported.success();
    for told in [slot, "2 unlogged relations are empty here"] {
        assert!(exported.stderr.contains(told), "{}", exported.describe());
    }
    // A directory that is used again has them, and nothing is to be told.
    repo.ok(&["stop", "--all"]);
    let started = repo.neon(&["start"]);
    started.success();
    assert_eq!(
        started.stderr.matches("note:").count(),
        0,
        "{}",
        started.describe()
    );
    assert_eq!(repo.sql("main", "select count(*) from u"), "1");
    assert_eq!(
        repo.sql(
            "main",
            "select slot_name from pg_replication_slots where slot_name <> 'neon'"
        ),
        "standby"
    );
    repo.ok(&["stop"]);
}

fn subscriptions_apply_when_asked_to(environment: &TestEnvironment, postgres: &TestPostgres) {
    let source = environment.init("source", postgres);
    source.sql_on("main", "alter system set wal_level = logical");
    source.ok(&["stop"]);
    let publisher = source.start("main");
    TestPostgres::sql(
        &publisher,
        "create table t (i int); create publication everything for table t; insert into t values (1)",
    );
    let shop = environment.init("shop", postgres);
    let connection = publisher.replace('\'', "''");
    shop.sql_on(
        "main",
        &format!("create table t (i int);\ncreate subscription orders connection '{connection}' publication everything;\n"),
    );
    shop.ok(&["stop"]);
    let started = shop.neon(&["start"]);
    started.success();
    let told = "subscriptions take in nothing here, because the changes are meant for the original: orders; to apply them: neon stop, then neon \
                start --act-as-primary";
    assert!(started.stderr.contains(told), "{}", started.describe());
    let pgdata = environment.path("export");
    let exported = shop.neon(&["export", "main", "--pgdata", pgdata.to_str().expect("text")]);
    assert!(
        exported
            .stderr
            .contains("orders; to apply them: ALTER SYSTEM RESET"),
        "{}",
        exported.describe()
    );
    assert!(
        shop.refused(&["start", "--act-as-primary"])
            .hint
            .contains("stop it first")
    );
    assert_eq!(shop.sql("main", "select count(*) from t"), "0");
    shop.ok(&["stop"]);
    let started = shop.neon(&["start", "--act-as-primary"]);
    started.success();
    assert!(
        !started.stderr.contains("subscriptions"),
        "{}",
        started.describe()
    );
    TestPostgres::sql(&publisher, "insert into t values (2)");
    let began = Instant::now();
    while shop.sql("main", "select count(*) from t") != "2" {
        assert!(
            began.elapsed() < Duration::from_secs(120),
            "the changes do not arrive"
        );
    }
    shop.sql("main", "alter subscription orders disable; alter subscription orders set (slot_name = none); drop subscription orders");
    let read_only = shop.refused(&["start", "main~1", "--act-as-primary"]);
    assert!(read_only.hint.contains("neon branch"), "{read_only:?}");
    shop.ok(&["stop"]);
    source.ok(&["stop"]);
}
