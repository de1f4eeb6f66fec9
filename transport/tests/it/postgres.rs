//! Stock programs: psql against our server, our client against a Postgres.

use std::process::{Output, Stdio};

use neon_transport::server::Options;
use neon_transport::{TransportError, dial_with};
use tokio::process::Command;

use crate::stock_server::{StockServer, installations, psql};
use crate::world::{World, options, uri_at, world, world_with};

async fn run_psql(world: &World, user: &str, password: &str, args: &[&str]) -> Output {
    let run = Command::new(psql())
        .args([
            "-h",
            "127.0.0.1",
            "-p",
            &world.address.port().to_string(),
            "-U",
            user,
            "-d",
            "shop",
            "-X",
            "-w",
        ])
        .args(args)
        .env("PGPASSWORD", password)
        .env("PGPASSFILE", "/dev/null")
        .stdin(Stdio::null())
        .kill_on_drop(true)
        .output();
    tokio::time::timeout(std::time::Duration::from_secs(60), run)
        .await
        .expect("psql hangs")
        .unwrap()
}

fn text(bytes: &[u8]) -> String {
    String::from_utf8_lossy(bytes).into_owned()
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn psql_asks_for_help_and_gets_it() {
    let world = world().await;
    let output = run_psql(&world, "alice", "wonder:land", &["-A", "-t", "-c", "help;"]).await;
    assert!(output.status.success(), "{}", text(&output.stderr));
    assert_eq!(text(&output.stdout), "help: this text\necho: frames come back\n");
    assert!(!world.toy.callers.lock().unwrap()[0].neon);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn psql_that_types_something_else_keeps_its_session() {
    let world = world().await;
    let args = [
        "-A",
        "-t",
        "-c",
        "select 1",
        "-c",
        "branch_push main 01",
        "-c",
        "echo",
        "-c",
        "",
        "-c",
        "help",
    ];
    let output = run_psql(&world, "alice", "wonder:land", &args).await;
    let errors = text(&output.stderr);
    assert!(
        errors.contains("ERROR:  unknown command \"select 1\"\nHINT:  try: help"),
        "{errors}"
    );
    assert!(
        errors.contains("ERROR:  this command needs a neon client\nHINT:"),
        "{errors}"
    );
    assert!(text(&output.stdout).contains("help: this text"));
    assert_eq!(world.toy.callers.lock().unwrap().len(), 4);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn psql_with_a_wrong_password_or_an_unknown_user_is_told_the_same() {
    let world = world().await;
    for (user, password) in [("alice", "wrong"), ("mallory", "wonder:land")] {
        let output = run_psql(&world, user, password, &["-c", "help"]).await;
        assert_eq!(output.status.code(), Some(2));
        let errors = text(&output.stderr);
        assert!(
            errors.contains(&format!(
                "FATAL:  password authentication failed for user \"{user}\""
            )),
            "{errors}"
        );
    }
    let output = run_psql(&world, "alice", "", &["-c", "help"]).await;
    assert!(
        text(&output.stderr).contains("no password supplied"),
        "{}",
        text(&output.stderr)
    );
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn extended_queries_are_refused_and_the_session_goes_on() {
    let world = world().await;
    // psql's \gdesc uses Parse, Describe and Sync.
    let script = "select 1 \\gdesc\nhelp;\n";
    let dir = tempfile::tempdir().unwrap();
    let file = dir.path().join("script.sql");
    std::fs::write(&file, script).unwrap();
    let output = run_psql(
        &world,
        "alice",
        "wonder:land",
        &["-A", "-t", "-f", file.to_str().unwrap()],
    )
    .await;
    assert!(
        text(&output.stderr).contains("only simple queries are supported"),
        "{}",
        text(&output.stderr)
    );
    assert!(
        text(&output.stdout).contains("help: this text"),
        "{}",
        text(&output.stdout)
    );
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn pg_receivewal_is_told_that_this_is_not_postgres() {
    let world = world().await;
    let output = run_psql(
        &world,
        "alice",
        "wonder:land",
        &["-d", "dbname=shop replication=true", "-c", "help"],
    )
    .await;
    assert!(
        text(&output.stderr).contains("not a PostgreSQL server"),
        "{}",
        text(&output.stderr)
    );
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn psql_sees_the_limit() {
    let world = world_with(Options {
        sessions: 0,
        ..Options::default()
    })
    .await;
    let output = run_psql(&world, "alice", "wonder:land", &["-c", "help"]).await;
    assert!(
        text(&output.stderr).contains("FATAL:  too many connections"),
        "{}",
        text(&output.stderr)
    );
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_postgres_is_not_a_neon_server_whatever_the_password() {
    let (_, bin) = installations().remove(0);
    let server = StockServer::start(&bin, "");
    server.sql("create database shop");
    let address = std::net::SocketAddr::from(([127, 0, 0, 1], server.port));
    for (login, repository) in [
        ("postgres:wrong", "shop"),
        ("postgres:se%20cret", "shop"),
        ("postgres:se%20cret", "none"),
    ] {
        let error = dial_with(
            &uri_at(address, login, repository),
            "branch_push main 01",
            &options(),
        )
        .await
        .unwrap_err();
        let TransportError::NotANeonServer { found, .. } = &error else {
            panic!("{error:?}")
        };
        assert!(found.contains("PostgreSQL"), "{found}");
    }
}
