//! A daemon keeps reads short; what every commit was stays.

use std::time::{Duration, Instant};

use neon_tests_kit::{Serve, TestEnvironment, TestPostgres, TestRepo};

const DIGEST: &str = "select count(*), sum(hashtext(x)) from t";

/// Writes, commits and tags; returns what the table was at each tag.
fn write(repo: &TestRepo<'_>) -> Vec<String> {
    repo.set("pagestore.seal_megabytes", "1");
    let uri = repo.start("main");
    TestPostgres::sql(
        &uri,
        "drop table if exists t;
         create table t(i int primary key, x text) with (fillfactor = 50);
         insert into t select i, md5(random()::text) from generate_series(1, 20000) i",
    );
    (0..6)
        .map(|round| {
            TestPostgres::sql(
                &uri,
                &format!("update t set x = md5(x || {round}) where i % 5 <> {round} % 5; checkpoint"),
            );
            repo.ok(&["commit", "main", "-m", "a round"]);
            repo.ok(&["tag", &format!("v{round}")]);
            TestPostgres::sql(&uri, DIGEST)
        })
        .collect()
}

/// Returns how many image layers the branch has that it does not share with the import.
fn own_images(repo: &TestRepo<'_>) -> usize {
    let layers = repo.json(&["layers", "main"]);
    let layers = layers["layers"].as_array().expect("an array");
    let own = layers
        .iter()
        .filter(|layer| layer["own"] == true && layer["kind"] == "image");
    own.count()
}

#[test]
fn a_branch_is_compacted_while_it_is_written() {
    let postgres = TestPostgres::find(15);
    let environment = TestEnvironment::new(env!("CARGO_BIN_EXE_neon"));
    let shop = environment.init("shop", &postgres);
    let tagged = write(&shop);
    let began = Instant::now();
    while own_images(&shop) == 0 {
        assert!(began.elapsed() < Duration::from_secs(120), "nothing is compacted");
        std::thread::sleep(Duration::from_millis(100));
    }
    shop.ok(&["stop"]);
    shop.fsck();
    for (round, then) in tagged.iter().enumerate() {
        let branch = format!("then{round}");
        shop.ok(&["branch", &branch, &format!("v{round}")]);
        assert_eq!(shop.sql_on(&branch, DIGEST), *then, "v{round}");
        shop.ok(&["stop", &branch]);
    }
    shop.ok(&["gc", "--grace", "0s"]);
    shop.fsck();
    assert_eq!(Some(&shop.sql_on("main", DIGEST)), tagged.last());
}

/// Written, compacted, pruned and collected again and again, a repository stays as large as what it retains.
#[test]
fn space_comes_back_while_a_branch_lives_on() {
    let postgres = TestPostgres::find(15);
    let environment = TestEnvironment::new(env!("CARGO_BIN_EXE_neon"));
    let serve = Serve::start(&environment, "srv");
    let shop = environment.init("shop", &postgres);
    shop.ok(&["retention", "main", "--keep", "0s", "--keep-wal", "1MB"]);
    shop.ok(&["origin", "add", "cloud", &serve.uri("shop")]);
    // Raw WAL goes by whole segments, which are more than all of this.
    let size = || -> u64 {
        let layers = shop.json(&["layers", "main"]);
        let layers = layers["layers"].as_array().expect("an array");
        layers.iter().filter_map(|layer| layer["bytes"].as_u64()).sum()
    };
    let (mut dropped, mut shrunk) = (0, 0);
    let mut collect = || {
        let collected = shop.json(&["gc", "--grace", "0s"]);
        for history in collected["dropped"].as_array().expect("a list") {
            let number = |key: &str| history[key].as_u64().expect("a number");
            dropped += number("layers");
            shrunk += number("shrunk") - number("left");
        }
    };
    let (mut first, mut kept) = (None, None);
    for life in 0..3 {
        // More images than what was here are compaction at work.
        let before = own_images(&shop);
        let tagged = write(&shop);
        let began = Instant::now();
        while own_images(&shop) <= before {
            assert!(
                began.elapsed() < Duration::from_secs(120),
                "nothing is compacted in life {life}"
            );
            std::thread::sleep(Duration::from_millis(100));
        }
        // What an origin has, and a tag, keep their positions, not what leads to them.
        shop.ok(&["push", "main", "cloud"]);
        if kept.is_none() {
            shop.ok(&["tag", "kept", "v2"]);
            kept = tagged.get(2).cloned();
        }
        // The oldest tag stays, and with it what it names; those between go.
        for round in 1..tagged.len() {
            shop.ok(&["tag", "-d", &format!("v{round}")]);
        }
        collect();
        shop.ok(&["branch", "then", "v0"]);
        assert_eq!(Some(&shop.sql_on("then", DIGEST)), tagged.first(), "life {life}");
        shop.ok(&["stop", "then"]);
        shop.ok(&["branch", "-D", "then"]);
        shop.ok(&["tag", "-d", "v0"]);
        assert_eq!(Some(&shop.sql("main", DIGEST)), tagged.last(), "life {life}");
        shop.ok(&["stop"]);
        collect();
        shop.fsck();
        first.get_or_insert_with(size);
    }
    // The rows of three lives come to nothing.
    shop.sql_on("main", "drop table t");
    shop.ok(&["stop"]);
    collect();
    shop.ok(&["fsck", "--deep"]);
    shop.ok(&["branch", "then", "kept"]);
    assert_eq!(Some(shop.sql_on("then", DIGEST)), kept);
    let (first, last) = (first.expect("a life"), size());
    assert!(
        last < first + first / 2,
        "{first} bytes after a life, {last} after three"
    );
    assert!(
        dropped > 0 && shrunk > 0,
        "{dropped} layers, {shrunk} bytes of others"
    );
}

#[test]
fn compaction_can_be_switched_off() {
    let postgres = TestPostgres::find(15);
    let environment = TestEnvironment::new(env!("CARGO_BIN_EXE_neon"));
    let shop = environment.init("shop", &postgres);
    shop.set("pagestore.compaction", "off");
    write(&shop);
    shop.ok(&["stop"]);
    assert_eq!(own_images(&shop), 0);
    shop.fsck();
}
