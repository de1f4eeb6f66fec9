//! A data directory that went on where its WAL could not be followed: nobody passes over it, and it can be taken in as it is.

use std::fs;

use neon_tests_kit::{Serve, TestEnvironment, TestPostgres, TestRepo, kill, on_both, postmaster_family};

on_both!(
    nothing_passes_over_a_gap,
    a_gap_can_be_set_aside,
    a_crash_behind_a_gap_is_taken_in,
);

const AHEAD: &str = "that directory alone";

#[track_caller]
fn assert_ahead(repo: &TestRepo<'_>, command: &[&str]) {
    let refused = repo.refused(command);
    assert!(refused.message.contains(AHEAD), "{command:?}: {refused:?}");
}

const SUM: &str = "select count(*), sum(id), min(filler), (select count(*) from made_later) from kept";

/// Makes an endpoint whose daemon died and whose slot was dropped, and which then wrote more than its own `pg_wal` still has.
fn with_a_gap<'e>(
    environment: &'e TestEnvironment,
    postgres: &TestPostgres,
    serve: &Serve<'_>,
) -> TestRepo<'e> {
    let repo = environment.init("shop", postgres);
    repo.start("main");
    repo.sql(
        "main",
        "create table kept (id int primary key, filler text);
         insert into kept select n, repeat('a', 500) from generate_series(1, 3000) n;
         create table gone (id int); insert into gone select generate_series(1, 1000);
         create table shrinks (id int, filler text); insert into shrinks select n, repeat('s', 900) from generate_series(1, 900) n",
    );
    repo.ok(&["commit", "-m", "what is known"]);
    repo.ok(&["origin", "add", "cloud", &serve.uri("shop")]);
    repo.ok(&["push", "main", "cloud"]);
    repo.ok(&["branch", "spare"]);
    let uri = repo.uri("main");
    let daemon = fs::read_to_string(repo.inside("neon.pid")).expect("a daemon's number");
    kill(
        daemon.trim().parse().expect("a number"),
        rustix::process::Signal::KILL,
    );
    let sql = |text: &str| TestPostgres::sql(&uri, text);
    // What a DBA does when the disk fills.
    sql("select pg_terminate_backend(active_pid) from pg_replication_slots where active_pid is not null");
    sql("do $$ begin
           for attempt in 1..100 loop
             exit when not exists (select from pg_replication_slots where active_pid is not null);
             perform pg_sleep(0.1);
           end loop;
         end $$");
    sql("select pg_drop_replication_slot('neon')");
    sql("alter system set max_wal_size = '32MB'");
    sql("select pg_reload_conf()");
    sql(
        "create table made_later (id int); insert into made_later select generate_series(1, 500);
         insert into kept select n, repeat('b', 500) from generate_series(3001, 60000) n;
         update kept set filler = repeat('c', 400) where id % 3 = 0;
         drop table gone; delete from shrinks where id > 10; vacuum shrinks;
         create index on kept (filler)",
    );
    for _ in 0..6 {
        sql("select pg_switch_wal()");
        sql("insert into made_later values (1)");
        sql("checkpoint");
    }
    repo
}

fn nothing_passes_over_a_gap(environment: &TestEnvironment, postgres: &TestPostgres) {
    let serve = Serve::start(environment, "srv");
    let repo = with_a_gap(environment, postgres, &serve);
    let rows = repo.sql("main", SUM);
    let colleague = environment.clone(&serve.uri("shop"), "colleague");
    colleague.sql_on("main", "insert into gone values (0)");
    colleague.ok(&["stop", "main"]);
    colleague.ok(&["push", "main"]);

    let refused = repo.refused(&["stop", "main"]);
    assert!(refused.message.contains(AHEAD), "{refused:?}");
    let hint = &refused.hint;
    assert!(
        hint.contains("neon start --resync main") && hint.contains("--set-aside main"),
        "{hint}"
    );
    let status = repo.ok(&["status"]);
    assert!(status.contains("went on to"), "{status}");
    let before = repo.place("main");
    for command in [
        vec!["stop", "main"],
        vec!["start", "main"],
        vec!["commit", "-m", "nothing"],
        vec!["branch", "other", "main"],
        vec!["tag", "t", "main"],
        vec!["export", "main", "--pgdata", "exported"],
        vec!["push", "main", "cloud"],
        vec!["branch", "-m", "main", "renamed"],
    ] {
        assert_ahead(&repo, &command);
    }
    repo.ok(&["switch", "spare"]);
    assert_ahead(&repo, &["branch", "-d", "main"]);
    repo.ok(&["switch", "main"]);
    // A pull would move the branch and build the directory anew.
    let refused = repo.refused(&["pull", "main"]);
    assert!(format!("{refused:?}").contains("--resync main"), "{refused:?}");
    assert_eq!(repo.place("main"), before);

    // A start that is refused leaves the directory where it is.
    let listener = std::net::TcpListener::bind("127.0.0.1:0").expect("a port");
    let taken = listener.local_addr().expect("its number").port().to_string();
    for way in ["--set-aside", "--resync"] {
        let refused = repo.refused(&["start", way, "main", "--port", &taken]);
        assert!(refused.message.contains(&taken), "{refused:?}");
        assert!(repo.inside("endpoints/main/pgdata/PG_VERSION").is_file(), "{way}");
    }
    assert!(!repo.inside("aside").exists());
    assert_eq!(repo.place("main"), before);

    let started = repo.neon(&["start", "--resync", "main"]).describe();
    assert!(
        started.contains("took in what the data directory had changed"),
        "{started}"
    );
    assert_eq!(repo.sql("main", SUM), rows);
    assert_eq!(
        repo.sql(
            "main",
            "select to_regclass('gone') is null, count(*) from shrinks"
        ),
        "t|10"
    );
    repo.sql("main", "insert into kept values (0, 'after')");
    repo.ok(&["commit", "-m", "after"]);
    assert!(repo.place("main").timeline != before.timeline);

    // Others take it in, and it is whole.
    repo.ok(&["push", "main", "cloud:mine"]);
    let clone = environment.clone(&serve.uri("shop"), "clone");
    clone.ok(&["branch", "mine", "origin/mine"]);
    assert_eq!(clone.sql_on("mine", SUM), repo.sql("main", SUM));
    assert_eq!(clone.sql_on("mine~1", SUM), rows);
    for repo in [&repo, &clone] {
        repo.ok(&["stop", "--all"]);
        repo.ok(&["fsck", "--deep", "--boot"]);
    }
    assert!(!repo.inside("aside").exists());
}

fn a_gap_can_be_set_aside(environment: &TestEnvironment, postgres: &TestPostgres) {
    let serve = Serve::start(environment, "srv");
    let repo = with_a_gap(environment, postgres, &serve);
    assert_ahead(&repo, &["stop", "main"]);
    let started = repo.neon(&["start", "--set-aside", "main"]).describe();
    let kept = repo.inside("aside/main-1");
    assert!(started.contains(&kept.display().to_string()), "{started}");
    assert!(kept.join("PG_VERSION").is_file());
    assert!(repo.ok(&["status"]).contains("aside/main-1"));
    assert_eq!(
        repo.sql("main", "select count(*), max(id) from kept"),
        "3000|3000"
    );
    repo.ok(&["stop", "main"]);
    repo.ok(&["branch", "fresh", "main"]);
    let refused = repo.refused(&["start", "--set-aside", "fresh"]);
    assert!(refused.message.contains("no data directory"), "{refused:?}");

    // Deleted with its branch, a directory that is not all here is kept, too.
    let repo = repo_with_unread_wal(&repo);
    let deleted = repo.neon(&["branch", "-D", "doomed"]).describe();
    assert!(deleted.contains("aside/doomed-1"), "{deleted}");
    assert!(repo.inside("aside/doomed-1/PG_VERSION").is_file());
    repo.ok(&["fsck"]);
}

/// Makes a branch whose directory has lost WAL that was not received.
fn repo_with_unread_wal<'r>(repo: &'r TestRepo<'r>) -> &'r TestRepo<'r> {
    repo.ok(&["branch", "doomed", "main"]);
    let uri = repo.start("doomed");
    let daemon = fs::read_to_string(repo.inside("neon.pid")).expect("a daemon's number");
    kill(
        daemon.trim().parse().expect("a number"),
        rustix::process::Signal::KILL,
    );
    TestPostgres::sql(&uri, "insert into kept select generate_series(-1000, -1)");
    TestPostgres::sql(&uri, "checkpoint");
    let postmaster =
        fs::read_to_string(repo.inside("endpoints/doomed/pgdata/postmaster.pid")).expect("a number");
    let postmaster: u32 = postmaster
        .lines()
        .next()
        .expect("a line")
        .parse()
        .expect("a number");
    for process in postmaster_family(postmaster) {
        kill(process, rustix::process::Signal::KILL);
    }
    for entry in fs::read_dir(repo.inside("endpoints/doomed/pgdata/pg_wal")).expect("pg_wal") {
        let path = entry.expect("an entry").path();
        if path.is_file() && path.extension().is_none() {
            fs::remove_file(path).expect("removed");
        }
    }
    repo
}

fn a_crash_behind_a_gap_is_taken_in(environment: &TestEnvironment, postgres: &TestPostgres) {
    let serve = Serve::start(environment, "srv");
    let repo = with_a_gap(environment, postgres, &serve);
    repo.sql("main", "insert into kept values (-5, 'after the checkpoint')");
    let rows = repo.sql("main", SUM);
    let postmaster =
        fs::read_to_string(repo.inside("endpoints/main/pgdata/postmaster.pid")).expect("a number");
    let postmaster: u32 = postmaster
        .lines()
        .next()
        .expect("a line")
        .parse()
        .expect("a number");
    for process in postmaster_family(postmaster) {
        kill(process, rustix::process::Signal::KILL);
    }
    assert_ahead(&repo, &["branch", "other", "main"]);
    repo.ok(&["start", "--resync", "main"]);
    assert_eq!(repo.sql("main", SUM), rows);
    repo.ok(&["stop", "main"]);
    repo.ok(&["fsck", "--deep"]);
}
