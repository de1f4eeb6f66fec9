//! A database that others wrote: it is a program, and nobody asked it to run.

use std::collections::BTreeSet;
use std::path::Path;

use neon_tests_kit::{Output, PlainServer, TestEnvironment, TestPostgres, TestRepo, on_both, on_every};

on_every!(nothing_runs_that_nobody_called);
on_both!(a_commit_holds_settings_and_nothing_else);

/// Whatever runs of a database leaves a file of its name here.
const TRAPS: &str = "traps";

/// Functions, operators, casts, triggers and settings that run, or make run, something in a session that does not look out.
fn hostile(repo: &TestRepo<'_>, major: u16) {
    let uri = repo.start("main");
    let traps = repo.environment().path(TRAPS);
    let trap = |name: &str| format!("perform evil.trap('{name}');");
    let mut script = format!(
        "create schema evil;
         create function evil.trap(name text) returns void language plpgsql as
           $$ begin execute format('copy (select 1) to %L', '{}/' || name); end $$;
         create function evil.lsn(name text) returns pg_lsn language plpgsql as $$ begin perform evil.trap(name); return '0/0'; end $$;
         create function evil.yes(name, name) returns bool language plpgsql as $$ begin {} return true; end $$;
         create operator evil.= (function = evil.yes, leftarg = name, rightarg = name);
         create function evil.half(i int) returns int immutable language plpgsql as $$ begin {} return i / 2; end $$;
         create function evil.event() returns event_trigger language plpgsql as $$ begin {} end $$;
         create function evil.format(text) returns text language sql as $$ select evil.lsn('format')::text $$;
         create type evil.tag as (t text);
         create function evil.tag(text) returns evil.tag language plpgsql as $$ begin {} return row($1)::evil.tag; end $$;
         create cast (text as evil.tag) with function evil.tag(text) as implicit;
         create table t as select i from generate_series(1, 1000) i;
         create index on t (evil.half(i));
         ",
        traps.display(),
        trap("operator"),
        trap("index"),
        trap("event"),
        trap("cast"),
    );
    for function in [
        "pg_current_wal_insert_lsn()",
        "pg_current_wal_flush_lsn()",
        "pg_current_wal_lsn()",
    ] {
        script.push_str(&format!(
            "create function evil.{function} returns pg_lsn language sql as $$ select evil.lsn('shadow') $$;
             create or replace function pg_catalog.{function} returns pg_lsn volatile language sql as $$ select evil.lsn('catalog') $$;
             "
        ));
    }
    script.push_str(
        "create or replace function pg_catalog.pg_reload_conf() returns bool volatile language sql as $$ select evil.lsn('reload') is null $$;
         create event trigger e on ddl_command_start execute function evil.event(); alter event trigger e enable always;
         ",
    );
    if major >= 17 {
        script.push_str("create event trigger l on login execute function evil.event(); alter event trigger l enable always;\n");
    }
    for place in [
        "role all",
        "role postgres",
        "database postgres",
        "role postgres in database postgres",
    ] {
        for setting in [
            "search_path = evil, pg_catalog",
            "default_transaction_read_only = off",
            "local_preload_libraries = 'no_such_library'",
            "session_preload_libraries = 'no_such_library'",
        ] {
            script.push_str(&format!("alter {place} set {setting};\n"));
        }
    }
    TestPostgres::sql(&uri, &script);
    repo.ok(&["commit", "-m", "looks fine"]);
    repo.ok(&["stop"]);
    repo.quit();
}

fn sprung(environment: &TestEnvironment) -> BTreeSet<String> {
    let entries = std::fs::read_dir(environment.path(TRAPS))
        .expect("traps")
        .flatten();
    entries
        .map(|entry| entry.file_name().to_string_lossy().into_owned())
        .collect()
}

fn nothing_runs_that_nobody_called(environment: &TestEnvironment, postgres: &TestPostgres) {
    std::fs::create_dir(environment.path(TRAPS)).expect("a directory");
    let theirs = environment.init("theirs", postgres);
    hostile(&theirs, postgres.major());
    for trap in sprung(environment) {
        std::fs::remove_file(environment.path(TRAPS).join(trap)).expect("removed");
    }
    let ours = environment.clone(theirs.directory().to_str().expect("text"), "ours");
    let quiet = |after: &str| assert_eq!(sprung(environment), BTreeSet::new(), "after {after}");
    let started = ours.neon(&["start"]);
    let uri = started.success();
    assert!(started.stderr.contains("password"), "{}", started.describe());
    quiet("start");
    for line in [
        &["status"][..],
        &["uri"],
        &["commit", "-m", "nothing new"],
        &["branch", "other"],
        &["du", "main"],
        &["fsck", "--boot"],
        &["start", "other"],
        &["start", "main~1"],
        &["uri", "main~1"],
        &["stop", "--all"],
        &["start"],
    ] {
        ours.ok(line);
        quiet(&line.join(" "));
    }
    ours.ok(&["stop"]);
    quiet("stop");
    let pgdata = environment.path("exported");
    ours.ok(&["export", "main", "--pgdata", pgdata.to_str().expect("text")]);
    quiet("export");
    let server = PlainServer::start(environment, postgres, &pgdata);
    server.stop();
    quiet("pg_ctl start");

    // Whoever connects runs it.
    ours.ok(&["start"]);
    let uri = uri.lines().next_back().expect("a URI");
    let mut psql = environment.command(TestPostgres::client("psql"), environment.root());
    psql.env(
        "PGOPTIONS",
        "-c session_preload_libraries= -c local_preload_libraries=",
    )
    .args(["-XqAt", "-d", uri, "-c", "select pg_current_wal_insert_lsn()"])
    .args(["-c", "create table u (i int)"]);
    let said = Output::of(&mut psql);
    let sprung = sprung(environment);
    assert!(
        sprung.contains("shadow") && sprung.contains("event"),
        "{sprung:?} {}",
        said.describe()
    );
}

/// Returns everything that a repository's endpoint and daemon wrote for people.
fn logs(repo: &TestRepo<'_>) -> String {
    let read = |path: &Path| std::fs::read_to_string(path).unwrap_or_default();
    read(&repo.inside("endpoints/main/postgres.log")) + &read(&repo.inside("daemon.log"))
}

fn a_commit_holds_settings_and_nothing_else(environment: &TestEnvironment, postgres: &TestPostgres) {
    let secret = environment.path("secret.conf");
    std::fs::write(&secret, "hush = nobody reads this\nsecret text\n").expect("written");
    let theirs = environment.init("theirs", postgres);
    theirs.sql_on("main", "create table t (i int)");
    theirs.ok(&["stop"]);
    theirs.quit();
    let secret = secret.display();
    theirs.forge_settings(
        "main",
        &format!(
            "include '{secret}'\nwork_mem = '7MB' include '{secret}'\nINCLUDE_IF_EXISTS = '{secret}'\nhba_file = '{secret}'\nident_file = '{secret}'\n\
             work_mem = '5MB'\narchive_command = 'touch {secret}.ran'\narchive_mode = on\nssl = on\nssl_passphrase_command = 'touch {secret}.ran'\n\
             session_preload_libraries = '{secret}'\nlocal_preload_libraries = 'x'\ndynamic_library_path = '/tmp'\nno_such_setting = 1\nlog_directory = '/tmp'\n\
             data_directory = '/tmp'\nsome.extension = 'kept'\nnot a setting at all\n"
        ),
    );
    let ours = environment.clone(theirs.directory().to_str().expect("text"), "ours");
    let started = ours.neon(&["start"]);
    let uri = started.success();
    let uri = uri.lines().next_back().expect("a URI");
    for name in [
        "hba_file",
        "archive_command",
        "session_preload_libraries",
        "no_such_setting",
    ] {
        assert!(
            started.stderr.contains(&format!("note: {name} = ")),
            "{}",
            started.describe()
        );
    }
    assert!(
        !started.stderr.contains('\u{1b}') && !started.stderr.contains("hush"),
        "{}",
        started.describe()
    );
    assert_eq!(
        TestPostgres::sql(uri, "show work_mem; show \"some\".extension; show ssl"),
        "5MB\nkept\noff"
    );
    let files = TestPostgres::sql(
        uri,
        "select distinct sourcefile from pg_settings where sourcefile is not null order by 1",
    );
    assert!(
        files
            .lines()
            .all(|file| file.starts_with(&ours.inside("endpoints/main").display().to_string())),
        "{files}"
    );
    ours.ok(&["stop"]);
    let pgdata = environment.path("exported");
    let exported = ours.neon(&["export", "main", "--pgdata", pgdata.to_str().expect("text")]);
    exported.success();
    assert!(
        exported
            .stderr
            .contains("to have it: ALTER SYSTEM SET archive_command = "),
        "{}",
        exported.describe()
    );
    let server = PlainServer::start(environment, postgres, &pgdata);
    assert_eq!(server.sql("show work_mem"), "5MB");
    server.stop();
    assert!(
        !logs(&ours).contains("hush") && !logs(&ours).contains("secret text"),
        "{}",
        logs(&ours)
    );
    assert!(!environment.path("secret.conf.ran").exists());
}
