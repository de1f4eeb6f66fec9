//! The whole way: a directory is imported, an endpoint writes on a fork of it, its WAL is taken in, and a directory built from the
//! fork is what Postgres itself would have.

use std::sync::Arc;

use neon_compute::{Boot, DataDirectory, PageSource, Purpose, TimelineSource, read_control, salvage};
use neon_objects::ObjectStore;
use neon_pagestore::import::inspect;
use neon_pagestore::{NewTimeline, PageStore, Timeline};
use neon_postgres::timeline_history::{HistoryEntry, TimelineHistory};
use neon_postgres::wal::StreamParams;
use neon_types::{Lsn, Position, RepoId, TimelineId};

use crate::cluster::{Place, Server, installations};
use crate::directory_source::end_of_record;
use crate::round_trip::{DIGEST, amcheck, check_checksums, origin};

const TLI: u32 = 0x5A1;

pub fn history(entries: &[(u32, Lsn)]) -> TimelineHistory {
    let entry = |(tli, end): &(u32, Lsn)| HistoryEntry {
        tli: *tli,
        end: *end,
        reason: "branch".to_owned(),
    };
    TimelineHistory {
        entries: entries.iter().map(entry).collect(),
    }
}

fn params(timeline: &Timeline) -> StreamParams {
    timeline.stream_params()
}

/// Takes the WAL of a dead or stopped directory into the timeline.
pub fn take_in(place: &Place, timeline: &Timeline) -> Lsn {
    let end = timeline.end();
    let found = salvage(&place.pgdata(), end, None, &params(timeline), &mut |at, bytes| {
        timeline.append_wal(at, bytes).expect("appended");
        Ok(())
    })
    .expect("salvaged");
    timeline.sync_wal().expect("synced");
    assert_eq!(timeline.index_wal().expect("indexed"), found.range.end);
    found.range.end
}

fn change(server: &Server) {
    server.query(
        "insert into t select i, repeat(md5(i::text), 1 + i % 90), i from generate_series(200001, 210000) i;
         update t set v = v || 'x' where id % 7 = 0;
         delete from t where id % 11 = 0",
    );
    server.query("vacuum t");
    server.query("begin; update m set v = 5 where id = 5; savepoint a; update m set v = 6 where id = 6; rollback to a; commit");
    server.query(
        "begin; select count(*) from (select from m for share) x; savepoint x; update m set v = 1; commit",
    );
    server.query("create table made as select i, md5(i::text) h from generate_series(1, 30000) i");
    server.query("create index on made (h)");
    server.query("truncate big");
    server.query("insert into big values ('again')");
    server.query("create table gone as select generate_series(1, 1000)");
    server.query("drop table gone");
    server.query("create database third template other");
    server.query("create unlogged table u2 (i int primary key); insert into u2 values (1)");
    server.query("begin; insert into p values (3); prepare transaction 'second'");
    server.query("commit prepared 'waits for us'");
    server.query("vacuum full m");
    server.query("select nextval('s') from generate_series(1, 50)");
}

#[test]
fn what_the_page_store_holds_boots_as_what_postgres_wrote() {
    for installation in installations() {
        let old = Place::with_cluster(&installation);
        let (_, digest) = origin(&old);
        let neon = tempfile::tempdir().expect("temporary directory");
        let objects = Arc::new(ObjectStore::open(neon.path().join("objects")).expect("objects"));
        let store = PageStore::open(neon.path(), objects).expect("store");
        let import = inspect(&old.pgdata()).expect("can be imported");
        let imported = store.import(&import, &mut |_, _| true).expect("imported");
        let start = imported.end();

        // At the import itself.
        let first = Place::new(&installation);
        let source = TimelineSource::new(imported.clone(), start);
        let boot = Boot {
            tli: TLI,
            history: history(&[(imported.tli(), start)]),
            purpose: Purpose::ReadWrite,
            slot: Some("neon".to_owned()),
            settings: None,
        };
        let built = DataDirectory::build(&source, &first.pgdata(), &boot, &|_, _| true).expect("built");
        assert_eq!(built.wal_start, start);
        check_checksums(&first);
        let fork = NewTimeline {
            id: TimelineId([9; 16]),
            ancestor: Position {
                timeline: imported.id(),
                lsn: start,
            },
            tli: TLI,
            writer: RepoId([1; 16]),
            branch: Some("main".to_owned()),
            provisional: false,
        };
        let timeline = store.create(fork).expect("fork");
        let server = first.start(&first.settings());
        assert_eq!(server.query(DIGEST), digest);
        change(&server);
        let changed = server.query(DIGEST);
        let lsn_before_stop: Lsn = server
            .query("select pg_current_wal_insert_lsn()")
            .parse()
            .expect("an LSN");
        server.stop();
        let end = take_in(&first, &timeline);
        assert!(end > lsn_before_stop);
        let control = read_control(&first.pgdata()).expect("control");
        assert_eq!(
            end,
            end_of_record(&first.pgdata(), &control, control.checkpoint_lsn())
        );

        // Built from the fork's end, on its own TLI, from memory and from layers.
        for sealed in [false, true] {
            if sealed {
                timeline.seal().expect("sealed");
            }
            let source = TimelineSource::new(timeline.clone(), end);
            assert_eq!(source.subject().lsn, end);
            let boot = Boot {
                tli: TLI,
                ..boot.clone()
            };
            let again = Place::new(&installation);
            let built = DataDirectory::build(&source, &again.pgdata(), &boot, &|_, _| true).expect("built");
            assert_eq!(built.prepared.len(), 1);
            assert_eq!(built.prepared[0].gid, "second");
            check_checksums(&again);
            let server = again.start(&again.settings());
            assert_eq!(
                without_sequence(&server.query(DIGEST)),
                without_sequence(&changed),
                "sealed: {sealed}"
            );
            assert_eq!(server.query("select count(*) from p"), "2");
            assert_eq!(server.query_in("third", "select count(*) from elsewhere"), "300");
            assert_eq!(server.query("select count(*) from made"), "30000");
            assert_eq!(server.query("select count(*) from u2"), "0");
            server.query("rollback prepared 'second'");
            amcheck(&server);
            server.stop();
        }
    }
}

/// WAL is ahead of a sequence, by up to 32 values.
fn without_sequence(digest: &str) -> Vec<&str> {
    digest.lines().filter(|line| !line.starts_with("s|")).collect()
}
