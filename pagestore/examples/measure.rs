//! Measures ingest, seal, compaction and reads on real WAL.
//!
//! `measure REPOSITORY PGDATA WAL...`: imports the cleanly stopped PGDATA, then takes in the segment files WAL..., which continue it,
//! and prints what it took. REPOSITORY is a directory that is made. `NEON_SEAL_MB` is how much WAL makes a seal, in MiB;
//! `NEON_DELTA_LAYERS` over how many layers page deltas may go, 0 for none;
//! with `NEON_COMPACT=off` nothing is compacted.

use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Instant;

use neon_objects::ObjectStore;
use neon_pagestore::{Compacted, PageStore, PageStoreError, Settings, Timeline, import};
use neon_postgres::wal::segment;
use neon_types::{Fork, Lsn, RelTag};

type Outcome<T> = Result<T, Box<dyn std::error::Error>>;

#[expect(clippy::cast_precision_loss, reason = "for people")]
fn rate(what: &str, bytes: u64, since: Instant) {
    let seconds = since.elapsed().as_secs_f64();
    let mebibytes = bytes as f64 / f64::from(1 << 20);
    println!(
        "{what}: {mebibytes:.0} MiB in {seconds:.2} s, {:.0} MiB/s",
        mebibytes / seconds
    );
}

/// Returns the seconds that the threads of this process were on processors, which other work on the machine does not change much.
#[expect(clippy::cast_precision_loss, reason = "for people")]
fn busy() -> f64 {
    let stat = std::fs::read_to_string("/proc/self/stat").unwrap_or_default();
    // In hundredths: user and system time, after the name in parentheses.
    let fields = stat
        .rsplit(") ")
        .next()
        .unwrap_or_default()
        .split(' ')
        .skip(11)
        .take(2);
    fields.filter_map(|field| field.parse::<u64>().ok()).sum::<u64>() as f64 / 100.0
}

fn relations(timeline: &Timeline, lsn: Lsn) -> Outcome<Vec<(RelTag, u32)>> {
    let mut rels = Vec::new();
    timeline.scan_relations(lsn, &mut |rel, size| rels.push((rel, size.size)))?;
    Ok(rels)
}

fn scan_everything(timeline: &Timeline, lsn: Lsn, label: &str) -> Outcome<Vec<(RelTag, u32)>> {
    let rels = relations(timeline, lsn)?;
    let began = Instant::now();
    let mut bytes = 0;
    for (rel, size) in &rels {
        timeline.scan_pages(*rel, 0..*size, lsn, &mut |_, page| {
            bytes += page.as_bytes().len() as u64;
            Ok(())
        })?;
    }
    rate(label, bytes, began);
    Ok(rels)
}

fn random_reads(timeline: &Timeline, rels: &[(RelTag, u32)], lsn: Lsn, label: &str) -> Outcome<()> {
    let blocks: Vec<(RelTag, u32)> = rels
        .iter()
        .filter(|(rel, _)| rel.fork == Fork::Main)
        .flat_map(|(rel, size)| (0..*size).map(|block| (*rel, block)))
        .collect();
    let mut seed = 1_u64;
    let mut micros = Vec::new();
    for _ in 0..3000 {
        seed = seed
            .wrapping_mul(6_364_136_223_846_793_005)
            .wrapping_add(1_442_695_040_888_963_407);
        let place = usize::try_from(seed >> 33)? % blocks.len().max(1);
        let Some((rel, block)) = blocks.get(place) else {
            break;
        };
        let began = Instant::now();
        timeline.get_page(*rel, *block, lsn)?;
        micros.push(began.elapsed().as_micros());
    }
    micros.sort_unstable();
    let at = |share: usize| micros.get(micros.len() * share / 100).copied().unwrap_or(0);
    println!(
        "{label}: median {} us, 90 % {} us, 99 % {} us",
        at(50),
        at(90),
        at(99)
    );
    Ok(())
}

/// Prints what reads of blocks take of layers: of all, and of those that changed since the import.
fn read_costs(timeline: &Timeline, rels: &[(RelTag, u32)], lsn: Lsn, label: &str) -> Outcome<()> {
    let (mut all, mut changed) = (Vec::new(), Vec::new());
    for (rel, size) in rels {
        for block in 0..*size {
            let cost = timeline.read_cost(*rel, block, lsn)?;
            all.push(cost);
            if timeline.get_page(*rel, block, lsn)?.lsn() > timeline.start() {
                changed.push(cost);
            }
        }
    }
    for (which, costs) in [("all", all), ("changed", changed)] {
        let spread = |field: &dyn Fn(&neon_pagestore::ReadCost) -> u32| {
            let mut values: Vec<u32> = costs.iter().map(field).collect();
            values.sort_unstable();
            let at = |share: usize| {
                values
                    .get((values.len().max(1) - 1) * share / 1000)
                    .copied()
                    .unwrap_or(0)
            };
            format!("{}/{}/{}/{}", at(500), at(990), at(999), at(1000))
        };
        println!(
            "{label}, {which} {} blocks, median/99 %/99.9 %/most: layers asked {}, read {}, records {}",
            costs.len(),
            spread(&|cost| cost.asked),
            spread(&|cost| cost.layers),
            spread(&|cost| cost.records)
        );
    }
    Ok(())
}

/// Compacts until nothing is worth it; returns bytes written.
fn compact(timeline: &Timeline) -> Outcome<u64> {
    let mut written = 0;
    loop {
        match timeline.compact(&|| false)? {
            Compacted::Merged { bytes, .. } | Compacted::Imaged { bytes, .. } => written += bytes,
            Compacted::Nothing | Compacted::Stopped => return Ok(written),
        }
    }
}

/// Returns the most memory that the process had, in KiB.
fn peak_memory() -> Option<u64> {
    let status = std::fs::read_to_string("/proc/self/status").ok()?;
    let line = status.lines().find(|line| line.starts_with("VmHWM:"))?;
    line.split_whitespace().nth(1)?.parse().ok()
}

fn main() -> Outcome<()> {
    let mut arguments = std::env::args().skip(1).map(PathBuf::from);
    let (Some(repository), Some(pgdata)) = (arguments.next(), arguments.next()) else {
        return Err("measure REPOSITORY PGDATA WAL...".into());
    };
    std::fs::create_dir_all(&repository)?;
    let open = |settings: Settings| -> Outcome<PageStore> {
        let objects = Arc::new(ObjectStore::open(repository.join("objects"))?);
        Ok(PageStore::open_with(&repository, objects, settings)?)
    };
    let mut settings = Settings::default();
    if let Some(mebibytes) = std::env::var("NEON_SEAL_MB")
        .ok()
        .and_then(|text| text.parse::<u64>().ok())
    {
        settings.seal_wal_bytes = mebibytes << 20;
    }
    if let Some(layers) = std::env::var("NEON_DELTA_LAYERS")
        .ok()
        .and_then(|text| text.parse().ok())
    {
        settings.delta_layers = layers;
    }
    let store = open(settings)?;
    let began = Instant::now();
    let source = import::inspect(&pgdata)?;
    let mut total = 0;
    let timeline = store.import(&source, &mut |done, _| {
        total = done;
        true
    })?;
    rate("import", total, began);
    let id = timeline.id();
    let rels = scan_everything(&timeline, timeline.end(), "scan of the import")?;
    random_reads(&timeline, &rels, timeline.end(), "get_page of the import")?;

    let size = timeline.stream_params().segment_size;
    let mut files: Vec<(u64, PathBuf)> = arguments
        .filter_map(|path| {
            let name = path.file_name()?.to_str()?.to_owned();
            segment::parse_file_name(&name, size).map(|(_, number)| (number, path))
        })
        .collect();
    files.sort();
    let began = Instant::now();
    let imported: u64 = layer_bytes(&timeline)?;
    let (mut received, mut sealed_bytes, mut sealing, mut seal_busy) = (0, 0, 0.0, 0.0);
    let compacts = std::env::var("NEON_COMPACT").as_deref() != Ok("off");
    let (mut sealed_layers, mut compacted, mut compacting) = (0, 0, 0.0);
    for (number, path) in &files {
        let more = take_in(&timeline, *number, path, &mut received)?;
        if timeline.wants_seal() {
            let from = timeline.sealed();
            let before = layer_bytes(&timeline)?;
            let (seal_began, busy_before) = (Instant::now(), busy());
            let to = timeline.seal()?.unwrap_or(from);
            sealed_bytes += to.bytes_since(from);
            sealing += seal_began.elapsed().as_secs_f64();
            seal_busy += busy() - busy_before;
            sealed_layers += layer_bytes(&timeline)? - before;
            if compacts {
                let compact_began = Instant::now();
                compacted += compact(&timeline)?;
                compacting += compact_began.elapsed().as_secs_f64();
            }
        }
        if !more {
            break;
        }
    }
    let seconds = began.elapsed().as_secs_f64();
    #[expect(clippy::cast_precision_loss, reason = "for people")]
    let mebibytes = |bytes: u64| bytes as f64 / f64::from(1 << 20);
    println!(
        "ingest (append, fsync, index): {:.0} MiB in {:.2} s, {:.0} MiB/s",
        mebibytes(received),
        seconds - sealing - compacting,
        mebibytes(received) / (seconds - sealing - compacting)
    );
    println!(
        "seal: {:.0} MiB of WAL in {sealing:.2} s, {:.0} MiB/s; on a processor {seal_busy:.2} s, {:.0} MiB/s",
        mebibytes(sealed_bytes),
        mebibytes(sealed_bytes) / sealing,
        mebibytes(sealed_bytes) / seal_busy
    );
    println!(
        "compaction: {:.0} MiB written in {compacting:.2} s after seals that wrote {:.0} MiB",
        mebibytes(compacted),
        mebibytes(sealed_layers)
    );
    let map = timeline.layer_map().ok_or("no layer map")?;
    let added = layer_bytes(&timeline)?.saturating_sub(imported);
    println!(
        "{} layers, {:.1} MiB beyond the import, {:.4} of the WAL; WAL kept from {} to {}",
        map.entries().count(),
        mebibytes(added),
        mebibytes(added) / mebibytes(sealed_bytes),
        timeline.wal_start(),
        timeline.end()
    );
    let end = timeline.end();
    let rels = scan_everything(&timeline, end, "scan at the end")?;
    random_reads(&timeline, &rels, end, "get_page at the end, part open")?;
    drop((timeline, store));

    let began = Instant::now();
    let store = open(settings)?;
    let timeline = store.get(id)?;
    println!(
        "reopen with {:.0} MiB to index: {:.2} s",
        mebibytes(timeline.end().bytes_since(timeline.sealed())),
        began.elapsed().as_secs_f64()
    );
    assert_eq!(timeline.end(), end);
    timeline.seal()?;
    if compacts {
        compact(&timeline)?;
    }
    read_costs(&timeline, &rels, end, "reads at the end")?;
    let rels = scan_everything(&timeline, end, "scan at the end, all sealed")?;
    random_reads(&timeline, &rels, end, "get_page at the end, all sealed")?;
    let middle = timeline
        .record_at_or_before(Lsn(timeline.start().0 + end.bytes_since(timeline.start()) / 2))?
        .end;
    scan_everything(&timeline, middle, "scan in the middle of history")?;
    hottest(&timeline, end)?;
    println!("peak memory: {} MiB", peak_memory().unwrap_or(0) >> 10);
    Ok(())
}

fn layer_bytes(timeline: &Timeline) -> Outcome<u64> {
    let map = timeline.layer_map().ok_or("no layer map")?;
    Ok(map.entries().map(|entry| entry.len).sum())
}

/// Reads the first block of every relation at a few LSNs and tells which took longest.
fn hottest(timeline: &Timeline, end: Lsn) -> Outcome<()> {
    let mut slowest = (0, String::new());
    for place in 1..20 {
        let lsn = Lsn(timeline.start().0 + end.bytes_since(timeline.start()) * place / 20);
        for (rel, size) in relations(timeline, lsn)? {
            if size > 0 {
                let began = Instant::now();
                timeline.get_page(rel, 0, lsn)?;
                slowest = slowest.max((began.elapsed().as_micros(), format!("{rel} at {lsn}")));
            }
        }
    }
    println!(
        "slowest get_page of a first block: {} us, {}",
        slowest.0, slowest.1
    );
    Ok(())
}

/// Appends a segment from where the timeline ends, makes it durable and indexes it; false where the history ends.
fn take_in(timeline: &Timeline, number: u64, path: &Path, received: &mut u64) -> Outcome<bool> {
    let size = u64::from(timeline.stream_params().segment_size);
    let bytes = std::fs::read(path)?;
    let begin = Lsn(number * size);
    let at = timeline.received_end();
    if begin + bytes.len() as u64 <= at {
        return Ok(true);
    }
    let skip = usize::try_from(at.bytes_since(begin))?;
    let part = bytes.get(skip..).unwrap_or_default();
    timeline.append_wal(at, part)?;
    timeline.sync_wal()?;
    let before = timeline.end();
    let indexed = timeline.index_wal();
    *received += timeline.end().bytes_since(before);
    match indexed {
        Ok(_) => Ok(true),
        // Segments that were made ahead end the history.
        Err(PageStoreError::BrokenWal { .. }) => Ok(false),
        Err(error) => Err(error.into()),
    }
}
