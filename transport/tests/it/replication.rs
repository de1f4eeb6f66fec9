//! The replication client against every stock Postgres that is installed.

use std::collections::BTreeMap;
use std::path::Path;
use std::time::Duration;

use neon_transport::replication::{ConnectOptions, End, Event, NextTimeline, Replication};
use neon_transport::{Password, TransportError};
use neon_types::Lsn;
use tokio::time::timeout;

use crate::stock_server::{StockServer, installations};

const LONG: Duration = Duration::from_secs(60);

fn socket(server: &StockServer) -> ConnectOptions {
    ConnectOptions::unix(server.dir.path(), server.port, "postgres")
}

/// Receives, acknowledging at once, until `until` is reached or the stream is done. Returns the bytes by position.
async fn receive(replication: &mut Replication, until: Lsn) -> (BTreeMap<Lsn, Vec<u8>>, Lsn) {
    let mut pieces = BTreeMap::new();
    let (_, mut end) = replication.positions().unwrap();
    while end < until {
        match timeout(LONG, replication.next()).await.expect("no WAL").unwrap() {
            Event::Wal { start, bytes } => {
                assert_eq!(start, end);
                end = start + bytes.len() as u64;
                pieces.insert(start, bytes.to_vec());
                replication.status(end, end, end).await.unwrap();
            }
            Event::Keepalive { reply, .. } => {
                if reply {
                    replication.status(end, end, end).await.unwrap();
                }
            }
            Event::Done => break,
        }
    }
    (pieces, end)
}

/// The received bytes are those of the server's own segment files.
fn compare(server: &StockServer, tli: u32, pieces: &BTreeMap<Lsn, Vec<u8>>) -> u64 {
    const SEGMENT: u64 = 16 << 20;
    let mut compared = 0;
    for (start, bytes) in pieces {
        let mut at = start.0;
        let mut rest = bytes.as_slice();
        while !rest.is_empty() {
            let name = format!("{tli:08X}{:08X}{:08X}", at / SEGMENT / 256, at / SEGMENT % 256);
            let part = rest.len().min((SEGMENT - at % SEGMENT) as usize);
            let file = std::fs::read(Path::new(&server.data()).join("pg_wal").join(&name)).unwrap();
            let offset = (at % SEGMENT) as usize;
            assert!(file[offset..offset + part] == rest[..part], "{name} at {offset}");
            (at, rest) = (at + part as u64, &rest[part..]);
            compared += part as u64;
        }
    }
    compared
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn wal_arrives_bit_for_bit_and_a_clean_shutdown_is_seen_as_one() {
    for (major, bin) in installations() {
        let server = StockServer::start(&bin, "wal_keep_size='1GB'");
        let mut replication = Replication::connect(&socket(&server)).await.unwrap();
        assert!(
            replication
                .parameter("server_version")
                .unwrap()
                .starts_with(&major.to_string())
        );
        let system = replication.identify_system().await.unwrap();
        assert_eq!(system.tli, 1);
        assert_eq!(
            system.system_id.to_string(),
            server.sql("select system_identifier from pg_control_system()")
        );
        replication.create_physical_slot("neon").await.unwrap();
        let error = replication.create_physical_slot("neon").await.unwrap_err();
        assert!(
            matches!(&error, TransportError::SlotExists { slot } if slot == "neon"),
            "{error:?}"
        );
        assert!(!replication.ensure_physical_slot("neon").await.unwrap());
        if major >= 15 {
            let slot = replication.slot("neon").await.unwrap().unwrap();
            assert_eq!(slot.tli, Some(1));
            assert!(slot.restart.unwrap() <= system.flushed);
            assert_eq!(replication.slot("none").await.unwrap(), None);
        }
        let rows = replication.query("SHOW wal_segment_size").await.unwrap();
        assert_eq!(rows.get(0, "wal_segment_size"), Some("16MB"));

        let start = Lsn(system.flushed.0 & !0x1fff);
        replication.start_physical(Some("neon"), start, 1).await.unwrap();
        server.sql("create table t as select i, md5(i::text) from generate_series(1, 200000) i");
        let written: Lsn = server.sql("select pg_current_wal_flush_lsn()").parse().unwrap();
        let (mut pieces, end) = receive(&mut replication, written).await;
        assert!(end >= written);
        // The slot follows what we acknowledged.
        let mut kept = Lsn::INVALID;
        for _ in 0..500 {
            kept = server
                .sql("select restart_lsn from pg_replication_slots")
                .parse()
                .unwrap();
            if kept >= written {
                break;
            }
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
        assert!(kept >= written, "{kept} {written}");

        let stopping = std::thread::scope(|scope| {
            let stopping = scope.spawn(|| server.ctl("stop -m fast"));
            tokio::task::block_in_place(|| {
                tokio::runtime::Handle::current().block_on(async {
                    let (more, _) = receive(&mut replication, Lsn::MAX).await;
                    pieces.extend(more);
                })
            });
            stopping.join()
        });
        stopping.unwrap();
        assert_eq!(replication.end(), Some(End::Shutdown), "{major}");
        assert_eq!(replication.next().await.unwrap(), Event::Done);
        assert_eq!(replication.finish().await.unwrap(), None);
        assert!(compare(&server, 1, &pieces) > 10 << 20);
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn we_can_end_the_stream_and_go_on_with_commands() {
    for (_, bin) in installations() {
        let server = StockServer::start(&bin, "");
        let mut replication = Replication::connect(&socket(&server)).await.unwrap();
        let system = replication.identify_system().await.unwrap();
        replication.start_physical(None, system.flushed, 1).await.unwrap();
        server.sql("create table t as select generate_series(1, 100000)");
        // A wait that is given up loses nothing.
        let mut seen = 0;
        while seen < 1 << 20 {
            if let Ok(event) = timeout(Duration::from_micros(200), replication.next()).await
                && let Event::Wal { bytes, .. } = event.unwrap()
            {
                seen += bytes.len();
            }
        }
        assert_eq!(replication.finish().await.unwrap(), None);
        assert_eq!(
            replication.identify_system().await.unwrap().system_id,
            system.system_id
        );
        assert!(matches!(
            replication.status(Lsn(1), Lsn(1), Lsn(1)).await,
            Err(TransportError::Finished)
        ));
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn refusals_have_their_own_variants_and_leave_the_connection_usable() {
    for (_, bin) in installations() {
        let server = StockServer::start(&bin, "");
        let mut first = Replication::connect(&socket(&server)).await.unwrap();
        let mut second = Replication::connect(&socket(&server)).await.unwrap();
        let start = first.identify_system().await.unwrap().flushed;
        let error = first.start_physical(Some("none"), start, 1).await.unwrap_err();
        assert!(
            matches!(&error, TransportError::SlotMissing { slot } if slot == "none"),
            "{error:?}"
        );
        let error = first.drop_slot("none").await.unwrap_err();
        assert!(matches!(&error, TransportError::SlotMissing { .. }), "{error:?}");
        assert!(first.create_physical_slot("Bad name").await.is_err());
        first.create_physical_slot("s").await.unwrap();
        first.start_physical(Some("s"), start, 1).await.unwrap();
        let error = second.start_physical(Some("s"), start, 1).await.unwrap_err();
        assert!(
            matches!(&error, TransportError::SlotInUse { slot, .. } if slot == "s"),
            "{error:?}"
        );
        let error = second.start_physical(None, start, 7).await.unwrap_err();
        assert!(matches!(&error, TransportError::Refused(_)), "{error:?}");
        let error = second.query("select 1").await.unwrap_err();
        assert!(matches!(&error, TransportError::Refused(_)), "{error:?}");
        // WAL that is gone.
        server.sql("create table t(i int)");
        for _ in 0..4 {
            server.sql("insert into t values (1)");
            server.sql("select pg_switch_wal()");
            server.sql("checkpoint");
        }
        first.finish().await.unwrap();
        first.drop_slot("s").await.unwrap();
        server.sql("checkpoint");
        let mut gone = Replication::connect(&socket(&server)).await.unwrap();
        let refused = match gone.start_physical(None, start, 1).await {
            Ok(()) => timeout(LONG, gone.next()).await.unwrap().unwrap_err(),
            Err(error) => error,
        };
        assert!(
            matches!(&refused, TransportError::WalRemoved { .. }),
            "{refused:?}"
        );
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn scram_over_tcp_and_sql_on_a_database() {
    for (_, bin) in installations() {
        let server = StockServer::start(&bin, "");
        let mut options = ConnectOptions::tcp("127.0.0.1", server.port, "postgres");
        let error = Replication::connect(&options).await.unwrap_err();
        assert!(
            matches!(error, TransportError::PasswordMissing { .. }),
            "{error:?}"
        );
        options.password = Some(Password::new("wrong"));
        let error = Replication::connect(&options).await.unwrap_err();
        assert!(matches!(error, TransportError::WrongPassword { .. }), "{error:?}");
        options.password = Some(Password::new("se cret"));
        options.database = Some("postgres".into());
        let mut replication = Replication::connect(&options).await.unwrap();
        assert_eq!(
            replication.identify_system().await.unwrap().database.as_deref(),
            Some("postgres")
        );
        let rows = replication
            .query("select 1 as a, null as b, 'ä' as c union all select 2, 'x', ''")
            .await
            .unwrap();
        assert_eq!(rows.columns, ["a", "b", "c"]);
        assert_eq!(
            (rows.get(0, "a"), rows.get(0, "b"), rows.get(0, "c")),
            (Some("1"), None, Some("ä"))
        );
        assert_eq!(
            (rows.get(1, "b"), rows.get(1, "c"), rows.get(2, "a")),
            (Some("x"), Some(""), None)
        );
        // SQL and then WAL on one connection.
        let start = replication.identify_system().await.unwrap().flushed;
        replication.start_physical(None, start, 1).await.unwrap();
        server.sql("create table t(i int)");
        let (pieces, _) = receive(&mut replication, start + 8).await;
        assert!(!pieces.is_empty());
        assert!(!format!("{options:?}").contains("se cret"));
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_crash_is_a_cut_or_a_refusal_and_never_done() {
    for (_, bin) in installations() {
        let server = StockServer::start(&bin, "");
        let mut replication = Replication::connect(&socket(&server)).await.unwrap();
        let start = replication.identify_system().await.unwrap().flushed;
        replication.start_physical(None, start, 1).await.unwrap();
        server.ctl("stop -m immediate");
        let error = loop {
            match timeout(LONG, replication.next()).await.unwrap() {
                Ok(event) => assert_ne!(event, Event::Done),
                Err(error) => break error,
            }
        };
        assert!(
            matches!(error, TransportError::Cut { .. } | TransportError::Refused(_)),
            "{error:?}"
        );
        let error = Replication::connect(&socket(&server)).await.unwrap_err();
        assert!(matches!(error, TransportError::Unreachable { .. }), "{error:?}");
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_end_of_a_timeline_is_not_the_end_of_the_server() {
    for (_, bin) in installations() {
        let primary = StockServer::start(&bin, "");
        primary.sql("create table t(i int)");
        primary.ctl("stop -m fast");
        // The same directory as a standby without a primary: it can be promoted while we stream from it.
        std::fs::write(Path::new(&primary.data()).join("standby.signal"), "").unwrap();
        primary.ctl("start");
        let mut replication = Replication::connect(&socket(&primary)).await.unwrap();
        let system = replication.identify_system().await.unwrap();
        replication
            .start_physical(None, Lsn(system.flushed.0 & !0xff_ffff), 1)
            .await
            .unwrap();
        primary.sql("select pg_promote()");
        let (_, end) = receive(&mut replication, Lsn::MAX).await;
        assert_eq!(replication.end(), Some(End::Timeline));
        let next = replication.finish().await.unwrap();
        assert_eq!(next, Some(NextTimeline { tli: 2, start: end }));
        let (name, text) = replication.timeline_history(2).await.unwrap();
        assert_eq!(name, "00000002.history");
        assert!(text.starts_with(&format!("1\t{end}\t")), "{text}");
    }
}
