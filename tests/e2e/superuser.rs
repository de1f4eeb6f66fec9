//! The cluster's own superuser, whatever its name and password are.

use std::path::PathBuf;

use neon_tests_kit::{Output, TestEnvironment, TestPostgres, on_both, on_every};

on_every!(any_name_will_do);
on_both!(a_password_that_somebody_set_stays);

/// Makes a cluster with a superuser of that name, who has no password.
fn initdb(environment: &TestEnvironment, postgres: &TestPostgres, superuser: &str) -> PathBuf {
    let pgdata = environment.path("plain");
    let mut command = environment.command(postgres.bin("initdb"), environment.root());
    command
        .args([
            "--no-sync",
            "-A",
            "trust",
            "--locale",
            "C.UTF-8",
            "-U",
            superuser,
            "-D",
        ])
        .arg(&pgdata);
    Output::of(&mut command).success();
    pgdata
}

fn any_name_will_do(environment: &TestEnvironment, postgres: &TestPostgres) {
    let name = "Ada Countess";
    let pgdata = initdb(environment, postgres, name);
    let from = pgdata.to_str().expect("text");
    environment.neon(&["init", "shop", "--from", from]).success();
    let shop = environment.repo("shop");
    let started = shop.neon(&["start"]);
    let uri = started.success().lines().next_back().expect("a URI").to_owned();
    assert!(started.stderr.contains("it had none"), "{}", started.describe());
    assert_eq!(TestPostgres::sql(&uri, "select current_user"), name);
    assert_eq!(shop.ok(&["psql", "--", "-XAtc", "select current_user"]), name);
    TestPostgres::sql(
        &uri,
        "create role postgres; create table t (i int); insert into t values (1)",
    );
    shop.ok(&["commit", "-m", "by ada"]);
    // It gets another name, and the usual database goes.
    TestPostgres::sql(
        &uri.replace("/postgres", "/template1"),
        "drop database postgres; create role helper superuser login",
    );
    shop.ok(&["commit", "-m", "no such database"]);
    let helper = shop.json(&["uri"])["uri"].as_str().expect("text").to_owned();
    assert!(helper.ends_with("/template1"), "{helper}");
    shop.ok(&[
        "psql",
        "--",
        "-U",
        "helper",
        "-c",
        "alter role \"Ada Countess\" rename to \"Eve \"\"x\"\"\"",
    ]);
    shop.ok(&["commit", "-m", "renamed"]);
    let now = shop.json(&["uri"]);
    assert_eq!(
        (&now["user"], &now["database"]),
        (&"Eve \"x\"".into(), &"template1".into())
    );
    shop.ok(&["stop"]);
    let uri = shop.start("main");
    assert_eq!(TestPostgres::sql(&uri, "select current_user"), "Eve \"x\"");
    // At a position of the past it has its name of then.
    let past = shop.json(&["start", "main~2"]);
    assert_eq!(
        (&past["user"], &past["database"]),
        (&name.into(), &"postgres".into())
    );
    assert_eq!(
        TestPostgres::sql(past["uri"].as_str().expect("text"), "table t"),
        "1"
    );
    shop.ok(&["stop", "--all"]);
    shop.ok(&["fsck", "--boot"]);
}

fn a_password_that_somebody_set_stays(environment: &TestEnvironment, postgres: &TestPostgres) {
    let shop = environment.init("shop", postgres);
    let started = shop.neon(&["start"]);
    let ours = started.success().lines().next_back().expect("a URI").to_owned();
    assert!(!started.stderr.contains("password"), "{}", started.describe());
    TestPostgres::sql(
        &ours,
        "create table t (i int); alter role postgres password 'my own'",
    );
    shop.ok(&["stop"]);
    let own = |uri: &str| {
        let (_, at) = uri.split_once('@').expect("a URI");
        let port = at
            .split([':', '/'])
            .find(|part| part.parse::<u16>().is_ok())
            .expect("a port");
        format!("postgresql://postgres:my%20own@127.0.0.1:{port}/postgres")
    };
    let started = shop.neon(&["start"]);
    let uri = started.success().lines().next_back().expect("a URI").to_owned();
    assert!(
        started.stderr.contains("has a password of its own"),
        "{}",
        started.describe()
    );
    assert!(
        TestPostgres::try_sql(&ours, "select 1").code() != Some(0),
        "not set anew"
    );
    assert_eq!(TestPostgres::sql(&own(&uri), "select count(*) from t"), "0");
    assert_eq!(
        TestPostgres::sql(&uri, "select count(*) from t"),
        "0",
        "{uri} lets in"
    );
    shop.ok(&["commit", "-m", "with a password"]);
    shop.ok(&["stop"]);
    shop.quit();

    // A clone knows neither: the one that somebody set stays there, too.
    let copy = environment.clone(shop.directory().to_str().expect("text"), "copy");
    let uri = copy.start("main");
    assert_eq!(TestPostgres::sql(&own(&uri), "select count(*) from t"), "0");
    // The way out that is told.
    TestPostgres::sql(&uri, "alter role postgres password null");
    copy.ok(&["stop"]);
    let uri = copy.start("main");
    assert!(uri.contains("@127.0.0.1:") && !uri.contains("my%20own"), "{uri}");
    assert_eq!(TestPostgres::sql(&uri, "select count(*) from t"), "0");
    copy.ok(&["stop"]);
}
