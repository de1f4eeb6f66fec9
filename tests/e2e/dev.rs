//! The tools of `neon dev` against Postgres' own: WAL as pg_waldump reads it, positions as a stock recovery leaves them.

use std::collections::BTreeSet;
use std::fs;
use std::path::Path;

use neon_tests_kit::{PlainServer, TestEnvironment, TestPostgres, TestRepo, on_both};
use serde_json::Value;

on_both!(a_position_is_what_a_stock_recovery_leaves);

/// Everything but what takes long.
const WORK: &str = "
    create table accounts (id int primary key, balance int not null, note text);
    insert into accounts select g, 0, repeat('n', g % 60) from generate_series(1, 2000) g;
    create index on accounts using hash (balance);
    create index on accounts using brin (id) with (pages_per_range = 2);
    create table shapes (id serial primary key, at point, tags int[], body text);
    create index on shapes using gist (at);
    create index on shapes using gin (tags);
    create index on shapes using spgist (body);
    insert into shapes (at, tags, body) select point(g, g % 17), array[g % 5, g], md5(g::text) from generate_series(1, 800) g;
    delete from shapes where id % 3 = 0;
    vacuum shapes;
    begin; update accounts set balance = 1 where id % 7 = 0; savepoint a; create table lost (i int); rollback to a;
    insert into accounts values (-1, 0, 'kept'); commit;
    select count(*) from (select * from accounts where id < 100 for update) s;
    begin; select count(*) from (select * from accounts where id < 50 for key share) s; savepoint s;
    update accounts set note = 'k' where id < 50; commit;
    create table cut (id int primary key, t text); insert into cut select g, repeat('c', 50) from generate_series(1, 1000) g;
    delete from cut where id > 100; vacuum cut; truncate cut; insert into cut values (1, 'again');
    create unlogged table fast (id int primary key); insert into fast values (1);
    create sequence numbers; select count(nextval('numbers')) from generate_series(1, 100);
    begin; insert into cut values (2, 'waits'); create table waiting (id int primary key); prepare transaction 'waits';
    begin; insert into cut values (3, 'done'); prepare transaction 'done'; commit prepared 'done';
    begin; insert into cut values (4, 'undone'); prepare transaction 'undone'; rollback prepared 'undone';
    create database model; create database copied template model strategy file_copy;
    create database logged template model strategy wal_log; drop database copied;
    vacuum full accounts; reindex table accounts; vacuum (freeze) accounts;
    select pg_logical_emit_message(true, 'neon', 'hello');
    select pg_create_restore_point('here');
    checkpoint;
    update accounts set note = note || 'u' where id % 11 = 0;
    drop table shapes;
";

fn a_position_is_what_a_stock_recovery_leaves(environment: &TestEnvironment, postgres: &TestPostgres) {
    let repo = environment.init("shop", postgres);
    let set = [
        "wal_keep_size = '4GB'",
        "max_prepared_transactions = 4",
        "track_commit_timestamp = on",
    ];
    let uri = repo.start("main");
    for setting in set {
        TestPostgres::sql(&uri, &format!("alter system set {setting}"));
    }
    repo.ok(&["stop"]);
    // The segment in which the copy stops is whole in what is recovered from.
    repo.sql_on("main", "select pg_switch_wal()");
    repo.ok(&["stop"]);
    let pgdata = repo.inside("endpoints/main/pgdata");
    let base = environment.path("base");
    copy(environment, &pgdata, &base);
    let uri = repo.start("main");
    let lsn = || TestPostgres::sql(&uri, "select pg_current_wal_insert_lsn()");
    let begin = number(&lsn());
    TestPostgres::sql(&uri, WORK);
    let end = number(&lsn());
    repo.ok(&["stop"]);

    let mut seen = BTreeSet::new();
    for part in [17, 42, 71, 98] {
        let within = text(begin + (end - begin) * part / 100);
        let lsn = repo.place(&format!("main@{within}")).lsn;
        assert!(seen.insert(lsn.clone()), "{lsn} twice");
        let recovered = recover(environment, postgres, &base, &pgdata.join("pg_wal"), &lsn);
        let compared = repo.json(&[
            "dev",
            "compare",
            &format!("main@{lsn}"),
            recovered.to_str().expect("a path"),
        ]);
        assert_eq!(compared["recovered"], true);
        assert_eq!(compared["total"]["differences"], 0, "{compared:#}");
        assert_eq!(compared["not_replayed"], 0, "{compared:#}");
        assert!(compared["total"]["pages"].as_u64() > Some(1500), "{compared:#}");
    }
    // A directory that stands elsewhere is not compared, and one byte is a difference.
    let recovered = environment.path("recovered");
    let recovered = recovered.to_str().expect("a path");
    let refused = repo.refused(&["dev", "compare", "main", recovered]);
    assert!(
        refused.message.contains("was recovered to"),
        "{}",
        refused.message
    );
    let clog = environment.path("recovered/pg_xact/0000");
    let mut bytes = fs::read(&clog).expect("pg_xact");
    bytes[100] ^= 1;
    fs::write(&clog, bytes).expect("pg_xact");
    let last = format!(
        "main@{}",
        seen.iter().max_by_key(|lsn| number(lsn)).expect("positions")
    );
    let output = repo.neon(&["dev", "compare", &last, recovered]);
    assert_eq!(output.code(), Some(1), "{}", output.describe());
    assert!(
        output.stdout.starts_with("pg_xact block 0 byte 100: "),
        "{}",
        output.describe()
    );
}

/// Recovers a copy of `base` to a position and stops it.
fn recover(
    environment: &TestEnvironment,
    postgres: &TestPostgres,
    base: &Path,
    wal: &Path,
    lsn: &str,
) -> std::path::PathBuf {
    let pgdata = environment.path("recovered");
    let _ = fs::remove_dir_all(&pgdata);
    copy(environment, base, &pgdata);
    let auto = pgdata.join("postgresql.auto.conf");
    let mut settings = fs::read_to_string(&auto).expect("settings");
    settings.push_str(&format!(
        "restore_command = 'cp {}/%f %p'\nrecovery_target_lsn = '{lsn}'\nrecovery_target_inclusive = off\n\
         recovery_target_action = promote\nrecovery_target_timeline = 'current'\nhot_standby = off\nautovacuum = off\n\
         max_logical_replication_workers = 0\nwal_keep_size = 0\nfsync = off\n",
        wal.display()
    ));
    fs::write(&auto, settings).expect("settings");
    fs::write(pgdata.join("recovery.signal"), "").expect("a signal");
    fs::remove_dir_all(pgdata.join("pg_replslot")).expect("slots");
    fs::create_dir(pgdata.join("pg_replslot")).expect("slots");
    PlainServer::recover(environment, postgres, &pgdata).stop();
    pgdata
}

fn copy(environment: &TestEnvironment, from: &Path, to: &Path) {
    let mut command = environment.command("cp", environment.root());
    let status = command.arg("-a").arg(from).arg(to).status().expect("cp runs");
    assert!(status.success());
}

fn number(lsn: &str) -> u64 {
    let (high, low) = lsn.split_once('/').expect("an LSN");
    let part = |digits| u64::from_str_radix(digits, 16).expect("an LSN");
    part(high) << 32 | part(low)
}

fn text(lsn: u64) -> String {
    format!("{:X}/{:X}", lsn >> 32, lsn & 0xFFFF_FFFF)
}

/// Client programs of 15 are those that every test machine has.
#[test]
fn wal_is_what_pg_waldump_reads() {
    let environment = TestEnvironment::new(env!("CARGO_BIN_EXE_neon"));
    let postgres = TestPostgres::find(15);
    let repo = environment.init("shop", &postgres);
    let uri = repo.start("main");
    for setting in ["max_prepared_transactions = 4", "wal_keep_size = '1GB'"] {
        TestPostgres::sql(&uri, &format!("alter system set {setting}"));
    }
    repo.ok(&["stop"]);
    let uri = repo.start("main");
    // Where pg_waldump can begin: before it, the first segment of an endpoint has nothing but zeros.
    TestPostgres::sql(&uri, "select pg_switch_wal()");
    let from = text((number(&TestPostgres::sql(&uri, "select pg_current_wal_insert_lsn()")) >> 24) << 24);
    // Images of every kind.
    TestPostgres::sql(&uri, &format!("set wal_compression = pglz; {WORK}"));
    TestPostgres::sql(
        &uri,
        "rollback prepared 'waits'; checkpoint; set wal_compression = lz4; update accounts set balance = 2;
         set wal_compression = off; set wal_consistency_checking = 'all'; update accounts set balance = 3 where id < 300",
    );
    repo.ok(&["commit", "-m", "work"]);
    repo.ok(&["stop"]);
    let to = repo.place("main");
    let range = format!("main@{from}..main");
    let output = repo.neon(&["--json", "dev", "wal", &range]);
    assert!(output.status.success(), "{}", output.describe());
    let ours: Vec<String> = output.stdout.lines().map(line_of_ours).collect();
    let theirs = waldump(&environment, &repo, &from, &to.lsn);
    for (ours, theirs) in ours.iter().zip(&theirs) {
        assert_eq!(ours, theirs);
    }
    assert_eq!(ours.len(), theirs.len());
    let kinds: BTreeSet<&str> = ours.iter().filter_map(|line| line.split(' ').next()).collect();
    assert!(kinds.len() > 60, "{} kinds of records: {kinds:?}", kinds.len());
    for part in [" FPW hole ", " image hole ", " pglz", " lz4", " fork vm "] {
        assert!(
            ours.iter().any(|line| line.contains(part)),
            "nothing with '{part}'"
        );
    }

    // The same from files alone.
    let segments = environment.path("segments");
    fs::create_dir(&segments).expect("a directory");
    let last = number(&to.lsn) >> 24;
    for name in segment_names(&repo).iter().skip(1) {
        if u64::from_str_radix(&name[16..], 16).expect("a number") <= last {
            let pg_wal = repo.inside("endpoints/main/pgdata/pg_wal");
            fs::copy(pg_wal.join(name), segments.join(name)).expect("a segment");
        }
    }
    let output = repo.neon(&["--json", "dev", "wal", segments.to_str().expect("a path")]);
    assert!(output.status.success(), "{}", output.describe());
    let of_files: Vec<String> = output.stdout.lines().map(line_of_ours).collect();
    let begin = ours
        .iter()
        .position(|line| *line == of_files[0])
        .expect("a record of both");
    assert!(begin < ours.len() - 100);
    assert_eq!(ours[begin..], of_files[..ours.len() - begin]);

    let output = repo.neon(&["dev", "wal", &range]);
    assert_eq!(output.stdout.lines().count(), ours.len());
    assert!(output.stdout.contains(" Storage/CREATE [1663/"), "summaries");
    repo.refused(&["dev", "wal", "main..main~1"]);
    repo.refused(&["dev", "wal", "nowhere..main"]);
}

fn segment_names(repo: &TestRepo) -> Vec<String> {
    let entries = fs::read_dir(repo.inside("endpoints/main/pgdata/pg_wal")).expect("pg_wal");
    let names = entries.map(|entry| {
        entry
            .expect("an entry")
            .file_name()
            .to_string_lossy()
            .into_owned()
    });
    let mut names: Vec<String> = names
        .filter(|name| name.len() == 24 && name.bytes().all(|byte| byte.is_ascii_hexdigit()))
        .collect();
    names.sort();
    names
}

/// Returns a record of `neon dev wal --json` in the words of [`line`].
fn line_of_ours(json: &str) -> String {
    let record: Value = serde_json::from_str(json).expect("an object a line");
    let word = |value: &Value| value.as_str().expect("text").to_owned();
    let blocks = record["blocks"].as_array().expect("blocks").iter().map(|block| {
        let mut text = format!(
            " #{} {}/{}/{} fork {} {}",
            block["id"],
            block["tablespace"],
            block["database"],
            block["relation"],
            word(&block["fork"]),
            block["block"]
        );
        let image = &block["image"];
        if !image.is_null() {
            let what = if image["apply"] == true { "FPW" } else { "image" };
            text += &format!(" {what} hole {} {}", image["hole_offset"], image["hole_length"]);
            if let Some(method) = image["compression"].as_str() {
                text += &format!(" {method}");
            }
        }
        text
    });
    line(
        &word(&record["kind"]),
        &record["length"].to_string(),
        &record["xid"].to_string(),
        number(&word(&record["lsn"])),
        number(&word(&record["prev"])),
        &blocks.collect::<String>(),
    )
}

fn line(kind: &str, length: &str, xid: &str, lsn: u64, prev: u64, blocks: &str) -> String {
    format!(
        "{kind} length {length} xid {xid} at {} after {}{blocks}",
        text(lsn),
        text(prev)
    )
}

/// Returns what pg_waldump says of the WAL between two LSNs, in the words of [`line`].
fn waldump(environment: &TestEnvironment, repo: &TestRepo, from: &str, to: &str) -> Vec<String> {
    let tli = u32::from_str_radix(&segment_names(repo)[0][..8], 16).expect("a TLI");
    let mut command = environment.command(TestPostgres::client("pg_waldump"), environment.root());
    command
        .args([
            "--bkp-details",
            "-t",
            &tli.to_string(),
            "-s",
            from,
            "-e",
            to,
            "-p",
        ])
        .arg(repo.inside("endpoints/main/pgdata/pg_wal"));
    let said = neon_tests_kit::Output::of(&mut command).success();
    let mut lines: Vec<String> = Vec::new();
    for said in said.lines() {
        if let Some(block) = said.strip_prefix("\tblkref ") {
            lines
                .last_mut()
                .expect("a record before its blocks")
                .push_str(&block_of_theirs(block));
        } else if said.starts_with("rmgr: ") {
            lines.push(record_of_theirs(said));
        }
    }
    lines
}

/// `rmgr: Heap len (rec/tot): 54/ 150, tx: 738, lsn: 0/01500028, prev 0/014FFFF0, desc: INSERT off 1 flags 0x00`
fn record_of_theirs(said: &str) -> String {
    let after = |key: &str| -> &str {
        let (_, rest) = said
            .split_once(key)
            .unwrap_or_else(|| panic!("no '{key}' in {said}"));
        rest.trim_start().split([',', ' ']).next().expect("a word")
    };
    let (_, lengths) = said.split_once("(rec/tot):").expect("lengths");
    let (lengths, _) = lengths.split_once(',').expect("lengths");
    let (_, total) = lengths.split_once('/').expect("two lengths");
    line(
        &format!("{}/{}", after("rmgr:"), after("desc:")),
        total.trim(),
        after("tx:"),
        number(after("lsn:")),
        number(after("prev")),
        "",
    )
}

/// `#0: rel 1663/5/1259 fork main blk 0 (FPW); hole: offset: 196, length: 4400, compression saved: 3000, method: pglz`
fn block_of_theirs(said: &str) -> String {
    let words: Vec<&str> = said
        .split([' ', ':', ',', ';'])
        .filter(|word| !word.is_empty())
        .collect();
    let after = |key: &str| {
        let at = words.iter().position(|word| *word == key)?;
        words.get(at + 1).copied()
    };
    let known = |key: &str| after(key).unwrap_or_else(|| panic!("no '{key}' in {said}"));
    let mut text = format!(
        " {} {} fork {} {}",
        words[0],
        known("rel"),
        known("fork"),
        known("blk")
    );
    if said.contains("(FPW") {
        let what = if said.contains("for WAL verification") {
            "image"
        } else {
            "FPW"
        };
        text += &format!(" {what} hole {} {}", known("offset"), known("length"));
        if let Some(method) = after("method") {
            text += &format!(" {method}");
        }
    }
    text
}
