//! Histories that somebody made up: pushed, or served to those who fetch. Nothing of them may be taken in, and nothing may stay of them.

use std::collections::BTreeSet;
use std::fs;

use neon_tests_kit::neon_objects::{Commit, Fork as Step};
use neon_tests_kit::neon_postgres::wal::{Compression, NewBlock, RecordBuilder, rmgr};
use neon_tests_kit::neon_postgres::{Page, PgVersion};
use neon_tests_kit::{Forge, Serve, TestEnvironment, TestPostgres, TestRepo, on_both};
use neon_types::{Fork, Lsn, LsnRange, RelTag};
use rustix::process::Signal;

on_both!(
    nobody_extends_the_timeline_of_another,
    what_a_commit_says_must_be_so,
    wal_must_make_sense,
);

/// A server with a repository whose own endpoint has written, and a clone of it.
struct Town<'e> {
    serve: Serve<'e>,
    server: TestRepo<'e>,
    shop: TestRepo<'e>,
    forger: TestRepo<'e>,
}

fn town<'e>(environment: &'e TestEnvironment, postgres: &TestPostgres) -> Town<'e> {
    let serve = Serve::start(environment, "srv");
    let shop = environment.init("shop", postgres);
    shop.sql_on("main", "create table t(i int primary key)");
    shop.ok(&["origin", "add", "cloud", &serve.uri("shop")]);
    shop.ok(&["push", "main", "cloud"]);
    shop.ok(&["stop", "--all"]);
    let server = environment.repo_at(&serve.root().join("shop"));
    server.set("endpoint.first_port", &environment.port().to_string());
    server.sql_on("main", "insert into t select generate_series(1, 10)");
    server.ok(&["commit", "-m", "ten"]);
    let forger = environment.clone(&serve.uri("shop"), "forger");
    Town {
        serve,
        server,
        shop,
        forger,
    }
}

impl Town<'_> {
    /// What must not change on the server while nobody who may changes it.
    fn seen(&self) -> (String, BTreeSet<String>) {
        let names = fs::read_dir(self.server.inside("timelines")).expect("timelines");
        let timelines = names.map(|name| name.expect("a name").file_name().into_string().expect("text"));
        (self.server.ok(&["branch", "--json"]), timelines.collect())
    }

    /// The server has all its rows, is sound, and comes up again after it was killed.
    fn is_well(&mut self, rows: u32) {
        let count = self.server.sql_on("main", "select count(*) from t");
        assert_eq!(count, rows.to_string());
        self.server.ok(&["stop", "--all"]);
        self.server.fsck();
        self.serve.restart(Signal::KILL, &[]);
        for command in [
            &["status"][..],
            &["branch"],
            &["log", "main"],
            &["gc", "--grace", "0s"],
        ] {
            self.server.ok(command);
        }
        let copy = self.server.environment().clone(&self.serve.uri("shop"), "honest");
        assert_eq!(copy.place("main"), self.server.place("main"));
    }
}

/// Pushes a made-up branch, which must be refused with these words, and leave nothing.
#[track_caller]
fn refused(town: &Town<'_>, branch: &str, target: &str, words: &str) {
    let before = town.seen();
    for force in [false, true] {
        let mut command = vec!["push", branch, target];
        command.extend(force.then_some("--force"));
        let refused = town.forger.neon(&command).refused();
        let said = format!("{} {}", refused.message, refused.caused_by.join(" "));
        assert!(said.contains(words), "{branch}: expected '{words}' in: {said}");
        assert_eq!(town.seen(), before, "{branch} left something");
    }
}

fn nobody_extends_the_timeline_of_another(environment: &TestEnvironment, postgres: &TestPostgres) {
    let mut town = town(environment, postgres);
    let forge = Forge::open(&town.forger);
    let head = forge.commit("main");
    let theirs = forge.timeline(head.position.timeline);

    // The server's own timeline, while its endpoint runs: behind the clone's end it has other WAL.
    town.server
        .sql("main", "insert into t select generate_series(11, 20)");
    forge.write(&theirs, vec![forge.transaction(&theirs)]);
    forge.branch("inside", &forge.commit_at_end(&head, &theirs));
    refused(&town, "inside", "origin", "this history is not taken in");
    // Beyond its end.
    let many = (0..2000).map(|_| forge.transaction(&theirs)).collect();
    forge.write(&theirs, many);
    forge.branch("beyond", &forge.commit_at_end(&head, &theirs));
    refused(&town, "beyond", "origin", "is written here");
    refused(&town, "beyond", "origin:main", "an endpoint runs");
    assert_eq!(town.server.sql("main", "select count(*) from t"), "20");
    town.server.sql("main", "insert into t values (21)");
    town.server.ok(&["stop", "main"]);
    // And while nothing runs.
    refused(&town, "beyond", "origin:main", "is written here");

    // The timeline of a third repository.
    let third = head
        .path
        .len()
        .checked_sub(2)
        .expect("shop's timeline is below the server's");
    let third = forge.timeline(head.path[third].timeline);
    assert!(head.path.iter().any(|fork| fork.timeline == third.id()));
    let end = third.end();
    let many = (0..2000).map(|_| forge.transaction(&third)).collect();
    forge.write(&third, many);
    let below = forge.commit("main~1");
    let forged = Commit {
        path: head.path[..head.path.len() - 1].to_vec(),
        ..forge.commit_at_end(&below, &third)
    };
    forge.branch("third", &forged);
    refused(&town, "third", "origin", "its writer has not signed");
    let all = LsnRange {
        start: end,
        end: third.end(),
    };
    forge.sign_with_own_key(&third, all);
    refused(&town, "third", "origin", "is not its writer's");
    // Its writer goes on.
    town.shop.sql_on("main", "insert into t values (1000)");
    town.shop.ok(&["stop", "main"]);
    town.shop.ok(&["push", "main", "cloud:shop"]);

    // A lying server: the forger's repository as an origin of the one that it forged.
    let forger = town.forger.directory().to_str().expect("text").to_owned();
    town.shop.ok(&["origin", "add", "liar", &forger]);
    let fetched = town.shop.neon(&["fetch", "liar", "--json"]);
    assert_eq!(fetched.code(), Some(1), "{}", fetched.describe());
    let rows: serde_json::Value = serde_json::from_str(&fetched.stdout).expect("JSON");
    for row in rows.as_array().expect("rows") {
        let forged = ["liar/inside", "liar/beyond", "liar/third"]
            .iter()
            .any(|name| row["remote"] == *name);
        assert_eq!(row["outcome"] == "refused", forged, "{row}");
    }
    assert!(town.shop.inside("refs/origins/liar/main").exists());
    assert!(!town.shop.inside("refs/origins/liar/third").exists());
    town.shop.neon(&["pull", "main", "liar:third"]).refused();
    assert_eq!(town.shop.sql_on("main", "select count(*) from t"), "1");
    town.shop.ok(&["stop", "--all"]);
    town.shop.fsck();
    town.is_well(21);
}

fn what_a_commit_says_must_be_so(environment: &TestEnvironment, postgres: &TestPostgres) {
    let mut town = town(environment, postgres);
    town.forger.sql_on("main", "insert into t values (100)");
    town.forger.ok(&["stop", "main"]);
    town.server.sql("main", "insert into t values (11)");
    town.server.ok(&["commit", "-m", "eleven"]);
    town.server.ok(&["stop", "main"]);
    town.forger.ok(&["fetch", "origin"]);
    let forge = Forge::open(&town.forger);
    let honest = forge.commit("main");
    let servers = forge.commit("origin/main");
    let last = honest.path.len() - 1;
    type Lie = (&'static str, fn(&mut Commit, &Commit));
    let lies: [Lie; 16] = [
        ("it forks where the server is now", |commit, servers| {
            let last = commit.path.len() - 1;
            commit.path.truncate(last);
            let fork = Step {
                start: servers.position.lsn,
                ..commit.path[last - 1]
            };
            commit.path.push(Step {
                timeline: commit.position.timeline,
                ..fork
            });
            commit.position.lsn = servers.position.lsn + (1 << 20);
            commit.prev_record = servers.position.lsn;
            commit.digests.clear();
        }),
        ("its number", |commit, _| {
            let last = commit.path.len() - 1;
            commit.path[last].tli += 1;
        }),
        ("the number of what it forks from", |commit, _| {
            commit.path[1].tli += 1
        }),
        ("its start", |commit, _| {
            let last = commit.path.len() - 1;
            commit.path[last].start = Lsn(commit.path[last].start.0 - 8);
        }),
        ("the start of the import", |commit, _| {
            commit.path[0].start = Lsn(commit.path[0].start.0 - 8);
        }),
        ("a timeline is left out", |commit, _| {
            commit.path.remove(1);
        }),
        ("the cluster", |commit, _| commit.system_id ^= 1),
        ("the version", |commit, _| {
            commit.environment.pg_version_num += 10_000
        }),
        ("no segment size", |commit, _| commit.environment.segment_size = 0),
        ("the segment size", |commit, _| {
            commit.environment.segment_size *= 2
        }),
        ("checksums", |commit, _| commit.environment.checksums ^= true),
        ("char", |commit, _| commit.environment.char_signed ^= true),
        ("the architecture", |commit, _| {
            commit.environment.architecture = "s390x".to_owned()
        }),
        ("the record before", |commit, _| {
            commit.prev_record = Lsn(commit.prev_record.0 - 8)
        }),
        ("the checkpoint", |commit, _| commit.checkpoint.reverse()),
        ("a digest", |commit, _| {
            commit.digests.iter_mut().for_each(|digest| digest.blake3[0] ^= 1)
        }),
    ];
    assert!(!honest.digests.is_empty() && last >= 2);
    for (number, (what, lie)) in lies.iter().enumerate() {
        let mut commit = honest.clone();
        lie(&mut commit, &servers);
        let name = format!("lie-{number}");
        forge.branch(&name, &commit);
        let before = town.seen();
        for target in ["origin".to_owned(), "origin:main".to_owned()] {
            let pushed = town.forger.neon(&["push", &name, &target]);
            let refused = pushed.refused();
            assert!(
                !refused.message.contains("protocol"),
                "{what}: {}",
                pushed.describe()
            );
            assert_eq!(town.seen(), before, "{what} left something");
        }
    }
    // A commit that is too long to be sent back.
    let mut long = honest.clone();
    long.message = "x".repeat(15 << 20);
    forge.branch("long", &long);
    let before = town.seen();
    assert_eq!(town.forger.neon(&["push", "long", "origin"]).code(), Some(1));
    assert_eq!(town.seen(), before);
    let text = "x".repeat(100_000);
    let refused = town.server.refused(&["commit", "-m", &text]);
    assert!(refused.message.contains("100000 bytes"), "{}", refused.message);
    // The truth is taken.
    town.forger.ok(&["push", "main", "origin:other"]);
    town.is_well(11);
}

fn wal_must_make_sense(environment: &TestEnvironment, postgres: &TestPostgres) {
    let mut town = town(environment, postgres);
    let oids = town.server.sql(
        "main",
        "select (select oid from pg_database where datname = current_database()), pg_relation_filenode('t')",
    );
    let (db, rel) = oids.split_once('|').expect("two numbers");
    let table = RelTag {
        spc: 1663,
        db: db.parse().expect("an oid"),
        rel: rel.parse().expect("a number"),
        fork: Fork::Main,
    };
    town.server.ok(&["stop", "main"]);
    for (number, (what, words, record)) in ABSURD.iter().enumerate() {
        let repo = environment.clone(&town.serve.uri("shop"), &format!("absurd-{number}"));
        repo.sql_on("main", "insert into t values (100)");
        repo.ok(&["stop", "main"]);
        let forge = Forge::open(&repo);
        let head = forge.commit("main");
        let own = forge.timeline(head.position.timeline);
        let records = vec![record(own.version(), table), forge.transaction(&own)];
        if let Err(error) = forge.try_write(&own, records) {
            // Nobody can even keep it.
            assert!(error.contains(words), "{what}: {error}");
            continue;
        }
        forge.branch("absurd", &forge.commit_at_end(&head, &own));
        let before = town.seen();
        let refused = repo.neon(&["push", "absurd", "origin"]).refused();
        let said = format!("{} {}", refused.message, refused.caused_by.join(" "));
        assert!(said.contains(words), "{what}: expected '{words}' in: {said}");
        assert_eq!(town.seen(), before, "{what} left something");
    }
    town.is_well(10);
}

/// A record whose checksum is right, and what is said of it.
type Absurd = (&'static str, &'static str, fn(PgVersion, RelTag) -> RecordBuilder);

const ABSURD: [Absurd; 4] = [
    ("a table of eight terabytes", "grew from", |version, table| {
        let mut page = Page::zeroed();
        page.init(0);
        let block = NewBlock::new(0, table, 1 << 30).image(&page, true, Compression::None);
        RecordBuilder::new(version, rmgr::XLOG, 0xB0).block(block)
    }),
    ("a row that is none", "cannot rebuild", |version, table| {
        let block = NewBlock::new(0, table, 0).data(&[1, 2, 3]);
        RecordBuilder::new(version, rmgr::HEAP, 0)
            .block(block)
            .main(&[0xff; 3])
    }),
    (
        "the end of a recovery, without data",
        "is damaged",
        |version, _| RecordBuilder::new(version, rmgr::XLOG, 0x90),
    ),
    ("a checkpoint, without data", "is damaged", |version, _| {
        RecordBuilder::new(version, rmgr::XLOG, 0x10).main(&[0; 3])
    }),
];
