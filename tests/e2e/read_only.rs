//! A repository that cannot be written: what only reads works, and leaves it as it is; what writes says so.

use std::collections::BTreeMap;
use std::fs::{self, Permissions};
use std::os::unix::fs::{MetadataExt, PermissionsExt};
use std::path::{Path, PathBuf};

use neon_tests_kit::{Output, PlainServer, TestEnvironment, TestPostgres, TestRepo};

const ROWS: &str = "select count(*), sum(i) from t";

/// Every file and directory below, with what a write would change.
fn state(root: &Path) -> BTreeMap<PathBuf, (u32, u64, i64, i64)> {
    let mut found = BTreeMap::new();
    let mut open = vec![root.to_owned()];
    while let Some(path) = open.pop() {
        let metadata = fs::symlink_metadata(&path).expect("metadata");
        if metadata.is_dir() {
            let entries = fs::read_dir(&path).expect("entries");
            open.extend(entries.map(|entry| entry.expect("an entry").path()));
        }
        let written = (metadata.mtime(), metadata.mtime_nsec());
        found.insert(path, (metadata.mode(), metadata.len(), written.0, written.1));
    }
    found
}

/// Takes the right to write off a tree, or gives it back.
fn set_writable(root: &Path, writable: bool) {
    let mut open = vec![root.to_owned()];
    while let Some(path) = open.pop() {
        let metadata = fs::symlink_metadata(&path).expect("metadata");
        if metadata.is_symlink() {
            continue;
        }
        let mode = metadata.permissions().mode();
        let mode = if writable { mode | 0o200 } else { mode & !0o222 };
        fs::set_permissions(&path, Permissions::from_mode(mode)).expect("ours");
        if metadata.is_dir() {
            let entries = fs::read_dir(&path).expect("entries");
            open.extend(entries.map(|entry| entry.expect("an entry").path()));
        }
    }
}

/// Layers and WAL that is in none, a fork in the middle of a layer, a tag, and an endpoint that was stopped.
fn shop<'e>(environment: &'e TestEnvironment, postgres: &TestPostgres) -> TestRepo<'e> {
    let repo = environment.init("shop", postgres);
    repo.set("pagestore.seal_megabytes", "1");
    repo.sql_on(
        "main",
        "create table t (i int, filler text); insert into t select i, repeat('x', 400) from generate_series(1, 3000) i",
    );
    repo.ok(&["commit", "-m", "one"]);
    repo.ok(&["branch", "early"]);
    repo.ok(&["tag", "v1"]);
    repo.sql(
        "main",
        "insert into t select i, repeat('y', 400) from generate_series(3001, 6000) i",
    );
    repo.ok(&["commit", "-m", "two"]);
    repo.sql("main", "insert into t values (0, 'in no layer')");
    repo.ok(&["stop"]);
    repo.sql_on("early", "insert into t values (-1, 'early')");
    repo.ok(&["stop"]);
    repo.ok(&["stop", "--all"]);
    repo.quit();
    repo
}

const READING: [&[&str]; 17] = [
    &["log"],
    &["log", "early"],
    &["show", "main"],
    &["show", "v1"],
    &["show", "main~1"],
    &["branch"],
    &["tag"],
    &["origin", "list"],
    &["du"],
    &["du", "main"],
    &["layers", "main"],
    &["layers", "early"],
    &["retention"],
    &["config", "get", "pagestore.seal_megabytes"],
    &["fsck"],
    &["fsck", "--deep"],
    &["status"],
];

fn writing() -> Vec<Vec<&'static str>> {
    [
        "commit -m x",
        "branch new",
        "branch -D early",
        "branch -m early late",
        "tag new",
        "tag -d v1",
        "switch early",
        "start",
        "start v1",
        "stop",
        "push main ../other",
        "pull main ../other",
        "fetch main ../other",
        "origin add other ../other",
        "config set user.author A",
        "retention --keep 7d",
        "gc",
        "gc --dry-run",
        "fsck --boot",
        "daemon",
        "serve --listen 127.0.0.1:0",
    ]
    .map(|line| line.split(' ').collect())
    .to_vec()
}

/// What is asked of a repository that only reads; `neon` runs a command in it.
fn reads(repo: &TestRepo<'_>, before: &[String], neon: &dyn Fn(&[&str]) -> Output) {
    let files = state(&repo.inside(""));
    for (command, before) in READING.iter().zip(before) {
        let output = neon(command);
        assert_eq!(&output.success(), before, "{command:?}");
        assert_eq!(output.stderr, "", "{command:?}");
        assert_eq!(state(&repo.inside("")), files, "{command:?}");
    }
    for command in writing() {
        let output = neon(&command);
        let refused = output.refused();
        assert!(
            refused.message.contains("can only be read") && refused.hint.contains("neon clone"),
            "{command:?}: {refused:?}"
        );
        assert!(
            refused.caused_by.iter().any(|cause| !cause.is_empty()),
            "{command:?}: {refused:?}"
        );
        assert_eq!(state(&repo.inside("")), files, "{command:?}");
    }
}

fn before(repo: &TestRepo<'_>) -> Vec<String> {
    repo.quit();
    READING.map(|command| repo.ok(command)).to_vec()
}

#[test]
fn modes_without_the_right_to_write() {
    let environment = TestEnvironment::new(env!("CARGO_BIN_EXE_neon"));
    let postgres = TestPostgres::find(17);
    let repo = shop(&environment, &postgres);
    let expected = repo.sql_on("main", ROWS);
    let early = repo.sql_on("early", ROWS);
    repo.ok(&["stop", "--all"]);
    let before = before(&repo);
    set_writable(&repo.inside(""), false);
    reads(&repo, &before, &|command| repo.neon(command));
    let files = state(&repo.inside(""));

    // It is exported, and gone on from: whole layers, slices of them, and what is in none.
    for (revision, rows) in [("main", &expected), ("early", &early)] {
        let exported = environment.path(&format!("exported-{revision}"));
        repo.ok(&["export", revision, "--pgdata", exported.to_str().expect("text")]);
        let server = PlainServer::start(&environment, &postgres, &exported);
        assert_eq!(&server.sql(ROWS), rows, "{revision}");
        server.stop();
        let copy = environment.path(&format!("copy-{revision}"));
        let copy = copy.to_str().expect("text");
        environment
            .neon(&["clone", "--branch", revision, "shop", copy])
            .success();
        let copy = environment.repo_at(Path::new(copy));
        assert_eq!(&copy.sql_on(revision, ROWS), rows, "{revision}");
        copy.ok(&["stop"]);
        // It fetches, and may not push.
        copy.ok(&["fetch"]);
        copy.ok(&["pull", "main", "--as", "pulled"]);
        copy.sql_on(revision, "insert into t values (1)");
        copy.ok(&["stop"]);
        let refused = copy.refused(&["push", revision]);
        assert!(refused.message.contains("can only be read"), "{refused:?}");
        copy.fsck();
    }
    assert_eq!(state(&repo.inside("")), files);
    let left: Vec<_> = fs::read_dir(environment.path("tmp"))
        .expect("entries")
        .map(|entry| entry.expect("an entry").file_name())
        .filter(|name| name.to_string_lossy().starts_with("neon-"))
        .collect();
    assert!(left.is_empty(), "{left:?}");

    // A copy of a copy that cannot be written: it was never opened where it is now.
    set_writable(&repo.inside(""), true);
    let status = environment
        .command("cp", environment.root())
        .args(["-a", "shop", "medium"])
        .status()
        .expect("cp runs");
    assert!(status.success());
    let medium = environment.repo("medium");
    set_writable(&medium.inside(""), false);
    assert_eq!(medium.ok(&["log"]), repo.ok(&["log"]));
    let clone = environment.clone("medium", "again");
    assert_eq!(clone.sql_on("main", ROWS), expected);
    clone.ok(&["stop"]);
    set_writable(&medium.inside(""), true);
    repo.ok(&["branch", "written", "main"]);
    repo.fsck();
}

/// In a mount namespace of its own: root of it mounts the file system again without the right to write, and is an ordinary user from then on.
#[test]
fn a_file_system_without_the_right_to_write() {
    let environment = TestEnvironment::new(env!("CARGO_BIN_EXE_neon"));
    let repo = shop(&environment, &TestPostgres::find(15));
    let before = before(&repo);
    let directory = repo.directory().to_str().expect("text").to_owned();
    let program = repo.command(&[]).get_program().to_owned();
    let mounted = |command: &[&str]| {
        let script = "mount --bind \"$1\" \"$1\" && mount -o remount,bind,ro \"$1\" && cd \"$1\" && shift && exec unshare -U --map-user=1000 --map-group=1000 \"$@\"";
        let mut unshare = environment.command("unshare", environment.root());
        unshare
            .args(["-Urm", "bash", "-c", script, "bash", &directory])
            .arg(&program)
            .args(command);
        Output::of(&mut unshare)
    };
    reads(&repo, &before, &mounted);
    repo.ok(&["branch", "written", "main"]);
}
