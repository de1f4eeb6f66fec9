//! What is chosen, without a disk: layers are what a simulation says that they hold.

use std::cell::RefCell;
use std::collections::BTreeMap;

use neon_types::{KeyRange, LayerId, Lsn, LsnRange, ObjectId, PackedKey};
use proptest::prelude::*;

use super::choose::{CROWDED, DELTAS, RECORDS, RUNS, choose};
use super::need::runs;
use super::stretch::{KeyCount, Stretch, stretches};
use super::{Choice, imaged};
use crate::Result;
use crate::layer::{IndexEntry, LayerKind};
use crate::map::{LayerMap, MapEntry, gap};
use crate::tests::{Random, block_key as key};

/// Stored bytes of a page in an image layer, and of a record.
const PAGE: u64 = 2000;
const RECORD: u64 = 60;
/// Blocks of a layer that an index entry tells of.
const BLOCKS: u32 = 64;
const LAYER: u64 = 4 << 20;

/// The layers that there are, by what they hold of each block: versions, each of which needs the one before.
struct Disk {
    pages: u32,
    deltas: RefCell<BTreeMap<LayerId, BTreeMap<u32, u32>>>,
    written: u64,
    next: u64,
    map: LayerMap,
    /// How many of the first runs are an ancestor's.
    start: Lsn,
}

impl Disk {
    /// A cluster of one relation, imported at 1000.
    fn new(pages: u32) -> Disk {
        let mut disk = Disk {
            pages,
            deltas: RefCell::default(),
            written: 0,
            next: 0,
            map: LayerMap::new(Lsn(1000), Vec::new()),
            start: Lsn(1000),
        };
        let images = disk.images(KeyRange::ALL, Lsn(1000));
        disk.map = LayerMap::new(Lsn(1000), images);
        disk.written = 0;
        disk
    }

    fn entry(&mut self, kind: LayerKind, keys: KeyRange, lsns: LsnRange, len: u64) -> MapEntry {
        self.next += 1;
        self.written += len;
        let mut name = [0; 32];
        name[..8].copy_from_slice(&self.next.to_le_bytes());
        MapEntry {
            layer: LayerId(ObjectId::from_bytes(name)),
            kind,
            keys,
            lsns,
            clip: Lsn::MAX,
            len,
        }
    }

    fn blocks_in(&self, keys: KeyRange) -> std::ops::Range<u32> {
        let place = |wanted: PackedKey| {
            (0..self.pages)
                .collect::<Vec<_>>()
                .partition_point(|block| key(*block) < wanted)
        };
        place(keys.start) as u32..place(keys.end) as u32
    }

    fn images(&mut self, keys: KeyRange, lsn: Lsn) -> Vec<MapEntry> {
        let lsns = LsnRange { start: lsn, end: lsn };
        let blocks = self.blocks_in(keys);
        let each = (LAYER / PAGE) as u32;
        let mut images = Vec::new();
        let mut start = keys.start;
        for block in blocks.clone().step_by(each as usize) {
            let last = block + each >= blocks.end;
            let end = if last { keys.end } else { key(block + each) };
            let count = (blocks.end - block).min(each);
            images.push(self.entry(
                LayerKind::Image,
                KeyRange { start, end },
                lsns,
                u64::from(count) * PAGE,
            ));
            start = end;
        }
        if blocks.is_empty() {
            images.push(self.entry(LayerKind::Image, keys, lsns, 500));
        }
        images
    }

    /// Layers of these versions, cut as a writer cuts them.
    fn run(&mut self, versions: &BTreeMap<u32, u32>, lsns: LsnRange) -> Vec<MapEntry> {
        let mut entries = Vec::new();
        let mut begin = PackedKey::MIN;
        let mut here: BTreeMap<u32, u32> = BTreeMap::new();
        let bytes =
            |here: &BTreeMap<u32, u32>| here.values().map(|count| u64::from(*count) * RECORD).sum::<u64>();
        for (block, count) in versions {
            if bytes(&here) >= LAYER {
                let keys = KeyRange {
                    start: begin,
                    end: key(*block),
                };
                begin = key(*block);
                let done = std::mem::take(&mut here);
                let entry = self.entry(LayerKind::Delta, keys, lsns, bytes(&done) + 500);
                self.deltas.borrow_mut().insert(entry.layer, done);
                entries.push(entry);
            }
            here.insert(*block, *count);
        }
        let keys = KeyRange {
            start: begin,
            end: PackedKey::MAX,
        };
        let entry = self.entry(LayerKind::Delta, keys, lsns, bytes(&here) + 500);
        self.deltas.borrow_mut().insert(entry.layer, here);
        entries.push(entry);
        entries
    }

    fn seal(&mut self, versions: &BTreeMap<u32, u32>) {
        let lsns = LsnRange {
            start: self.map.sealed(),
            end: Lsn(self.map.sealed().0 + 1000),
        };
        let run = self.run(versions, lsns);
        self.map = self.map.with(lsns.end, run);
    }

    fn stretches(&self, entry: &MapEntry) -> Result<Vec<Stretch>> {
        let deltas = self.deltas.borrow();
        let held: Vec<(u32, u32)> = deltas[&entry.layer]
            .iter()
            .map(|(block, count)| (*block, *count))
            .collect();
        let chunks: Vec<&[(u32, u32)]> = held.chunks(BLOCKS as usize).collect();
        let block = |chunk: &&[(u32, u32)]| IndexEntry {
            key: key(chunk[0].0),
            lsn: entry.lsns.end,
            at: 0,
            len: chunk.iter().map(|(_, count)| *count * RECORD as u32).sum(),
            raw_len: 0,
            entries: chunk.iter().map(|(_, count)| *count).sum(),
            crc: 0,
            chain: chunk.iter().map(|(_, count)| *count as u16).max().unwrap(),
        };
        let index: Vec<IndexEntry> = chunks.iter().map(block).collect();
        let look = |number: usize| {
            let count = |(block, versions): &(u32, u32)| KeyCount {
                key: key(*block),
                versions: *versions,
                chain: *versions,
            };
            Ok(chunks[number].iter().map(count).collect())
        };
        stretches(&index, entry.keys, &look)
    }

    fn step(&mut self, holes: &[KeyRange]) -> Choice {
        let choice = choose(&self.map, self.start, LAYER, holes, &|entry| {
            self.stretches(entry)
        })
        .unwrap();
        match &choice {
            Choice::Nothing => {}
            Choice::Merge(merge) => {
                let mut versions: BTreeMap<u32, u32> = BTreeMap::new();
                for entry in &merge.layers {
                    for (block, count) in &self.deltas.borrow()[&entry.layer] {
                        *versions.entry(*block).or_default() += count;
                    }
                }
                let made = self.run(&versions, merge.lsns);
                self.map = self.map.replaced(&merge.layers, made).unwrap();
            }
            Choice::Images(images) => {
                assert_eq!(images.lsn, self.map.sealed());
                assert!(
                    images.ranges.is_sorted_by(|one, next| one.end < next.start),
                    "{images:?}"
                );
                let mut made = Vec::new();
                for range in &images.ranges {
                    assert!(range.start < range.end && imaged().start <= range.start);
                    made.extend(self.images(*range, images.lsn));
                }
                self.map = self.map.replaced(&[], made).unwrap();
            }
        }
        self.check_cover();
        choice
    }

    fn settle(&mut self) {
        for _ in 0..100 {
            if self.step(&[]) == Choice::Nothing {
                return;
            }
        }
        panic!("it does not end");
    }

    fn check_cover(&self) {
        let deltas = self.map.entries().filter(|entry| entry.kind == LayerKind::Delta);
        let rectangles: Vec<_> = deltas.map(|entry| (entry.keys, entry.visible())).collect();
        let all = LsnRange {
            start: Lsn(1000),
            end: self.map.sealed(),
        };
        assert_eq!(gap(&rectangles, all), None, "a change went");
    }

    /// Returns of a read of each block: runs asked, runs that hold it, records.
    fn costs(&self) -> Vec<(usize, usize, u32)> {
        let deltas = self.deltas.borrow();
        let cost = |block: u32| {
            let visits = self.map.plan(&key(block), self.map.sealed(), Lsn::INVALID);
            let visits = visits.iter().filter(|visit| visit.entry.kind == LayerKind::Delta);
            let counts: Vec<u32> = visits
                .clone()
                .filter_map(|visit| deltas[&visit.entry.layer].get(&block).copied())
                .collect();
            (visits.count(), counts.len(), counts.iter().sum())
        };
        // Of many, some tell enough.
        (0..self.pages)
            .step_by(1 + self.pages as usize / 2000)
            .map(cost)
            .collect()
    }
}

fn uniform(random: &mut Random, pages: u32, updates: u64) -> BTreeMap<u32, u32> {
    let mut versions = BTreeMap::new();
    for _ in 0..updates {
        *versions.entry(random.below_u32(pages)).or_default() += 1;
    }
    versions
}

/// Seals one after the other, compacting after each; checks the bounds and returns how often each byte was written.
fn load(pages: u32, updates: u64, seals: u64, seed: u64) -> f64 {
    let mut random = Random(seed);
    let mut disk = Disk::new(pages);
    let mut sealed = 0;
    for _ in 0..seals {
        let before = disk.written;
        disk.seal(&uniform(&mut random, pages, updates));
        sealed += disk.written - before;
        disk.settle();
        let costs = disk.costs();
        let changed = costs.iter().filter(|(_, holding, _)| *holding > 0).count();
        let over = costs.iter().filter(|(_, holding, _)| *holding > DELTAS).count();
        // The estimate takes runs to be independent; what is there may be a little beside it.
        assert!(
            over as f64 <= 2.0 * CROWDED * changed as f64 + 3.0,
            "{over} of {changed} changed pages of {pages}"
        );
        assert!(costs.iter().all(|(_, _, records)| *records <= RECORDS));
        assert!(costs.iter().all(|(asked, _, _)| *asked <= RUNS));
    }
    disk.written as f64 / sealed as f64
}

#[test]
fn a_steady_random_load_stays_within_the_bounds() {
    for (pages, updates, seals, most) in [
        // Every page several times in a seal, about once, now and then, seldom.
        (1000, 4000, 30, 12.0),
        (3000, 3000, 40, 14.0),
        (8000, 800, 50, 14.0),
        (20_000, 160, 60, 14.0),
    ] {
        let amplification = load(pages, updates, seals, 7);
        println!("{pages} pages, {updates} updates: each byte is written {amplification:.1} times");
        assert!(
            amplification < most,
            "{pages} pages, {updates} updates: each byte is written {amplification} times"
        );
    }
}

#[test]
fn what_does_not_change_is_left_alone() {
    let mut random = Random(3);
    let mut disk = Disk::new(20_000);
    let first = disk.map.newest_images(KeyRange::ALL, Lsn(1000));
    for _ in 0..40 {
        let low = uniform(&mut random, 500, 3000);
        disk.seal(
            &low.into_iter()
                .map(|(block, count)| (block + 9000, count))
                .collect(),
        );
        disk.settle();
    }
    let images = disk.map.newest_images(KeyRange::ALL, disk.map.sealed());
    assert!(images.len() > first.len());
    let kept = images
        .iter()
        .filter(|(_, image)| image.unwrap().lsns.end == Lsn(1000));
    let kept: usize = kept.map(|(keys, _)| disk.blocks_in(*keys).len()).sum();
    assert!(
        kept > 18_000,
        "images of {kept} of 19500 pages that did not change are shared"
    );
}

#[test]
fn a_hot_page_costs_images_of_little_more_than_itself() {
    let mut random = Random(4);
    let mut disk = Disk::new(20_000);
    let (mut sealed, mut images) = (0, 0);
    for _ in 0..30 {
        let mut versions = uniform(&mut random, 20_000, 300);
        versions.insert(12_345, 500);
        let before = disk.written;
        disk.seal(&versions);
        sealed += disk.written - before;
        disk.settle();
        assert!(disk.costs().iter().all(|(_, _, records)| *records <= RECORDS));
        images = disk
            .map
            .entries()
            .filter(|entry| entry.kind == LayerKind::Image)
            .count();
    }
    assert!(disk.written < 40 * sealed, "{} for {sealed}", disk.written);
    assert!(images < 80, "{images}");
}

#[test]
fn a_backlog_is_worked_off() {
    let mut random = Random(5);
    let mut disk = Disk::new(3000);
    for _ in 0..300 {
        disk.seal(&uniform(&mut random, 3000, 200));
    }
    disk.settle();
    assert!(
        disk.costs()
            .iter()
            .all(|(asked, _, records)| *asked <= RUNS && *records <= RECORDS)
    );
}

#[test]
fn of_a_fork_only_its_own_layers_are_merged() {
    let mut random = Random(6);
    let mut disk = Disk::new(3000);
    for _ in 0..10 {
        disk.seal(&uniform(&mut random, 3000, 2000));
    }
    let theirs: Vec<MapEntry> = disk.map.entries().collect();
    disk.start = disk.map.sealed();
    assert_eq!(disk.step(&[]), Choice::Nothing, "nothing is its own yet");
    for _ in 0..5 {
        disk.seal(&uniform(&mut random, 3000, 2000));
        disk.settle();
        let costs = disk.costs();
        assert!(
            costs
                .iter()
                .all(|(_, holding, records)| *holding <= DELTAS + 1 && *records <= RECORDS)
        );
    }
    let now: Vec<MapEntry> = disk.map.entries().collect();
    assert!(
        theirs.iter().all(|entry| now.contains(entry)),
        "the ancestor's layers stay"
    );
    // Cut inside: a run that is clipped is nobody's to merge.
    let cut = disk.map.clipped(Lsn(disk.map.sealed().0 - 500));
    assert!(runs(&cut, disk.start).first().is_some_and(|run| !run.own));
}

#[test]
fn what_cannot_be_imaged_is_not_asked_for_again() {
    let mut random = Random(8);
    let mut disk = Disk::new(1000);
    let hole = KeyRange {
        start: key(200),
        end: key(400),
    };
    for _ in 0..12 {
        disk.seal(&uniform(&mut random, 1000, 4000));
        // Of the hole no images come to be.
        for _ in 0..100 {
            let choice = choose(&disk.map, disk.start, LAYER, &[hole], &|entry| {
                disk.stretches(entry)
            })
            .unwrap();
            match choice {
                Choice::Images(images) => {
                    let (mut made, lsn) = (Vec::new(), images.lsn);
                    for range in images.ranges {
                        let before = KeyRange {
                            start: range.start,
                            end: range.end.min(hole.start),
                        };
                        let after = KeyRange {
                            start: range.start.max(hole.end),
                            end: range.end,
                        };
                        for part in [before, after].into_iter().filter(|part| part.start < part.end) {
                            made.extend(disk.images(part, lsn));
                        }
                    }
                    assert!(!made.is_empty());
                    disk.map = disk.map.replaced(&[], made).unwrap();
                }
                Choice::Merge(_) => {
                    disk.step(&[hole]);
                }
                Choice::Nothing => break,
            }
        }
        assert_eq!(disk.step(&[hole]), Choice::Nothing);
    }
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 40, failure_persistence: None, ..ProptestConfig::default() })]

    /// Whatever was sealed: it ends, covers everything, and keeps the strict bounds.
    #[test]
    fn it_ends_and_loses_nothing(
        pages in 1u32..4000,
        seals in proptest::collection::vec((0u32..4000, 1u32..2000, 0u64..3000, 0u32..60), 1..25),
        compacted in proptest::collection::vec(any::<bool>(), 25),
        seed in any::<u64>(),
    ) {
        let mut random = Random(seed);
        let mut disk = Disk::new(pages);
        for ((from, width, updates, hot), compact) in seals.into_iter().zip(compacted) {
            let mut versions: BTreeMap<u32, u32> = BTreeMap::new();
            for _ in 0..updates {
                let block = (from + random.below_u32(width)) % pages;
                *versions.entry(block).or_default() += 1;
            }
            if hot > 0 {
                *versions.entry(from % pages).or_default() += hot;
            }
            disk.seal(&versions);
            if compact {
                disk.settle();
                for (asked, _, records) in disk.costs() {
                    prop_assert!(asked <= RUNS && records <= RECORDS, "{} runs, {} records", asked, records);
                }
            }
        }
        disk.settle();
    }
}
