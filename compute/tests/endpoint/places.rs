//! Positions where page and segment headers come between: all of them boot, on a TLI of their own.

use std::sync::Arc;

use neon_compute::{Boot, DataDirectory, Purpose, TimelineSource};
use neon_objects::ObjectStore;
use neon_pagestore::import::inspect;
use neon_pagestore::{NewTimeline, PageStore};
use neon_types::{Lsn, LsnRange, Position, RepoId, TimelineId};

use crate::cluster::{Place, Server, installations};
use crate::page_store::{history, take_in};
use crate::round_trip::amcheck;

const PAGE: u64 = 8192;
const SEGMENT: u64 = 16 << 20;
/// Bytes of the boot record.
const RECORD: u64 = 120;
/// Bytes of a logical message before its text: record header, main data header of the long form, message header, empty prefix.
const MESSAGE: u64 = 24 + 5 + 24 + 1;

fn insert_lsn(server: &Server) -> u64 {
    server
        .query("select pg_current_wal_insert_lsn()")
        .parse::<Lsn>()
        .expect("an LSN")
        .0
}

/// Writes messages so that one ends `before_end` bytes before the end of the segment, and returns that place.
fn end_near_segment_end(server: &Server, before_end: u64) -> Lsn {
    let message = |text: u64| {
        let sql = format!("select pg_logical_emit_message(false, '', repeat('x', {text}))");
        server.query(&sql).parse::<Lsn>().expect("an LSN").align().0
    };
    for _ in 0..20 {
        let now = insert_lsn(server);
        let target = (now + 1).next_multiple_of(SEGMENT) - before_end;
        let last_page = target.saturating_sub(1) / PAGE * PAGE;
        if now < last_page {
            // Somewhere into the last page, past its header and those on the way.
            let distance = last_page + 1000 - now;
            message(distance - distance / PAGE * 24 - MESSAGE);
        } else if let Some(text) = target.checked_sub(now + MESSAGE).filter(|text| *text >= 256) {
            // The server's own records may come in between.
            if message(text) == target {
                return Lsn(target);
            }
        } else {
            server.query("select pg_switch_wal()");
        }
    }
    panic!("no message ends {before_end} bytes before the end of a segment");
}

#[test]
fn every_kind_of_place_boots() {
    // Versions differ in the contents of the record alone, which every other test boots.
    if let Some(installation) = installations().last() {
        let old = Place::with_cluster(installation);
        let server = old.start(&old.settings());
        server.query("create table t as select i, md5(i::text) v from generate_series(1, 2000) i");
        server.query("create index on t (v)");
        server.stop();
        let neon = tempfile::tempdir().expect("temporary directory");
        let objects = Arc::new(ObjectStore::open(neon.path().join("objects")).expect("objects"));
        let store = PageStore::open(neon.path(), objects).expect("store");
        let import = inspect(&old.pgdata()).expect("can be imported");
        let imported = store.import(&import, &mut |_, _| true).expect("imported");
        let tli = imported.tli() + 0x7FF;
        let start = Position {
            timeline: imported.id(),
            lsn: imported.end(),
        };
        let boot = Boot {
            tli,
            history: history(&[(imported.tli(), start.lsn)]),
            purpose: Purpose::ReadWrite,
            slot: Some("neon".to_owned()),
            settings: None,
        };
        let timeline = store
            .create(NewTimeline {
                id: TimelineId([9; 16]),
                ancestor: start,
                tli,
                writer: RepoId([1; 16]),
                branch: Some("main".to_owned()),
                provisional: false,
            })
            .expect("fork");
        let writer = Place::new(installation);
        let source = TimelineSource::new(imported.clone(), start.lsn);
        DataDirectory::build(&source, &writer.pgdata(), &boot, &|_, _| true).expect("built");
        let server = writer.start(&writer.settings());
        let mut places = Vec::new();
        for before_end in [64, 8, 0] {
            places.push(end_near_segment_end(&server, before_end));
            server.query("insert into t select i, md5(i::text) from generate_series(1, 500) i");
            server.query("select pg_switch_wal()");
        }
        server.stop();
        let end = take_in(&writer, &timeline);
        // What the history has by itself: ends at page boundaries, and near the end of pages.
        let (mut at_boundary, mut crossing) = (None, None);
        timeline
            .for_each_record(
                LsnRange {
                    start: start.lsn,
                    end,
                },
                &mut |_, _, end| {
                    let left = PAGE - end.0 % PAGE;
                    if left == PAGE {
                        at_boundary.get_or_insert(end);
                    } else if left < RECORD {
                        crossing.get_or_insert(end);
                    }
                    true
                },
            )
            .expect("records");
        places.extend(at_boundary);
        places.extend(crossing);
        assert!(places.len() >= 4, "{places:?}");
        for place in places {
            let fork = timeline.tli() + 0x800;
            let source = TimelineSource::new(timeline.clone(), place);
            let boot = Boot {
                tli: fork,
                history: history(&[(imported.tli(), start.lsn), (tli, place)]),
                purpose: Purpose::ReadWrite,
                slot: Some("neon".to_owned()),
                settings: None,
            };
            let new = Place::new(installation);
            let built = DataDirectory::build(&source, &new.pgdata(), &boot, &|_, _| true).expect("built");
            assert_eq!(built.wal_start, place);
            assert!(built.boot_end.bytes_since(place) >= RECORD, "{place}");
            let settings = new.settings();
            let server = new.start(&settings);
            server.query("insert into t values (-1, 'new')");
            amcheck(&server);
            let count = server.query("select count(*) from t");
            // Its own WAL, the boot record first, survives a crash.
            let mut server = server;
            server
                .postmaster
                .stop_now(crate::cluster::PATIENCE)
                .expect("stopped");
            let server = new.start(&settings);
            assert_eq!(server.query("select count(*) from t"), count, "at {place}");
            server.stop();
        }
    }
}
