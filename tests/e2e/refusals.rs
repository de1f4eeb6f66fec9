//! What bad input gets: `error:` and `hint:`, exit code 1 (2 for usage), nothing lost, nothing half-made.

use std::fs;
use std::io::Write;
use std::net::TcpListener;
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};

use neon_tests_kit::{
    Output, PlainServer, Proxy, Serve, TestEnvironment, TestPostgres, TestRepo, kill, on_both,
    processes_below,
};
use neon_types::{Fork, RelTag};
use rustix::process::Signal;

on_both!(
    commands_that_cannot_be_done,
    origins_that_are_none,
    a_transfer_is_cut,
    a_flipped_bit,
    copies_and_leftovers,
    a_full_disk,
    pages_that_cannot_be_rebuilt,
);

/// Returns every file of a directory with size and time of change: what must not change when a command is refused.
fn state(directory: &Path) -> Vec<(PathBuf, u64, i64)> {
    let mut files = Vec::new();
    let Ok(entries) = fs::read_dir(directory) else {
        return files;
    };
    for entry in entries.filter_map(Result::ok) {
        let Ok(metadata) = entry.path().symlink_metadata() else {
            continue;
        };
        if metadata.is_dir() {
            files.extend(state(&entry.path()));
        } else {
            files.push((
                entry.path(),
                metadata.len(),
                metadata.mtime_nsec() ^ metadata.mtime(),
            ));
        }
    }
    files.sort();
    files
}

/// Refs, reflogs, HEAD, configuration and objects: all that a user could lose.
fn kept(repo: &TestRepo<'_>) -> Vec<(PathBuf, u64, i64)> {
    ["refs", "log", "objects"]
        .iter()
        .flat_map(|name| state(&repo.inside(name)))
        .collect()
}

fn commands_that_cannot_be_done(environment: &TestEnvironment, postgres: &TestPostgres) {
    let outside = environment.neon(&["status"]).refused();
    assert!(
        outside.message.contains("not a repository") && outside.hint.contains("neon init"),
        "{outside:?}"
    );

    let repo = environment.init("shop", postgres);
    let before = kept(&repo);
    let over = environment.neon(&["init", "shop"]).refused();
    assert!(over.message.contains("is a repository already"), "{over:?}");
    let usage = repo.neon(&["branch", "-d", "x", "-D", "y"]);
    assert_eq!(usage.code(), Some(2), "{}", usage.describe());
    assert_eq!(repo.neon(&["no-such-command"]).code(), Some(2));

    let unknown = repo.refused(&["branch", "x", "nowhere"]);
    assert!(
        unknown.message.contains("'nowhere'") && unknown.hint.contains("neon branch"),
        "{unknown:?}"
    );
    for (nonsense, example) in [
        ("main@", "main@0/16B3748"),
        ("main@{yesterdayish}", "{2 hours ago}"),
        ("main~x", "main@0/16B3748"),
        ("main@zz/1", "main@0/16B3748"),
    ] {
        let refused = repo.refused(&["show", nonsense]);
        assert!(refused.hint.contains(example), "{nonsense}: {refused:?}");
    }
    let beyond = repo.refused(&["branch", "x", "main@FFFF/0"]);
    let end = repo.place("main").lsn;
    assert!(
        beyond.message.contains("beyond the end") && beyond.hint.contains(&format!("main@{end}")),
        "{beyond:?}"
    );
    assert!(
        repo.refused(&["show", "main@0/28"])
            .message
            .contains("before the beginning")
    );
    assert!(
        repo.refused(&["show", "main~7"])
            .message
            .contains("only 0 commits before it")
    );
    let exists = repo.refused(&["branch", "main"]);
    assert!(
        exists.message.contains("exists already") && exists.hint.contains("-d main"),
        "{exists:?}"
    );
    assert!(
        repo.refused(&["branch", "-d", "nothing"])
            .message
            .contains("no branch 'nothing'")
    );
    assert!(
        repo.refused(&["switch", "nothing"])
            .message
            .contains("no branch 'nothing'")
    );
    assert_eq!(repo.neon(&["branch", "../evil"]).code(), Some(1));
    assert_eq!(repo.neon(&["tag", "a..b"]).code(), Some(1));
    assert!(repo.refused(&["push"]).hint.contains("neon origin add"));
    assert!(
        repo.refused(&["config", "set", "no.such", "1"])
            .hint
            .contains("endpoint.first_port")
    );
    assert_eq!(kept(&repo), before, "nothing was made");

    ambiguous(&repo);
    running_branches(environment, &repo);
    no_such_postgres(environment, &repo, postgres);
}

fn ambiguous(repo: &TestRepo<'_>) {
    let (one, other) = repo.twin_of("main");
    let refused = repo.refused(&["show", &one[..4]]);
    assert!(
        refused.message.contains(&one[..12]) && refused.message.contains(&other[..12]),
        "candidates: {refused:?}"
    );
    assert!(refused.hint.contains("more digits"), "{refused:?}");
    assert_eq!(repo.place(&one[..12]).commit, one);
}

fn running_branches(environment: &TestEnvironment, repo: &TestRepo<'_>) {
    repo.ok(&["branch", "work"]);
    repo.sql_on("work", "create table only_here(i int)");
    let running = repo.refused(&["branch", "-d", "work"]);
    assert!(
        running.message.contains("running") && running.hint.contains("neon stop work"),
        "{running:?}"
    );
    assert_eq!(
        repo.neon(&["branch", "-D", "work"]).code(),
        Some(1),
        "not even by force"
    );
    assert!(
        repo.refused(&["branch", "-m", "work", "play"])
            .message
            .contains("running")
    );
    repo.ok(&["stop", "work"]);
    let lost = repo.refused(&["branch", "-d", "work"]);
    assert!(
        lost.message.contains("no other ref") && lost.hint.contains("-D work"),
        "{lost:?}"
    );
    assert_eq!(
        repo.sql_on("work", "select count(*) from only_here"),
        "0",
        "it is still there"
    );
    repo.ok(&["stop", "work"]);
    repo.ok(&["tag", "kept", "work"]);
    repo.ok(&["branch", "-d", "work"]);
    repo.ok(&["branch", "work", "kept"]);
    repo.ok(&["tag", "-d", "kept"]);
    repo.ok(&["branch", "-D", "work"]);
    assert_eq!(repo.neon(&["show", "work"]).code(), Some(1));

    repo.ok(&["stop", "--all"]);
    let port = environment.port();
    let taken = TcpListener::bind(("127.0.0.1", port)).expect("free");
    let refused = repo.refused(&["start", "--port", &port.to_string()]);
    assert!(
        refused.message.contains(&format!("port {port} is taken")) && refused.hint.contains("--port"),
        "{refused:?}"
    );
    assert!(processes_below(&repo.inside("endpoints")).is_empty());
    drop(taken);
    assert!(
        repo.ok(&["start", "--port", &port.to_string()])
            .contains(&format!(":{port}/"))
    );
    repo.ok(&["stop"]);
}

fn no_such_postgres(environment: &TestEnvironment, repo: &TestRepo<'_>, postgres: &TestPostgres) {
    let mut init = environment.neon_command(environment.root(), &["init", "new", "--pg-version", "14"]);
    let refused = Output::of(init.env("NEON_PG_DIRS", "/usr/lib/postgresql/15/bin")).refused();
    assert!(refused.says("14"), "{refused:?}");
    assert!(
        refused.says("/usr/lib/postgresql/15/bin"),
        "what was searched: {refused:?}"
    );
    assert!(
        refused.hint.contains("install") && refused.hint.contains("NEON_PG_DIRS"),
        "{refused:?}"
    );
    assert!(
        !environment.path("new").join(".neon").exists(),
        "nothing half-made"
    );
    assert_eq!(
        environment.neon(&["init", "new", "--pg-version", "9"]).code(),
        Some(2)
    );
    if postgres.major() == 17 {
        // The repository's own version is gone from the machine. A daemon that knew better must be gone too.
        end_daemon(repo);
        let missing = Output::of(
            repo.command(&["start"])
                .env("NEON_PG_DIRS", "/usr/lib/postgresql/15/bin"),
        )
        .refused();
        assert!(missing.says("17"), "{missing:?}");
        end_daemon(repo);
        repo.start("main");
        repo.ok(&["stop"]);
    }
}

/// Ends a daemon that runs, and waits for its end.
fn end_daemon(repo: &TestRepo<'_>) {
    let Some(daemon) = repo.daemon() else { return };
    kill(daemon, Signal::TERM);
    for _ in 0..3_000 {
        if !Path::new(&format!("/proc/{daemon}")).exists() {
            return;
        }
        std::thread::sleep(std::time::Duration::from_millis(10));
    }
    panic!("daemon {daemon} does not end");
}

fn origins_that_are_none(environment: &TestEnvironment, postgres: &TestPostgres) {
    let serve = Serve::start(environment, "srv");
    let repo = environment.init("shop", postgres);
    let push = |uri: &str| {
        repo.neon(&["origin", "remove", "o"]);
        repo.ok(&["origin", "add", "o", uri]);
        repo.refused(&["push", "main", "o"])
    };
    let refused = push(&serve.uri("shop").replace("sesame", "barley"));
    assert!(refused.message.contains("wrong user or password"), "{refused:?}");
    let refused = push(&serve.uri("shop").replace("ada:", "eve:"));
    assert!(refused.message.contains("wrong user or password"), "{refused:?}");
    assert!(!serve.root().join("shop").exists(), "nothing half-made there");

    // Nobody listens.
    let refused = push(&serve.uri_through(environment.port(), "shop"));
    assert!(
        refused.message.contains("cannot connect") && refused.hint.contains("neon serve"),
        "{refused:?}"
    );
    // A Postgres.
    let pgdata = PlainServer::initdb(environment, postgres, "plain");
    let plain = PlainServer::start(environment, postgres, &pgdata);
    let refused = push(&format!(
        "postgresql://postgres@127.0.0.1:{}/postgres",
        plain.port()
    ));
    assert!(
        refused.message.contains("not a neon server") && refused.says("PostgreSQL"),
        "{refused:?}"
    );
    // Something else.
    let garbage = TcpListener::bind(("127.0.0.1", 0)).expect("a port");
    let port = garbage.local_addr().expect("bound").port();
    let talking = std::thread::spawn(move || {
        let (mut stream, _) = garbage.accept().expect("a caller");
        let _ = stream.write_all(b"HTTP/1.1 400 Bad Request\r\nContent-Length: 0\r\n\r\n");
        let mut rest = Vec::new();
        let _ = std::io::Read::read_to_end(&mut stream, &mut rest);
    });
    let refused = push(&serve.uri_through(port, "shop"));
    assert!(refused.message.contains("not a neon server"), "{refused:?}");
    talking.join().expect("it ends");
    // psql at a neon server learns what it is.
    let psql = TestPostgres::try_sql(&serve.uri("shop"), "select 1");
    assert!(
        !psql.status.success() && psql.stderr.contains("neon"),
        "{}",
        psql.describe()
    );

    // Another cluster's history.
    repo.neon(&["origin", "remove", "o"]);
    repo.ok(&["origin", "add", "o", &serve.uri("shop")]);
    repo.ok(&["push", "main", "o"]);
    let other = environment.init("other", postgres);
    other.ok(&["origin", "add", "o", &serve.uri("shop")]);
    let before = (kept(&repo), repo.place("main"));
    for command in [
        vec!["push", "main", "o"],
        vec!["push", "main", "o", "--force"],
        vec!["pull", "main", "o"],
        vec!["pull", "main", "o", "--force"],
    ] {
        let refused = other.refused(&command);
        assert!(
            refused.message.contains("different clusters") && refused.hint.contains("clone"),
            "{refused:?}"
        );
    }
    assert_eq!((kept(&repo), repo.place("main")), before);
    // A directory that is in use.
    fs::create_dir(environment.path("full")).expect("made");
    fs::write(environment.path("full/precious"), "mine").expect("written");
    let refused = environment.neon(&["clone", &serve.uri("shop"), "full"]).refused();
    assert!(refused.message.contains("not empty"), "{refused:?}");
    assert_eq!(fs::read_dir(environment.path("full")).expect("there").count(), 1);
    // Listening where others could read along.
    let refused = environment
        .neon(&["serve", "--listen", "0.0.0.0:0", "--root", "srv"])
        .refused();
    assert!(refused.hint.contains("ssh"), "{refused:?}");
    for one in [&repo, &other] {
        one.fsck();
    }
}

fn a_transfer_is_cut(environment: &TestEnvironment, postgres: &TestPostgres) {
    let serve = Serve::start(environment, "srv");
    let proxy = Proxy::start(([127, 0, 0, 1], serve.port()).into());
    let repo = environment.init("shop", postgres);
    repo.set("pagestore.seal_megabytes", "4");
    // What arrived before the cut is of use only while it is planned again.
    repo.set("pagestore.compaction", "off");
    // Bytes that do not compress, in several layers.
    repo.sql_on(
        "main",
        "create table t(i int, x bytea); alter table t alter x set storage external; \
         insert into t select i, decode(string_agg(md5(random()::text), ''), 'hex') from generate_series(1, 6000) i, generate_series(1, 100) group by i",
    );
    repo.ok(&["stop"]);
    let through = serve.uri_through(proxy.port(), "shop");
    repo.ok(&["origin", "add", "far", &through]);
    let planned = repo.json(&["push", "main", "far", "--dry-run"])[0]["bytes"]
        .as_u64()
        .expect("a number");
    assert!(planned > 8 << 20, "{planned} bytes");
    let before = proxy.passed();
    proxy.cut_after(planned / 2);
    let refused = repo.refused(&["push", "main", "far"]);
    assert!(
        refused.says("cut") && refused.hint.contains("again"),
        "{refused:?}"
    );
    let first = proxy.passed() - before;
    proxy.cut_after(u64::MAX);
    let listed = environment.neon(&["clone", &through, "early"]);
    assert_eq!(
        listed.code(),
        Some(1),
        "no branch moved there: {}",
        listed.describe()
    );
    let before = proxy.passed();
    repo.ok(&["push", "main", "far"]);
    let second = proxy.passed() - before;
    assert!(
        second < planned * 3 / 4,
        "{planned} planned, {first} before the cut, {second} after it"
    );

    // The same inwards.
    let before = proxy.passed();
    proxy.cut_after(planned / 2);
    let cut = environment.neon(&["clone", &through, "copy"]).refused();
    assert!(cut.hint.contains("again"), "{cut:?}");
    let first = proxy.passed() - before;
    proxy.cut_after(u64::MAX);
    let before = proxy.passed();
    let copy = environment.clone(&through, "copy");
    let second = proxy.passed() - before;
    assert!(
        second < planned * 3 / 4,
        "{planned} planned, {first} before the cut, {second} after it"
    );
    let digest = "select count(*), md5(string_agg(md5(x), '' order by i)) from t";
    assert_eq!(copy.sql_on("main", digest), repo.sql_on("main", digest));
    for one in [&repo, &copy] {
        one.ok(&["stop", "--all"]);
        one.fsck();
    }
    environment.repo_at(&serve.root().join("shop")).fsck();
}

fn a_flipped_bit(environment: &TestEnvironment, postgres: &TestPostgres) {
    let repo = environment.init("shop", postgres);
    repo.set("pagestore.seal_megabytes", "2");
    repo.set("pagestore.compaction", "off");
    repo.ok(&["branch", "start"]);
    let directory = repo.inside("objects");
    let before = state(&directory);
    repo.sql_on(
        "main",
        "create table t as select i, md5(i::text) x from generate_series(1, 100000) i",
    );
    repo.ok(&["commit", "-m", "much"]);
    repo.ok(&["stop"]);
    repo.fsck();
    // The largest object that came with it: a layer that `start` does not need.
    let mut objects = state(&directory);
    objects.retain(|object| !before.contains(object));
    objects.sort_by_key(|(_, len, _)| *len);
    let (victim, len, _) = objects.pop().expect("it was sealed");
    let id: String = victim
        .strip_prefix(&directory)
        .expect("inside")
        .to_str()
        .expect("text")
        .replace('/', "");
    let mut bytes = fs::read(&victim).expect("read");
    let middle = usize::try_from(len / 2).expect("small");
    bytes[middle] ^= 0x10;
    let mut permissions = fs::metadata(&victim).expect("there").permissions();
    #[expect(clippy::permissions_set_readonly_false, reason = "a test's own file")]
    permissions.set_readonly(false);
    fs::set_permissions(&victim, permissions).expect("changed");
    fs::write(&victim, &bytes).expect("written");

    let checked = repo.neon(&["fsck"]);
    assert_eq!(checked.code(), Some(1), "{}", checked.describe());
    assert!(
        checked.stdout.contains(&format!("object {id}")),
        "{}",
        checked.describe()
    );
    let findings = repo.neon(&["fsck", "--json"]);
    let findings: serde_json::Value = serde_json::from_str(&findings.stdout).expect("JSON");
    assert!(
        findings["findings"]
            .as_array()
            .is_some_and(|all| all.iter().any(|one| one["object"] == id.as_str())),
        "{findings}"
    );
    // What needs it fails, and says what is damaged; what does not need it is readable.
    let plain = environment.path("plain");
    let needed = repo.neon(&["export", "main", "--pgdata", plain.to_str().expect("text")]);
    assert_eq!(needed.code(), Some(1), "{}", needed.describe());
    assert!(
        needed.stderr.contains(&id[..8]) && needed.stderr.contains("damaged"),
        "{}",
        needed.describe()
    );
    repo.ok(&["log"]);
    repo.ok(&["branch"]);
    let rest = repo.neon(&[
        "export",
        "start",
        "--pgdata",
        environment.path("rest").to_str().expect("text"),
    ]);
    assert!(rest.status.success(), "{}", rest.describe());
    // Mended, all is well again.
    bytes[middle] ^= 0x10;
    fs::write(&victim, &bytes).expect("written");
    repo.fsck();
    assert_eq!(
        repo.sql_on("main", "select count(*) from t where x = md5(i::text)"),
        "100000"
    );
}

fn copies_and_leftovers(environment: &TestEnvironment, postgres: &TestPostgres) {
    let repo = environment.init("shop", postgres);
    repo.sql_on("main", "create table t(who text); insert into t values ('both')");
    // Two daemons.
    let daemon = repo.daemon().expect("it runs");
    let second = repo.neon(&["daemon"]);
    assert_eq!(second.code(), Some(1), "{}", second.describe());
    assert!(
        second.stderr.contains("in use by") && second.stderr.contains(&daemon.to_string()),
        "{}",
        second.describe()
    );
    assert_eq!(repo.daemon(), Some(daemon));
    assert_eq!(repo.sql("main", "select count(*) from t"), "1");
    let pid_file = repo.inside("endpoints/main/pgdata/postmaster.pid");
    let pids = fs::read_to_string(&pid_file).expect("it runs");
    repo.ok(&["stop"]);
    end_daemon(&repo);

    // A socket and a pid file that nobody is behind: of a dead process, of an innocent one.
    let mut innocent = environment
        .command("sleep", environment.root())
        .arg("600")
        .spawn()
        .expect("it runs");
    drop(std::os::unix::net::UnixListener::bind(repo.inside("neon.sock")).expect("bound"));
    fs::write(repo.inside("neon.pid"), format!("{}\n", innocent.id())).expect("written");
    let (_, rest) = pids.split_once('\n').expect("lines");
    fs::write(&pid_file, format!("{}\n{rest}", innocent.id())).expect("written");
    assert_eq!(repo.sql_on("main", "select count(*) from t"), "1");
    assert!(
        innocent.try_wait().expect("asked").is_none(),
        "the innocent one lives"
    );
    innocent.kill().expect("killed");
    innocent.wait().expect("ended");
    repo.ok(&["stop"]);
    end_daemon(&repo);

    // A copied repository: both write, neither extends what the other has.
    let copied = environment.path("copied");
    Output::of(
        environment
            .command("cp", environment.root())
            .arg("-a")
            .arg(repo.directory())
            .arg(&copied),
    )
    .success();
    let copy = environment.repo("copied");
    copy.sql_on("main", "insert into t values ('copy')");
    repo.sql_on("main", "insert into t values ('original')");
    copy.ok(&["stop"]);
    repo.ok(&["stop"]);
    assert_ne!(
        copy.place("main").timeline,
        repo.place("main").timeline,
        "the copy forks"
    );
    let serve = Serve::start(environment, "srv");
    for one in [&repo, &copy] {
        one.ok(&["origin", "add", "cloud", &serve.uri("shop")]);
    }
    repo.ok(&["push", "main", "cloud"]);
    let refused = copy.refused(&["push", "main", "cloud"]);
    assert!(refused.message.contains("diverged"), "{refused:?}");
    copy.ok(&["push", "main", "cloud:copy"]);
    repo.ok(&["fetch"]);
    repo.ok(&["branch", "theirs", "cloud/copy"]);
    assert_eq!(
        repo.sql_on("theirs", "select string_agg(who, ',') from t"),
        "both,copy"
    );
    assert_eq!(
        repo.sql_on("main", "select string_agg(who, ',') from t"),
        "both,original"
    );
    for one in [&repo, &copy] {
        one.ok(&["stop", "--all"]);
        one.fsck();
    }
    // One that is copied while it runs: the copy is told from the original, whose processes are none of its business.
    repo.start("main");
    let live = environment.path("live");
    let _ = Output::of(
        environment
            .command("cp", environment.root())
            .arg("-a")
            .arg(repo.directory())
            .arg(&live),
    );
    let copy = environment.repo("live");
    copy.ok(&["branch"]);
    let rows = copy.sql_on(
        "main",
        "insert into t values ('live'); select string_agg(who, ',') from t",
    );
    assert_eq!(rows, "both,original,live");
    assert_eq!(
        repo.sql(
            "main",
            "insert into t values ('again'); select string_agg(who, ',') from t"
        ),
        "both,original,again"
    );
    copy.ok(&["stop", "--all"]);
    repo.ok(&["stop", "--all"]);
    assert_ne!(copy.place("main").timeline, repo.place("main").timeline);
    copy.fsck();
    repo.fsck();
}

/// A file that may not grow over a limit (`ulimit -f`) answers writes like a full disk does, where root is not needed for it.
fn a_full_disk(environment: &TestEnvironment, postgres: &TestPostgres) {
    let serve = Serve::start(environment, "srv");
    let repo = environment.init("shop", postgres);
    repo.sql_on(
        "main",
        "create table t as select i, repeat(md5(random()::text), 10) x from generate_series(1, 30000) i",
    );
    repo.ok(&["stop"]);
    end_daemon(&repo);
    repo.ok(&["origin", "add", "cloud", &serve.uri("shop")]);
    repo.ok(&["push", "main", "cloud"]);
    let before = repo.place("main");

    let limited = |directory: &Path, kilobytes: u32, args: &[&str]| -> Output {
        let neon = repo.command(&[]).get_program().to_owned();
        // The signal that comes with the error is ignored, as it is not sent by a full disk.
        let mut command = environment.command("bash", directory);
        command
            .args([
                "-c",
                &format!("trap '' XFSZ; ulimit -f {kilobytes}; exec \"$@\""),
                "bash",
            ])
            .arg(neon)
            .args(args);
        Output::of(&mut command)
    };
    let plain = environment.path("plain");
    let exported = limited(
        repo.directory(),
        2048,
        &["export", "main", "--pgdata", plain.to_str().expect("text")],
    );
    assert_eq!(exported.code(), Some(1), "{}", exported.describe());
    assert!(exported.stderr.contains("error:"), "{}", exported.describe());
    let left = fs::read_dir(&plain).map_or(0, Iterator::count);
    assert_eq!(left, 0, "nothing half-made: {}", exported.describe());
    let cloned = limited(environment.root(), 256, &["clone", &serve.uri("shop"), "copy"]);
    assert_eq!(cloned.code(), Some(1), "{}", cloned.describe());
    let version = postgres.major().to_string();
    let made = limited(
        environment.root(),
        1024,
        &["init", "new", "--pg-version", &version],
    );
    assert_eq!(made.code(), Some(1), "{}", made.describe());
    assert!(
        !environment.path("new/.neon").exists(),
        "nothing half-made: {}",
        made.describe()
    );

    // With room, the same commands work.
    assert_eq!(repo.place("main"), before);
    repo.fsck();
    repo.ok(&["export", "main", "--pgdata", plain.to_str().expect("text")]);
    let copy = environment.clone(&serve.uri("shop"), "copy");
    assert_eq!(copy.place("main"), before);
    copy.fsck();
    environment.init("new", postgres).fsck();
}

/// Where pages need redo that only an extension has, a position is refused before anything is written; all else goes on.
fn pages_that_cannot_be_rebuilt(environment: &TestEnvironment, postgres: &TestPostgres) {
    let repo = environment.init("shop", postgres);
    repo.sql_on(
        "main",
        "create table t(a int); insert into t select generate_series(1, 2000); create table u as select 1 a",
    );
    let place = "select case reltablespace when 0 then 1663 else reltablespace end, (select oid from pg_database where datname = 'postgres'), relfilenode from pg_class where relname = 't'";
    let place = repo.sql("main", place);
    let number = |index: usize| {
        place
            .split('|')
            .nth(index)
            .and_then(|number| number.parse().ok())
            .expect("an oid")
    };
    let rel = RelTag {
        spc: number(0),
        db: number(1),
        rel: number(2),
        fork: Fork::Main,
    };
    repo.ok(&["stop"]);
    repo.ok(&["tag", "before"]);
    end_daemon(&repo);
    let end = repo.write_record_of_an_extension("main", rel);
    repo.ok(&["commit", "-m", "by an extension"]);
    let plain = environment.path("plain");
    let path = plain.to_str().expect("text");
    let refused = repo.refused(&["export", "main", "--pgdata", path]);
    assert!(
        refused.says("custom200") && refused.says(&end.to_string()) && refused.says(&rel.rel.to_string()),
        "relation, record and LSN are named: {refused:?}"
    );
    assert!(refused.hint.contains("extension"), "{refused:?}");
    assert!(
        fs::read_dir(&plain).map_or(0, Iterator::count) == 0,
        "nothing half-made"
    );
    repo.ok(&["branch", "stuck", "main"]);
    for branch in ["main", "stuck"] {
        let refused = repo.refused(&["start", branch]);
        assert!(refused.says("custom200"), "{refused:?}");
        assert!(processes_below(&repo.inside("endpoints")).is_empty());
    }
    repo.ok(&["branch", "early", "before"]);
    assert_eq!(repo.sql_on("early", "select count(*) from t"), "2000");
    repo.ok(&["export", "before", "--pgdata", path]);
    let server = PlainServer::start(environment, postgres, &plain);
    assert_eq!(server.sql("select count(*) from t"), "2000");
    drop(server);
    repo.ok(&["stop", "--all"]);
    repo.fsck();
}

/// Root is told the very line to type instead. Becoming root takes a user namespace, which some machines do not allow.
#[test]
fn root_is_told_what_to_type() {
    let environment = TestEnvironment::new(env!("CARGO_BIN_EXE_neon"));
    for args in [
        ["init", "it's"].as_slice(),
        &["start"],
        &["clone", "postgresql://h/x"],
        &["serve"],
    ] {
        let mut command = environment.command("unshare", environment.root());
        command
            .args(["--user", "--map-root-user"])
            .arg(env!("CARGO_BIN_EXE_neon"))
            .args(args);
        let refused = Output::of(&mut command).refused();
        assert!(refused.message.contains("does not run as root"), "{refused:?}");
        let line = refused.hint.strip_prefix("run: ").expect("a line to run");
        assert!(
            line.starts_with("runuser -u ") && line.contains(args[0]),
            "{line}"
        );
        let read_back = Output::of(
            environment
                .command("sh", environment.root())
                .args(["-c", &format!("printf '%s\\n' {line}")]),
        );
        let words: Vec<String> = read_back.success().lines().map(str::to_owned).collect();
        assert_eq!(
            words[words.len() - args.len()..],
            *args,
            "a shell reads the same words: {line}"
        );
    }
    assert!(!environment.path("it's").exists());
}
