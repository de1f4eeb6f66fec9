//! Sessions of ours on a database that carries code for every session.

use std::collections::BTreeSet;
use std::path::Path;
use std::process::Command;

use neon_transport::guarded::{Guarded, Login};
use neon_transport::replication::{ConnectOptions, Replication};
use tokio::net::UnixStream;

use crate::stock_server::{StockServer, installations, psql};

/// Makes a database of which everything that a session may meet leaves a file `trap-NAME` in `directory`.
fn hostile(server: &StockServer, major: u32) {
    let directory = server.dir.path().display();
    server.sql(&format!(
        "create schema evil;
         create function evil.trap(name text) returns void language plpgsql as
           $$ begin execute format('copy (select 1) to %L', '{directory}/trap-' || name); end $$;
         create function evil.lsn(name text) returns pg_lsn language plpgsql as
           $$ begin perform evil.trap(name); return '0/0'; end $$;
         create function evil.pg_current_wal_insert_lsn() returns pg_lsn language sql as
           $$ select evil.lsn('shadow') $$;
         create function evil.pg_current_wal_flush_lsn() returns pg_lsn language sql as
           $$ select evil.lsn('shadow') $$;
         create or replace function pg_catalog.pg_current_wal_insert_lsn() returns pg_lsn volatile language sql as
           $$ select evil.lsn('catalog') $$;
         create or replace function pg_catalog.pg_current_wal_flush_lsn() returns pg_lsn volatile language sql as
           $$ select evil.lsn('catalog') $$;
         create function evil.event() returns event_trigger language plpgsql as
           $$ begin perform evil.trap('event-' || tg_event); end $$;
         create event trigger on_start on ddl_command_start execute function evil.event();
         alter event trigger on_start enable always;
         create role other;"
    ));
    if major >= 17 {
        server.sql(
            "create event trigger on_login on login execute function evil.event(); alter event trigger on_login enable always",
        );
    }
    let places = [
        "role all",
        "role postgres",
        "database postgres",
        "role postgres in database postgres",
    ];
    // The last makes every further session of psql fail that does not ask for something else.
    for setting in [
        "search_path = evil, pg_catalog",
        "default_transaction_read_only = on",
        "log_statement = 'all'",
        "role = other",
        "local_preload_libraries = 'no_such_library'",
        "session_preload_libraries = 'no_such_library'",
    ] {
        let statements: Vec<String> = places
            .iter()
            .map(|place| format!("alter {place} set {setting};"))
            .collect();
        let options = "-c default_transaction_read_only=off -c role=none -c local_preload_libraries= -c session_preload_libraries=";
        let output = Command::new(psql())
            .args(["-h", &directory.to_string(), "-p", &server.port.to_string()])
            .args([
                "-U",
                "postgres",
                "-d",
                "postgres",
                "-XqAt",
                "-v",
                "ON_ERROR_STOP=1",
                "-c",
            ])
            .arg(statements.concat())
            .env("PGOPTIONS", options)
            .output()
            .unwrap();
        assert!(
            output.status.success(),
            "{}",
            String::from_utf8_lossy(&output.stderr)
        );
    }
    for trap in sprung(server.dir.path()) {
        std::fs::remove_file(server.dir.path().join(trap)).unwrap();
    }
}

fn sprung(directory: &Path) -> BTreeSet<String> {
    let entries = std::fs::read_dir(directory).unwrap().flatten();
    let names = entries.map(|entry| entry.file_name().to_string_lossy().into_owned());
    names.filter(|name| name.starts_with("trap-")).collect()
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn no_code_of_the_database_runs_in_a_session_of_ours() {
    for (major, bin) in installations() {
        let server = StockServer::start(&bin, "log_statement = 'all'");
        hostile(&server, major);
        let directory = server.dir.path();
        let login = Login {
            version: u16::try_from(major).unwrap(),
            user: "postgres",
            database: "postgres",
        };
        let socket = directory.join(format!(".s.PGSQL.{}", server.port));
        let stream = UnixStream::connect(&socket).await.unwrap();
        let mut session = Guarded::start(stream, login).await.unwrap();
        let inserted = session.insert_lsn().await.unwrap();
        session
            .run("ALTER ROLE \"postgres\" PASSWORD 'said in the session'")
            .await
            .unwrap();
        let flushed = session.flush_lsn().await.unwrap();
        assert!(flushed > inserted, "{flushed} {inserted}");
        session.run("no such statement").await.unwrap_err();
        assert!(
            session.insert_lsn().await.unwrap() >= flushed,
            "a refusal is no end"
        );

        let stream = UnixStream::connect(&socket).await.unwrap();
        let options = ConnectOptions::unix(directory, server.port, "postgres");
        let mut walsender = Replication::over(stream, &options).await.unwrap();
        assert!(walsender.identify_system().await.unwrap().flushed >= flushed);
        assert_eq!(sprung(directory), BTreeSet::new(), "Postgres {major}");
        let log = std::fs::read_to_string(directory.join("log")).unwrap();
        assert!(!log.contains("said in the session"));

        // The traps are there: another session springs them.
        let output = Command::new(psql())
            .args(["-h", &directory.display().to_string(), "-p", &server.port.to_string()])
            .args(["-U", "postgres", "-d", "postgres", "-XqAt"])
            .args(["-c", "select pg_current_wal_insert_lsn()"])
            .args(["-c", "select pg_catalog.pg_current_wal_insert_lsn()"])
            .args(["-c", "create table t ()"])
            .env(
                "PGOPTIONS",
                "-c session_preload_libraries= -c local_preload_libraries= -c role=none -c default_transaction_read_only=off",
            )
            .output()
            .unwrap();
        let mut expected =
            BTreeSet::from(["trap-shadow", "trap-catalog", "trap-event-ddl_command_start"].map(String::from));
        if major >= 17 {
            expected.insert("trap-event-login".to_owned());
        }
        assert_eq!(
            sprung(directory),
            expected,
            "{}",
            String::from_utf8_lossy(&output.stderr)
        );
    }
}
