//! What things cost, and which layers there are.

use std::time::{Duration, Instant};

use neon_tests_kit::{TestEnvironment, TestPostgres};
use serde_json::Value;

#[test]
fn usage_is_told_by_ref_and_by_relation() {
    for major in [15, 18] {
        told_by_ref_and_by_relation(&TestPostgres::find(major));
    }
}

fn told_by_ref_and_by_relation(postgres: &TestPostgres) {
    let environment = TestEnvironment::new(env!("CARGO_BIN_EXE_neon"));
    let repo = environment.init("shop", postgres);
    repo.set("pagestore.seal_megabytes", "1");
    // Two branches with the same history, and the same layers.
    repo.set("pagestore.compaction", "off");
    let uri = repo.start("main");
    TestPostgres::sql(
        &uri,
        "create table sales (i int, t text); insert into sales select i, md5(i::text) from generate_series(1, 20000) i;
         alter table sales alter t set storage external; insert into sales values (0, repeat('x', 100000));
         create table gone (t text); insert into gone select md5(i::text) from generate_series(1, 9000) i;
         create database other; vacuum full pg_class; vacuum sales; drop table gone;
         create table filler as select md5(i::text) from generate_series(1, 40000) i;",
    );
    let file: u64 = TestPostgres::sql(&uri, "select pg_relation_filenode('sales')")
        .parse()
        .expect("a number");
    let size: u64 = TestPostgres::sql(
        &uri,
        "select pg_relation_size('sales', 'main') + pg_relation_size('sales', 'vm')",
    )
    .parse()
    .expect("a number");
    repo.ok(&["stop"]);
    repo.ok(&["branch", "try"]);
    let usage: Value = repo.json(&["du", "main", "--all"]);
    let array = |name: &str| usage[name].as_array().expect("an array").clone();
    let relations = array("relations");
    let named = |name: &str| {
        let found = relations.iter().find(|relation| relation["name"] == name);
        found.unwrap_or_else(|| panic!("no {name} in {usage:#}")).clone()
    };
    let sales = named("sales");
    assert_eq!(
        (&sales["schema"], &sales["file"]),
        (&"public".into(), &file.into())
    );
    assert_eq!(sales["size"], size);
    assert!(sales["stored"].as_u64() > Some(100_000), "{sales}");
    assert!(named("sales (TOAST)")["size"].as_u64() > Some(100_000));
    assert_eq!(named("pg_database")["database"], 0, "a shared catalog");
    assert_eq!(
        named("pg_class")["dropped"],
        false,
        "a mapped catalog that was rewritten"
    );
    let dropped = relations.iter().filter(|relation| relation["dropped"] == true);
    assert!(
        dropped
            .filter_map(|of| of["stored"].as_u64())
            .any(|stored| stored > 100_000),
        "{usage:#}"
    );
    let databases: Vec<String> = array("databases")
        .iter()
        .map(|of| of["name"].to_string())
        .collect();
    assert!(databases.contains(&"\"other\"".to_owned()), "{databases:?}");

    let refs = repo.json(&["du"]);
    let of = |name: &str| {
        let refs = refs["refs"].as_array().expect("an array");
        refs.iter()
            .find(|of| of["name"] == name)
            .expect("the ref")
            .clone()
    };
    let sum = |of: &Value| {
        of["alone"]
            .as_u64()
            .zip(of["shared"].as_u64())
            .map(|(a, b)| a + b)
    };
    assert_eq!(sum(&of("main")), sum(&of("try")), "both need the same");
    let layers = of("main")["shared"].as_u64().zip(of("main")["wal"].as_u64());
    assert!(
        refs["objects"].as_u64() > layers.map(|(shared, wal)| shared - wal),
        "{refs:#}"
    );
    assert!(of("main")["endpoint"].as_u64() > Some(1 << 20));

    let layers = repo.json(&["layers", "main"]);
    let count = layers["layers"].as_array().expect("an array").len();
    assert!(count >= 2, "{layers:#}");
    let svg = repo.directory().join("map.svg");
    repo.ok(&["layers", "main", "--svg", svg.to_str().expect("a path")]);
    let drawn = std::fs::read_to_string(&svg).expect("the picture");
    assert_eq!(drawn.matches("<rect class=\"layer").count(), count);
}

#[test]
fn what_is_written_little_is_sealed_by_age() {
    let environment = TestEnvironment::new(env!("CARGO_BIN_EXE_neon"));
    let repo = environment.init("shop", &TestPostgres::find(15));
    repo.set("pagestore.seal_seconds", "1");
    let uri = repo.start("main");
    TestPostgres::sql(&uri, "create table t (i int); insert into t values (1)");
    repo.ok(&["commit", "main", "-m", "little"]);
    let sealed = || {
        let layers = repo.json(&["layers", "main"]);
        let layers = layers["layers"].as_array().expect("a list");
        layers.iter().any(|layer| layer["kind"] == "delta")
    };
    let began = Instant::now();
    while !sealed() {
        assert!(began.elapsed() < Duration::from_secs(120), "nothing was sealed");
        std::thread::sleep(Duration::from_millis(200));
    }
    assert_eq!(TestPostgres::sql(&uri, "select i from t"), "1");
    repo.ok(&["stop"]);
    repo.fsck();
}
