//! Processes are killed, at any moment and at named ones; what was acknowledged is there afterwards, and nothing is damaged.

use neon_tests_kit::{
    Output, Serve, TestEnvironment, TestPostgres, TestRepo, Writer, kill, limit_file_size, postmaster_family,
    processes_below,
};
use rustix::process::Signal;

/// Of all rounds; printed, and to be set by `NEON_TEST_SEED` to see a failure again.
fn seed() -> u64 {
    let seed = std::env::var("NEON_TEST_SEED")
        .ok()
        .and_then(|seed| seed.parse().ok());
    let seed = seed.unwrap_or_else(|| u64::from(std::process::id()));
    eprintln!("seed: NEON_TEST_SEED={seed}");
    seed
}

/// Numbers that follow from a seed (SplitMix64).
struct Dice(u64);

impl Dice {
    fn roll(&mut self, sides: u64) -> u64 {
        self.0 = self.0.wrapping_add(0x9E37_79B9_7F4A_7C15);
        let mut mixed = self.0;
        mixed = (mixed ^ (mixed >> 30)).wrapping_mul(0xBF58_476D_1CE4_E5B9);
        mixed = (mixed ^ (mixed >> 27)).wrapping_mul(0x94D0_49BB_1331_11EB);
        (mixed ^ (mixed >> 31)) % sides
    }
}

#[derive(Clone, Copy, Debug)]
enum Victim {
    Daemon,
    PostmasterAlone,
    Everything,
}

/// What a round does.
#[derive(Clone, Copy, Debug)]
enum Round {
    /// Kills while rows are committed.
    Kill(Victim),
    /// The daemon kills itself at a failpoint of sealing.
    Seal(&'static str),
    /// The daemon kills itself at a failpoint of starting an endpoint, and so may the next one.
    Boot(&'static str),
    /// The server kills itself while it takes in a push.
    Push,
}

const KILLS: [Victim; 3] = [Victim::Daemon, Victim::PostmasterAlone, Victim::Everything];
const SEALS: [&str; 4] = [
    "seal-after-layer",
    "seal-after-map",
    "seal-before-swap",
    "seal-after-swap",
];
const BOOTS: [&str; 3] = ["boot-after-build", "boot-before-start", "boot-after-start"];

#[test]
fn ten_rounds_on_15() {
    rounds(
        15,
        &[
            Round::Seal(SEALS[0]),
            Round::Seal(SEALS[2]),
            Round::Boot(BOOTS[0]),
            Round::Boot(BOOTS[2]),
            Round::Push,
        ],
    );
}

#[test]
fn ten_rounds_on_17() {
    rounds(
        17,
        &[
            Round::Seal(SEALS[1]),
            Round::Seal(SEALS[3]),
            Round::Boot(BOOTS[1]),
            Round::Boot(BOOTS[2]),
            Round::Push,
        ],
    );
}

/// Five kills and the named rounds, in an order that follows from the seed.
fn rounds(major: u16, named: &[Round]) {
    let postgres = TestPostgres::find(major);
    let environment = TestEnvironment::new(env!("CARGO_BIN_EXE_neon"));
    let mut dice = Dice(seed() ^ u64::from(major));
    let mut rounds = named.to_vec();
    rounds.extend(KILLS.map(Round::Kill));
    rounds.push(Round::Kill(Victim::PostmasterAlone));
    rounds.push(Round::Kill(KILLS[usize::try_from(dice.roll(3)).expect("small")]));
    for end in (1..rounds.len()).rev() {
        let other = usize::try_from(dice.roll(end as u64 + 1)).expect("small");
        rounds.swap(end, other);
    }

    let mut serve = Serve::start(&environment, "srv");
    let repo = environment.init("shop", &postgres);
    repo.set("pagestore.seal_megabytes", "4");
    repo.start("main");
    repo.sql("main", Writer::TABLE);
    repo.ok(&["origin", "add", "cloud", &serve.uri("shop")]);
    repo.ok(&["push", "main", "cloud"]);
    let mut acknowledged = Vec::new();
    for (number, round) in rounds.into_iter().enumerate() {
        eprintln!("round {number} on {major}: {round:?}");
        let first = (number as i64 + 1) * 1_000_000;
        match round {
            Round::Kill(victim) => kill_while_writing(&repo, victim, first, &mut dice, &mut acknowledged),
            Round::Seal(failpoint) => {
                die_while_sealing(&repo, failpoint, first, &mut dice, &mut acknowledged)
            }
            Round::Boot(failpoint) => die_while_starting(&repo, failpoint, first, &mut acknowledged),
            Round::Push => die_while_accepting(&repo, &mut serve, first, &mut acknowledged),
        }
        let uri = repo.start("main");
        all_there(&uri, &acknowledged);
        // Nothing that was begun stands in the way of what comes.
        repo.ok(&["commit", "-m", &format!("after round {number}")]);
        repo.fsck();
    }
    let uri = repo.uri("main");
    assert!(TestPostgres::amcheck(&uri) > 100);
    repo.ok(&["push", "main"]);
    let copy = environment.clone(&serve.uri("shop"), "copy");
    let in_copy = copy.start("main");
    all_there(&in_copy, &acknowledged);
    assert!(TestPostgres::amcheck(&in_copy) > 100);
    repo.ok(&["stop", "--all"]);
    copy.ok(&["stop", "--all"]);
    repo.fsck();
    copy.fsck();
    eprintln!("{} acknowledged rows on {major}", acknowledged.len());
}

/// Every acknowledged row is there, and can be found through the index too.
#[track_caller]
fn all_there(uri: &str, acknowledged: &[i64]) {
    let list = acknowledged
        .iter()
        .map(i64::to_string)
        .collect::<Vec<_>>()
        .join(",");
    let missing = TestPostgres::sql(
        uri,
        &format!(
            "select count(*), min(a) from unnest('{{{list}}}'::bigint[]) a where not exists (select from acknowledged t where t.n = a); \
             set enable_indexscan = off; set enable_indexonlyscan = off; set enable_bitmapscan = off; \
             select count(*) from unnest('{{{list}}}'::bigint[]) a left join acknowledged t on t.n = a where t.n is null"
        ),
    );
    assert_eq!(
        missing,
        "0|\n0",
        "of {} acknowledged rows some are gone",
        acknowledged.len()
    );
}

fn kill_while_writing(
    repo: &TestRepo<'_>,
    victim: Victim,
    first: i64,
    dice: &mut Dice,
    acknowledged: &mut Vec<i64>,
) {
    let writer = Writer::start(&repo.start("main"), first);
    writer.wait_for(20 + usize::try_from(dice.roll(300)).expect("small"));
    let daemon = repo.daemon().expect("a daemon runs");
    let postmaster = repo.postmaster("main").expect("it runs");
    match victim {
        Victim::Daemon => {
            kill(daemon, Signal::KILL);
            gone(daemon);
            // The endpoint goes on without it.
            writer.wait_for(50);
        }
        Victim::PostmasterAlone => {
            kill(postmaster, Signal::KILL);
            // Its backends may go on for a while, and acknowledge.
            std::thread::sleep(std::time::Duration::from_millis(dice.roll(400)));
        }
        Victim::Everything => {
            kill_all(daemon, postmaster);
        }
    }
    match victim {
        // Started again while clients write and orphans live: the writer goes on where it can.
        Victim::Daemon | Victim::PostmasterAlone => {
            repo.start("main");
            writer.wait_for(20);
            acknowledged.extend(writer.end());
        }
        Victim::Everything => {
            acknowledged.extend(writer.end());
        }
    }
}

/// Kills the daemon, the postmaster and all its children at one moment, and waits for the kernel to bury the daemon: until it
/// has, its socket still takes calls that nobody answers.
fn kill_all(daemon: u32, postmaster: u32) {
    for pid in std::iter::once(daemon).chain(postmaster_family(postmaster)) {
        kill(pid, Signal::KILL);
    }
    gone(daemon);
}

/// Ends the daemon with its endpoints, so that the next one has failpoints of the test's.
fn quit(repo: &TestRepo<'_>) {
    repo.ok(&["stop", "--all"]);
    repo.quit();
}

/// Waits until a process is gone.
#[track_caller]
fn gone(pid: u32) {
    for _ in 0..6_000 {
        if !std::path::Path::new(&format!("/proc/{pid}")).exists() {
            return;
        }
        std::thread::sleep(std::time::Duration::from_millis(10));
    }
    panic!("process {pid} does not end");
}

fn die_while_sealing(
    repo: &TestRepo<'_>,
    failpoint: &str,
    first: i64,
    dice: &mut Dice,
    acknowledged: &mut Vec<i64>,
) {
    quit(repo);
    let started = neon_tests_kit::Output::of(repo.command(&["start", "main"]).env(
        "NEON_FAILPOINTS",
        format!("{failpoint}=kill:{}", 1 + dice.roll(2)),
    ));
    let uri = started.success();
    let daemon = repo.daemon().expect("a daemon runs");
    let writer = Writer::start(&uri, first);
    // Enough for several seals; the daemon dies in one of them.
    for part in 0..20 {
        let filled = TestPostgres::try_sql(
            &uri,
            &format!(
                "create table if not exists fill(i int, x text); insert into fill select i, repeat(md5(i::text), 30) from generate_series({part}, {part} + 2000) i"
            ),
        );
        assert!(filled.status.success(), "{}", filled.describe());
        if !std::path::Path::new(&format!("/proc/{daemon}")).exists() {
            break;
        }
    }
    gone(daemon);
    died_at(repo, failpoint);
    writer.wait_for(10);
    repo.start("main");
    writer.wait_for(10);
    acknowledged.extend(writer.end());
    repo.sql("main", "truncate fill");
}

/// The log says that it was this failpoint.
#[track_caller]
fn died_at(repo: &TestRepo<'_>, failpoint: &str) {
    let log = std::fs::read_to_string(repo.inside("daemon.log")).expect("a log");
    assert!(
        log.contains(&format!("failpoint {failpoint}: the process ends here")),
        "{log}"
    );
}

fn die_while_starting(repo: &TestRepo<'_>, failpoint: &str, first: i64, acknowledged: &mut Vec<i64>) {
    let writer = Writer::start(&repo.start("main"), first);
    writer.wait_for(30);
    if failpoint == "boot-after-build" {
        // A directory that nothing vouches for any more is built anew.
        repo.sql("main", "select 1");
        acknowledged.extend(writer.end());
        quit(repo);
        std::fs::remove_dir_all(repo.inside("endpoints/main/pgdata")).expect("removed");
    } else {
        let daemon = repo.daemon().expect("a daemon runs");
        let postmaster = repo.postmaster("main").expect("it runs");
        kill_all(daemon, postmaster);
        acknowledged.extend(writer.end());
    }
    let started = neon_tests_kit::Output::of(
        repo.command(&["start", "main"])
            .env("NEON_FAILPOINTS", format!("{failpoint}=kill")),
    );
    died_at(repo, failpoint);
    // The command starts the next daemon, which makes sense of what the dead one left: a directory without a Postgres, or a Postgres without
    // a daemon. It passes the failpoint again only where nothing was done before it.
    let dies_again = failpoint == "boot-before-start";
    assert_eq!(
        started.code(),
        Some(i32::from(dies_again)),
        "{}",
        started.describe()
    );
    if dies_again {
        gone(repo.daemon().expect("its name stays"));
    }
    let running = !processes_below(&repo.inside("endpoints/main/pgdata")).is_empty();
    assert_eq!(running, !dies_again);
}

fn die_while_accepting(repo: &TestRepo<'_>, serve: &mut Serve<'_>, first: i64, acknowledged: &mut Vec<i64>) {
    let writer = Writer::start(&repo.start("main"), first);
    serve.restart(Signal::KILL, &[("NEON_FAILPOINTS", "accept-before-swap=kill")]);
    writer.wait_for(30);
    repo.sql("main", "create table if not exists fill(i int, x text); insert into fill select i, repeat(md5(i::text), 30) from generate_series(1, 10000) i");
    repo.ok(&["stop"]);
    let refused = repo.neon(&["push", "main"]);
    assert_eq!(refused.code(), Some(1), "{}", refused.describe());
    serve.wait();
    let log = std::fs::read_to_string(serve.root().with_extension("serve.log")).expect("a log");
    assert!(
        log.contains("failpoint accept-before-swap: the process ends here"),
        "{log}"
    );
    acknowledged.extend(writer.end());
    serve.restart(Signal::KILL, &[]);
    repo.ok(&["push", "main"]);
    // What arrived is whole.
    let served = repo.environment().repo_at(&serve.root().join("shop"));
    served.fsck();
    repo.start("main");
    repo.sql("main", "truncate fill");
}

/// A daemon that may not write another byte, as on a full disk, its own log included: Postgres goes on, nothing that it acknowledged
/// is lost, the refusal says why, and once there is room everything goes on without a restart.
#[test]
fn a_disk_that_is_full_for_a_while() {
    let environment = TestEnvironment::new(env!("CARGO_BIN_EXE_neon"));
    let repo = environment.init("shop", &TestPostgres::find(15));
    let start = repo.command(&["start", "main"]);
    let mut ignoring = environment.command("bash", repo.directory());
    // The signal that comes with the error is not sent by a full disk.
    ignoring.args(["-c", "trap '' XFSZ; exec \"$@\"", "bash"]);
    ignoring.arg(start.get_program()).args(start.get_args());
    Output::of(&mut ignoring).success();
    let insert = "insert into t select i, repeat('x', 300) from generate_series(1, 5000) i";
    repo.sql("main", &format!("create table t(a int, b text); {insert}"));
    repo.ok(&["commit", "-m", "before"]);
    let before = repo.place("main");

    let daemon = repo.daemon().expect("a daemon");
    limit_file_size(daemon, Some(0));
    for _ in 0..3 {
        repo.sql("main", insert);
    }
    let refused = repo.refused(&["commit", "-m", "no room"]);
    assert!(
        refused.says("did not arrive") && refused.says("ulimit -f"),
        "what failed and what to do: {refused:?}"
    );
    let trouble = repo.json(&["status"])["endpoints"][0]["trouble"].clone();
    assert!(
        trouble
            .as_str()
            .is_some_and(|trouble| trouble.contains("cannot write")),
        "status says why: {trouble}"
    );
    assert_eq!(repo.place("main"), before);

    limit_file_size(daemon, None);
    repo.ok(&["commit", "-m", "with room"]);
    assert_eq!(repo.daemon(), Some(daemon), "it is the same daemon");
    let status = repo.json(&["status"]);
    assert!(status["endpoints"][0].get("trouble").is_none(), "{status}");
    repo.ok(&["branch", "fork", "main"]);
    assert_eq!(repo.sql_on("fork", "select count(*) from t"), "20000");
    repo.ok(&["stop", "--all"]);
    repo.fsck();
}
