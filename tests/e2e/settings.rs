//! What `ALTER SYSTEM` set: no WAL tells of it, and it goes where the branch goes.

use neon_tests_kit::{PlainServer, Serve, TestEnvironment, TestPostgres, TestRepo, on_both};

on_both!(
    settings_are_committed_branched_and_pushed,
    what_two_sides_set_is_brought_together,
    an_export_has_the_settings_of_its_position,
    an_import_goes_on_from_its_settings,
);

/// Sets something on the endpoint of a branch, which is started for it and stopped after.
fn set(repo: &TestRepo<'_>, statement: &str) -> serde_json::Value {
    repo.sql_on("main", statement);
    repo.json(&["stop"])
}

fn shown(repo: &TestRepo<'_>, branch: &str, setting: &str) -> String {
    let shown = repo.sql_on(branch, &format!("show {setting}"));
    repo.ok(&["stop", branch]);
    shown
}

fn settings_are_committed_branched_and_pushed(environment: &TestEnvironment, postgres: &TestPostgres) {
    let serve = Serve::start(environment, "srv");
    let shop = environment.init("shop", postgres);
    shop.sql_on("main", "create table t (i int)");
    shop.ok(&["commit", "-m", "a table"]);
    let before = shop.place("main");
    shop.sql("main", "alter system set work_mem = '77MB'");
    let moved = shop.json(&["commit", "-m", "more memory"]);
    assert_eq!(moved["lsn"], before.lsn.as_str());
    assert!(
        moved["notes"][0]
            .as_str()
            .expect("a note")
            .contains("settings that changed"),
        "{moved}"
    );
    // A branch that is made has it; so does each commit after.
    shop.sql("main", "alter system set maintenance_work_mem = '33MB'");
    let branched = shop.json(&["branch", "other"]);
    assert!(
        branched["notes"]
            .to_string()
            .contains("committed what main wrote"),
        "{branched}"
    );
    assert_eq!(shown(&shop, "other", "maintenance_work_mem"), "33MB");
    assert_eq!(shown(&shop, "other", "work_mem"), "77MB");
    let stopped = shop.json(&["stop"]);
    assert!(stopped[0]["commit"].is_null(), "nothing is new: {stopped}");
    // Looking sets nothing.
    for _ in 0..2 {
        assert!(set(&shop, "select count(*) from t")[0]["commit"].is_null());
    }
    shop.ok(&["origin", "add", "cloud", &serve.uri("shop")]);
    shop.ok(&["push", "main", "cloud"]);
    let stopped = set(
        &shop,
        "alter system set work_mem = '78MB'; alter system reset maintenance_work_mem",
    );
    assert_eq!(stopped[0]["lsn"], before.lsn.as_str());
    assert!(!stopped[0]["commit"].is_null(), "{stopped}");
    let pushed = shop.json(&["push"]);
    assert_eq!(pushed[0]["outcome"], "new commit at the same position");
    let copy = environment.clone(&serve.uri("shop"), "copy");
    assert_eq!(shown(&copy, "main", "work_mem"), "78MB");
    assert_eq!(shown(&copy, "main", "maintenance_work_mem"), "64MB");
    // A directory that is made anew has what was set in the one before.
    shop.sql_on("main", "alter system set work_mem = '79MB'");
    let stamp = shop.inside("endpoints/main/stamp");
    shop.ok(&["stop"]);
    std::fs::remove_file(&stamp).expect("removed");
    assert_eq!(shown(&shop, "main", "work_mem"), "79MB");
    // The past has what was set then.
    assert_eq!(
        shown(&shop, &format!("main@{}", before.lsn), "work_mem"),
        "79MB",
        "the newest commit there"
    );
    shop.ok(&["branch", "back", "main~4"]);
    assert_eq!(shown(&shop, "back", "work_mem"), "4MB");
    shop.fsck();
}

fn what_two_sides_set_is_brought_together(environment: &TestEnvironment, postgres: &TestPostgres) {
    let serve = Serve::start(environment, "srv");
    let one = environment.init("one", postgres);
    one.sql_on("main", "create table t (who text)");
    one.ok(&["stop"]);
    one.ok(&["origin", "add", "origin", &serve.uri("shop")]);
    one.ok(&["push", "main", "origin"]);
    let other = environment.clone(&serve.uri("shop"), "other");

    // One writes, the other sets: the one's history goes forward, and what the other set stays.
    set(&one, "insert into t values ('one')");
    one.ok(&["push"]);
    set(&other, "alter system set work_mem = '5MB'");
    let pulled = other.json(&["pull"]);
    assert_eq!(pulled[0]["outcome"], "fast-forward", "{pulled}");
    assert_eq!(other.place("main").lsn, one.place("main").lsn);
    assert_eq!(shown(&other, "main", "work_mem"), "5MB");
    assert_eq!(other.sql_on("main", "table t"), "one");
    other.ok(&["stop"]);
    assert_eq!(
        other.json(&["push"])[0]["outcome"],
        "new commit at the same position"
    );

    // The one does not know that, and writes: a push would drop it. A pull takes it over.
    set(
        &one,
        "insert into t values ('again'); alter system set maintenance_work_mem = '33MB'",
    );
    let refused = one.refused(&["push"]);
    assert!(
        refused.says("work_mem") && refused.hint.contains("pull first"),
        "{refused:?}"
    );
    let pulled = one.json(&["pull"]);
    assert!(
        pulled[0]["notes"]
            .to_string()
            .contains("taken over from origin/main: work_mem"),
        "{pulled}"
    );
    assert_eq!(shown(&one, "main", "work_mem"), "5MB");
    assert_eq!(shown(&one, "main", "maintenance_work_mem"), "33MB");
    assert_eq!(one.json(&["push"])[0]["outcome"], "fast-forward");
    other.ok(&["pull"]);
    assert_eq!(shown(&other, "main", "maintenance_work_mem"), "33MB");

    // Both set the same, each in another way.
    set(
        &one,
        "alter system set work_mem = '6MB'; insert into t values ('six')",
    );
    one.ok(&["push"]);
    set(&other, "alter system set work_mem = '7MB'");
    let head = other.place("main");
    let refused = other.refused(&["pull"]);
    assert!(refused.says("work_mem") && refused.says("--force"), "{refused:?}");
    assert_eq!(other.place("main"), head, "refused means untouched");
    let refused = other.refused(&["push"]);
    assert!(refused.hint.contains("pull"), "{refused:?}");
    other.ok(&["pull", "--force"]);
    assert_eq!(other.place("main"), one.place("main"));
    assert_eq!(shown(&other, "main", "work_mem"), "6MB");

    // At one position, without a transaction on either side.
    set(&one, "alter system set work_mem = '8MB'");
    one.ok(&["push"]);
    set(&other, "alter system set maintenance_work_mem = '44MB'");
    let refused = other.refused(&["push"]);
    assert!(
        refused.says("maintenance_work_mem") && refused.hint.contains("pull first"),
        "{refused:?}"
    );
    other.ok(&["pull"]);
    assert_eq!(
        other.json(&["push"])[0]["outcome"],
        "new commit at the same position"
    );
    one.ok(&["pull"]);
    assert_eq!(one.place("main"), other.place("main"));
    assert_eq!(shown(&one, "main", "maintenance_work_mem"), "44MB");
    assert_eq!(shown(&one, "main", "work_mem"), "8MB");
    for repo in [&one, &other] {
        repo.fsck();
    }
}

fn an_export_has_the_settings_of_its_position(environment: &TestEnvironment, postgres: &TestPostgres) {
    let repo = environment.init("shop", postgres);
    repo.sql_on(
        "main",
        "alter system set max_prepared_transactions = 10; alter system set work_mem = '77MB'; alter system set max_connections = 150;
         alter system set archive_mode = on; alter system set archive_command = 'false'",
    );
    repo.ok(&["stop"]);
    repo.sql_on(
        "main",
        "create table t (i int); begin; insert into t values (1); prepare transaction 'gx'",
    );
    repo.ok(&["commit", "-m", "prepared"]);
    repo.sql(
        "main",
        "alter system reset max_prepared_transactions; alter system set work_mem = '78MB'",
    );
    repo.ok(&["commit", "-m", "less"]);
    for (revision, work_mem) in [("main~1", "77MB"), ("main", "78MB")] {
        let pgdata = environment.path(&format!("export-{work_mem}"));
        let exported = repo.neon(&["export", revision, "--pgdata", pgdata.to_str().expect("text")]);
        exported.success();
        let told = "note: archive_command = 'false' is switched off: a copy does not act as its original; to have it: ALTER SYSTEM SET archive_command = 'false'";
        assert!(exported.stderr.contains(told), "{}", exported.describe());
        let server = PlainServer::start(environment, postgres, &pgdata);
        assert_eq!(server.sql("show work_mem"), work_mem);
        assert_eq!(server.sql("show max_connections"), "150");
        assert_eq!(server.sql("show archive_mode"), "off");
        assert_eq!(server.sql("select gid from pg_prepared_xacts"), "gx");
        server.sql("commit prepared 'gx'; alter system set work_mem = '1MB'");
        assert_eq!(server.sql("table t"), "1");
        server.stop();
    }
    repo.ok(&["stop"]);
}

fn an_import_goes_on_from_its_settings(environment: &TestEnvironment, postgres: &TestPostgres) {
    let pgdata = PlainServer::initdb(environment, postgres, "plain");
    let server = PlainServer::start(environment, postgres, &pgdata);
    server.sql("create table t (i int)");
    server.sql("alter system set work_mem = '7MB'");
    server.sql("alter system set archive_command = 'cp %p /x'");
    server.stop();
    environment
        .neon(&["init", "shop", "--from", pgdata.to_str().expect("text")])
        .success();
    let repo = environment.repo("shop");
    let started = repo.neon(&["start"]);
    assert!(
        started
            .stderr
            .contains("archive_command = cp %p /x is not taken over"),
        "{}",
        started.describe()
    );
    repo.sql("main", "alter system set work_mem = '8MB'");
    repo.ok(&["commit", "-m", "set"]);
    repo.ok(&["stop"]);
    let export = environment.path("export");
    repo.ok(&["export", "main", "--pgdata", export.to_str().expect("text")]);
    let server = PlainServer::start(environment, postgres, &export);
    assert_eq!(
        server.sql("show work_mem"),
        "8MB",
        "of the position, not of the import"
    );
    server.stop();
    let auto = std::fs::read_to_string(export.join("postgresql.auto.conf")).expect("read");
    assert!(auto.contains("\n#archive_command = 'cp %p /x' #"), "{auto}");
}
