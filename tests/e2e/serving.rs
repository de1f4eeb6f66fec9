//! `neon serve --root` against strangers, against users who take too much, and when its owner changes something.

use std::fs;
use std::net::TcpStream;
use std::os::unix::fs::{PermissionsExt, symlink};
use std::path::Path;
use std::time::{Duration, Instant};

use neon_tests_kit::{
    Client, Serve, TestEnvironment, TestPostgres, TestRepo, USER, half_login, kill, last_words,
};
use rustix::process::Signal;

fn environment() -> TestEnvironment {
    TestEnvironment::new(env!("CARGO_BIN_EXE_neon"))
}

/// A repository with something on its main branch.
fn shop<'e>(environment: &'e TestEnvironment) -> TestRepo<'e> {
    let postgres = TestPostgres::find(17);
    let shop = environment.init("shop", &postgres);
    shop.sql_on(
        "main",
        "create table t as select i from generate_series(1, 1000) i",
    );
    shop.ok(&["stop"]);
    shop
}

/// Names below a directory that begin with a prefix.
fn names(directory: &Path, prefix: &str) -> Vec<String> {
    let entries = fs::read_dir(directory).expect("a directory");
    let mut names: Vec<String> = entries
        .map(|entry| {
            entry
                .expect("an entry")
                .file_name()
                .to_string_lossy()
                .into_owned()
        })
        .filter(|name| name.starts_with(prefix))
        .collect();
    names.sort();
    names
}

/// A command as a client would give it that pushes a new branch.
fn push_command(branch: &str) -> String {
    format!("branch_push {branch} {}", "ab".repeat(16))
}

fn chmod(path: &Path, mode: u32) {
    fs::set_permissions(path, fs::Permissions::from_mode(mode)).expect("our own");
}

#[test]
fn strangers_keep_nobody_out() {
    let environment = environment();
    // Nobody is thrown out for being slow: who is let in must be let in at once.
    let serve = Serve::start_set(&environment, "srv", "login_seconds = 300\n");
    let shop = shop(&environment);
    shop.ok(&["origin", "add", "cloud", &serve.uri("shop")]);
    let half: Vec<TcpStream> = (0..100)
        .map(|number| half_login(serve.port(), &format!("user{number}"), "shop"))
        .collect();
    let mut idle: Vec<TcpStream> = Vec::new();
    for _ in 0..4 {
        for _ in 0..100 {
            idle.push(TcpStream::connect(("127.0.0.1", serve.port())).expect("it listens"));
        }
        let pushed = shop.json(&["push", "main", "cloud"]);
        assert!(pushed[0]["outcome"] == "created" || pushed[0]["outcome"] == "up to date");
    }
    drop((half, idle));
}

#[test]
fn open_pushes_of_new_names_cost_nothing_that_stays() {
    let environment = environment();
    let serve = Serve::start_with_descriptors(&environment, "srv", 256);
    serve.add_user("bob", "builder");
    let shop = shop(&environment);
    let client = Client::new();
    let mut open = Vec::new();
    for number in 0..300 {
        match client.open(&serve.uri(&format!("new{number}")), &push_command("main")) {
            Ok(mut conversation) => {
                let hello = conversation.hear().expect("a hello").expect("a frame");
                assert_eq!(hello[1..9], *b"NEONSYNC");
                open.push(conversation);
            }
            Err(refused) => assert!(refused.contains("sessions"), "{refused}"),
        }
    }
    assert!(open.len() >= 30, "{} at one time", open.len());
    assert!(names(serve.root(), "new").is_empty() && names(serve.root(), ".neon-incoming").is_empty());
    assert!(serve.descriptors() < 200, "{} descriptors", serve.descriptors());
    // While they are open, for somebody else; and for the same user when they are gone.
    shop.ok(&["origin", "add", "bob", &serve.uri_of("bob", "builder", "shop")]);
    shop.ok(&["push", "main", "bob"]);
    drop(open);
    shop.ok(&["origin", "add", "cloud", &serve.uri("other")]);
    for _ in 0..100 {
        if shop.neon(&["push", "main", "cloud"]).status.success() {
            break;
        }
    }
    assert_eq!(shop.json(&["push", "main", "cloud"])[0]["outcome"], "up to date");
    assert_eq!(names(serve.root(), "new"), [""; 0]);
}

#[test]
fn a_user_who_is_removed_is_gone() {
    let environment = environment();
    let serve = Serve::start(&environment, "srv");
    serve.add_user("bob", "builder");
    let client = Client::new();
    let uri = serve.uri_of("bob", "builder", "shop");
    let mut talking = client.open(&uri, &push_command("main")).expect("he may");
    talking.hear().expect("a hello").expect("a frame");
    let mut stays = client
        .open(&serve.uri("shop"), &push_command("main"))
        .expect("she may");
    stays.hear().expect("a hello").expect("a frame");
    environment
        .neon(&["user", "remove", "bob", "--root", "srv"])
        .success();
    let end = talking.hear().expect_err("it ends");
    assert!(end.contains("not valid any more"), "{end}");
    let refused = client
        .open(&uri, &push_command("main"))
        .map(drop)
        .expect_err("he is gone");
    assert!(refused.contains("wrong user or password"), "{refused}");
    // A password that is changed ends what the old one began.
    serve.add_user(USER, "another");
    let end = stays.hear().expect_err("it ends");
    assert!(end.contains("not valid any more"), "{end}");
}

#[test]
fn nothing_that_anybody_says_forges_a_line() {
    let environment = environment();
    let serve = Serve::start(&environment, "srv");
    let forged = "x\n2026-01-01T00:00:00Z  INFO forged\u{202e}\u{1b}[2K";
    for (user, database) in [(forged, "shop"), (USER, forged), ("nobody", forged)] {
        let mut stream = half_login(serve.port(), user, database);
        drop(stream.shutdown(std::net::Shutdown::Write));
        last_words(&mut stream);
    }
    let client = Client::new();
    for command in [
        forged.to_owned(),
        push_command("x\u{1b}[2K"),
        format!("branch_push {forged}"),
    ] {
        let refused = client.open(&serve.uri("shop"), &command).map(drop);
        let refused = refused.expect_err("it is none");
        assert!(
            !refused.contains('\u{1b}') && !refused.contains('\n'),
            "{refused:?}"
        );
    }
    for text in [
        serve.log(),
        fs::read_to_string(serve.root().join(".neon-audit")).expect("an audit"),
    ] {
        assert!(!text.contains('\u{202e}') && !text.contains('\u{1b}'), "{text}");
        assert!(
            !text
                .lines()
                .any(|line| line.contains("INFO forged") && line.starts_with("2026-01-01"))
        );
    }
    let audit = serve.audit();
    let refused: Vec<_> = audit.iter().filter(|line| line["event"] == "refused").collect();
    assert_eq!(refused.len(), 3, "{audit:?}");
    assert_eq!(refused[0]["command"].as_str(), Some(forged));
}

#[test]
fn who_did_what_is_written_down() {
    let environment = environment();
    let serve = Serve::start(&environment, "srv");
    let shop = shop(&environment);
    shop.ok(&["origin", "add", "cloud", &serve.uri("shop")]);
    shop.ok(&["push", "main", "cloud"]);
    let first = shop.place("main").commit;
    shop.sql_on("main", "insert into t values (0)");
    shop.ok(&["stop"]);
    shop.ok(&["push"]);
    let second = shop.place("main").commit;
    shop.ok(&["branch", "old", &first]);
    shop.refused(&["push", "old", "cloud:main"]);
    let wrong = serve.uri("shop").replace("sesame", "barley");
    assert_eq!(environment.neon(&["clone", &wrong, "copy"]).code(), Some(1));

    let audit = serve.audit();
    let of = |event: &str| -> Vec<_> { audit.iter().filter(|line| line["event"] == event).collect() };
    let moves = of("move");
    assert_eq!(moves.len(), 2, "{audit:?}");
    let moved = |line: &serde_json::Value| (line["old"].clone(), line["new"].clone());
    assert_eq!(moved(moves[0]), (serde_json::Value::Null, first.clone().into()));
    assert_eq!(moved(moves[1]), (first.clone().into(), second.clone().into()));
    for line in &moves {
        assert_eq!(
            (&line["user"], &line["repository"]),
            (&USER.into(), &"shop".into())
        );
        assert_eq!(line["ref"], "refs/heads/main");
        assert!(
            line["address"]
                .as_str()
                .is_some_and(|address| address.starts_with("127.0.0.1:"))
        );
        assert!(
            line["command"]
                .as_str()
                .is_some_and(|text| text.starts_with("branch_push main "))
        );
        assert!(line["bytes"].as_u64() > Some(0), "{line}");
        // The session that moved it is one that logged in.
        assert!(
            of("login")
                .iter()
                .any(|login| login["session"] == line["session"])
        );
    }
    assert_eq!(of("login_refused").len(), 1, "{audit:?}");
    assert!(of("refused").iter().any(|line| {
        line["user"] == USER
            && line["reason"]
                .as_str()
                .is_some_and(|reason| reason.contains("ahead"))
    }));
    let reflog = fs::read_to_string(serve.root().join("shop/.neon/log/refs/heads/main")).expect("a reflog");
    assert_eq!(reflog.lines().count(), 2);
    assert!(
        reflog
            .lines()
            .all(|line| line.contains(" ada <ada@127.0.0.1>\tpush")),
        "{reflog}"
    );

    // No line, no move.
    fs::rename(serve.root().join(".neon-audit"), serve.root().join("audit.1")).expect("moved");
    fs::create_dir(serve.root().join(".neon-audit")).expect("in its place");
    let pushed = shop.neon(&["push", "old", "cloud:other"]);
    assert!(
        !pushed.status.success() && pushed.stderr.contains("audit"),
        "{}",
        pushed.describe()
    );
    assert!(!serve.root().join("shop/.neon/refs/heads/other").exists());
    fs::remove_dir(serve.root().join(".neon-audit")).expect("removed");
    shop.ok(&["push", "old", "cloud:other"]);
}

#[test]
fn only_what_is_ours_alone_is_served() {
    let environment = environment();
    let serve = Serve::start(&environment, "srv");
    let shop = shop(&environment);
    shop.ok(&["origin", "add", "cloud", &serve.uri("shop")]);
    shop.ok(&["push", "main", "cloud"]);
    // Another repository of ours, that nobody meant to serve.
    symlink(shop.directory(), serve.root().join("link")).expect("made");
    let fetch = |name: &str| environment.neon(&["clone", &serve.uri(name), "copy"]);
    let refused = fetch("link").refused();
    assert!(refused.message.contains("'link' is not served"), "{refused:?}");
    assert!(serve.log().contains("is a symbolic link"));
    // Whoever asks is not told why, as whoever may read the log is.
    let served = serve.root().join("shop");
    let mut serve = serve;
    for path in [
        served.clone(),
        served.join(".neon"),
        served.join(".neon/config.toml"),
    ] {
        let mode = fs::metadata(&path).expect("there").permissions().mode();
        chmod(&path, mode | 0o022);
        serve.restart(Signal::TERM, &[]);
        let refused = environment.neon(&["clone", &serve.uri("shop"), "copy"]);
        assert_eq!(
            refused.code(),
            Some(1),
            "{}: {}",
            path.display(),
            refused.describe()
        );
        chmod(&path, mode);
    }
    environment.clone(&serve.uri("shop"), "copy");
    // The root itself, and the users.
    kill(serve.pid(), Signal::TERM);
    serve.wait();
    for (path, mode) in [
        (serve.root().to_owned(), 0o777),
        (serve.root().join(".neon-users"), 0o666),
    ] {
        let good = fs::metadata(&path).expect("there").permissions().mode();
        chmod(&path, mode);
        let refused = environment.neon(&["serve", "--listen", "127.0.0.1:0", "--root", "srv"]);
        let refused = refused.refused();
        assert!(
            refused.says("open to others") && refused.hint.contains("chmod"),
            "{refused:?}"
        );
        chmod(&path, good);
    }
}

#[test]
fn what_others_may_write_decides_nothing() {
    let environment = environment();
    let shop = shop(&environment);
    let own = environment.path("config/config.toml");
    fs::write(&own, "author = \"Ada <ada@example.org>\"\n").expect("written");
    let public = environment.path("public");
    fs::create_dir(&public).expect("made");
    chmod(&public, 0o777);
    let refused = environment.neon(&["init", "public"]).refused();
    assert!(refused.says("open to others"), "{refused:?}");
    assert_eq!(names(&public, ""), [""; 0], "nothing half-made");
    shop.quit();
    let status = || shop.neon(&["status"]);
    status().success();
    let paths = [
        (own, 0o666),
        (shop.inside("config.toml"), 0o666),
        (shop.inside("config.toml"), 0o620),
        (shop.inside("instance"), 0o606),
        (shop.inside(""), 0o777),
        (shop.inside(""), 0o720),
        (shop.directory().to_owned(), 0o777),
    ];
    for (path, mode) in paths {
        let good = fs::metadata(&path).expect("there").permissions().mode() & 0o7777;
        chmod(&path, mode);
        let refused = status().refused();
        assert!(
            refused.says("open to others"),
            "{} {mode:o}: {refused:?}",
            path.display()
        );
        // The hint is true when it is followed.
        let followed = std::process::Command::new("sh")
            .args(["-c", &refused.hint])
            .status();
        assert!(followed.is_ok_and(|status| status.success()), "{refused:?}");
        status().success();
        chmod(&path, good);
    }
}

#[test]
fn limits_are_settings() {
    let environment = environment();
    let settings = "max_repositories = 1\nmax_repository_bytes = \"20MB\"\nidle = \"1s\"\n";
    let mut serve = Serve::start_set(&environment, "srv", settings);
    let shop = shop(&environment);
    shop.ok(&["origin", "add", "one", &serve.uri("one")]);
    shop.ok(&["origin", "add", "two", &serve.uri("two")]);
    shop.ok(&["push", "main", "one"]);
    let refused = shop.refused(&["push", "main", "two"]);
    assert!(refused.says("max_repositories"), "{refused:?}");
    assert!(names(serve.root(), "two").is_empty() && names(serve.root(), ".neon-incoming").is_empty());
    // What is there goes on, as long as there is room.
    shop.sql_on(
        "main",
        "create table much as select i, decode(md5(i::text) || md5((-i)::text), 'hex') x from generate_series(1, 300000) i",
    );
    shop.ok(&["stop"]);
    let refused = shop.refused(&["push", "main", "one"]);
    assert!(
        refused.says("serve.max_repository_bytes") && refused.says("20MB"),
        "{refused:?}"
    );
    // One without a session is closed: its lock is free, and its socket gone.
    let served = serve.root().join("one/.neon");
    let holder = || fs::read_to_string(served.join("lock")).expect("a lock");
    let begun = Instant::now();
    while !holder().trim().is_empty() {
        assert!(begun.elapsed() < Duration::from_secs(60), "it stays open");
        std::thread::sleep(Duration::from_millis(20));
    }
    assert!(!served.join("neon.sock").exists());
    environment.repo_at(&serve.root().join("one")).fsck();
    // And opened again.
    environment.clone(&serve.uri("one"), "copy");
    fs::write(serve.root().join(".neon-serve.toml"), "max_repositories = 2\n").expect("written");
    serve.restart(Signal::TERM, &[]);
    shop.ok(&["push", "main", "one"]);
    shop.ok(&["push", "main", "two"]);
    fs::write(serve.root().join(".neon-serve.toml"), "max_repos = 2\n").expect("written");
    let refused = environment.neon(&["serve", "--listen", "127.0.0.1:0", "--root", "srv"]);
    assert!(refused.refused().says("'max_repos'"));
}

#[test]
fn names_of_branches_are_those_that_a_branch_may_be_given() {
    let environment = environment();
    let serve = Serve::start(&environment, "srv");
    let shop = shop(&environment);
    shop.ok(&["origin", "add", "cloud", &serve.uri("shop")]);
    shop.ok(&["push", "main", "cloud"]);
    let logins = serve.audit().len();
    let long = "n".repeat(101);
    let bad = [
        "refs/heads/x",
        "heads/x",
        "tags/x",
        "origins/x",
        "HEAD",
        "x.lock",
        "a//b",
        "../x",
        "é",
        &long,
    ];
    for name in bad {
        let says = |refused: &neon_tests_kit::Refused| {
            assert!(
                refused
                    .message
                    .starts_with(&format!("'{name}' is not a valid name")),
                "{refused:?}"
            );
        };
        says(&shop.refused(&["branch", name]));
        says(&shop.refused(&["tag", name]));
        says(&shop.refused(&["branch", "-m", "main", name]));
        says(&shop.refused(&["push", "main", &format!("cloud:{name}")]));
        says(&shop.refused(&["pull", "main", &format!("cloud:{name}")]));
        says(&shop.refused(&["fetch", &format!("cloud:{name}")]));
        says(&shop.refused(&["pull", "main", "cloud:main", "--as", name]));
        let clone = environment.neon(&["clone", &serve.uri("shop"), "never", "--branch", name]);
        says(&clone.refused());
    }
    assert_eq!(serve.audit().len(), logins, "nobody was asked");
    assert!(!environment.path("never").exists());
    // A client that asks all the same is told in the same words.
    let client = Client::new();
    for name in ["refs/heads/x", "heads/x", "x.lock", "HEAD"] {
        let refused = client.open(&serve.uri("shop"), &push_command(name)).map(drop);
        let refused = refused.expect_err("no name");
        assert!(
            refused.starts_with(&format!("'{name}' is not a valid name")),
            "{refused}"
        );
    }

    // Refs of before, there and here: they are not fetched, told, and do not stand in the way.
    let heads = serve.root().join("shop/.neon/refs/heads");
    fs::create_dir_all(heads.join("heads")).expect("made");
    fs::copy(heads.join("main"), heads.join("heads/x")).expect("made");
    let fetched = shop.neon(&["fetch", "cloud"]);
    fetched.success();
    assert!(
        fetched.stderr.contains("skipped branch 'heads/x' of cloud"),
        "{}",
        fetched.describe()
    );
    let copy = environment.neon(&["clone", &serve.uri("shop"), "copy"]);
    copy.success();
    assert!(
        copy.stderr.contains("skipped branch 'heads/x'"),
        "{}",
        copy.describe()
    );
    let heads = shop.inside("refs/heads");
    fs::create_dir_all(heads.join("refs/heads")).expect("made");
    fs::copy(heads.join("main"), heads.join("refs/heads/x")).expect("made");
    assert!(shop.ok(&["branch"]).contains("refs/heads/x"));
    shop.ok(&["branch", "-D", "refs/heads/x"]);
    assert!(!shop.ok(&["branch"]).contains("refs/heads/x"));
}

#[test]
fn a_first_push_that_is_refused_leaves_nothing_and_one_that_is_cut_is_gone_on_with() {
    let environment = environment();
    let mut serve = Serve::start(&environment, "srv");
    let shop = shop(&environment);
    let client = Client::new();
    let mut talking = client
        .open(&serve.uri("shop"), &push_command("main"))
        .expect("she may");
    talking.hear().expect("a hello").expect("a frame");
    talking.say(b"\x08nonsense");
    while let Ok(Some(_)) = talking.hear() {}
    assert_eq!(
        names(serve.root(), ""),
        [
            ".neon-audit",
            ".neon-serve.toml",
            ".neon-users",
            ".neon-users.secret"
        ]
    );
    // A server that dies when the branch has moved, and before the repository has its name.
    shop.ok(&["origin", "add", "cloud", &serve.uri("shop")]);
    shop.ok(&["push", "main", "cloud"]);
    kill(serve.pid(), Signal::TERM);
    serve.wait();
    fs::rename(
        serve.root().join("shop"),
        serve.root().join(".neon-incoming-shop"),
    )
    .expect("as before");
    serve.restart(Signal::TERM, &[]);
    assert_eq!(names(serve.root(), ".neon-incoming"), [""; 0]);
    assert_eq!(shop.json(&["push", "main", "cloud"])[0]["outcome"], "up to date");
}

#[test]
fn first_pushes_at_one_time_all_arrive() {
    let environment = environment();
    let serve = Serve::start(&environment, "srv");
    let shop = shop(&environment);
    shop.quit();
    let clones: Vec<TestRepo<'_>> = (0..4)
        .map(|number| {
            let path = shop.directory().to_str().expect("text");
            let clone = environment.clone(path, &format!("clone{number}"));
            clone.ok(&["origin", "add", "cloud", &serve.uri("fresh")]);
            clone
        })
        .collect();
    let pushes: Vec<_> = clones
        .iter()
        .enumerate()
        .map(|(number, clone)| {
            let mut push = clone.command(&["push", "main", &format!("cloud:branch{number}")]);
            push.stdout(std::process::Stdio::piped())
                .stderr(std::process::Stdio::piped());
            push.spawn().expect("neon runs")
        })
        .collect();
    for push in pushes {
        let output = push.wait_with_output().expect("it ends");
        let said = String::from_utf8_lossy(&output.stderr).into_owned();
        assert!(output.status.success(), "{said}");
    }
    assert_eq!(names(serve.root(), ".neon-incoming"), [""; 0]);
    let all = environment.clone(&serve.uri("fresh"), "all");
    let fetched = all.json(&["fetch"]);
    assert_eq!(fetched.as_array().map(Vec::len), Some(4), "{fetched}");
}

#[test]
fn one_repository_is_served_by_the_same_rules() {
    let environment = environment();
    let shop = shop(&environment);
    let mut adding = shop.command(&["user", "add", "ada", "--password-stdin"]);
    neon_tests_kit::Output::fed(&mut adding, "secret").success();
    shop.set("serve.max_sessions_per_user", "1");
    shop.set("serve.max_repository_bytes", "1B");
    shop.quit();
    let port = environment.port();
    let mut serving = shop
        .command(&["serve", "--listen", &format!("127.0.0.1:{port}")])
        .stderr(std::process::Stdio::null())
        .spawn()
        .expect("neon runs");
    while TcpStream::connect(("127.0.0.1", port)).is_err() {
        assert!(serving.try_wait().expect("it can be waited for").is_none());
        std::thread::yield_now();
    }
    let uri = format!("postgresql://ada:secret@127.0.0.1:{port}/shop");
    let copy = environment.clone(&uri, "copy");
    copy.sql_on("main", "insert into t values (0)");
    copy.ok(&["stop"]);
    let refused = copy.refused(&["push"]);
    assert!(refused.says("serve.max_repository_bytes"), "{refused:?}");
    let client = Client::new();
    let mut talking = client.open(&uri, &push_command("other")).expect("she may");
    talking.hear().expect("a hello").expect("a frame");
    let refused = copy.refused(&["fetch"]);
    assert!(refused.says("as many sessions"), "{refused:?}");
    // Its users, audit and salts lie in it.
    environment
        .neon_in(shop.directory(), &["user", "remove", "ada"])
        .success();
    assert!(
        talking
            .hear()
            .expect_err("it ends")
            .contains("not valid any more")
    );
    kill(serving.id(), Signal::TERM);
    assert!(serving.wait().expect("it ends").success());
    let audit = fs::read_to_string(shop.inside("log/audit")).expect("an audit");
    assert!(
        audit.contains("\"event\":\"login\"") && audit.contains("max_repository_bytes"),
        "{audit}"
    );
    for secret in ["users", "users.secret", "log/audit"] {
        let mode = fs::metadata(shop.inside(secret))
            .expect("there")
            .permissions()
            .mode();
        assert_eq!(mode & 0o777, 0o600, "{secret}");
    }
    shop.fsck();
}

#[test]
fn a_server_ends_while_somebody_talks_to_it() {
    let environment = environment();
    let mut serve = Serve::start(&environment, "srv");
    let client = Client::new();
    let mut talking = client
        .open(&serve.uri("shop"), &push_command("main"))
        .expect("she may");
    talking.hear().expect("a hello").expect("a frame");
    kill(serve.pid(), Signal::TERM);
    serve.wait();
    assert!(talking.hear().is_err());
}

#[test]
fn a_server_that_proves_nothing_is_told_nothing() {
    let environment = environment();
    let shop = shop(&environment);
    let listener = std::net::TcpListener::bind(("127.0.0.1", 0)).expect("a port");
    let port = listener.local_addr().expect("bound").port();
    let listening = std::thread::spawn(move || {
        let (mut stream, _) = listener.accept().expect("a caller");
        let mut length = [0; 4];
        std::io::Read::read_exact(&mut stream, &mut length).expect("a start-up packet");
        let mut packet = vec![0; u32::from_be_bytes(length) as usize - 4];
        std::io::Read::read_exact(&mut stream, &mut packet).expect("a start-up packet");
        let welcome = b"R\0\0\0\x08\0\0\0\0S\0\0\0\x14neon.protocol\x001\0Z\0\0\0\x05I";
        std::io::Write::write_all(&mut stream, welcome).expect("said");
        last_words(&mut stream)
    });
    shop.ok(&[
        "origin",
        "add",
        "cloud",
        &format!("postgresql://ada:secret@127.0.0.1:{port}/shop"),
    ]);
    let refused = shop.refused(&["push", "main", "cloud"]);
    assert!(
        refused.message.contains("knows the password") && refused.hint.contains("require_auth=none"),
        "{refused:?}"
    );
    assert_eq!(listening.join().expect("it ends"), "", "it was told something");
    // Who wants it so is warned each time, and each option is known by name.
    let serve = Serve::start(&environment, "srv");
    shop.ok(&[
        "origin",
        "set-url",
        "cloud",
        &format!("{}?require_auth=none", serve.uri("shop")),
    ]);
    for _ in 0..2 {
        let pushed = shop.neon(&["push", "main", "cloud"]);
        pushed.success();
        assert!(
            pushed.stderr.contains("warning: require_auth=none"),
            "{}",
            pushed.describe()
        );
    }
    shop.ok(&["origin", "set-url", "cloud", &serve.uri("shop")]);
    assert!(!shop.neon(&["push", "main", "cloud"]).stderr.contains("warning"));
    let refused = shop.refused(&[
        "origin",
        "set-url",
        "cloud",
        &format!("{}?require_aut=none", serve.uri("shop")),
    ]);
    assert!(refused.says("'require_aut'"), "{refused:?}");
}

#[test]
fn a_repository_whose_endpoint_was_started_by_hand_is_served() {
    let environment = environment();
    let serve = Serve::start(&environment, "srv");
    let shop = shop(&environment);
    shop.ok(&["origin", "add", "cloud", &serve.uri("shop")]);
    shop.ok(&["push", "main", "cloud"]);
    shop.quit();
    // Nobody has it open: a daemon of its own has the endpoint.
    let served = environment.repo_at(&serve.root().join("shop"));
    served.set("endpoint.first_port", &environment.port().to_string());
    served.sql_on("main", "create table by_hand as select generate_series(1, 5) id");
    let before = served.daemon().expect("it has one");
    let postmaster = served.postmaster("main").expect("it runs");
    let clone = environment.clone(&serve.uri("shop"), "clone");
    assert_eq!(served.daemon(), Some(serve.pid()), "it had {before}");
    assert_eq!(
        served.postmaster("main"),
        Some(postmaster),
        "the endpoint did not notice"
    );
    // The server receives what the endpoint writes.
    served.sql("main", "insert into by_hand values (6)");
    served.ok(&["commit", "-m", "by hand"]);
    clone.ok(&["pull", "main"]);
    assert_eq!(clone.sql_on("main", "select count(*) from by_hand"), "6");
    served.ok(&["stop", "main"]);
}
