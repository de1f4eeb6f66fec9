//! A daemon keeps reads short; what every commit was stays.

use std::time::{Duration, Instant};

use neon_tests_kit::{TestEnvironment, TestPostgres, TestRepo};

const DIGEST: &str = "select count(*), sum(hashtext(x)) from t";

/// Writes, commits and tags; returns what the table was at each tag.
fn write(repo: &TestRepo<'_>) -> Vec<String> {
    repo.set("pagestore.seal_megabytes", "1");
    let uri = repo.start("main");
    TestPostgres::sql(
        &uri,
        "create table t(i int primary key, x text) with (fillfactor = 50);
         insert into t select i, md5(i::text) from generate_series(1, 20000) i",
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
