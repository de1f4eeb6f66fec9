//! A request is about its caller's world, whoever answers it; and nobody is kept waiting by a daemon, nor keeps one at work in vain.

use std::fs;
use std::path::Path;
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

use neon_tests_kit::{Output, Serve, TestEnvironment, TestPostgres, TestRepo, USER, kill};
use rustix::process::Signal;

/// How long anything here may take before it hangs.
const PATIENCE: Duration = Duration::from_secs(60);

fn environment() -> TestEnvironment {
    TestEnvironment::new(env!("CARGO_BIN_EXE_neon"))
}

/// A repository whose endpoint runs, so that a daemon answers.
fn running<'e>(environment: &'e TestEnvironment, name: &str) -> TestRepo<'e> {
    let repo = environment.init(name, &TestPostgres::find(15));
    repo.set("endpoint.first_port", &environment.port().to_string());
    repo
}

/// Waits until `is_so`.
#[track_caller]
fn until(what: &str, mut is_so: impl FnMut() -> bool) {
    let began = Instant::now();
    while !is_so() {
        assert!(began.elapsed() < PATIENCE, "never: {what}");
        std::thread::sleep(Duration::from_millis(10));
    }
}

/// Returns the variables that a process was started with.
fn variables(pid: u32) -> Vec<String> {
    let bytes = fs::read(format!("/proc/{pid}/environ")).expect("it runs");
    let text = String::from_utf8_lossy(&bytes).into_owned();
    text.split('\0').map(str::to_owned).collect()
}

#[test]
fn a_request_is_about_its_callers_world() {
    let environment = environment();
    let serve = Serve::start(&environment, "srv");
    let repo = running(&environment, "shop");
    let with_password = serve.uri("shop");
    repo.sql_on("main", "create table t (i int)");
    repo.ok(&["push", "main", &with_password]);
    repo.ok(&["stop"]);
    repo.quit();
    let (_, rest) = with_password.split_once("://").expect("a URI");
    let (login, place) = rest.split_once('@').expect("a login");
    let (user, password) = login.split_once(':').expect("a password");
    assert_eq!(user, USER);
    let password = &password.replace("%20", " ");
    repo.ok(&["origin", "add", "cloud", &format!("postgresql://{place}")]);

    // The daemon is started by somebody with another world.
    let mut start = repo.command(&["start"]);
    start
        .env("TZ", "Asia/Tokyo")
        .env("PGPASSWORD", "of who started it")
        .env("PGUSER", "nobody")
        .env("LANGUAGE", "de:fr");
    Output::of(&mut start).success();
    let daemon = repo.daemon().expect("a daemon");
    let of_daemon = variables(daemon);
    let kept = |name: &str| of_daemon.iter().any(|variable| variable.starts_with(name));
    for not in ["PGPASSWORD=", "PGUSER=", "TZ=", "LANGUAGE="] {
        assert!(!kept(not), "{not}: {of_daemon:?}");
    }
    assert!(kept("HOME="));
    let postmaster = repo.postmaster("main").expect("it runs");
    assert!(
        variables(postmaster).contains(&"LANGUAGE=de:fr".to_owned()),
        "messages are in the language of who starts an endpoint"
    );

    // Passwords and users are those of who asks.
    let fetch = |set: &[(&str, &str)]| {
        let mut command = repo.command(&["fetch", "cloud"]);
        command.envs(set.iter().copied()).env("USER", user);
        Output::of(&mut command)
    };
    let passfile = environment.path("passfile");
    fs::write(&passfile, format!("*:*:*:{user}:{password}\n")).expect("written");
    let private = std::os::unix::fs::PermissionsExt::from_mode(0o600);
    fs::set_permissions(&passfile, private).expect("ours");
    fetch(&[("PGPASSWORD", password)]).success();
    fetch(&[("PGPASSFILE", passfile.to_str().expect("text"))]).success();
    // As a relative path, too: from where the caller is.
    fetch(&[("PGPASSFILE", "../passfile")]).success();
    let none = fetch(&[]).refused();
    assert!(none.hint.contains("PGPASSWORD"), "{none:?}");
    let wrong = fetch(&[("PGPASSWORD", "guessed")]).refused();
    assert!(wrong.hint.contains("came from PGPASSWORD"), "{wrong:?}");
    let other = fetch(&[("PGPASSWORD", password), ("PGUSER", "eve")]).refused();
    assert!(other.message.contains("eve@"), "{other:?}");

    // So are time zones and relative paths.
    for (zone, moment) in [
        ("Asia/Tokyo", "2001-01-01T03:00:00Z"),
        ("UTC", "2001-01-01T12:00:00Z"),
        ("America/New_York", "2001-01-01T17:00:00Z"),
    ] {
        let mut show = repo.command(&["show", "main@{2001-01-01 12:00}"]);
        let refused = Output::of(show.env("TZ", zone)).refused();
        assert!(refused.message.contains(moment), "{zone}: {refused:?}");
    }
    fs::create_dir(environment.path("elsewhere")).expect("a directory");
    let elsewhere = environment.path("elsewhere");
    let from_there = ["-C", "../shop/.neon", "origin", "add", "near", "../../srv/shop"];
    environment.neon_in(&elsewhere, &from_there).success();
    let listed = repo.ok(&["origin", "list"]);
    let expected = environment.path("srv/shop");
    assert!(listed.contains(expected.to_str().expect("text")), "{listed}");
    repo.ok(&["stop"]);
}

#[test]
fn an_idle_daemon_stands_in_nobodys_way() {
    let environment = environment();
    let repo = running(&environment, "shop");
    repo.sql_on("main", "create table t (i int); insert into t values (1)");
    repo.ok(&["stop"]);
    assert!(repo.daemon().is_some(), "it lingers");

    // As the other half of a transfer, in both directions.
    let other = environment.clone("shop", "other");
    other.ok(&["branch", "theirs"]);
    other.ok(&["push", "theirs", "../shop"]);
    assert_eq!(repo.place("theirs"), other.place("theirs"));

    // Where its repository was, nothing of it is left, and nothing comes back.
    let moved = environment.path("moved");
    fs::rename(repo.directory(), &moved).expect("moved");
    let repo = environment.repo_at(&moved);
    assert_eq!(repo.sql_on("main", "select count(*) from t"), "1");
    repo.ok(&["stop"]);
    let told = repo.ok(&["daemon", "stop"]);
    assert!(told.contains("daemon"), "{told}");
    until("the daemon ends", || repo.daemon().is_none());
    assert!(!environment.path("shop").exists());
    repo.fsck();
}

#[test]
fn a_daemon_that_does_not_answer_is_told() {
    let environment = environment();
    let repo = running(&environment, "shop");
    repo.start("main");
    let daemon = repo.daemon().expect("a daemon");
    kill(daemon, Signal::STOP);
    let refused = repo.neon(&["status"]);
    kill(daemon, Signal::CONT);
    let refused = refused.refused();
    assert!(
        refused.message.contains(&format!("process {daemon}")) && refused.message.contains("does not answer"),
        "{refused:?}"
    );
    assert!(
        refused.hint.contains(&format!("kill -CONT {daemon}")),
        "{refused:?}"
    );
    repo.ok(&["status"]);
    repo.ok(&["stop"]);
}

/// Starts a command that a signal is to end.
fn begin(mut command: Command) -> std::process::Child {
    let quiet = command
        .stdin(Stdio::null())
        .stdout(Stdio::null())
        .stderr(Stdio::null());
    quiet.spawn().expect("it starts")
}

/// Interrupts a command whose work is done by `daemon`, which stands still meanwhile, so that it is not done before.
fn interrupt_at(daemon: u32, command: std::process::Child, what: &str) {
    kill(command.id(), Signal::INT);
    std::thread::sleep(Duration::from_millis(300));
    kill(daemon, Signal::CONT);
    ended(command, what);
}

fn interrupt(command: std::process::Child, what: &str) {
    kill(command.id(), Signal::INT);
    ended(command, what);
}

/// Waits until a command has ended as an interrupted one does.
fn ended(mut command: std::process::Child, what: &str) {
    let began = Instant::now();
    let status = loop {
        if let Some(status) = command.try_wait().expect("it can be waited for") {
            break status;
        }
        assert!(began.elapsed() < PATIENCE, "{what} goes on");
        std::thread::sleep(Duration::from_millis(10));
    };
    assert_eq!(status.code(), Some(130), "{what}");
}

fn is_empty(directory: &Path) -> bool {
    fs::read_dir(directory).map_or(true, |mut entries| entries.next().is_none())
}

#[test]
fn work_ends_where_it_is_done() {
    let environment = environment();
    let repo = running(&environment, "shop");
    repo.sql_on(
        "main",
        "create table t as select n, repeat(md5(n::text), 30) filler from generate_series(1, 60000) n",
    );
    repo.ok(&["commit", "-m", "much"]);
    repo.ok(&["branch", "b"]);
    let daemon = repo.daemon().expect("a daemon");

    // An export by the daemon.
    let exported = environment.path("exported");
    let export = begin(repo.command(&["export", "main", "--pgdata", exported.to_str().expect("text")]));
    let building = environment.path("exported.building");
    until("the export begins", || building.is_dir());
    kill(daemon, Signal::STOP);
    interrupt_at(daemon, export, "the export");
    until("nothing is left of the export", || !building.exists());
    assert!(!exported.exists());

    // A start by the daemon.
    let pgdata = repo.inside("endpoints/b/pgdata");
    let start = begin(repo.command(&["start", "b"]));
    until("the start begins", || !is_empty(&repo.inside("endpoints/b")));
    kill(daemon, Signal::STOP);
    interrupt_at(daemon, start, "the start");
    until("nobody works on it", || {
        repo.json(&["daemon", "status"])["requests"] == 0
    });
    assert!(!pgdata.exists(), "no half of a directory");
    assert!(repo.postmaster("b").is_none());

    assert_eq!(repo.daemon(), Some(daemon), "the daemon goes on");
    assert_eq!(repo.sql("main", "select count(*) from t"), "60000");
    assert_eq!(repo.sql_on("b", "select count(*) from t"), "60000");
    repo.ok(&["stop", "--all"]);
    repo.fsck();
}

#[test]
fn what_was_cut_while_it_was_made_is_made_again() {
    let environment = environment();
    let postgres = TestPostgres::find(15);
    let init = begin(environment.neon_command(environment.root(), &["init", "shop", "--pg-version", "15"]));
    until("initdb begins", || environment.path("shop").is_dir());
    interrupt(init, "init");
    assert!(!environment.path("shop/.neon").exists());
    let shop = environment.init("shop", &postgres);
    shop.sql_on(
        "main",
        "create table t as select n, repeat(md5(n::text), 30) filler from generate_series(1, 60000) n",
    );
    shop.ok(&["stop"]);
    let plain = environment.path("plain");
    let plain = plain.to_str().expect("text");
    shop.ok(&["export", "main", "--pgdata", plain]);

    let import = begin(environment.neon_command(environment.root(), &["init", "again", "--from", plain]));
    until("the import begins", || environment.path("again").is_dir());
    interrupt(import, "init --from");
    assert!(!environment.path("again/.neon").exists());
    environment.neon(&["init", "again", "--from", plain]).success();
    let again = environment.repo("again");
    assert_eq!(again.sql_on("main", "select count(*) from t"), "60000");
    again.ok(&["stop"]);
    again.fsck();
}
