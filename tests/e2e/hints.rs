//! Dead ends and false directions: what is refused says why, in words that are true, and what to do.

use std::fs;
use std::io::{Read, Write};
use std::path::Path;
use std::process::Stdio;

use neon_tests_kit::{PlainServer, Serve, TestEnvironment, TestPostgres, TestRepo, USER};

fn environment() -> TestEnvironment {
    TestEnvironment::new(env!("CARGO_BIN_EXE_neon"))
}

fn text(path: &Path) -> &str {
    path.to_str().expect("text")
}

#[test]
fn a_branch_that_others_need_stays() {
    let environment = &environment();
    let postgres = &TestPostgres::find(17);
    let repo = environment.init("shop", postgres);
    for option in ["-d", "-D"] {
        let last = repo.refused(&["branch", option, "main"]);
        assert!(last.message.contains("only branch"), "{last:?}");
        assert!(last.hint.contains("neon branch -m main"), "{last:?}");
    }
    repo.ok(&["branch", "work"]);
    for option in ["-d", "-D"] {
        let head = repo.refused(&["branch", option, "main"]);
        assert!(head.message.contains("is HEAD"), "{head:?}");
        assert!(head.hint.contains("neon switch"), "{head:?}");
    }
    repo.sql_on("work", "create table t as select 1 i");
    repo.ok(&["stop", "work"]);
    let place = repo.place("work");

    // What is deleted comes back by the line that was printed.
    let deleted = repo.ok(&["branch", "-D", "work"]);
    let undo = deleted
        .lines()
        .find_map(|line| line.split_once(": neon ").map(|(_, command)| command))
        .unwrap_or_else(|| panic!("no way back: {deleted}"));
    let words: Vec<&str> = undo.split(' ').collect();
    repo.ok(&words);
    assert_eq!(repo.place("work"), place);
    assert_eq!(repo.sql_on("work", "select count(*) from t"), "1");
    repo.ok(&["stop", "--all"]);
    repo.ok(&["switch", "work"]);
    repo.ok(&["branch", "-d", "main"]);
}

fn tracking(repo: &TestRepo<'_>) -> Option<String> {
    let branches = repo.json(&["branch"]);
    branches[0]["tracking"].as_str().map(str::to_owned)
}

#[test]
fn an_address_is_as_good_as_an_origin() {
    let environment = &environment();
    let postgres = &TestPostgres::find(17);
    let serve = Serve::start(environment, "srv");
    let repo = environment.init("shop", postgres);
    repo.sql_on("main", "create table t (i int)");
    let uri = serve.uri("shop");
    let pushed = repo.ok(&["push", "main", &uri]);
    assert!(pushed.contains("/shop/main: created"), "{pushed}");
    let (_, rest) = uri.split_once("://").expect("a URI");
    let (login, _) = rest.split_once('@').expect("a login");
    let (user, password) = login.split_once(':').expect("a password");
    assert!(
        pushed.contains(&format!("{user}@")) && !pushed.contains(password),
        "{pushed}"
    );
    // Nothing is remembered of what has no name.
    assert_eq!(repo.json(&["origin", "list"]), serde_json::json!([]));
    assert_eq!(tracking(&repo), None);
    let fetched = repo.refused(&["fetch", "main", &uri]);
    assert!(fetched.hint.contains("neon origin add NAME"), "{fetched:?}");

    // An address that has a name is that origin.
    repo.ok(&["origin", "add", "cloud", &uri]);
    let again = repo.ok(&["push", "main", &uri]);
    assert!(again.contains("cloud/main: up to date"), "{again}");
    assert_eq!(tracking(&repo).as_deref(), Some("equal"));
    // What a push would commit first counts.
    repo.sql("main", "insert into t values (1)");
    repo.ok(&["uri", "main"]);
    repo.ok(&["stop", "main"]);
    assert_eq!(tracking(&repo).as_deref(), Some("ahead"));
    repo.ok(&["push"]);
    repo.sql_on("main", "alter system set work_mem = '7MB'");
    assert_eq!(
        tracking(&repo).as_deref(),
        Some("ahead"),
        "a setting is sent, too"
    );
    repo.ok(&["stop", "--all"]);

    // A path is an address, too, from where the caller is.
    let other = environment.clone(&uri, "other");
    other.ok(&["branch", "mine"]);
    let pulled = other.ok(&["pull", "main", "../shop", "--as", "theirs"]);
    assert!(pulled.contains("theirs: "), "{pulled}");
    assert_eq!(other.place("theirs").lsn, repo.place("main").lsn);
    let there = other.ok(&["push", "mine", "../shop"]);
    assert!(there.contains("/shop/mine: created"), "{there}");
    assert_eq!(repo.place("mine"), other.place("mine"));
    let nowhere = other.refused(&["push", "mine", "../nowhere"]);
    assert!(
        nowhere.message.contains("no repository") && nowhere.message.contains("nowhere"),
        "{nowhere:?}"
    );
    let unknown = other.refused(&["push", "mine", "gopher://x/y"]);
    assert!(unknown.message.contains("gopher"), "{unknown:?}");
}

#[test]
fn settings_that_no_endpoint_starts_with() {
    let environment = &environment();
    let postgres = &TestPostgres::find(15);
    let repo = environment.init("shop", postgres);
    repo.set("endpoint.first_port", &environment.port().to_string());
    for (name, value) in [
        ("fsync", "off"),
        ("port", "1"),
        ("archive_command", "true"),
        ("max_wal_senders", "0"),
    ] {
        let key = format!("endpoint.settings.{name}");
        let refused = repo.refused(&["config", "set", &key, value]);
        assert!(refused.message.contains(name), "{refused:?}");
        assert!(
            repo.refused(&["config", "get", &key])
                .message
                .contains("is not set")
        );
    }
    // Taking back what an earlier release let in is possible.
    repo.ok(&["config", "set", "endpoint.settings.fsync"]);

    // What only Postgres knows is refused by it, and the directory is none that crashed.
    for round in ["made anew", "used again"] {
        repo.set("endpoint.settings.shared_buffers", "banana");
        let refused = repo.refused(&["start"]);
        assert!(refused.message.contains("banana"), "{refused:?}");
        assert!(refused.hint.contains("endpoint.settings"), "{refused:?}");
        let status = repo.json(&["status"]);
        assert_eq!(status["endpoints"][0]["state"], "stopped", "{round}: {status}");
        repo.ok(&["config", "set", "endpoint.settings.shared_buffers"]);
        repo.sql_on(
            "main",
            "create table if not exists t (i int); insert into t values (1)",
        );
        repo.ok(&["stop"]);
    }
    assert_eq!(repo.sql_on("main", "select count(*) from t"), "2");
    repo.ok(&["stop"]);
}

#[test]
fn a_place_that_is_none() {
    let environment = &environment();
    let postgres = &TestPostgres::find(15);
    let pgdata = PlainServer::initdb(environment, postgres, "plain");
    for inside in ["plain", "plain/new"] {
        let refused = environment.neon(&["init", inside]).refused();
        assert!(refused.hint.contains("--from"), "{refused:?}");
        assert!(refused.hint.contains(text(&pgdata)), "{refused:?}");
    }
    assert!(!pgdata.join(".neon").exists() && !pgdata.join("new").exists());
    let here = environment.neon_in(&pgdata, &["status"]).refused();
    assert!(here.hint.contains("--from"), "{here:?}");

    let server = PlainServer::start(environment, postgres, &pgdata);
    let running = environment.neon(&["init", "shop", "--from", "plain"]).refused();
    assert!(running.hint.contains("-m fast stop"), "{running:?}");
    server.crash();
    let crashed = environment.neon(&["init", "shop", "--from", "plain"]).refused();
    assert!(crashed.message.contains("not shut down cleanly"), "{crashed:?}");
    assert!(
        crashed.hint.contains("start it once") && crashed.hint.contains("then stop it"),
        "{crashed:?}"
    );
    assert!(!environment.path("shop").exists());

    let nowhere = environment.neon(&["clone", "nosuch"]).refused();
    assert!(nowhere.message.contains("no repository in"), "{nowhere:?}");
    assert!(nowhere.hint.contains("no such directory"), "{nowhere:?}");
    fs::create_dir(environment.path("folder")).expect("a directory");
    let folder = environment.neon(&["clone", "folder", "copy"]).refused();
    assert!(folder.hint.contains("holds .neon/"), "{folder:?}");
    let missing = environment.neon(&["-C", "missing", "status"]).refused();
    assert!(missing.message.contains("no directory") && missing.message.contains("missing"));

    let repo = environment.init("source", postgres);
    let branch = environment
        .neon(&["clone", "--branch", "nosuch", "source", "copy"])
        .refused();
    assert!(branch.message.contains("'nosuch'"), "{branch:?}");
    assert!(branch.hint.contains("without --branch"), "{branch:?}");
    assert!(!environment.path("copy").exists());

    // A usage error is JSON for whoever asked for that.
    let usage = repo.neon(&["status", "--nosuch", "--json"]);
    assert_eq!(usage.code(), Some(2));
    let error: serde_json::Value = serde_json::from_str(&usage.stderr).expect("JSON");
    assert_eq!(error["error"]["code"], "usage");
    let drawn = repo.json(&["layers", "--svg", "map.svg"]);
    assert_eq!(drawn["layers"], 1, "{drawn}");
    assert!(repo.directory().join("map.svg").is_file());
}

#[test]
fn names_of_two_things() {
    let environment = &environment();
    let postgres = &TestPostgres::find(15);
    let repo = environment.init("shop", postgres);
    repo.set("endpoint.first_port", &environment.port().to_string());
    repo.sql_on("main", "create table t (i int)");
    repo.ok(&["commit", "-m", "one"]);
    repo.ok(&["tag", "both", "main~1"]);
    let made = repo.neon(&["branch", "both", "main"]);
    assert!(
        made.stderr.contains("heads/both or tags/both"),
        "{}",
        made.describe()
    );
    for command in [
        vec!["show", "both"],
        vec!["start", "both"],
        vec!["psql", "both"],
        vec!["uri", "both"],
        vec!["stop", "both"],
        vec!["branch", "third", "both"],
        vec!["export", "both", "--pgdata", "exported"],
        vec!["du", "both"],
    ] {
        let refused = repo.refused(&command);
        assert!(refused.message.contains("ambiguous"), "{command:?}: {refused:?}");
        assert!(
            refused.hint.contains("heads/both") && refused.hint.contains("tags/both"),
            "{refused:?}"
        );
    }
    // Each is a revision wherever one is taken.
    repo.ok(&["start", "heads/both"]);
    repo.ok(&["start", "tags/both"]);
    repo.ok(&["start", "main~1"]);
    let table = |revision: &str| {
        let select = "select to_regclass('t') is not null";
        repo.ok(&["psql", revision, "--", "-XAtc", select])
    };
    assert_eq!(table("heads/both"), "t");
    assert_eq!(table("tags/both"), "f");
    assert_eq!(table("main~1"), "f");
    let lsn = format!("main@{}", repo.place("main~1").lsn);
    assert_eq!(repo.ok(&["uri", &lsn]), repo.ok(&["uri", "tags/both"]));
    assert!(repo.ok(&["stop", "main~1"]).contains("stopped at-"));
    assert!(repo.ok(&["stop", "heads/both"]).contains("stopped both"));
    repo.ok(&["stop", "--all"]);
}

/// At a terminal, which `script` makes.
#[test]
fn a_password_that_was_typed_is_told_as_that() {
    let environment = environment();
    let serve = Serve::start(&environment, "srv");
    let uri = serve.uri("shop");
    let (_, place) = uri.split_once('@').expect("a login");
    let neon = environment.neon_command(environment.root(), &[]);
    let line = format!(
        "{} clone postgresql://{USER}@{place} copy",
        text(Path::new(neon.get_program()))
    );
    let mut script = environment.command("script", environment.root());
    let script = script
        .args(["-qec", &line, "/dev/null"])
        .stdin(Stdio::piped())
        .stdout(Stdio::piped());
    let mut script = script.spawn().expect("script runs");
    let mut keyboard = script.stdin.take().expect("a pipe");
    let mut screen = script.stdout.take().expect("a pipe");
    let mut seen = Vec::new();
    let mut some = [0; 1024];
    loop {
        let len = screen.read(&mut some).expect("read");
        seen.extend_from_slice(&some[..len]);
        if String::from_utf8_lossy(&seen).contains("Password") {
            break;
        }
        assert_ne!(len, 0, "nobody asked: {}", String::from_utf8_lossy(&seen));
    }
    keyboard.write_all(b"guessed\n").expect("typed");
    screen.read_to_end(&mut seen).expect("read");
    script.wait().expect("it ends");
    let seen = String::from_utf8_lossy(&seen).into_owned();
    assert!(seen.contains("the password was typed"), "{seen}");
    assert!(!seen.contains("came from") && !seen.contains("guessed"), "{seen}");
    assert!(!environment.path("copy").exists());
}
