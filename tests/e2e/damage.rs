//! Something is damaged, lost, or at its limit: what was acknowledged is there all the same, and everything else goes on.

use std::fs;
use std::path::{Path, PathBuf};

use neon_tests_kit::{Output, TestEnvironment, TestPostgres, TestRepo, kill, on_both, postmaster_family};
use rustix::process::Signal;

on_both!(
    a_lost_endpoint_file_loses_no_rows,
    one_damaged_thing_takes_nothing_else_along,
    autovacuum_comes_on_when_it_could_not_be_told_at_once,
);

/// Kills the daemon and everything of a branch's Postgres.
fn kill_all(repo: &TestRepo<'_>, branch: &str) {
    if let Some(daemon) = repo.daemon() {
        kill(daemon, Signal::KILL);
    }
    let postmaster = repo.postmaster(branch).expect("it runs");
    for process in postmaster_family(postmaster) {
        kill(process, Signal::KILL);
    }
}

fn flip_a_bit(path: &Path) {
    let mut bytes = fs::read(path).expect("read");
    let middle = bytes.len() / 2;
    bytes[middle] ^= 4;
    make_writable(path);
    fs::write(path, bytes).expect("written");
}

fn make_writable(path: &Path) {
    use std::os::unix::fs::PermissionsExt;
    fs::set_permissions(path, fs::Permissions::from_mode(0o600)).expect("ours");
}

fn a_lost_endpoint_file_loses_no_rows(environment: &TestEnvironment, postgres: &TestPostgres) {
    let repo = environment.init("shop", postgres);
    repo.start("main");
    repo.sql("main", "create table t (id serial primary key)");
    repo.ok(&["commit", "-m", "made"]);
    let file = repo.inside("endpoints/main/endpoint.toml");
    let stamp = repo.inside("endpoints/main/stamp");
    let mut rows = 0;
    type Damage<'a> = (&'a str, &'a dyn Fn());
    let damages: [Damage<'_>; 5] = [
        ("removed", &|| fs::remove_file(&file).expect("removed")),
        ("flipped", &|| flip_a_bit(&file)),
        ("cut", &|| {
            fs::write(&file, "branch = \"main\"\n").expect("written")
        }),
        ("stamp flipped, too", &|| {
            flip_a_bit(&file);
            flip_a_bit(&stamp);
        }),
        ("both removed", &|| {
            fs::remove_file(&file).expect("removed");
            fs::remove_file(&stamp).expect("removed");
        }),
    ];
    for (what, damage) in damages {
        // Written while nobody receives: only the data directory has them.
        kill(repo.daemon().expect("it runs"), Signal::KILL);
        let uri = plain_uri(&repo);
        TestPostgres::sql(&uri, "insert into t select from generate_series(1, 500)");
        rows += 500;
        kill_all(&repo, "main");
        damage();
        let found = repo.neon(&["fsck"]).describe();
        assert!(found.contains("endpoint main"), "{what}: {found}");
        let status = repo.ok(&["status"]);
        assert!(status.contains("main"), "{what}: {status}");
        repo.start("main");
        let count = repo.sql("main", "select count(*) from t");
        assert_eq!(count, rows.to_string(), "{what}");
        repo.fsck();
    }
    repo.ok(&["stop"]);
    assert!(!repo.inside("aside").exists());

    // Nothing says what it is: it is not touched before somebody says so.
    fs::remove_file(&file).expect("removed");
    fs::remove_file(&stamp).expect("removed");
    fs::write(repo.inside("endpoints/main/pgdata/global/pg_control"), "nonsense").expect("written");
    let refused = repo.refused(&["start", "main"]);
    assert!(refused.hint.contains("--set-aside main"), "{refused:?}");
    let started = repo.neon(&["start", "--set-aside", "main"]).describe();
    assert!(started.contains("aside/main-1"), "{started}");
    assert_eq!(repo.sql("main", "select count(*) from t"), rows.to_string());
    repo.ok(&["stop"]);
}

/// Returns where the running endpoint of main answers, without asking neon.
fn plain_uri(repo: &TestRepo<'_>) -> String {
    let text = fs::read_to_string(repo.inside("endpoints/main/pgdata/postmaster.pid")).expect("a pid file");
    let lines: Vec<&str> = text.lines().collect();
    // Postgres was told where it lies from the data directory.
    let directory = repo.inside("endpoints/main/pgdata").join(lines[4]);
    let directory = fs::canonicalize(directory).expect("it is there");
    let directory: String = directory
        .as_os_str()
        .as_encoded_bytes()
        .iter()
        .map(|byte| match byte {
            b'a'..=b'z' | b'A'..=b'Z' | b'0'..=b'9' => char::from(*byte).to_string(),
            other => format!("%{other:02X}"),
        })
        .collect();
    format!("postgresql://postgres@{directory}:{}/postgres", lines[3])
}

/// Damages something of branch `x`.
type Harm = fn(&TestRepo<'_>);

const HARMS: [(&str, Harm); 6] = [
    ("ref", |repo| {
        fs::write(repo.inside("refs/heads/x"), "nonsense\n").expect("written");
    }),
    ("commit", |repo| {
        flip_a_bit(&object(repo, &repo.place("x").commit))
    }),
    ("state", |repo| {
        let timeline = repo.place("x").timeline;
        flip_a_bit(&repo.inside(&format!("timelines/{timeline}/state")));
    }),
    ("missing state", |repo| {
        let timeline = repo.place("x").timeline;
        fs::remove_file(repo.inside(&format!("timelines/{timeline}/state"))).expect("removed");
    }),
    ("layer", |repo| {
        let layers = repo.json(&["layers", "x"]);
        let own = layers["layers"].as_array().expect("layers").iter();
        let own = own
            .filter(|layer| layer["own"] == true)
            .map(|layer| layer["layer"].as_str().expect("an id"));
        for id in own {
            flip_a_bit(&object(repo, id));
        }
    }),
    ("endpoint file", |repo| {
        fs::write(repo.inside("endpoints/x/endpoint.toml"), "nonsense").expect("written");
        let _ = fs::remove_file(repo.inside("endpoints/x/stamp"));
        fs::remove_file(repo.inside("endpoints/x/pgdata/global/pg_control")).expect("removed");
    }),
];

fn object(repo: &TestRepo<'_>, id: &str) -> PathBuf {
    repo.inside(&format!("objects/{}/{}", &id[..2], &id[2..]))
}

fn one_damaged_thing_takes_nothing_else_along(environment: &TestEnvironment, postgres: &TestPostgres) {
    let whole = environment.init("whole", postgres);
    whole.set("pagestore.seal_megabytes", "1");
    whole.set("pagestore.compaction", "off");
    whole.sql_on("main", "create table t as select generate_series(1, 1000) id");
    whole.ok(&["stop", "main"]);
    whole.ok(&["branch", "x", "main"]);
    whole.sql_on(
        "x",
        "create table u as select id, md5(id::text) from generate_series(1, 40000) id",
    );
    whole.ok(&["stop", "x"]);
    whole.sql_on("main", "insert into t values (0)");
    whole.ok(&["stop", "main"]);
    whole.quit();
    whole.fsck();
    // One version has them all, the other those that Postgres has a part in.
    let has_a_part = |what: &str| matches!(what, "layer" | "endpoint file");
    let harms = HARMS.into_iter();
    for (what, harm) in harms.filter(|(what, _)| postgres.major() != 15 || has_a_part(what)) {
        let name = what.replace(' ', "-");
        let copied = Output::of(
            environment
                .command("cp", environment.root())
                .args(["-a", "whole", &name]),
        );
        copied.success();
        let repo = environment.repo(&name);
        // A copy is another writer: it sees to that at the first command.
        repo.ok(&["status"]);
        harm(&repo);
        let good = |command: &[&str]| {
            let output = repo.neon(command);
            assert!(output.status.success(), "{what}: {}", output.describe());
            output.describe()
        };
        for command in [
            vec!["status"],
            vec!["branch"],
            vec!["tag"],
            vec!["log", "main"],
            vec!["show", "main"],
            vec!["du"],
            vec!["du", "main"],
            vec!["retention"],
            vec!["gc", "--grace", "0s"],
            vec!["start", "main"],
        ] {
            good(&command);
        }
        assert_eq!(repo.sql("main", "select count(*) from t"), "1001", "{what}");
        good(&["commit", "-m", "goes on"]);
        good(&["stop", "main"]);
        good(&["branch", "y", "main"]);
        let export = environment.path(&format!("exported-{name}"));
        good(&["export", "main", "--pgdata", export.to_str().expect("text")]);
        repo.quit();
        let clone = environment.path(&format!("cloned-{name}"));
        let cloned = environment.neon(&[
            "clone",
            "--branch",
            "main",
            repo.directory().to_str().expect("text"),
            clone.to_str().expect("text"),
        ]);
        assert!(cloned.status.success(), "{what}: {}", cloned.describe());
        assert_eq!(
            environment
                .repo_at(&clone)
                .sql_on("main", "select count(*) from t"),
            "1001",
            "{what}"
        );
        if !matches!(what, "layer" | "endpoint file") {
            assert!(good(&["branch"]).contains("damaged"), "{what}");
        }
        let checked = repo.neon(&["fsck"]);
        assert!(!checked.status.success(), "{what}: {}", checked.describe());

        good(&["branch", "-D", "x"]);
        good(&["gc", "--grace", "0s"]);
        let checked = repo.neon(&["fsck"]);
        assert!(checked.status.success(), "{what}: {}", checked.describe());
        assert!(!good(&["branch"]).contains("damaged"), "{what}");
    }
}

fn autovacuum_comes_on_when_it_could_not_be_told_at_once(
    environment: &TestEnvironment,
    postgres: &TestPostgres,
) {
    let repo = environment.init("shop", postgres);
    repo.ok(&["branch", "b", "main"]);
    let uri = repo.start("b");
    assert_eq!(
        TestPostgres::sql(&uri, "show autovacuum"),
        "off",
        "nothing was written"
    );
    // The daemon dies between the transaction and the reload that follows.
    kill(repo.daemon().expect("it runs"), Signal::STOP);
    TestPostgres::sql(&uri, "create table t (id int)");
    kill(repo.daemon().expect("it runs"), Signal::KILL);
    repo.ok(&["uri", "b"]);
    repo.ok(&["commit", "b", "-m", "made"]);
    for _ in 0..200 {
        if TestPostgres::sql(&uri, "show autovacuum") == "on" {
            repo.ok(&["stop", "b"]);
            return;
        }
        std::thread::sleep(std::time::Duration::from_millis(50));
    }
    panic!("autovacuum stays off");
}

#[test]
fn garbage_is_collected_on_a_full_disk() {
    let postgres = TestPostgres::find(17);
    let environment = TestEnvironment::new(env!("CARGO_BIN_EXE_neon"));
    let repo = environment.init("shop", &postgres);
    repo.ok(&["branch", "x", "main"]);
    repo.sql_on(
        "x",
        "create table u as select id, md5(id::text) from generate_series(1, 50000) id",
    );
    repo.ok(&["stop", "x"]);
    repo.ok(&["branch", "-D", "x"]);
    repo.ok(&["gc"]);
    repo.quit();
    // A disk of its own, in a mount namespace of its own.
    let script = r#"
        set -eu
        mount -t tmpfs -o size=64m,mode=700 none disk
        cp -a shop disk/shop
        cd disk/shop
        "$NEON" status >/dev/null
        dd if=/dev/zero of=../filler bs=4096 2>/dev/null || true
        if echo x >../more 2>/dev/null; then echo "the disk is not full"; exit 1; fi
        before=$(stat -f -c %a .)
        "$NEON" log main >/dev/null
        "$NEON" gc --grace 0s
        after=$(stat -f -c %a .)
        test "$after" -gt "$((before + 1000))" || { echo "$before $after blocks are free"; exit 1; }
        rm ../filler
        "$NEON" fsck
    "#;
    fs::create_dir(environment.path("disk")).expect("made");
    let mut command = environment.command("unshare", environment.root());
    command
        .args(["--map-current-user", "--keep-caps", "--mount", "sh", "-c", script])
        .env("NEON", env!("CARGO_BIN_EXE_neon"));
    let output = Output::of(&mut command);
    assert!(output.status.success(), "{}", output.describe());
}

#[test]
fn few_descriptors_are_enough_for_many_layers() {
    let postgres = TestPostgres::find(17);
    let environment = TestEnvironment::new(env!("CARGO_BIN_EXE_neon"));
    let repo = environment.init("shop", &postgres);
    repo.set("pagestore.seal_megabytes", "1");
    repo.set("pagestore.compaction", "off");
    let uri = repo.start("main");
    TestPostgres::sql(&uri, "create table t (id int, filler text)");
    for _ in 0..60 {
        TestPostgres::sql(
            &uri,
            "insert into t select id, repeat('x', 900) from generate_series(1, 2000) id",
        );
        repo.ok(&["commit", "-m", "more"]);
    }
    repo.ok(&["stop"]);
    repo.quit();
    let layers = repo.json(&["layers"])["layers"].as_array().expect("layers").len();
    assert!(layers > 50, "{layers} layers");
    let export = environment.path("exported");
    for arguments in [
        vec!["start", "main"],
        vec!["psql", "main", "--", "-c", "select count(*) from t"],
        vec!["commit", "-m", "again"],
        vec!["stop", "main"],
        vec!["fsck"],
        vec!["du", "main"],
        vec!["export", "main", "--pgdata", export.to_str().expect("text")],
        vec!["branch", "b", "main~30"],
        vec!["start", "b"],
        vec!["stop", "b"],
    ] {
        let mut command = environment.command("sh", repo.directory());
        command
            .args([
                "-c",
                "ulimit -n 72; exec \"$0\" \"$@\"",
                env!("CARGO_BIN_EXE_neon"),
            ])
            .args(&arguments);
        let output = Output::of(&mut command);
        assert!(output.status.success(), "{arguments:?}: {}", output.describe());
    }
}
