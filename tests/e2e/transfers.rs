//! Push, pull, fetch, clone between repositories, through `neon serve`.

use neon_tests_kit::{Serve, TestEnvironment, TestPostgres, assert_same, on_both};
use serde_json::Value;

on_both!(
    a_clone_looks_and_pulls,
    two_clones_write_the_same_branch,
    a_pull_meets_a_running_endpoint,
    pushes_of_one_head_at_once,
);

/// Returns what the other side's branch is to ours.
fn tracking(repo: &neon_tests_kit::TestRepo<'_>, branch: &str) -> Value {
    let branches = repo.json(&["branch"]);
    let one = branches
        .as_array()
        .expect("a list")
        .iter()
        .find(|one| one["name"] == branch);
    one.unwrap_or_else(|| panic!("no branch {branch}: {branches}"))["tracking"].clone()
}

fn a_clone_looks_and_pulls(environment: &TestEnvironment, postgres: &TestPostgres) {
    let serve = Serve::start(environment, "srv");
    let shop = environment.init("shop", postgres);
    let uri = shop.start("main");
    TestPostgres::sql(
        &uri,
        "create table t(i int primary key, x text); insert into t select i, md5(i::text) from generate_series(1, 20000) i",
    );
    shop.ok(&["origin", "add", "cloud", &serve.uri("shop")]);
    let list = shop.ok(&["origin", "list"]);
    assert!(
        list.contains("cloud") && !list.contains("sesame"),
        "passwords are not printed: {list}"
    );
    let planned = shop.json(&["push", "main", "cloud", "--dry-run"]);
    assert_eq!(
        (&planned[0]["dry_run"], &planned[0]["outcome"]),
        (&Value::Bool(true), &"created".into())
    );
    assert!(
        environment.neon(&["clone", &serve.uri("shop"), "early"]).code() == Some(1),
        "nothing was pushed"
    );
    assert!(!environment.path("early/.neon").exists(), "nothing half-made");
    let pushed = shop.json(&["push", "main", "cloud"]);
    assert_eq!(pushed[0]["outcome"], "created");
    assert!(pushed[0]["bytes"].as_u64() > Some(1 << 20), "{pushed}");
    let content = postgres.content(&uri);

    let copy = environment.clone(&serve.uri("shop"), "copy");
    assert_eq!(copy.place("main"), shop.place("main"));
    let in_copy = copy.start("main");
    assert_same(&postgres.content(&in_copy), &content, "contents of the clone");
    assert_eq!(
        TestPostgres::sql(&in_copy, "select count(*) from t where x = md5(i::text)"),
        "20000"
    );
    copy.ok(&["stop"]);
    let pulled = copy.json(&["pull"]);
    assert_eq!(pulled[0]["outcome"], "up to date");
    assert_eq!(copy.json(&["push"])[0]["outcome"], "up to date");
    assert_eq!(tracking(&copy, "main"), "equal");
    assert_eq!(copy.place("main"), shop.place("main"), "looking is no divergence");

    // More of the source arrives, and only that.
    TestPostgres::sql(
        &uri,
        "insert into t select i, 'more' from generate_series(20001, 20100) i",
    );
    let pushed_again = shop.json(&["push"]);
    assert_eq!(pushed_again[0]["outcome"], "fast-forward");
    assert!(
        pushed_again[0]["bytes"].as_u64() < pushed[0]["bytes"].as_u64(),
        "{pushed_again}"
    );
    assert_eq!(shop.json(&["push"])[0]["outcome"], "up to date");
    let pulled = copy.json(&["pull"]);
    assert_eq!(pulled[0]["outcome"], "fast-forward");
    assert_eq!(copy.place("main"), shop.place("main"));
    let in_copy = copy.start("main");
    assert_same(
        &postgres.content(&in_copy),
        &postgres.content(&uri),
        "contents after the pull",
    );
    assert!(TestPostgres::amcheck(&in_copy) > 100);
    for repo in [&shop, &copy] {
        repo.ok(&["stop", "--all"]);
        repo.fsck();
    }
}

fn two_clones_write_the_same_branch(environment: &TestEnvironment, postgres: &TestPostgres) {
    let serve = Serve::start(environment, "srv");
    let shop = environment.init("shop", postgres);
    shop.sql_on("main", "create table t(who text)");
    shop.ok(&["origin", "add", "cloud", &serve.uri("shop")]);
    shop.ok(&["push", "main", "cloud"]);
    let ada = environment.clone(&serve.uri("shop"), "ada");
    let bob = environment.clone(&serve.uri("shop"), "bob");
    ada.sql_on("main", "insert into t values ('ada')");
    bob.sql_on(
        "main",
        "insert into t values ('bob'); insert into t values ('bob')",
    );
    assert_eq!(ada.json(&["push"])[0]["outcome"], "fast-forward");
    let refused = bob.refused(&["push"]);
    assert!(
        refused.message.contains("branch 'main' has diverged"),
        "{refused:?}"
    );
    // Bob's two, Ada's one, and that each clone gave the superuser a password of its own.
    assert!(
        refused.message.contains("there are 3 transactions to ")
            && refused.message.contains("and 2 transactions to "),
        "{refused:?}"
    );
    assert!(
        refused.message.contains(&shop.place("main").lsn),
        "where they parted: {refused:?}"
    );
    assert!(
        refused.hint.contains("--as") && refused.hint.contains("--force"),
        "{refused:?}"
    );
    bob.ok(&["stop"]);
    let before = bob.place("main");
    let refused = bob.refused(&["pull"]);
    assert!(refused.says("diverged"), "{refused:?}");
    assert_eq!(bob.place("main"), before, "nothing moved");

    let fetched = bob.json(&["fetch"]);
    assert_eq!(fetched[0]["remote"], "origin/main");
    assert_eq!(tracking(&bob, "main"), "diverged");
    assert_eq!(bob.place("origin/main"), ada.place("main"));
    // Both, side by side.
    bob.ok(&["branch", "theirs", "origin/main"]);
    assert_eq!(bob.sql_on("theirs", "select string_agg(who, ',') from t"), "ada");
    assert_eq!(
        bob.sql_on("main", "select string_agg(who, ',') from t"),
        "bob,bob"
    );
    bob.ok(&["pull", "main", "--as", "second"]);
    assert_eq!(bob.place("second"), ada.place("main"));
    bob.ok(&["push", "main", "origin:of-bob"]);
    bob.ok(&["stop", "--all"]);
    assert_eq!(ada.json(&["fetch"]).as_array().expect("a list").len(), 2);
    assert_eq!(ada.place("origin/of-bob"), bob.place("main"));

    let forced = bob.json(&["pull", "main", "origin:main", "--force"]);
    assert_eq!(forced[0]["outcome"], "forced");
    assert_eq!(bob.place("main"), ada.place("main"));
    assert_eq!(bob.sql_on("main", "select string_agg(who, ',') from t"), "ada");
    // The other way round: what is there gives way.
    ada.sql_on("main", "insert into t values ('ada again')");
    let forced = ada.json(&["push", "main", "origin:of-bob", "--force"]);
    assert_eq!(forced[0]["outcome"], "forced");
    for repo in [&shop, &ada, &bob] {
        repo.ok(&["stop", "--all"]);
        repo.fsck();
    }
}

fn a_pull_meets_a_running_endpoint(environment: &TestEnvironment, postgres: &TestPostgres) {
    let serve = Serve::start(environment, "srv");
    let shop = environment.init("shop", postgres);
    shop.sql_on("main", "create table t as select 1 as i");
    shop.ok(&["origin", "add", "cloud", &serve.uri("shop")]);
    shop.ok(&["push", "main", "cloud"]);
    let copy = environment.clone(&serve.uri("shop"), "copy");
    let uri = copy.start("main");
    shop.sql_on("main", "insert into t values (2)");
    shop.ok(&["push"]);
    let refused = copy.refused(&["pull"]);
    assert!(
        refused.says("running") && refused.hint.contains("--restart"),
        "{refused:?}"
    );
    assert_eq!(TestPostgres::sql(&uri, "select count(*) from t"), "1");
    assert_eq!(copy.json(&["pull", "--restart"])[0]["outcome"], "fast-forward");
    assert_eq!(copy.uri("main"), uri, "it runs again, where it ran");
    assert_eq!(TestPostgres::sql(&uri, "select count(*) from t"), "2");
    // Own changes, then: refused, and the endpoint goes on with them.
    TestPostgres::sql(&uri, "insert into t values (3)");
    shop.sql_on("main", "insert into t values (4)");
    shop.ok(&["push"]);
    let refused = copy.refused(&["pull", "--restart"]);
    assert!(refused.says("diverged"), "{refused:?}");
    assert_eq!(
        TestPostgres::sql(
            &copy.start("main"),
            "select string_agg(i::text, ',' order by i) from t"
        ),
        "1,2,3"
    );
    // A push of a running branch takes what was acknowledged a moment ago.
    copy.ok(&["push", "main", "origin:copy"]);
    shop.ok(&["pull", "main", "cloud:copy", "--as", "copy"]);
    assert_eq!(
        shop.sql_on("copy", "select string_agg(i::text, ',' order by i) from t"),
        "1,2,3"
    );
}

fn pushes_of_one_head_at_once(environment: &TestEnvironment, postgres: &TestPostgres) {
    let serve = Serve::start(environment, "srv");
    let shop = environment.init("shop", postgres);
    let uri = shop.start("main");
    TestPostgres::sql(&uri, "create table t(i int)");
    shop.ok(&["stop"]);
    shop.quit();
    let clones: Vec<_> = (0..4)
        .map(|number| environment.clone(shop.directory().to_str().expect("text"), &format!("copy{number}")))
        .collect();
    for clone in &clones {
        clone.ok(&["origin", "add", "cloud", &serve.uri("shop")]);
    }
    for round in 0..4 {
        // The first push makes the repository, later ones bring more of a timeline that all have.
        std::thread::scope(|scope| {
            for (number, clone) in clones.iter().enumerate() {
                let target = format!("cloud:round{round}/branch{number}");
                scope.spawn(move || clone.ok(&["push", "main", &target]));
            }
        });
        let server = environment.repo_at(&serve.root().join("shop"));
        assert_eq!(
            server.json(&["branch"]).as_array().expect("branches").len(),
            4 * (round + 1)
        );
        TestPostgres::sql(
            &shop.start("main"),
            "insert into t select generate_series(1, 20000)",
        );
        shop.ok(&["stop"]);
        shop.quit();
        for clone in &clones {
            clone.ok(&["pull", "main", "origin"]);
        }
    }
    let server = environment.repo_at(&serve.root().join("shop"));
    server.fsck();
    assert!(
        server.ok(&["log"]).contains("changes on main"),
        "one of the branches is HEAD"
    );
}
