//! The store on the WAL of a real Postgres, sealed every few megabytes, against a store that only remembers everything.
//!
//! What ingest and redo make of that WAL is the file oracle's business; here it is whether open parts, layers, forks and a second
//! repository that got it in slices read the same at any LSN.

#[path = "../naive/mod.rs"]
#[allow(dead_code, reason = "each of the tests needs its part")]
mod naive;
#[expect(dead_code, reason = "shared with the file oracle")]
#[path = "../file_oracle/server.rs"]
mod server;

use std::collections::BTreeSet;
use std::io::Read;
use std::path::Path;
use std::sync::Arc;

use naive::Naive;
use neon_objects::ObjectStore;
use neon_pagestore::import::{import, inspect};
use neon_pagestore::{
    AcceptPart, NewTimeline, PageStore, PageStoreError, ReceivedTimeline, Settings, SlicePart, Timeline,
    fsck, fsck_deep,
};
use neon_postgres::wal::segment;
use neon_types::{Key, KeyRange, LayerId, Lsn, Position, RelTag, RepoId, TimelineId};
use server::Server;

const LOAD: &str = "
create table t (id serial primary key, x int, pad text);
insert into t (x, pad) select g, repeat('x', g % 300) from generate_series(1, 20000) g;
create index on t (x);
update t set x = x + 1 where id % 3 = 0;
delete from t where id % 7 = 0;
vacuum t;
checkpoint;
begin; insert into t (x) select 1 from generate_series(1, 1000); prepare transaction 'p1';
create database other;
create table gone as select * from t; drop table gone;
begin; create table undone as select * from t; rollback;
";
const BENCH: &str = "
\\set id random(1, 20000)
begin;
update t set x = x + 1 where id = :id;
savepoint s;
select * from t where id = :id for key share;
insert into t (x, pad) values (:id, repeat('y', :id % 100));
end;
";
const LATER: &str = "
commit prepared 'p1';
delete from t where id > 15000;
vacuum t;
vacuum full t;
truncate t;
insert into t (x) select generate_series(1, 3000);
drop database other;
";

fn settings() -> Settings {
    Settings {
        seal_wal_bytes: 1 << 20,
        layer_bytes: 400_000,
        keep_wal: 20 << 20,
        ..Settings::default()
    }
}

fn open(directory: &Path) -> PageStore {
    std::fs::create_dir_all(directory).expect("a directory");
    let objects = Arc::new(ObjectStore::open(directory.join("objects")).expect("an object store"));
    PageStore::open_with(directory, objects, settings()).expect("a page store")
}

/// Reads every key and block at `lsn` in every way there is.
fn compare_at(timeline: &Timeline, naive: &Naive, lsn: Lsn) -> (u64, u64) {
    let keys: BTreeSet<Key> = naive.keys().collect();
    let mut scanned: BTreeSet<Key> = BTreeSet::new();
    timeline
        .scan_items(KeyRange::ALL, lsn, &mut |key, bytes| {
            scanned.insert(key);
            if !matches!(key, Key::Boundaries { .. } | Key::SlruPage { .. }) {
                assert_eq!(
                    naive.item_at(key, lsn).as_deref(),
                    Some(bytes),
                    "{key:?} at {lsn}"
                );
            }
            Ok(())
        })
        .expect("a scan");
    let (mut pages, mut unsupported) = (0, 0);
    for key in keys {
        match key {
            Key::Block(..) | Key::Boundaries { .. } | Key::Unreadable(_) => {}
            Key::SlruPage { .. } => {
                let page = timeline.get_item(key, lsn).expect("a page");
                let zeroed = || Ok(neon_postgres::Page::zeroed());
                let expected = naive.page_at(key, Lsn::INVALID, lsn, zeroed).expect("a page");
                let found = page.as_deref().unwrap_or(&[0; 8192]);
                assert!(found == expected.as_bytes(), "{key:?} at {lsn}");
                pages += 1;
            }
            Key::RelSize(rel) => {
                let (found, named) = relation(timeline, naive, rel, lsn);
                pages += found;
                unsupported += named;
            }
            _ => {
                assert_eq!(
                    naive.item_at(key, lsn).is_some(),
                    scanned.contains(&key),
                    "{key:?} at {lsn}"
                );
            }
        }
    }
    (pages, unsupported)
}

fn relation(timeline: &Timeline, naive: &Naive, rel: RelTag, lsn: Lsn) -> (u64, u64) {
    let size = naive.size_at(rel, lsn).map(|size| size.size);
    assert_eq!(
        timeline.rel_size(rel, lsn).expect("a size"),
        size,
        "{rel} at {lsn}"
    );
    let Some(size) = size else { return (0, 0) };
    let mut next = 0;
    let scan = timeline.scan_pages(rel, 0..size, lsn, &mut |block, page| {
        assert_eq!(block, next);
        next += 1;
        let expected = naive.block_at(rel, block, lsn).expect("a page");
        assert!(
            *page == expected,
            "block {block} of {rel} at {lsn}: LSN {} and {}",
            page.lsn(),
            expected.lsn()
        );
        Ok(())
    });
    match scan {
        Ok(()) => assert_eq!(next, size),
        Err(PageStoreError::Unsupported { .. }) => return (u64::from(next), 1),
        Err(error) => panic!("{rel} at {lsn}: {error}"),
    }
    for block in (0..size).step_by(37) {
        let page = timeline.get_page(rel, block, lsn).expect("a page");
        assert!(
            page == naive.block_at(rel, block, lsn).expect("a page"),
            "block {block} of {rel} at {lsn}"
        );
    }
    (u64::from(size), 0)
}

fn send(from: &Arc<Timeline>, source: &PageStore, sink: &PageStore, to: Lsn) -> (u64, u64) {
    let state = from.state();
    let described = ReceivedTimeline {
        attestations: Vec::new(),
        id: state.id,
        ancestor: state.ancestor,
        tli: state.tli,
        writer: state.writer,
        start: state.start,
        facts: state.facts(),
    };
    let received = sink.create_received(&described).expect("a timeline");
    let held = received.served().first().map(|range| range.end);
    let (mut slices, mut wal) = (0, 0);
    let mut parts = Vec::new();
    for part in from.plan_slice(held, to).expect("a plan") {
        let (id, _) = from.materialize(&part, &|| false).expect("bytes");
        let bytes = if let SlicePart::Wal { range } = part {
            wal += 1;
            let mut bytes = Vec::new();
            from.wal_reader(range)
                .expect("WAL")
                .read_to_end(&mut bytes)
                .expect("WAL");
            bytes
        } else {
            slices += 1;
            source.objects().read(id, u64::MAX).expect("a layer")
        };
        assert_eq!(sink.objects().put(&bytes).expect("an object"), id);
        let range = part.range();
        parts.push(match part {
            SlicePart::Wal { .. } => AcceptPart::Wal { id, range },
            _ => AcceptPart::Layer {
                id: LayerId(id),
                range,
            },
        });
    }
    received
        .accept(to, &parts)
        .unwrap_or_else(|error| panic!("{error}"));
    (slices, wal)
}

fn check(major: u16, port: u16) {
    let Some(installation) = server::find(major) else {
        eprintln!("Postgres {major} is not installed here: not checked");
        return;
    };
    let mut server = Server::init(&installation, port, &["-k"]);
    server.configure(
        "fsync = off\nwal_keep_size = '4GB'\nmax_prepared_transactions = 5\nautovacuum_naptime = '1s'\n",
    );
    let before = server.snapshot("before");
    server.start();
    server.sql("postgres", LOAD);
    server.pgbench(BENCH, 4, 1000);
    server.sql("postgres", LATER);
    server.stop();
    let after = server.snapshot("after");

    let source = inspect(&before).unwrap_or_else(|error| panic!("{error}"));
    let mut naive = Naive::new(source.version, source.control.hints_logged());
    let mut values = Vec::new();
    let keep = &mut |key, value| {
        values.push((key, value));
        Ok(())
    };
    let imported = import(&source, keep, &mut |_, _| true).unwrap_or_else(|error| panic!("{error}"));
    for (key, value) in values {
        naive.put(key, imported.lsn, value);
    }

    let directory = tempfile::tempdir().expect("a directory");
    let mut store = open(&directory.path().join("ours"));
    let mut timeline = store
        .import(&source, &mut |_, _| true)
        .unwrap_or_else(|error| panic!("{error}"));
    assert_eq!(
        (timeline.id(), timeline.end()),
        (imported.timeline_id(), imported.lsn)
    );
    let params = timeline.stream_params();
    let size = u64::from(params.segment_size);
    let mut ends = vec![imported.lsn];
    let mut seals = 0;
    let mut chunks = 0;
    'stream: loop {
        let number = timeline.received_end().segment(size);
        let name = segment::file_name(params.tli, number, params.segment_size);
        let Ok(bytes) = std::fs::read(after.join("pg_wal").join(name)) else {
            break;
        };
        let from = usize::try_from(timeline.received_end().segment_offset(size)).expect("an offset");
        for chunk in bytes[from..].chunks(700_001) {
            let begin = timeline.end();
            timeline
                .append_wal(timeline.received_end(), chunk)
                .expect("an append");
            timeline.sync_wal().expect("a sync");
            let indexed = timeline.index_wal();
            let range = neon_types::LsnRange {
                start: begin,
                end: timeline.end(),
            };
            timeline
                .for_each_record(range, &mut |record, start, end| {
                    naive.take(record.clone(), start, end);
                    ends.push(end);
                    true
                })
                .expect("records");
            match indexed {
                Ok(_) => {}
                Err(PageStoreError::BrokenWal { .. }) => break 'stream,
                Err(error) => panic!("{error}"),
            }
            if timeline.wants_seal() {
                timeline.seal().expect("a seal");
                seals += 1;
            }
            chunks += 1;
            if chunks % 11 == 0 {
                let id = timeline.id();
                drop((timeline, store));
                store = open(&directory.path().join("ours"));
                timeline = store.get(id).expect("the timeline");
                assert_eq!(Some(&timeline.end()), ends.last());
            }
        }
    }
    let last = inspect(&after).and_then(|source| neon_pagestore::import::position(&source));
    assert_eq!(
        timeline.end(),
        last.unwrap_or_else(|error| panic!("{error}")).1,
        "all of it"
    );
    assert!(
        seals > 3 && ends.len() > 50_000,
        "{seals} seals, {} records",
        ends.len()
    );
    let (mut pages, mut unsupported) = (0, 0);
    let end = timeline.end();
    for place in 0..8 {
        let lsn = ends[(ends.len() - 1) * place / 7];
        let (more, named) = compare_at(&timeline, &naive, lsn);
        pages += more;
        unsupported += named;
        assert_eq!(timeline.record_at_or_before(lsn).expect("a record").end, lsn);
    }
    // A second repository gets it in three pieces that know nothing of seals, and a fork of the middle.
    let theirs = open(&directory.path().join("theirs"));
    let (mut slices, mut wal) = (0, 0);
    for place in [ends.len() / 3, ends.len() * 2 / 3, ends.len() - 1] {
        let (layers, raw) = send(&timeline, &store, &theirs, ends[place]);
        slices += layers;
        wal += raw;
        let received = theirs.get(timeline.id()).expect("a timeline");
        compare_at(&received, &naive, ends[place]);
        compare_at(&received, &naive, ends[place / 2]);
    }
    assert!(slices > 0);
    let fork = NewTimeline {
        id: TimelineId([9; 16]),
        ancestor: Position {
            timeline: timeline.id(),
            lsn: ends[ends.len() / 2],
        },
        tli: 77,
        writer: RepoId([9; 16]),
        branch: None,
        provisional: true,
    };
    let fork = store.create(fork).expect("a fork");
    compare_at(&fork, &naive, fork.end());
    send(&fork, &store, &theirs, fork.end());
    compare_at(&theirs.get(fork.id()).expect("a fork"), &naive, fork.end());
    let mut derived = Vec::new();
    for store in [&store, &theirs] {
        let findings = fsck(store, &mut |_, _| true).expect("a check");
        assert!(findings.is_empty(), "{findings:?}");
        let deep = fsck_deep(store, &mut |_, _| true);
        assert!(deep.findings.is_empty(), "{:#?}", deep.findings);
        derived.push(deep);
    }
    assert!(derived.iter().any(|deep| deep.versions > 10_000), "{derived:?}");
    println!(
        "Postgres {major}: {} records to {end}, {seals} seals, {pages} pages compared at 8 LSNs, {unsupported} relations not replayed in \
         this release; sent as {slices} layers and {wal} stretches of WAL",
        ends.len()
    );
}

#[test]
fn postgres_15() {
    check(15, 56415);
}

#[test]
fn postgres_17() {
    check(17, 56417);
}
