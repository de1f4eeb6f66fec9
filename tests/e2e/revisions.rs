//! Every way to name a position, and that it shows what was there.

use neon_tests_kit::{TestEnvironment, TestPostgres, on_both};

on_both!(the_past_is_shown, a_position_is_looked_at);

#[test]
fn the_name_of_a_deleted_branch_begins_anew() {
    let environment = TestEnvironment::new(env!("CARGO_BIN_EXE_neon"));
    let repo = environment.init("shop", &TestPostgres::find(15));
    repo.sql_on("main", "create table t as select 1 as i");
    repo.ok(&["commit", "-m", "one"]);
    repo.ok(&["branch", "try", "main"]);
    repo.sql_on("try", "insert into t values (2)");
    repo.ok(&["stop", "try"]);
    repo.ok(&["branch", "--force-delete", "try"]);
    repo.ok(&["branch", "try", "main"]);
    assert_eq!(repo.place("try"), repo.place("main"));
    assert_eq!(repo.sql_on("try", "select i from t"), "1");
}

#[test]
fn what_was_in_flight_leaves_no_files() {
    let environment = TestEnvironment::new(env!("CARGO_BIN_EXE_neon"));
    let repo = environment.init("shop", &TestPostgres::find(15));
    let uri = repo.start("main");
    TestPostgres::sql(&uri, "alter system set max_prepared_transactions = 2");
    repo.ok(&["stop"]);
    // Each line: what it is, its file, and a position while its transaction is open.
    let rows = repo.sql_on(
        "main",
        "begin; create table first (i int primary key); insert into first values (1);
         select 'first', pg_relation_filepath('first'), pg_current_wal_insert_lsn(); commit;
         begin; insert into first values (2); savepoint s; create table later (i int primary key); insert into later values (1); release s;
         select 'later', pg_relation_filepath('later'), pg_current_wal_insert_lsn(); commit;
         begin; truncate first;
         select 'rewritten', pg_relation_filepath('first'), pg_current_wal_insert_lsn(); commit;
         begin; create unlogged table fast (i int);
         select 'fast', pg_relation_filepath('fast'), pg_current_wal_insert_lsn(); commit;
         begin; savepoint s; create table waits (i int primary key); insert into waits values (1); release s;
         select 'waits', pg_relation_filepath('waits'), pg_current_wal_insert_lsn(); prepare transaction 'waits';
         select 'end', '', pg_current_wal_insert_lsn();",
    );
    let rows: Vec<Vec<&str>> = rows.lines().map(|row| row.split('|').collect()).collect();
    assert_eq!(rows.len(), 6, "{rows:?}");
    repo.ok(&["stop"]);
    // At the position of each, what came before has ended, and what comes later has not begun.
    for (now, row) in rows.iter().enumerate() {
        repo.ok(&["branch", row[0], &format!("main@{}", row[2])]);
        let uri = repo.start(row[0]);
        let pgdata = repo.inside(&format!("endpoints/{}/pgdata", row[0]));
        for (made, other) in rows.iter().enumerate().take(5) {
            // TRUNCATE gave the first table another file when it committed.
            let there = made < now && !(made == 0 && now > 2);
            assert_eq!(
                pgdata.join(other[1]).exists(),
                there,
                "{} at {}",
                other[0],
                row[0]
            );
        }
        TestPostgres::amcheck(&uri);
        if row[0] == "end" {
            TestPostgres::sql(&uri, "commit prepared 'waits'");
            assert_eq!(TestPostgres::sql(&uri, "select * from waits, later"), "1|1");
        }
        repo.ok(&["stop", row[0]]);
    }
}

fn the_past_is_shown(environment: &TestEnvironment, postgres: &TestPostgres) {
    let repo = environment.init("shop", postgres);
    let uri = repo.start("main");
    // Returns the moment and the position after a statement.
    let after = |sql: &str| -> (String, String) {
        TestPostgres::sql(&uri, sql);
        let line = TestPostgres::sql(
            &uri,
            "select clock_timestamp() || '|' || pg_current_wal_insert_lsn()",
        );
        let (time, lsn) = line.split_once('|').expect("two columns");
        (time.to_owned(), lsn.to_owned())
    };
    let (zero, _) = after("select 1");
    let first = after(
        "create table t(i int primary key, x text); insert into t select i, md5(i::text) from generate_series(1, 1000) i",
    );
    repo.ok(&["commit", "-m", "first"]);
    let second = after("update t set x = 'second' where i <= 100");
    repo.ok(&["tag", "v2"]);
    let third = after("delete from t where i > 50; vacuum t; checkpoint");
    repo.ok(&["commit", "-m", "third"]);
    let fourth = after("drop table t");
    // Long after all of it, with more of the cluster changed and everything sealed.
    after("create table later as select generate_series(1, 1000) i");
    repo.ok(&["commit", "-m", "fifth"]);

    let look = "select count(*), count(*) filter (where x = 'second'), coalesce(max(i), 0) from t";
    let shows = |name: &str, revision: &str, expected: &str| {
        repo.ok(&["branch", name, revision]);
        let uri = repo.start(name);
        assert_eq!(TestPostgres::sql(&uri, look), expected, "{revision}");
        assert!(TestPostgres::amcheck(&uri) > 100, "{revision}");
        repo.ok(&["stop", name]);
    };
    shows("a-lsn", &format!("main@{}", first.1), "1000|0|1000");
    shows("a-time", &format!("main@{{{}}}", first.0), "1000|0|1000");
    // Before the third, and before what the tag made.
    shows("a-commit", "main~3", "1000|0|1000");
    shows("b-lsn", &format!("main@{}", second.1), "1000|100|1000");
    shows("b-time", &format!("main@{{{}}}", second.0), "1000|100|1000");
    shows("b-tag", "v2", "1000|100|1000");
    shows("c-lsn", &format!("main@{}", third.1), "50|50|50");
    shows("c-time", &format!("main@{{{}}}", third.0), "50|50|50");
    let commit = repo.place("main~1").commit;
    shows("c-commit", &commit, "50|50|50");
    shows("c-prefix", &commit[..12], "50|50|50");
    for (name, revision) in [
        ("d-lsn", format!("main@{}", fourth.1)),
        ("d-time", format!("main@{{{}}}", fourth.0)),
    ] {
        repo.ok(&["branch", name, &revision]);
        let uri = repo.start(name);
        assert_eq!(
            TestPostgres::sql(
                &uri,
                "select to_regclass('t') is null, to_regclass('later') is null"
            ),
            "t|t"
        );
        repo.ok(&["stop", name]);
    }
    // Before the first transaction of all.
    repo.ok(&["branch", "zero", &format!("main@{{{zero}}}")]);
    assert_eq!(
        TestPostgres::sql(&repo.start("zero"), "select to_regclass('t') is null"),
        "t"
    );
    // A branch of the past goes on by itself.
    let uri = repo.start("b-tag");
    TestPostgres::sql(
        &uri,
        "insert into t select i, 'branch' from generate_series(2001, 2100) i",
    );
    assert_eq!(TestPostgres::sql(&uri, look), "1100|100|2100");
    assert_eq!(repo.sql("main", "select to_regclass('t') is null"), "t");
    repo.ok(&["stop", "--all"]);
    repo.fsck();
}

fn a_position_is_looked_at(environment: &TestEnvironment, postgres: &TestPostgres) {
    let repo = environment.init("shop", postgres);
    let uri = repo.start("main");
    TestPostgres::sql(&uri, "create table t as select generate_series(1, 100) i");
    repo.ok(&["tag", "v1"]);
    let lsn = repo.place("v1").lsn;
    TestPostgres::sql(&uri, "delete from t");
    for revision in ["v1", &format!("main@{lsn}")] {
        let look = repo.start(revision);
        assert_eq!(
            TestPostgres::sql(&look, "select count(*), pg_is_in_recovery() from t"),
            "100|t"
        );
        for write in ["insert into t values (1)", "create table u(i int)", "vacuum t"] {
            let refused = TestPostgres::try_sql(&look, write);
            assert!(!refused.status.success(), "{write}: {}", refused.describe());
        }
        let again = repo.neon(&["start", revision]);
        assert_eq!(again.success(), look);
        repo.ok(&["stop", revision]);
        assert!(repo.neon(&["uri", revision]).code() == Some(1));
    }
    assert_eq!(
        TestPostgres::sql(&uri, "select count(*) from t"),
        "0",
        "the branch never noticed"
    );
    repo.ok(&["stop", "--all"]);
    repo.fsck();
}

#[test]
fn postgres_is_asked_about_each_branch() {
    let environment = TestEnvironment::new(env!("CARGO_BIN_EXE_neon"));
    let repo = environment.init("shop", &TestPostgres::find(15));
    let uri = repo.start("main");
    TestPostgres::sql(
        &uri,
        "create table t as select i, md5(i::text) t from generate_series(1, 3000) i;
         create function half(i int) returns int immutable language sql as 'select i / 2';
         create index on t (i); create index odd on t (half(i)); create index on t using gin (to_tsvector('simple', t));",
    );
    repo.ok(&["commit", "-m", "good"]);
    repo.ok(&["branch", "good"]);
    let checked = repo.json(&["fsck", "--boot", "--functions"]);
    let booted = checked["booted"].as_array().expect("branches");
    assert_eq!(booted.len(), 2, "{checked:#}");
    for branch in booted {
        assert!(branch["relations"].as_u64() > Some(300), "{checked:#}");
        assert_eq!(branch["notes"].as_array().map(Vec::len), Some(0), "{checked:#}");
    }
    // What no hash can tell: the index is not that of the function any more.
    TestPostgres::sql(
        &uri,
        "create or replace function half(i int) returns int immutable language sql as 'select i / 3'",
    );
    repo.ok(&["stop"]);
    repo.fsck();
    // Nobody asked for what the database brought along: that is told, and not called.
    let checked = repo.json(&["fsck", "--boot"]);
    let notes = checked["booted"][0]["notes"].as_array().expect("notes");
    assert!(
        notes[0]
            .as_str()
            .expect("text")
            .starts_with("postgres: 1 indexes were not compared"),
        "{checked:#}"
    );
    let output = repo.neon(&["--json", "fsck", "--boot", "--functions"]);
    assert_eq!(output.code(), Some(1), "{}", output.describe());
    let checked: serde_json::Value = serde_json::from_str(&output.stdout).expect("JSON");
    let findings = checked["findings"].as_array().expect("findings");
    let messages: Vec<&str> = findings
        .iter()
        .filter_map(|finding| finding["message"].as_str())
        .collect();
    let [message] = messages.as_slice() else {
        panic!("{checked:#}");
    };
    assert!(
        message.starts_with("branch main at ") && message.contains(": postgres.public.odd: "),
        "{message}"
    );
    // Nothing is left of it.
    assert_eq!(
        std::fs::read_dir(repo.inside("endpoints"))
            .expect("endpoints")
            .count(),
        1
    );
    repo.fsck();
}
