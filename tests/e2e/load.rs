//! At least 1 GB of WAL through a branch, with seals, forks, pushes and pulls in the middle of it, and everything compared and
//! checked afterwards.

use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use neon_tests_kit::{Connection, PlainServer, Serve, TestEnvironment, TestPostgres, TestRepo, assert_same};

const MEGABYTE: u64 = 1 << 20;

#[test]
fn a_gigabyte_on_15() {
    let environment = TestEnvironment::new(env!("CARGO_BIN_EXE_neon"));
    under_load(&environment, &TestPostgres::find(15), 1024 * MEGABYTE);
}

#[test]
fn some_on_17() {
    let environment = TestEnvironment::new(env!("CARGO_BIN_EXE_neon"));
    under_load(&environment, &TestPostgres::find(17), 300 * MEGABYTE);
}

/// Transfers money within savepoints, some rolled back, some released, some nested; the sum of all balances stays.
const SAVEPOINTS: &str = "\\set a random(1, 20000)
\\set b random(1, 20000)
begin;
insert into journal(a, b, note) values (:a, :b, repeat('j', 300));
savepoint one;
update pgbench_accounts set abalance = abalance - 1 where aid = least(:a, :b);
update pgbench_accounts set abalance = abalance + 1 where aid = greatest(:a, :b);
savepoint two;
insert into journal(a, b, note) values (:a, :b, 'rolled back');
delete from pgbench_accounts where aid = :a;
rollback to savepoint two;
savepoint three;
savepoint four;
insert into journal(a, b, note) values (:b, :a, 'nested');
release savepoint three;
rollback to savepoint one;
savepoint five;
update pgbench_accounts set abalance = abalance - 1 where aid = least(:a, :b);
update pgbench_accounts set abalance = abalance + 1 where aid = greatest(:a, :b);
release savepoint five;
commit;
";

/// Prepares transactions, commits half of them and rolls back the others.
const PREPARED: &str = "\\set n random(1, 20000)
begin;
insert into journal(a, b, note) values (:n, 0, 'prepared');
update pgbench_accounts set filler = 'prepared' where aid = :n;
prepare transaction 'load-:client_id-:n';
\\if :n % 2
commit prepared 'load-:client_id-:n';
\\else
rollback prepared 'load-:client_id-:n';
\\endif
";

/// Many versions of wide rows: full page images, HOT chains and pruning; and TOAST that comes and goes. Each client has rows of
/// its own, so that none waits for another.
const CHURN: &str = "\\set n random(0, 9)
update wide set body = repeat(md5(random()::text), 50), k = k + 1 where id % 30 = :client_id * 10 + :n;
begin;
insert into document(body) select repeat(md5(random()::text), 300) from generate_series(1, 5);
delete from document where id between currval('document_id_seq') - 520 and currval('document_id_seq') - 510;
commit;
";

/// Clients that write until they are ended. They write as fast as a machine of two cores bears beside pushes and pulls: without a limit they take
/// the processors from those, and meanwhile write what the next push has to bring.
struct Load {
    clients: Vec<Child>,
}

impl Load {
    fn start(repo: &TestRepo<'_>, branch: &str) -> Load {
        let directory = repo.environment().root();
        for (name, script) in [
            ("savepoints.sql", SAVEPOINTS),
            ("prepared.sql", PREPARED),
            ("churn.sql", CHURN),
        ] {
            std::fs::write(directory.join(name), script).expect("a script");
        }
        let uri = repo.uri(branch);
        let start = |args: &[&str]| -> Child {
            let mut command: Command = TestPostgres::pgbench_command(&uri, directory);
            command
                .args(args)
                .args(["-T", "600"])
                .stdin(Stdio::null())
                .stdout(Stdio::null())
                .stderr(Stdio::null());
            command.spawn().expect("pgbench runs")
        };
        let clients = vec![
            start(&[
                "-R",
                "150",
                "-c",
                "2",
                "-f",
                "savepoints.sql@2",
                "-b",
                "tpcb-like@1",
            ]),
            start(&["-R", "30", "-c", "2", "-f", "prepared.sql"]),
            start(&["-R", "10", "-c", "3", "-f", "churn.sql"]),
        ];
        Load { clients }
    }

    /// Ends the clients in the middle of their transactions.
    fn end(mut self) {
        self.cut();
    }

    fn cut(&mut self) {
        for client in &mut self.clients {
            let _ = client.kill();
            let _ = client.wait();
        }
    }
}

impl Drop for Load {
    fn drop(&mut self) {
        self.cut();
    }
}

/// Waits until a branch has written so many bytes of WAL since `from`.
fn wait_for_wal(uri: &str, from: &str, bytes: u64) {
    let began = Instant::now();
    loop {
        let written = wal_since(uri, from);
        if written >= bytes {
            return;
        }
        assert!(
            began.elapsed() < Duration::from_secs(400),
            "only {written} bytes of WAL"
        );
        std::thread::sleep(Duration::from_millis(100));
    }
}

fn wal_since(uri: &str, from: &str) -> u64 {
    let difference = TestPostgres::sql(
        uri,
        &format!("select (pg_current_wal_insert_lsn() - '{from}')::bigint"),
    );
    difference.parse().expect("a number")
}

/// Returns what holds in every committed state.
fn invariants(uri: &str) {
    let line = TestPostgres::sql(
        uri,
        "select (select count(*) from pgbench_accounts), \
                (select count(*) from journal where note in ('rolled back', 'nested')), \
                (select sum(abalance) from pgbench_accounts) = (select sum(bbalance) from pgbench_branches), \
                (select count(*) from journal where note = 'held back')",
    );
    assert_eq!(line, "100000|0|t|0");
}

/// Waits until the server has noticed that the clients of the load are gone: until then it goes on with what they asked last.
fn wait_for_backends(uri: &str) {
    let began = Instant::now();
    let left = "select count(*) from pg_stat_activity where application_name = 'pgbench'";
    while TestPostgres::sql(uri, left) != "0" {
        assert!(
            began.elapsed() < Duration::from_secs(120),
            "backends without clients"
        );
        std::thread::sleep(Duration::from_millis(50));
    }
}

/// Rolls back every prepared transaction but one.
fn rollback_prepared(uri: &str, kept: &str) {
    let decide =
        format!("select format('rollback prepared %L;', gid) from pg_prepared_xacts where gid <> '{kept}'");
    TestPostgres::sql(uri, &TestPostgres::sql(uri, &decide));
}

fn under_load(environment: &TestEnvironment, postgres: &TestPostgres, wal: u64) {
    let serve = Serve::start(environment, "srv");
    let repo = environment.init("shop", postgres);
    repo.set("pagestore.seal_megabytes", "32");
    repo.set("endpoint.settings.max_prepared_transactions", "20");
    // Checkpoints often, and with them full page images.
    repo.set("endpoint.settings.max_wal_size", "128MB");
    let uri = repo.start("main");
    let began = TestPostgres::sql(&uri, "select pg_current_wal_insert_lsn()");
    TestPostgres::pgbench(&uri, environment.root(), &["-i", "-q", "-s", "1"]).success();
    TestPostgres::sql(
        &uri,
        "create table journal(id bigserial primary key, a int, b int, note text, at timestamptz default clock_timestamp()); \
         create index on journal(a, b); create index on journal(note, id); \
         create table document(id bigserial primary key, body text); alter table document alter body set storage external; \
         create table wide(id serial primary key, k int default 0, body text) with (fillfactor = 40); \
         create index on wide(body text_pattern_ops) where id % 100 = 0; \
         insert into wide(body) select repeat(md5(i::text), 50) from generate_series(1, 4000) i",
    );
    repo.ok(&["origin", "add", "cloud", &serve.uri("shop")]);
    repo.ok(&["push", "main", "cloud"]);
    let copy = environment.clone(&serve.uri("shop"), "copy");

    let load = Load::start(&repo, "main");
    // Forks, pushes, pulls and checkpoints while it writes.
    let mut forks = Vec::new();
    for step in 1..=4u64 {
        wait_for_wal(&uri, &began, wal * step * 9 / 40);
        let lsn = TestPostgres::sql(&uri, "select pg_current_wal_flush_lsn()");
        forks.push((format!("fork-{step}"), lsn));
        repo.ok(&["branch", &format!("live-{step}")]);
        if step % 2 == 0 {
            repo.ok(&["push", "main"]);
            copy.ok(&["pull"]);
        }
        if step == 3 {
            TestPostgres::sql(&uri, "checkpoint; vacuum journal; vacuum freeze wide");
        }
    }
    // One transaction that stays open over several seals, and one that stays prepared.
    let open = Connection::open(&uri).expect("it answers");
    open.run("begin; insert into journal(a, b, note) values (0, 0, 'held back'); savepoint s; insert into journal(a, b, note) select i, i, 'held back' from generate_series(1, 500) i")
        .expect("it is done");
    let holder = Connection::open(&uri).expect("it answers");
    holder
        .run("begin; insert into journal(a, b, note) values (1, 1, 'prepared, not decided'); prepare transaction 'held'")
        .expect("it is prepared");

    wait_for_wal(&uri, &began, wal);
    load.end();
    wait_for_backends(&uri);
    open.run("rollback").expect("it is rolled back");
    // Whoever was cut off while deciding left it undecided.
    rollback_prepared(&uri, "held");
    let sealed = std::fs::read_dir(repo.inside("objects"))
        .expect("objects")
        .count();
    assert!(
        sealed > 8,
        "layers were sealed under load: {sealed} directories of objects"
    );
    invariants(&uri);
    let total = wal_since(&uri, &began);
    assert!(total >= wal, "{total} bytes of WAL");

    // The prepared transaction goes with every copy, undecided.
    let fork = "prepared";
    repo.ok(&["branch", fork]);
    let in_fork = repo.start(fork);
    assert_eq!(
        TestPostgres::sql(&in_fork, "select gid from pg_prepared_xacts"),
        "held"
    );
    assert_eq!(
        TestPostgres::sql(
            &in_fork,
            "select count(*) from journal where a = 1 and b = 1 and note like 'prepared, %'"
        ),
        "0"
    );
    TestPostgres::sql(&in_fork, "commit prepared 'held'");
    assert_eq!(
        TestPostgres::sql(
            &in_fork,
            "select count(*) from journal where a = 1 and b = 1 and note like 'prepared, %'"
        ),
        "1"
    );
    TestPostgres::amcheck(&in_fork);
    repo.ok(&["stop", fork]);
    TestPostgres::sql(&uri, "rollback prepared 'held'");

    // A clone, and a copy that pulled across seals, hold what the source holds.
    let content = postgres.content(&uri);
    let digests = TestPostgres::digests(&uri);
    repo.ok(&["push", "main"]);
    copy.ok(&["pull"]);
    let fresh = environment.clone(&serve.uri("shop"), "fresh");
    for (what, one) in [("the copy that pulled", &copy), ("the clone", &fresh)] {
        one.set("endpoint.settings.max_prepared_transactions", "20");
        let its = one.start("main");
        assert_same(
            &TestPostgres::digests(&its),
            &digests,
            &format!("tables of {what}"),
        );
        assert_same(&postgres.content(&its), &content, &format!("contents of {what}"));
        TestPostgres::amcheck(&its);
        one.ok(&["stop", "--all"]);
    }
    // Moments under load: consistent, whichever they are.
    for (name, lsn) in &forks {
        repo.ok(&["branch", name, &format!("main@{lsn}")]);
        let at = repo.start(name);
        invariants(&at);
        // amcheck wants to lock what undecided transactions have locked.
        rollback_prepared(&at, "");
        TestPostgres::amcheck(&at);
        repo.ok(&["stop", name]);
    }
    let live = repo.start("live-2");
    invariants(&live);
    repo.ok(&["stop", "live-2"]);

    repo.ok(&["stop", "main"]);
    let plain = environment.path("plain");
    repo.ok(&["export", "main", "--pgdata", plain.to_str().expect("text")]);
    let server = PlainServer::start(environment, postgres, &plain);
    assert_same(
        &TestPostgres::digests(&server.uri()),
        &digests,
        "tables of the export",
    );
    TestPostgres::amcheck(&server.uri());
    drop(server);
    repo.ok(&["stop", "--all"]);
    for one in [&repo, &copy, &fresh] {
        one.fsck();
    }
}
