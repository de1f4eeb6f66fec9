//! Where a repository lies: deep, behind a link, moved under its running servers, in somebody else's hands.

use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::os::unix::net::UnixListener;
use std::path::Path;

use neon_tests_kit::{TestEnvironment, TestPostgres, TestRepo, on_both};

on_both!(a_repository_is_found_by_every_path);

/// Looks from everywhere that a command may look from.
fn answers(repo: &TestRepo<'_>, rows: &str) {
    let status = repo.json(&["status"]);
    assert_eq!(status["endpoints"][0]["state"], "running", "{status}");
    assert!(!status["daemon"].is_null(), "{status}");
    let counted = repo.ok(&["psql", "--", "-XAtc", "select count(*) from t"]);
    assert_eq!(counted, rows);
    assert_eq!(repo.sql("main", "select count(*) from t"), rows);
}

fn a_repository_is_found_by_every_path(environment: &TestEnvironment, postgres: &TestPostgres) {
    let deep = environment.path(&"d".repeat(150));
    fs::create_dir(&deep).expect("a directory");
    let version = postgres.major().to_string();
    environment
        .neon_in(&deep, &["init", "shop", "--pg-version", &version])
        .success();
    let shop = environment.repo_at(&deep.join("shop"));
    shop.set("endpoint.first_port", &environment.port().to_string());
    shop.sql_on("main", "create table t (i int); insert into t values (1)");
    answers(&shop, "1");
    let temporary = fs::read_dir(environment.path("tmp"))
        .expect("a directory")
        .flatten();
    let outside: Vec<_> = temporary.map(|entry| entry.file_name()).collect();
    assert!(outside.is_empty(), "nothing of it lies elsewhere: {outside:?}");

    let link = environment.path("link");
    std::os::unix::fs::symlink(&deep, &link).expect("a link");
    let linked = environment.repo_at(&link.join("shop"));
    answers(&linked, "1");
    linked.ok(&["commit", "-m", "through a link"]);

    // Its servers go on while it is moved, to a short path and back to a long one.
    let short = environment.path("shop");
    fs::rename(deep.join("shop"), &short).expect("moved");
    let shop = environment.repo_at(&short);
    answers(&shop, "1");
    shop.sql("main", "insert into t values (2)");
    shop.ok(&["commit", "-m", "moved"]);
    fs::rename(&short, deep.join("again")).expect("moved");
    let shop = environment.repo_at(&deep.join("again"));
    answers(&shop, "2");
    shop.ok(&["stop"]);
    shop.fsck();
}

/// Listens where the daemon would, and says what a terminal must not hear.
fn squat(socket: &Path) -> std::thread::JoinHandle<Option<Vec<u8>>> {
    use std::io::Read;
    let listener = UnixListener::bind(socket).expect("bound");
    listener.set_nonblocking(true).expect("set");
    let socket = socket.to_owned();
    std::thread::spawn(move || {
        while socket.exists() {
            if let Ok((mut stream, _)) = listener.accept() {
                let mut heard = vec![0; 4096];
                let length = stream.read(&mut heard).unwrap_or(0);
                heard.truncate(length);
                return Some(heard);
            }
            std::thread::yield_now();
        }
        None
    })
}

#[test]
fn nothing_is_said_where_others_may_listen() {
    let environment = TestEnvironment::new(env!("CARGO_BIN_EXE_neon"));
    let shop = environment.init("shop", &TestPostgres::find(15));
    shop.quit();
    let neon = shop.inside("");
    fs::set_permissions(&neon, fs::Permissions::from_mode(0o777)).expect("chmod");
    let squatter = squat(&shop.inside("neon.sock"));
    let refused = shop.refused(&["status"]);
    assert!(
        refused.says("open to others") && refused.hint.contains("chmod"),
        "{refused:?}"
    );
    fs::remove_file(shop.inside("neon.sock")).expect("removed");
    assert_eq!(squatter.join().expect("ended"), None, "it heard something");
    fs::set_permissions(&neon, fs::Permissions::from_mode(0o700)).expect("chmod");
    shop.ok(&["status"]);
}
