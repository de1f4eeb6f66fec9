//! The file oracle: what records make, through ingest and redo, against the files of the Postgres that wrote them.
//!
//! A fresh cluster is imported, a server runs a workload on it and is stopped, and the directory is imported again. The
//! WAL between the two, taken into a naive store and into the real one, must lead from the first to the second: every page (hint bits
//! masked), every visibility map and SLRU page to the byte, every size, relation map and two-phase file.

#[path = "../naive/mod.rs"]
#[allow(dead_code, reason = "each of the tests needs its part")]
mod naive;
mod naive_at;
mod real;
mod server;
mod workload;

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::path::{Path, PathBuf};

use std::sync::Arc;

use neon_pagestore::Value;
use neon_pagestore::compare::{AtPosition, Class, Peer, Report, Subject, compare};
use neon_pagestore::import::{ImportSource, Imported, import, inspect};
use neon_postgres::checkpoint::CheckpointState;
use neon_postgres::control::CheckPoint;
use neon_postgres::records::dbase::DbaseRecord;
use neon_postgres::records::xlog::XlogRecord;
use neon_postgres::wal::{Record, StreamParams, WalDecoder, rmgr, segment};
use neon_types::{Key, Lsn, PackedKey, SlruKind};

use naive::Naive;
use naive_at::NaiveAt;
use server::Server;

fn imported(pgdata: &Path) -> (ImportSource, Imported, BTreeMap<PackedKey, Value>) {
    let source = inspect(pgdata).unwrap_or_else(|error| panic!("{error}"));
    let mut values = BTreeMap::new();
    let mut last = PackedKey::MIN;
    let imported = import(
        &source,
        &mut |key, value| {
            assert!(last < key, "{key:?} is out of order");
            last = key;
            values.insert(key, value);
            Ok(())
        },
        &mut |done, total| {
            assert!(done <= total);
            true
        },
    )
    .unwrap_or_else(|error| panic!("{error}"));
    (source, imported, values)
}

/// Runs `f` on every record that begins at or after `start`, up to `end`.
fn records(
    pgdata: &Path,
    source: &ImportSource,
    first: &Imported,
    end: Lsn,
    mut f: impl FnMut(Record, Lsn, Lsn),
) {
    let params = StreamParams {
        version: source.version,
        system_id: first.system_id,
        tli: first.tli,
        segment_size: source.control.segment_size(),
    };
    let size = u64::from(params.segment_size);
    let mut decoder = WalDecoder::new(params, first.lsn, Some(first.prev_record));
    let mut at = first.lsn;
    while decoder.end() < end {
        let name = segment::file_name(params.tli, at.segment(size), params.segment_size);
        let bytes =
            fs::read(pgdata.join("pg_wal").join(&name)).unwrap_or_else(|error| panic!("{name}: {error}"));
        decoder.feed(&bytes[at.segment_offset(size) as usize..]);
        at = Lsn((at.segment(size) + 1) * size);
        while decoder.end() < end {
            let Some(raw) = decoder.next_record().expect("whole records") else {
                break;
            };
            let record = Record::decode(source.version, raw.bytes).expect("a record");
            f(record, raw.start, raw.end);
        }
    }
    assert_eq!(decoder.end(), end);
}

fn check(major: u16, port: u16, initdb: &[&str], configuration: &str) {
    let Some(installation) = server::find(major) else {
        eprintln!("Postgres {major} is not installed here: not checked");
        return;
    };
    let mut server = Server::init(&installation, port, initdb);
    server.configure(COMMON);
    server.configure(configuration);
    let before = server.snapshot("before");
    server.start();
    workload::run(&server, installation.major);
    server.stop();
    let report = compare_directories(&before, &server.snapshot("after"));
    let pages = |kind| report.pages(Class::Slru(kind));
    assert!(report.pages(Class::Heap) > 1000 && report.pages(Class::Btree) > 500);
    assert!(report.pages(Class::VisibilityMap) > 20 && report.pages(Class::Sequence) > 0);
    // Their changes cross pages.
    assert!(
        pages(SlruKind::Clog) > 1
            && pages(SlruKind::MultixactOffsets) > 1
            && pages(SlruKind::MultixactMembers) > 1
    );
}

/// Takes the WAL between two stopped directories in and compares; any difference fails the test.
fn compare_directories(before: &Path, after: &Path) -> Report {
    let (_, first, values) = imported(before);
    let (source, last, _) = imported(after);
    assert_eq!(first.system_id, last.system_id);

    let mut naive = Naive::new(source.version, source.control.hints_logged());
    for (key, value) in values {
        naive.put(key, first.lsn, value);
    }
    let mut count = 0_u64;
    let mut by_wal = BTreeSet::new();
    records(after, &source, &first, last.lsn, |record, start, end| {
        if record.rmid == rmgr::DBASE {
            match DbaseRecord::decode(&record).expect("a database record") {
                DbaseRecord::CreateWalLog { db, .. } => _ = by_wal.insert(db),
                DbaseRecord::CreateFileCopy { db, source_db, .. } if by_wal.contains(&source_db) => {
                    by_wal.insert(db);
                }
                _ => (),
            }
        }
        if start == last.prev_record {
            before_shutdown(&naive, &record);
        }
        naive.take(record, start, end);
        count += 1;
        // What ingest remembers must make no difference.
        if count.is_multiple_of(10_007) {
            naive.forget();
        }
    });
    let peer = Peer::Wrote {
        copied_by_wal: by_wal,
    };
    let check = |subject: &dyn Subject, what: &str| {
        let (report, there) =
            compare(subject, &source, &peer, &mut |_, _| true).unwrap_or_else(|error| panic!("{error}"));
        assert_eq!(there.lsn, last.lsn);
        print(&source, what, &report);
        report
    };
    let report = check(
        &NaiveAt(&naive, last.lsn),
        &format!("{count} records, {} effects", naive.effects),
    );
    drop(naive);
    let real = real::Real::fill(before, after, &source, &last);
    let real_report = check(
        &AtPosition {
            timeline: Arc::clone(&real.timeline),
            lsn: last.lsn,
        },
        "the real store",
    );
    assert_eq!(report.total().differences, 0);
    assert_eq!(report, real_report);
    report
}

fn print(source: &ImportSource, what: &str, report: &Report) {
    println!("Postgres {}: {what}", source.version.major());
    for (class, tally) in &report.classes {
        println!("{:24} {tally:?}", class.name());
    }
    println!(
        "{:?}, {} pages not replayed in this release",
        report.allowed, report.not_replayed
    );
    for difference in &report.differences {
        println!("{difference}");
    }
}

/// The counters that were followed record by record are those that the server writes when it stops. Not full_page_writes,
/// whose change at a start is not logged, nor the databases of the oldest ids, which change without a record.
fn before_shutdown(naive: &Naive, shutdown: &Record) {
    let ours = naive
        .item_at(Key::Checkpoint, Lsn::MAX)
        .expect("a checkpoint state");
    let ours = CheckpointState::decode(&ours)
        .expect("a checkpoint state")
        .1
        .checkpoint;
    let XlogRecord::CheckpointShutdown(theirs) = XlogRecord::decode(shutdown).expect("a record") else {
        panic!("the last record is not a shutdown checkpoint");
    };
    let followed = |point: &CheckPoint| {
        (
            (point.next_xid, point.next_multi, point.next_multi_offset),
            (point.oldest_xid, point.oldest_multi),
            (point.oldest_commit_ts_xid, point.newest_commit_ts_xid),
            (point.wal_level, point.tli),
        )
    };
    assert_eq!(followed(&ours), followed(&theirs));
    assert!(ours.next_oid >= theirs.next_oid, "{ours:?}");
}

const COMMON: &str = "
fsync = off
wal_level = replica
wal_keep_size = '8GB'
max_wal_size = '8GB'
max_prepared_transactions = 10
max_wal_senders = 2
autovacuum_naptime = '1s'
shared_buffers = '32MB'
";

#[test]
fn postgres_15_with_checksums() {
    check(15, 56015, &["-k"], "");
}

#[test]
fn postgres_15_with_commit_timestamps_and_without_checksums() {
    check(
        15,
        56115,
        &[],
        "track_commit_timestamp = on\nfull_page_writes = off\n",
    );
}

#[test]
fn postgres_17_with_checksums_and_commit_timestamps() {
    check(17, 56017, &["-k"], "track_commit_timestamp = on\n");
}

#[test]
fn postgres_17_without_full_page_writes() {
    check(17, 56117, &[], "full_page_writes = off\nwal_level = logical\n");
}

#[test]
fn postgres_14() {
    check(14, 56014, &["-k"], "track_commit_timestamp = on\n");
}

#[test]
fn postgres_16() {
    check(16, 56016, &["-k"], "");
}

#[test]
fn postgres_18() {
    check(
        18,
        56018,
        &[],
        "track_commit_timestamp = on\nwal_log_hints = on\n",
    );
}

#[test]
fn postgres_15_removes_slru_files() {
    let Some(installation) = server::find(15) else {
        eprintln!("Postgres 15 is not installed here: not checked");
        return;
    };
    let mut server = Server::init(&installation, 56215, &["-k"]);
    server.configure(COMMON);
    server.configure(
        "track_commit_timestamp = on\nsynchronous_commit = off\nautovacuum = off\nvacuum_multixact_freeze_min_age = 0\n\
         vacuum_multixact_freeze_table_age = 0\nvacuum_freeze_min_age = 0\nvacuum_freeze_table_age = 0\n",
    );
    let before = server.snapshot("before");
    server.start();
    workload::truncation(&server);
    server.stop();
    let after = server.snapshot("after");
    // 0000 is what every SLRU began with.
    for directory in [
        "pg_xact",
        "pg_commit_ts",
        "pg_multixact/offsets",
        "pg_multixact/members",
    ] {
        assert!(
            !after.join(directory).join("0000").exists(),
            "{directory} was not truncated"
        );
    }
    compare_directories(&before, &after);
}

/// Two directories made by hand, for workloads that are too large for a test: `NEON_ORACLE_BEFORE` and `NEON_ORACLE_AFTER`, the
/// second with all the WAL in between.
#[test]
fn directories_of_the_environment() {
    let directory = |name| std::env::var(name).ok().map(PathBuf::from);
    let (Some(before), Some(after)) = (directory("NEON_ORACLE_BEFORE"), directory("NEON_ORACLE_AFTER"))
    else {
        eprintln!("NEON_ORACLE_BEFORE and NEON_ORACLE_AFTER are not set: not checked");
        return;
    };
    compare_directories(&before, &after);
}
