//! Compaction on disk: nothing that any LSN returns changes, whatever is merged or imaged, and at whatever step it ends.

use std::collections::BTreeMap;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};

use neon_postgres::wal::{Compression, NewBlock, RecordBuilder, rmgr};
use neon_types::{Key, KeyRange, Lsn, PackedKey, RelTag};

use super::fixture::*;
use crate::compact::need::runs;
use crate::compact::{Choice, Images, Merge, imaged};
use crate::failpoint::fail_once_here;
use crate::{Compacted, PageStoreError, ReadCost, RecordSpan, Settings, Timeline, fsck, fsck_deep};

pub(super) const STEPS: [&str; 4] = [
    "compact-after-layer",
    "compact-after-map",
    "compact-before-swap",
    "compact-after-swap",
];

/// Compacts until nothing is worth it.
pub(super) fn settle(timeline: &Timeline) -> Vec<Compacted> {
    let mut done = Vec::new();
    loop {
        match timeline.compact(&|| false).unwrap() {
            Compacted::Nothing => return done,
            compacted => done.push(compacted),
        }
        assert!(done.len() < 100, "it does not end: {done:?}");
    }
}

/// Returns something that could be chosen, wise or not: a merge of some runs, or images of some keys at one of `lsns`.
pub(super) fn any_choice(timeline: &Timeline, random: &mut Random, lsns: &[Lsn]) -> Choice {
    let Some(map) = timeline.layer_map() else {
        return Choice::Nothing;
    };
    let runs = runs(&map, timeline.start());
    let own: Vec<_> = runs.into_iter().take_while(|run| run.own).collect();
    if random.below(2) == 0 {
        if own.len() < 2 {
            return Choice::Nothing;
        }
        let first = usize::try_from(random.below(own.len() as u64 - 1)).unwrap();
        let count = 2 + usize::try_from(random.below(own.len() as u64 - 1 - first as u64)).unwrap();
        let merged = &own[first..first + count];
        return Choice::Merge(Merge {
            layers: merged.iter().flat_map(|run| run.layers.iter().copied()).collect(),
            lsns: neon_types::LsnRange {
                start: merged[count - 1].lsns.start,
                end: merged[0].lsns.end,
            },
        });
    }
    let lsns: Vec<Lsn> = lsns
        .iter()
        .copied()
        .filter(|lsn| timeline.start() < *lsn && *lsn <= map.sealed())
        .collect();
    if lsns.is_empty() {
        return Choice::Nothing;
    }
    let lsn = lsns[usize::try_from(random.below(lsns.len() as u64)).unwrap()];
    let mut place = |end: PackedKey| match random.below(4) {
        0 => end,
        1 => Key::RelSize(rel(random.below_u32(3))).pack(),
        _ => Key::Block(rel(random.below_u32(3)), random.below_u32(10)).pack(),
    };
    let (start, end) = (place(imaged().start), place(PackedKey::MAX));
    if start == end {
        return Choice::Nothing;
    }
    let range = KeyRange {
        start: start.min(end),
        end: start.max(end),
    };
    let ranges = vec![range];
    Choice::Images(Images { ranges, lsn })
}

/// Everything that can be read at an LSN: keys, and the last record.
type Picture = (BTreeMap<Key, Vec<u8>>, RecordSpan);

pub(super) fn picture(timeline: &Timeline, lsn: Lsn) -> Picture {
    let mut picture = BTreeMap::new();
    let mut rels: Vec<RelTag> = Vec::new();
    timeline
        .scan_items(KeyRange::ALL, lsn, &mut |key, bytes| {
            if let Key::RelSize(rel) = key {
                rels.push(rel);
            }
            // A version of those tells of later records too: the last one at the LSN is what they mean.
            if !matches!(key, Key::Boundaries { .. }) {
                picture.insert(key, bytes.to_vec());
            }
            Ok(())
        })
        .unwrap();
    for (key, bytes) in &picture {
        assert_eq!(
            timeline.get_item(*key, lsn).unwrap().as_deref(),
            Some(&bytes[..]),
            "{key:?} at {lsn}"
        );
    }
    for rel in rels {
        let blocks = timeline.rel_size(rel, lsn).unwrap().unwrap();
        let mut next = 0;
        timeline
            .scan_pages(rel, 0..u32::MAX, lsn, &mut |block, page| {
                assert_eq!(block, next);
                next += 1;
                assert!(
                    timeline.get_page(rel, block, lsn).unwrap() == *page,
                    "block {block} of {rel} at {lsn}"
                );
                picture.insert(Key::Block(rel, block), page.as_bytes().to_vec());
                Ok(())
            })
            .unwrap();
        assert_eq!(next, blocks);
    }
    (picture, timeline.record_at_or_before(lsn).unwrap())
}

fn image(random: &mut Random, number: u32, block: u32) -> RecordBuilder {
    let image = page(random);
    RecordBuilder::new(VERSION, rmgr::XLOG, 0xB0).block(NewBlock::new(0, rel(number), block).image(
        &image,
        true,
        Compression::None,
    ))
}

/// A record that changes 16 bytes of a page.
fn update(random: &mut Random, number: u32, block: u32) -> RecordBuilder {
    let offset = 4096 + u16::try_from(random.below(4000)).unwrap();
    let mut data = offset.to_le_bytes().to_vec();
    data.extend_from_slice(&16_u16.to_le_bytes());
    data.extend_from_slice(&random.bytes(16));
    RecordBuilder::new(VERSION, rmgr::GENERIC, 0).block(NewBlock::new(0, rel(number), block).data(&data))
}

fn receive_all(timeline: &Timeline, pen: &mut Pen, records: impl Iterator<Item = RecordBuilder>) {
    let mut bytes = Vec::new();
    for record in records {
        bytes.extend_from_slice(&pen.write(record).0);
    }
    receive(timeline, &bytes);
}

/// Costs of reading every block at an LSN, in ascending order of layers and of records.
fn costs(timeline: &Timeline, blocks: u32, lsn: Lsn) -> (Vec<u32>, Vec<u32>, Vec<u32>) {
    let costs: Vec<ReadCost> = (0..blocks)
        .map(|block| timeline.read_cost(rel(0), block, lsn).unwrap())
        .collect();
    let sorted = |field: fn(&ReadCost) -> u32| {
        let mut values: Vec<u32> = costs.iter().map(field).collect();
        values.sort_unstable();
        values
    };
    (
        sorted(|cost| cost.asked),
        sorted(|cost| cost.layers),
        sorted(|cost| cost.records),
    )
}

fn p99(sorted: &[u32]) -> u32 {
    sorted[(sorted.len() - 1) * 99 / 100]
}

/// The bounds of the design: three layers at the 99th percentile, 32 records, under a steady load of random updates.
#[test]
fn reads_stay_short_under_a_steady_random_load() {
    const BLOCKS: u32 = 400;
    for (updates, seals) in [(1200, 16), (250, 24)] {
        let (compacted, left) = (Repository::new(settings()), Repository::new(settings()));
        let timelines = [compacted.import(), left.import()];
        let mut random = Random(updates);
        let mut pen = Pen::at_end(&timelines[0]);
        let base = (0..BLOCKS)
            .map(|block| image(&mut random, 0, block))
            .collect::<Vec<_>>();
        let mut bytes: Vec<u8> = base.into_iter().flat_map(|record| pen.write(record).0).collect();
        for seal in 0..seals {
            for timeline in &timelines {
                receive(timeline, &bytes);
                timeline.seal().unwrap();
            }
            settle(&timelines[0]);
            let (asked, layers, records) = costs(&timelines[0], BLOCKS, timelines[0].sealed());
            assert!(p99(&layers) <= 3, "{layers:?} after {seal} seals");
            assert!(asked.last() <= Some(&17), "{asked:?}");
            assert!(records.last() <= Some(&32), "{records:?} after {seal} seals");
            bytes.clear();
            for _ in 0..updates {
                let block = random.below_u32(BLOCKS);
                bytes.extend_from_slice(&pen.write(update(&mut random, 0, block)).0);
            }
        }
        let (_, layers, records) = costs(&timelines[1], BLOCKS, timelines[1].sealed());
        assert!(
            p99(&layers) > 3 && (records.last() > Some(&32) || updates < 300),
            "{layers:?} {records:?}"
        );
        for block in 0..BLOCKS {
            let [ours, theirs] = [&timelines[0], &timelines[1]]
                .map(|timeline| timeline.get_page(rel(0), block, timeline.sealed()).unwrap());
            assert!(ours == theirs, "block {block}");
        }
    }
}

#[test]
fn image_layers_of_what_does_not_change_are_shared() {
    let repository = Repository::new(settings());
    let timeline = repository.import();
    let mut random = Random(1);
    let mut pen = Pen::at_end(&timeline);
    let base: Vec<_> = (0..300)
        .map(|block| image(&mut random, block % 3, block / 3))
        .collect();
    receive_all(&timeline, &mut pen, base.into_iter());
    timeline.seal().unwrap();
    let all = Choice::Images(Images {
        ranges: vec![imaged()],
        lsn: timeline.sealed(),
    });
    assert!(matches!(
        timeline.compact_as(all, &|| false).unwrap(),
        Compacted::Imaged { .. }
    ));
    let first = timeline.sealed();
    for _ in 0..6 {
        let updates: Vec<_> = (0..400)
            .map(|_| {
                let block = 40 + random.below_u32(20);
                update(&mut random, 1, block)
            })
            .collect();
        receive_all(&timeline, &mut pen, updates.into_iter());
        timeline.seal().unwrap();
        settle(&timeline);
    }
    let map = timeline.layer_map().unwrap();
    let images = map.newest_images(imaged(), map.sealed());
    let at_first = |number: u32, block: u32| {
        let key = Key::Block(rel(number), block).pack();
        let (_, image) = images.iter().find(|(keys, _)| keys.contains(&key)).unwrap();
        image.unwrap().lsns.end == first
    };
    assert!(
        (40..60).all(|block| !at_first(1, block)),
        "what changed has new images"
    );
    for number in [0, 2] {
        assert!(
            (0..100).all(|block| at_first(number, block)),
            "relation {number} did not change"
        );
    }
}

/// A page whose records redo does not know is left alone, and still says so; all others are compacted.
#[test]
fn pages_that_cannot_be_rebuilt_do_not_stop_it() {
    let repository = Repository::new(settings());
    let timeline = repository.import();
    let mut random = Random(2);
    let mut pen = Pen::at_end(&timeline);
    let base: Vec<_> = (0..60)
        .map(|block| image(&mut random, block % 3, block / 3))
        .collect();
    receive_all(&timeline, &mut pen, base.into_iter());
    let unknown = RecordBuilder::new(VERSION, 200, 0).block(NewBlock::new(0, rel(1), 7).data(b"unknown"));
    receive_all(&timeline, &mut pen, [unknown].into_iter());
    for _ in 0..5 {
        timeline.seal().unwrap();
        settle(&timeline);
        let updates: Vec<_> = (0..900)
            .map(|_| {
                let (number, block) = (random.below_u32(3), random.below_u32(20));
                update(&mut random, number, block)
            })
            .collect();
        receive_all(&timeline, &mut pen, updates.into_iter());
    }
    let end = timeline.sealed();
    for number in 0..3 {
        for block in 0..20 {
            match timeline.get_page(rel(number), block, end) {
                Err(PageStoreError::Unsupported { .. }) => assert_eq!((number, block), (1, 7)),
                result => assert!(result.is_ok() && (number, block) != (1, 7)),
            }
            let cost = timeline.read_cost(rel(number), block, end).unwrap();
            assert!(
                cost.records <= 32 || (number == 1 && block >= 7),
                "{number} {block}: {cost:?}"
            );
        }
    }
    assert!(fsck(&repository.store, &mut |_, _| true).unwrap().is_empty());
    let deep = fsck_deep(&repository.store, &mut |_, _| true);
    assert!(deep.findings.is_empty(), "{:?}", deep.findings);
}

#[test]
fn a_step_that_fails_or_is_stopped_changes_nothing() {
    for (number, step) in STEPS.into_iter().enumerate() {
        for merges in [false, true] {
            let mut repository = Repository::new(settings());
            let timeline = repository.import();
            let mut random = Random(number as u64);
            let mut pen = Pen::at_end(&timeline);
            let mut lsns = Vec::new();
            for _ in 0..4 {
                let records: Vec<_> = (0..30)
                    .map(|block| image(&mut random, block % 3, block / 3))
                    .collect();
                receive_all(&timeline, &mut pen, records.into_iter());
                timeline.seal().unwrap();
                lsns.push(timeline.end());
            }
            let choice = loop {
                match any_choice(&timeline, &mut random, &lsns) {
                    Choice::Nothing => {}
                    choice if matches!(choice, Choice::Merge(_)) == merges => break choice,
                    _ => {}
                }
            };
            let before: Vec<_> = lsns.iter().map(|lsn| picture(&timeline, *lsn)).collect();
            let map = timeline.layer_map().unwrap();
            let stopped = timeline.compact_as(choice.clone(), &|| true).unwrap();
            assert_eq!(stopped, Compacted::Stopped);
            assert_eq!(timeline.layer_map().unwrap(), map);
            fail_once_here(step);
            timeline.compact_as(choice.clone(), &|| false).unwrap_err();
            let swapped = step == "compact-after-swap";
            assert_eq!(timeline.layer_map().unwrap() != map, swapped);
            let check = |timeline: &Timeline| {
                for (lsn, before) in lsns.iter().zip(&before) {
                    assert!(picture(timeline, *lsn) == *before, "{step} at {lsn}");
                }
            };
            check(&timeline);
            if !swapped {
                timeline.compact_as(choice, &|| false).unwrap();
                check(&timeline);
            }
            drop(timeline);
            repository.reopen();
            let timeline = repository.store.get(ROOT).unwrap();
            check(&timeline);
            settle(&timeline);
            check(&timeline);
            assert!(fsck(&repository.store, &mut |_, _| true).unwrap().is_empty());
            let deep = fsck_deep(&repository.store, &mut |_, _| true);
            assert!(deep.findings.is_empty(), "{:?}", deep.findings);
        }
    }
}

/// Ends the threads of a test, also when it fails.
struct Over<'a>(&'a AtomicBool);

impl Drop for Over<'_> {
    fn drop(&mut self) {
        self.0.store(true, Ordering::SeqCst);
    }
}

/// Received, sealed, forked and read while it is compacted.
#[test]
fn it_goes_on_beside_everything_else() {
    let repository = Repository::new(settings());
    let timeline = repository.import();
    let mut random = Random(9);
    let mut pen = Pen::at_end(&timeline);
    let base: Vec<_> = (0..30)
        .map(|block| image(&mut random, block % 3, block / 3))
        .collect();
    receive_all(&timeline, &mut pen, base.into_iter());
    timeline.seal().unwrap();
    let first = (timeline.end(), picture(&timeline, timeline.end()));
    let over = AtomicBool::new(false);
    let steps = AtomicU64::new(0);
    std::thread::scope(|scope| {
        scope.spawn(|| {
            let mut random = Random(10);
            let mut seen = Lsn::INVALID;
            while !over.load(Ordering::SeqCst) {
                // As often as it is sealed: the same images again and again are no load that is.
                let sealed = timeline.sealed();
                if sealed == std::mem::replace(&mut seen, sealed) {
                    std::thread::yield_now();
                    continue;
                }
                let choice = any_choice(&timeline, &mut random, &[sealed]);
                for done in [
                    timeline.compact_as(choice, &|| false).unwrap(),
                    timeline.compact(&|| false).unwrap(),
                ] {
                    if done != Compacted::Nothing {
                        steps.fetch_add(1, Ordering::SeqCst);
                    }
                }
            }
        });
        scope.spawn(|| {
            while !over.load(Ordering::SeqCst) {
                assert!(picture(&timeline, first.0) == first.1);
                std::thread::yield_now();
            }
        });
        let _over = Over(&over);
        let mut ends = Vec::new();
        for round in 0..24 {
            let records: Vec<_> = (0..60)
                .map(|_| {
                    let (number, block) = (random.below_u32(3), random.below_u32(10));
                    update(&mut random, number, block)
                })
                .collect();
            receive_all(&timeline, &mut pen, records.into_iter());
            ends.push((timeline.end(), picture(&timeline, timeline.end())));
            timeline.seal().unwrap();
            assert_eq!(timeline.sealed(), timeline.end());
            if round % 10 == 5 {
                let fork = repository.fork(u8::try_from(round).unwrap() + 2, ROOT, ends[round].0);
                assert!(picture(&fork, ends[round].0) == ends[round].1);
            }
        }
        for (lsn, expected) in &ends {
            assert!(picture(&timeline, *lsn) == *expected, "at {lsn}");
        }
    });
    assert!(steps.load(Ordering::SeqCst) > 0);
    for id in repository.store.list() {
        let fork = repository.store.get(id).unwrap();
        assert!(picture(&fork, first.0) == first.1);
    }
    assert!(fsck(&repository.store, &mut |_, _| true).unwrap().is_empty());
    let deep = fsck_deep(&repository.store, &mut |_, _| true);
    assert!(deep.findings.is_empty(), "{:?}", deep.findings);
}

/// A map that a transfer or a prune changed meanwhile is not undone.
#[test]
fn layers_that_went_meanwhile_are_not_replaced() {
    let repository = Repository::new(Settings {
        layer_bytes: 1 << 20,
        ..settings()
    });
    let timeline = repository.import();
    let mut random = Random(11);
    let mut pen = Pen::at_end(&timeline);
    for _ in 0..3 {
        let records: Vec<_> = (0..5).map(|block| image(&mut random, 0, block)).collect();
        receive_all(&timeline, &mut pen, records.into_iter());
        timeline.seal().unwrap();
    }
    let map = timeline.layer_map().unwrap();
    let of = |count: usize| {
        let runs = runs(&map, timeline.start());
        Choice::Merge(Merge {
            layers: runs[..count]
                .iter()
                .flat_map(|run| run.layers.iter().copied())
                .collect(),
            lsns: neon_types::LsnRange {
                start: runs[count - 1].lsns.start,
                end: runs[0].lsns.end,
            },
        })
    };
    let merged = timeline.compact_as(of(2), &|| false).unwrap();
    assert!(
        matches!(merged, Compacted::Merged { from: 2, to: 1, .. }),
        "{merged:?}"
    );
    let now = timeline.layer_map().unwrap();
    assert_eq!(timeline.compact_as(of(3), &|| false).unwrap(), Compacted::Stopped);
    assert_eq!(timeline.layer_map().unwrap(), now);
}
