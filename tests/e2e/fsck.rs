//! `neon fsck --deep` on what a real Postgres wrote.

use neon_tests_kit::{TestEnvironment, TestPostgres};

/// Whatever makes records of many kinds, beside pgbench.
const MIXED: &str = "
create table t(i int primary key, x text) with (fillfactor = 60);
insert into t select i, md5(i::text) from generate_series(1, 20000) i;
create index on t using hash (x); create index on t using gin (to_tsvector('simple', x));
begin; savepoint a; update t set x = x || 'a' where i % 3 = 0; rollback to a; update t set x = x || 'b' where i % 7 = 0; commit;
delete from t where i % 5 = 0;
vacuum t;
create database copied template template0 strategy file_copy;
begin; create table undone as select * from t; rollback;
truncate t; insert into t values (1, 'x');
drop database copied;
checkpoint;
update t set x = 'y';
";

#[test]
fn layers_are_what_their_wal_makes() {
    let postgres = TestPostgres::find(15);
    let environment = TestEnvironment::new(env!("CARGO_BIN_EXE_neon"));
    let shop = environment.init("shop", &postgres);
    shop.set("pagestore.seal_megabytes", "2");
    let uri = shop.start("main");
    let pgbench = |args: &[&str]| {
        TestPostgres::pgbench(&uri, environment.root(), args).success();
    };
    pgbench(&["-i", "-s", "2", "-q"]);
    pgbench(&["-c", "4", "-t", "400", "-n"]);
    TestPostgres::try_sql(&uri, MIXED).success();
    // Beside the endpoint, and what is left of it.
    let running = shop.json(&["fsck", "--deep"]);
    assert_eq!(running["findings"], serde_json::json!([]), "{running}");
    pgbench(&["-c", "4", "-t", "200", "-n"]);
    shop.ok(&["stop"]);
    shop.ok(&["branch", "other"]);
    shop.sql_on(
        "other",
        "update t set x = 'z'; insert into t select i, i from generate_series(2, 9000) i",
    );
    shop.ok(&["stop", "other"]);
    let checked = shop.json(&["fsck", "--deep"]);
    assert_eq!(checked["findings"], serde_json::json!([]), "{checked}");
    let rederived = &checked["rederived"];
    assert!(rederived["wal_bytes"].as_u64() > Some(20 << 20), "{rederived}");
    assert!(rederived["versions"].as_u64() > Some(50_000), "{rederived}");
    assert_eq!(rederived["skipped"], serde_json::json!([]), "all of it is kept");
    let text = shop.ok(&["fsck", "--deep"]);
    assert!(text.contains("of WAL again: compared "), "{text}");
    assert!(shop.json(&["fsck"])["rederived"].is_null());
}
