//! Many relations: what is done with one of them may not cost more because there are others.
//!
//! Work is counted in allocations, bytes allocated and blocks of layers that were decompressed, as time tells little on a busy machine.

use std::cell::Cell;
use std::sync::Arc;
use std::time::Duration;

use neon_postgres::wal::{Compression, NewBlock, RecordBuilder, StreamWriter};
use neon_types::{Lsn, RelTag};

use super::allocation::{Allocated, measure};
use super::fixture::*;
use crate::{Compacted, Settings, Timeline, fsck};

const SMGR: u8 = 2;
const XACT: u8 = 1;
const STANDBY: u8 = 8;
const DBASE: u8 = 4;
const FPI: u8 = 0xB0;
const HAS_INFO: u8 = 0x80;
/// Relations that a transaction makes or drops.
const BATCH: u32 = 50;
const FIRST_XID: u32 = 730;

/// Returns how long this thread has been on a processor.
fn on_processor() -> Duration {
    let all = std::fs::read_to_string("/proc/thread-self/schedstat").unwrap_or_default();
    let nanoseconds = all.split_whitespace().next().and_then(|first| first.parse().ok());
    Duration::from_nanos(nanoseconds.unwrap_or(0))
}

/// What a step took.
#[derive(Debug)]
struct Step {
    name: &'static str,
    took: Duration,
    allocated: Allocated,
}

fn words(words: &[u32]) -> Vec<u8> {
    words.iter().flat_map(|word| word.to_le_bytes()).collect()
}

fn record(rmid: u8, info: u8, xid: u32, main: &[u8]) -> RecordBuilder {
    RecordBuilder::new(VERSION, rmid, info).xid(xid).main(main)
}

/// A server that makes and drops relations, and the timeline that takes in its WAL.
struct Server {
    timeline: Arc<Timeline>,
    stream: StreamWriter,
    prev: Lsn,
    xid: u32,
    random: Random,
    /// What compaction took since it was last asked for.
    compaction: Cell<(Duration, Allocated)>,
}

impl Server {
    fn new(timeline: Arc<Timeline>) -> Server {
        let span = timeline.record_at_or_before(timeline.end()).unwrap();
        Server {
            stream: StreamWriter::new(timeline.stream_params(), span.end, span.start),
            prev: span.start,
            timeline,
            xid: FIRST_XID,
            random: Random(9),
            compaction: Cell::default(),
        }
    }

    fn write(&mut self, record: RecordBuilder) {
        (self.prev, _) = self.stream.push(record);
        if self.stream.end().bytes_since(self.timeline.received_end()) >= 1 << 20 {
            self.flush();
        }
    }

    /// As the receiver of an endpoint: index what came, seal when it is much, compact after each seal.
    fn flush(&mut self) {
        let end = self.stream.end();
        let next = StreamWriter::new(self.timeline.stream_params(), end, self.prev);
        let bytes = std::mem::replace(&mut self.stream, next).into_bytes();
        receive(&self.timeline, &bytes);
        if self.timeline.wants_seal() {
            self.seal();
        }
    }

    fn seal(&self) {
        self.timeline.seal().unwrap();
        let began = on_processor();
        let ((), allocated) =
            measure(|| while self.timeline.compact(&|| false).unwrap() != Compacted::Nothing {});
        let (took, before) = self.compaction.get();
        self.compaction
            .set((took + on_processor() - began, before + allocated));
    }

    /// Takes what compaction took out of the last step, and makes it one of its own.
    fn part(&self, name: &'static str, steps: &mut Vec<Step>) {
        let (took, allocated) = self.compaction.take();
        if let Some(last) = steps.last_mut() {
            last.took -= took;
            last.allocated.count -= allocated.count;
            last.allocated.bytes -= allocated.bytes;
        }
        steps.push(Step {
            name,
            took,
            allocated,
        });
    }

    fn end_transaction(&mut self, dropped: &[RelTag]) {
        let mut main = 77_i64.to_le_bytes().to_vec();
        if !dropped.is_empty() {
            main.extend(words(&[1 << 2, dropped.len() as u32]));
            for rel in dropped {
                main.extend(words(&[rel.spc, rel.db, rel.rel]));
            }
        } else {
            main.extend(words(&[0]));
        }
        let commit = record(XACT, HAS_INFO, self.xid, &main);
        self.write(commit);
        self.xid += 1;
    }

    /// CREATE TABLE: the file, its lock, its first page.
    fn create(&mut self, relations: std::ops::Range<u32>) {
        let mut page = page(&mut self.random);
        for number in relations.clone() {
            let rel = rel(number);
            let xid = self.xid;
            let create = words(&[rel.spc, rel.db, rel.rel, 0]);
            self.write(record(SMGR, 0x10, xid, &create));
            let lock = words(&[1, xid, rel.db, rel.rel]);
            self.write(record(STANDBY, 0, xid, &lock));
            page.as_bytes_mut()[4096..4100].copy_from_slice(&number.to_le_bytes());
            let block = NewBlock::new(0, rel, 0).image(&page, true, Compression::Zstd);
            self.write(RecordBuilder::new(VERSION, 0, FPI).xid(xid).block(block));
            if (number + 1) % BATCH == 0 || number + 1 == relations.end {
                self.end_transaction(&[]);
            }
        }
        self.flush();
    }

    /// DROP TABLE.
    fn drop(&mut self, relations: std::ops::Range<u32>) {
        let all: Vec<RelTag> = relations.map(rel).collect();
        for batch in all.chunks(BATCH as usize) {
            self.end_transaction(batch);
        }
        self.flush();
    }

    fn drop_database(&mut self) {
        let RelTag { spc, db, .. } = rel(0);
        self.write(record(DBASE, 0x20, 0, &words(&[db, 1, spc])));
        self.flush();
    }

    fn listed(&self, lsn: Lsn) -> u32 {
        let mut count = 0;
        self.timeline
            .scan_relations(lsn, &mut |_, size| {
                assert_eq!(size.size, 1);
                count += 1;
            })
            .unwrap();
        count
    }

    /// What a data directory takes: the list of relations, then each one's pages.
    fn lay_out(&self, lsn: Lsn) -> u64 {
        let mut relations = Vec::new();
        self.timeline
            .scan_relations(lsn, &mut |rel, size| relations.push((rel, size.size)))
            .unwrap();
        let mut bytes = 0;
        for (rel, blocks) in relations {
            self.timeline
                .scan_pages(rel, 0..blocks, lsn, &mut |_, page| {
                    bytes += page.as_bytes().len() as u64;
                    Ok(())
                })
                .unwrap();
        }
        bytes
    }
}

fn step<T>(steps: &mut Vec<Step>, name: &'static str, act: impl FnOnce() -> T) -> T {
    let began = on_processor();
    let (result, allocated) = measure(act);
    let took = on_processor() - began;
    steps.push(Step {
        name,
        took,
        allocated,
    });
    result
}

/// Makes that many relations, looks at them, drops the first half one by one and the rest with their database.
fn life(relations: u32, settings: Settings) -> Vec<Step> {
    let mut steps = Vec::new();
    let mut repository = Repository::new(settings);
    let mut server = Server::new(repository.import());
    let half = relations / 2;
    let middle = step(&mut steps, "create", || {
        server.create(0..half);
        let middle = server.timeline.end();
        server.create(half..relations);
        server.seal();
        middle
    });
    server.part("compact", &mut steps);
    let end = server.timeline.end();
    step(&mut steps, "list at the end", || {
        assert_eq!(server.listed(end), relations);
    });
    step(&mut steps, "list in the middle", || {
        assert_eq!(server.listed(middle), half);
    });
    step(&mut steps, "lay out", || {
        assert_eq!(server.lay_out(end), u64::from(relations) * 8192);
    });
    step(&mut steps, "drop tables", || {
        server.drop(0..half);
        server.seal();
    });
    server.part("compact after drops", &mut steps);
    let end = server.timeline.end();
    step(&mut steps, "list what is left", || {
        assert_eq!(server.listed(end), relations - half);
    });
    step(&mut steps, "drop the database", || {
        server.drop_database();
        server.seal();
    });
    server.part("compact after that", &mut steps);
    let end = server.timeline.end();
    step(&mut steps, "list nothing", || assert_eq!(server.listed(end), 0));
    drop(server);
    repository.reopen();
    step(&mut steps, "open", || repository.store.get(ROOT).unwrap());
    let found = step(&mut steps, "check", || {
        fsck(&repository.store, &mut |_, _| true).unwrap()
    });
    assert!(found.is_empty());
    steps
}

/// Seals, caches and layers so small that a few thousand relations need many.
fn small() -> Settings {
    Settings {
        seal_wal_bytes: 256 << 10,
        layer_bytes: 128 << 10,
        layer_cache: 256 << 10,
        block_cache: 512 << 10,
        ..settings()
    }
}

/// One relation costs the same whether there are five thousand or twenty thousand. Compaction, of which few relations need hardly any, takes
/// less than their creation. A position in the middle is read from as many runs as there were left at that moment.
#[test]
fn work_grows_as_the_number_of_relations() {
    const FEW: u32 = 5000;
    const LISTS: i64 = 4 << 20;
    let (few, many) = (life(FEW, small()), life(4 * FEW, small()));
    let created = many.iter().find(|step| step.name == "create").unwrap().allocated;
    for (few, many) in few.iter().zip(&many) {
        let Step { name, allocated, .. } = many;
        if name.starts_with("compact") {
            assert!(
                allocated.count <= created.count,
                "{name}: {allocated:?}, creation: {created:?}"
            );
            continue;
        }
        let limit = if *name == "list in the middle" { 5.5 } else { 4.4 };
        let times = allocated.count as f64 / few.allocated.count as f64;
        assert!(
            times <= limit,
            "{name}: {times:.2} times the allocations for four times the relations"
        );
        let more = allocated.bytes as f64 / few.allocated.bytes as f64;
        assert!(
            more <= limit * 1.15,
            "{name}: {more:.2} times the bytes for four times the relations"
        );
        if name.starts_with("list") {
            assert!(allocated.peak < LISTS, "{name}: {} bytes at once", allocated.peak);
        }
    }
}

/// Returns the most memory that this process ever had, in KiB.
fn most_memory() -> u64 {
    let status = std::fs::read_to_string("/proc/self/status").unwrap_or_default();
    let line = status.lines().find_map(|line| line.strip_prefix("VmHWM:"));
    line.and_then(|line| line.split_whitespace().next()?.parse().ok())
        .unwrap_or(0)
}

#[test]
#[ignore = "takes minutes: NEON_RELATIONS=1000000 cargo test --release -p neon-pagestore --lib relations::life -- --ignored --nocapture"]
fn life_of_many() {
    let relations = std::env::var("NEON_RELATIONS").map_or(10_000, |number| number.parse().unwrap());
    for step in life(relations, Settings::default()) {
        let Step {
            name,
            took,
            allocated,
        } = step;
        println!(
            "{relations:>9} {name:<22} {:>9.3} s {:>12} allocations {:>9} KiB, most at once {:>8} KiB",
            took.as_secs_f64(),
            allocated.count,
            allocated.bytes >> 10,
            allocated.peak >> 10
        );
    }
    println!("{relations:>9} most memory of the process {} KiB", most_memory());
}
