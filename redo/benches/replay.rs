//! How fast records are replayed: the recorded references of the tests, kind by kind, and a page from many records.
//!
//! The copy of the page before is not in the figures of `replay`; what it costs alone is `page/copy`. After criterion's groups
//! comes a table of what the single references take, as a reference stands for a shape of record and not for how often it is
//! written: of each resource manager the median over its shapes.
#![expect(clippy::unwrap_used, reason = "a bench that cannot begin has nothing to say")]

use std::collections::BTreeMap;
use std::fs::File;
use std::hint::black_box;
use std::path::Path;
use std::time::{Duration, Instant};

use criterion::{BatchSize, BenchmarkId, Criterion, Throughput};
use neon_postgres::wal::{NewBlock, Record, RecordBuilder, rmgr};
use neon_postgres::{Page, PgVersion};
use neon_redo::oracle::fixture::{self, Fixture};
use neon_redo::{Cluster, redo};
use neon_types::{Fork, Lsn, RelTag};

/// References that are replayed one after the other between two looks at the clock.
const BATCH: usize = 64;
/// Replays of one reference for the table.
const ROUNDS: u32 = 400;

fn fixtures() -> Vec<Fixture> {
    let directory = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/fixtures");
    let files = std::fs::read_dir(directory).unwrap();
    let read = |entry: std::io::Result<std::fs::DirEntry>| {
        fixture::read(File::open(entry.unwrap().path()).unwrap()).unwrap()
    };
    files.flat_map(read).collect()
}

fn base(fixture: &Fixture) -> Page {
    fixture.base.clone().unwrap_or_else(Page::zeroed)
}

fn apply(fixture: &Fixture, page: &mut Page) {
    redo(
        &fixture.cluster,
        &fixture.record,
        fixture.end,
        fixture.index,
        page,
    )
    .unwrap();
}

/// Replays `fixtures` in batches, each onto a page of its own that is made outside of the measurement.
fn replay(criterion: &mut Criterion, group: &str, name: &str, fixtures: &[&Fixture]) {
    let batch: Vec<&Fixture> = fixtures
        .iter()
        .copied()
        .cycle()
        .take(BATCH.max(fixtures.len().min(512)))
        .collect();
    let mut group = criterion.benchmark_group(group);
    group
        .sample_size(20)
        .warm_up_time(Duration::from_millis(200))
        .measurement_time(Duration::from_millis(600))
        .throughput(Throughput::Elements(batch.len() as u64));
    group.bench_function(name, |bencher| {
        bencher.iter_batched_ref(
            || batch.iter().map(|fixture| base(fixture)).collect::<Vec<Page>>(),
            |pages| {
                for (fixture, page) in batch.iter().zip(pages) {
                    apply(fixture, page);
                }
            },
            BatchSize::PerIteration,
        );
    });
    group.finish();
}

fn page_copy(criterion: &mut Criterion) {
    let (page, mut copy) = (Page::zeroed(), Page::zeroed());
    criterion.bench_function("page/copy", |bencher| {
        bencher.iter(|| *copy.as_bytes_mut() = *black_box(&page).as_bytes());
    });
}

/// 150 rows of 40 bytes are inserted, then rows are locked, one after the other.
fn history(length: usize) -> Vec<Vec<u8>> {
    let rel = RelTag {
        spc: 1663,
        db: 5,
        rel: 16384,
        fork: Fork::Main,
    };
    let record = |number: usize| {
        let offset = (number % 150) as u16 + 1;
        let block = NewBlock::new(0, rel, 0);
        let heap = |info| RecordBuilder::new(PgVersion::V17, rmgr::HEAP, info).xid(700 + number as u32);
        if number < 150 {
            let main = [offset.to_le_bytes().as_slice(), &[0]].concat();
            // infomask2, infomask, header size; a byte of padding; the row
            let row = [&[1, 0, 2, 8, 24, 0][..], &[7; 16]].concat();
            let (info, block) = if number == 0 {
                (0x80, block.will_init())
            } else {
                (0, block)
            };
            heap(info).main(&main).block(block.data(&row))
        } else {
            let xmax = (700 + number as u32).to_le_bytes();
            let main = [xmax.as_slice(), &offset.to_le_bytes(), &[0x02, 0]].concat();
            heap(0x60).main(&main).block(block)
        }
    };
    (0..length).map(|number| record(number).build()).collect()
}

/// Decodes and replays all of a page's records, as a page store does.
fn rebuild(criterion: &mut Criterion) {
    let cluster = Cluster {
        version: PgVersion::V17,
        hints_logged: true,
    };
    let mut group = criterion.benchmark_group("page from records");
    group.sample_size(30).measurement_time(Duration::from_secs(1));
    for length in [1, 10, 100, 1000] {
        let records = history(length);
        group.throughput(Throughput::Elements(length as u64));
        group.bench_function(BenchmarkId::from_parameter(length), |bencher| {
            bencher.iter(|| {
                let mut page = Page::zeroed();
                for (number, bytes) in records.iter().enumerate() {
                    let record = Record::decode(cluster.version, bytes.clone()).unwrap();
                    redo(&cluster, &record, Lsn(8 * (number as u64 + 1)), 0, &mut page).unwrap();
                }
                page
            });
        });
    }
    group.finish();
}

/// Returns the nanoseconds that one replay takes: the least of ten tries of the time of many with their copy of the page, less
/// that of the copies alone.
fn alone(fixture: &Fixture) -> f64 {
    let before = base(fixture);
    let mut page = before.clone();
    let mut least = |work: &mut dyn FnMut(&mut Page)| {
        let mut once = |page: &mut Page| {
            let begun = Instant::now();
            for _ in 0..ROUNDS / 10 {
                *page.as_bytes_mut() = *black_box(&before).as_bytes();
                work(page);
            }
            begun.elapsed().as_nanos() as f64 / f64::from(ROUNDS / 10)
        };
        (0..10).map(|_| once(&mut page)).fold(f64::INFINITY, f64::min)
    };
    let both = least(&mut |page| apply(fixture, black_box(page)));
    let copy = least(&mut |page| {
        black_box(page);
    });
    (both - copy).max(0.0)
}

fn table(by_manager: &BTreeMap<String, Vec<&Fixture>>) {
    println!(
        "\n| resource manager | shapes | median, ns | 90 %, ns | slowest, ns | which |\n|---|--:|--:|--:|--:|---|"
    );
    for (manager, fixtures) in by_manager {
        let mut times: Vec<(f64, String)> = fixtures
            .iter()
            .map(|fixture| (alone(fixture), rmgr::describe(&fixture.record)))
            .collect();
        times.sort_by(|a, b| a.0.total_cmp(&b.0));
        let at = |part: f64| &times[((times.len() - 1) as f64 * part) as usize];
        let (slowest, which) = at(1.0);
        println!(
            "| {manager} | {} | {:.0} | {:.0} | {slowest:.0} | {which} |",
            times.len(),
            at(0.5).0,
            at(0.9).0
        );
    }
}

fn main() {
    let mut criterion = Criterion::default().configure_from_args();
    let fixtures = fixtures();
    let (mut by_kind, mut by_manager) = (
        BTreeMap::<String, Vec<&Fixture>>::new(),
        BTreeMap::<String, Vec<&Fixture>>::new(),
    );
    for fixture in &fixtures {
        let kind = rmgr::describe(&fixture.record);
        let manager = kind.split('/').next().unwrap_or_default().to_owned();
        by_kind.entry(kind).or_default().push(fixture);
        by_manager.entry(manager).or_default().push(fixture);
    }
    page_copy(&mut criterion);
    rebuild(&mut criterion);
    for (manager, fixtures) in &by_manager {
        replay(&mut criterion, "replay, all shapes", manager, fixtures);
    }
    for (kind, fixtures) in &by_kind {
        replay(&mut criterion, "replay", kind, fixtures);
    }
    criterion.final_summary();
    // Not when one group, a list or a mere try was asked for.
    if std::env::args().skip(1).all(|word| word == "--bench") {
        table(&by_manager);
    }
}
