//! Measures random reads of pages at the end of the longest timeline of a repository.
//!
//! `pages .neon`: each of 20,000 reads, of a block of any relation that is drawn by its size. `warm`: of 2,000 blocks that were all
//! read before. `own cache empty`: no index and no block of a layer is in this process' memory when the read begins; the files may be
//! in that of the kernel.

use std::path::PathBuf;
use std::sync::Arc;
use std::time::Instant;

use neon_objects::ObjectStore;
use neon_pagestore::{PageStore, Settings, Timeline};
use neon_types::{Fork, Lsn, RelTag};

type Outcome<T> = Result<T, Box<dyn std::error::Error>>;

/// Relations with their sizes in blocks, and the sum of these.
struct Blocks(Vec<(RelTag, u32)>, u64);

impl Blocks {
    fn at(timeline: &Timeline, lsn: Lsn) -> Outcome<Blocks> {
        let mut sized = Vec::new();
        timeline.scan_relations(lsn, &mut |rel, size| {
            if rel.fork == Fork::Main {
                sized.push((rel, size.size));
            }
        })?;
        let blocks = sized.iter().map(|(_, size)| u64::from(*size)).sum();
        Ok(Blocks(sized, blocks))
    }

    /// Returns the block with that number of all of them, modulo their count.
    fn pick(&self, number: u64) -> Option<(RelTag, u32)> {
        let mut place = number % self.1.max(1);
        for (rel, size) in &self.0 {
            match u32::try_from(place) {
                Ok(block) if block < *size => return Some((*rel, block)),
                _ => place -= u64::from(*size),
            }
        }
        None
    }
}

/// A linear congruential generator (Knuth's constants), so that all runs read the same blocks.
struct Draw(u64);

impl Draw {
    fn next(&mut self) -> u64 {
        self.0 = self
            .0
            .wrapping_mul(6_364_136_223_846_793_005)
            .wrapping_add(1_442_695_040_888_963_407);
        self.0 >> 20
    }
}

#[expect(clippy::cast_precision_loss, reason = "for people")]
fn told(label: &str, mut nanoseconds: Vec<u128>) {
    nanoseconds.sort_unstable();
    let at = |share: usize| {
        let place = (nanoseconds.len() * share / 1000).min(nanoseconds.len().saturating_sub(1));
        nanoseconds.get(place).copied().unwrap_or(0) as f64 / 1e3
    };
    println!(
        "{label}: median {:.1} us, 99 % {:.1} us, 99.9 % {:.1} us",
        at(500),
        at(990),
        at(999)
    );
}

/// A cache that has room for all that is read.
fn roomy() -> Settings {
    Settings {
        block_cache: 256 << 20,
        ..Settings::default()
    }
}

fn main() -> Outcome<()> {
    let neon_dir: PathBuf = std::env::args().nth(1).ok_or("pages .neon")?.into();
    let reads: usize = 20_000;
    let store_with = |settings: Settings| -> Outcome<PageStore> {
        let objects = Arc::new(ObjectStore::open(neon_dir.join("objects"))?);
        Ok(PageStore::open_with(&neon_dir, objects, settings)?)
    };
    let store = store_with(Settings::default())?;
    let mut longest = None;
    for id in store.list() {
        let end = store.get(id)?.end();
        longest = longest.max(Some((end, id)));
    }
    let (end, id) = longest.ok_or("no timeline")?;
    let blocks = {
        let timeline = store.get(id)?;
        let blocks = Blocks::at(&timeline, end)?;
        println!(
            "{} blocks; {} bytes of WAL not sealed",
            blocks.1,
            end.bytes_since(timeline.sealed())
        );
        blocks
    };
    drop(store);
    let mut draw = Draw(1);
    let some: Vec<_> = (0..2_000).filter_map(|_| blocks.pick(draw.next())).collect();
    for (label, settings) in [
        ("warm", Settings::default()),
        ("warm, block_cache_megabytes = 256", roomy()),
    ] {
        let timeline = store_with(settings)?.get(id)?;
        for (rel, block) in &some {
            timeline.get_page(*rel, *block, end)?;
        }
        let mut times = Vec::with_capacity(reads);
        for _ in 0..reads {
            let place = usize::try_from(draw.next())? % some.len().max(1);
            let (rel, block) = some.get(place).ok_or("no block")?;
            let began = Instant::now();
            timeline.get_page(*rel, *block, end)?;
            times.push(began.elapsed().as_nanos());
        }
        told(label, times);
    }

    let store = store_with(Settings {
        layer_cache: 0,
        block_cache: 0,
        ..Settings::default()
    })?;
    let timeline = store.get(id)?;
    let mut times = Vec::with_capacity(reads / 10);
    for _ in 0..reads / 10 {
        let (rel, block) = blocks.pick(draw.next()).ok_or("no block")?;
        let began = Instant::now();
        timeline.get_page(rel, block, end)?;
        times.push(began.elapsed().as_nanos());
    }
    told("own cache empty", times);
    Ok(())
}
