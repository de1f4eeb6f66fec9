//! Measures how fast WAL is taken in for good: one thread receives and indexes, another seals and compacts, as in a daemon.
//!
//! `ingest REPOSITORY PGDATA WAL...`: imports the cleanly stopped PGDATA, then takes in the segment files WAL..., which continue it.
//! REPOSITORY is a directory that is made. Every segment is made durable before the next one is received.

use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use neon_objects::ObjectStore;
use neon_pagestore::{Compacted, PageStore, PageStoreError, Timeline, import};
use neon_postgres::wal::segment;
use neon_types::Lsn;

type Outcome<T> = Result<T, Box<dyn std::error::Error + Send + Sync>>;

/// WAL that may wait for a seal, in bytes, before receiving waits for it.
const BACKLOG: u64 = 256 << 20;

#[expect(clippy::cast_precision_loss, reason = "for people")]
fn told(what: &str, bytes: u64, seconds: f64) {
    let megabytes = bytes as f64 / 1e6;
    println!(
        "{what}: {megabytes:.1} MB in {seconds:.2} s, {:.1} MB/s",
        megabytes / seconds
    );
}

/// Appends the segments from where the timeline ends, each durable and indexed before the next; returns the bytes of records.
fn receive(timeline: &Timeline, files: &[(u64, PathBuf)]) -> Outcome<u64> {
    let size = u64::from(timeline.stream_params().segment_size);
    let start = timeline.end();
    for (number, path) in files {
        let bytes = std::fs::read(path)?;
        let begin = Lsn(number * size);
        let at = timeline.received_end();
        if begin + bytes.len() as u64 <= at {
            continue;
        }
        while at.bytes_since(timeline.sealed()) > BACKLOG {
            std::thread::sleep(Duration::from_millis(5));
        }
        let skip = usize::try_from(at.bytes_since(begin))?;
        timeline.append_wal(at, bytes.get(skip..).unwrap_or_default())?;
        timeline.sync_wal()?;
        match timeline.index_wal() {
            Ok(_) => {}
            // Segments that were made ahead end the history.
            Err(PageStoreError::BrokenWal { .. }) => break,
            Err(error) => return Err(error.into()),
        }
    }
    Ok(timeline.end().bytes_since(start))
}

/// Seals what waits for it until `done`, then the rest.
fn seal(timeline: &Timeline, done: &AtomicBool) -> Outcome<()> {
    loop {
        let last = done.load(Ordering::Acquire);
        if timeline.wants_seal() || last {
            timeline.seal()?;
        } else {
            std::thread::sleep(Duration::from_millis(5));
        }
        if last {
            return Ok(());
        }
    }
}

fn segments(timeline: &Timeline, paths: impl Iterator<Item = PathBuf>) -> Vec<(u64, PathBuf)> {
    let size = timeline.stream_params().segment_size;
    let numbered = |path: &Path| {
        let name = path.file_name()?.to_str()?;
        Some(segment::parse_file_name(name, size)?.1)
    };
    let mut files: Vec<_> = paths.filter_map(|path| Some((numbered(&path)?, path))).collect();
    files.sort();
    files
}

fn main() -> Outcome<()> {
    let mut arguments = std::env::args().skip(1).map(PathBuf::from);
    let (Some(repository), Some(pgdata)) = (arguments.next(), arguments.next()) else {
        return Err("ingest REPOSITORY PGDATA WAL...".into());
    };
    std::fs::create_dir_all(&repository)?;
    let objects = Arc::new(ObjectStore::open(repository.join("objects"))?);
    let store = PageStore::open(&repository, objects)?;
    let began = Instant::now();
    let mut total = 0;
    let timeline = store.import(&import::inspect(&pgdata)?, &mut |done, _| {
        total = done;
        true
    })?;
    told("import", total, began.elapsed().as_secs_f64());

    let files = segments(&timeline, arguments);
    let done = AtomicBool::new(false);
    let began = Instant::now();
    let (received, readable) = std::thread::scope(|scope| {
        let sealer = scope.spawn(|| seal(&timeline, &done));
        let received = receive(&timeline, &files);
        let readable = began.elapsed().as_secs_f64();
        done.store(true, Ordering::Release);
        sealer.join().map_err(|_| "sealing panicked")??;
        Outcome::Ok((received?, readable))
    })?;
    told("received, durable and readable", received, readable);
    told("and sealed", received, began.elapsed().as_secs_f64());
    while !matches!(
        timeline.compact(&|| false)?,
        Compacted::Nothing | Compacted::Stopped
    ) {}
    told("and compacted", received, began.elapsed().as_secs_f64());
    Ok(())
}
