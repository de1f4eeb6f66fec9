//! History is dropped at random, and what is retained reads as in the plain map; what is not says so.

use std::sync::Arc;

use neon_postgres::wal::{Compression, NewBlock, RecordBuilder, rmgr};
use neon_types::{Key, KeyRange, Lsn, PackedKey};

use super::fixture::*;
use super::model::{Branch, Model};
use crate::layer::LayerWriter;
use crate::map::MapEntry;
use crate::timeline::first_block_key;
use crate::{PageStoreError, Settings, Span, Spans, Timeline, Value, fsck, fsck_deep};

/// Writes image layers of all keys but the small ones at the sealed LSN, as compaction does.
fn write_images(timeline: &Timeline, random: &mut Random, partly: bool) {
    let map = timeline.layer_map().unwrap();
    let lsn = map.sealed();
    if map
        .entries()
        .any(|entry| entry.lsns.start == lsn && entry.lsns.end == lsn)
        || lsn <= START
    {
        return;
    }
    let first = Key::File { path_hash: 0 }.pack();
    let mut values: Vec<(PackedKey, Value)> = Vec::new();
    let items = KeyRange {
        start: first,
        end: first_block_key(),
    };
    timeline
        .scan_items(items, lsn, &mut |key, bytes| {
            let value = if let Key::SlruPage { .. } = key {
                let mut page = neon_postgres::Page::zeroed();
                page.as_bytes_mut().copy_from_slice(bytes);
                Value::Image(page)
            } else {
                Value::Item(bytes.to_vec())
            };
            values.push((key.pack(), value));
            Ok(())
        })
        .unwrap();
    for number in 0..3 {
        if timeline.rel_size(rel(number), lsn).unwrap().is_none() {
            continue;
        }
        let page = &mut |block: u32, page: &neon_postgres::Page| {
            // What was never written since it came to exist is not in an image.
            if *page != neon_postgres::Page::zeroed() {
                values.push((Key::Block(rel(number), block).pack(), Value::Image(page.clone())));
            }
            Ok(())
        };
        timeline.scan_pages(rel(number), 0..u32::MAX, lsn, page).unwrap();
    }
    // In two layers, so that keys are covered by several.
    let cut = values.get(usize::try_from(random.below(values.len() as u64 + 1)).unwrap());
    let cut = cut
        .map_or(Key::Block(rel(1), 3).pack(), |(key, _)| *key)
        .max(items.end);
    let objects = &timeline.core().objects;
    let mut entries = Vec::new();
    for keys in [(first, cut), (cut, PackedKey::MAX)] {
        let mut writer = LayerWriter::image(objects, lsn).unwrap();
        for (key, value) in values.iter().filter(|(key, _)| keys.0 <= *key && *key < keys.1) {
            writer.add(key, lsn, value.stored(true)).unwrap();
        }
        let keys = KeyRange {
            start: keys.0,
            end: keys.1,
        };
        entries.push(MapEntry::whole(&writer.finish(keys).unwrap()));
        if partly && random.below(5) == 0 {
            break;
        }
    }
    let map = map.with(lsn, entries);
    let id = map.write(objects).unwrap();
    timeline.swap_map(Arc::new(map), id, lsn, None, None).unwrap();
}

fn any_boundary(random: &mut Random, model: &Model, timeline: &Timeline) -> Lsn {
    let ends = model.ends();
    match ends.len() {
        0 => timeline.start(),
        count => ends[usize::try_from(random.below(count as u64)).unwrap()],
    }
}

/// Looks at positions of all kinds.
fn check(model: &Model, timeline: &Timeline, readable: &Spans, random: &mut Random) {
    for _ in 0..6 {
        let lsn = any_boundary(random, model, timeline);
        if lsn < timeline.start() {
            // A position of its ancestor, which has dropped its own.
            continue;
        }
        if readable.contains(lsn) {
            model.check(timeline, lsn);
        } else {
            let refused = timeline.rel_size(rel(0), lsn);
            let next = readable.next(lsn).map(|(next, _)| next);
            assert!(
                matches!(refused, Err(PageStoreError::Dropped { from, .. }) if from == next),
                "{lsn}: {refused:?}"
            );
            assert!(timeline.checkpoint_state(lsn).is_err());
        }
    }
    model.check(timeline, timeline.end());
}

/// Returns how many layers went, how many bytes of others, and how many versions could be derived again.
fn run(seed: u64, steps: u32) -> (u64, u64, u64) {
    let mut random = Random(seed);
    let mut repository = Repository::new(Settings {
        keep_wal: if seed.is_multiple_of(2) { 0 } else { u64::MAX },
        ..settings()
    });
    repository.import();
    let mut branches = vec![(
        Branch {
            id: ROOT,
            model: Model::default(),
        },
        [Span::since(START)].into_iter().collect::<Spans>(),
    )];
    let (mut clock, mut dropped, mut shrunk) = (0, 0, 0);
    for _ in 0..steps {
        let chosen = usize::try_from(random.below(branches.len() as u64)).unwrap();
        let count = branches.len();
        let (branch, readable) = &mut branches[chosen];
        let timeline = repository.store.get(branch.id).unwrap();
        match random.below(17) {
            0..4 => {
                let records = 1 + random.below(25);
                branch.grow(&timeline, &mut random, records, &mut clock);
            }
            4..6 => {
                timeline.seal().unwrap();
            }
            // Where there are no images, layers go only when they are merged and shrunk.
            6..8 if timeline.layer_map().is_some() && seed.is_multiple_of(3) => {
                write_images(&timeline, &mut random, true)
            }
            8 => repository.reopen(),
            9 if count < 4 => {
                let lsn = any_boundary(&mut random, &branch.model, &timeline).max(timeline.start());
                if readable.contains(lsn) && branch.model.ends().contains(&lsn) {
                    let fork = repository.fork(u8::try_from(count + 1).unwrap(), timeline.id(), lsn);
                    let forked = Branch {
                        id: fork.id(),
                        model: branch.model.cut_at(lsn),
                    };
                    branches.push((forked, [Span::since(lsn)].into_iter().collect()));
                }
            }
            10..13 => {
                let mut wanted = vec![Span::since(any_boundary(&mut random, &branch.model, &timeline))];
                for _ in 0..random.below(3) {
                    wanted.push(Span::at(any_boundary(&mut random, &branch.model, &timeline)));
                }
                let wanted: Spans = wanted.into_iter().collect();
                let planned = timeline.retain(&wanted, true, true).unwrap();
                check(&branch.model, &timeline, readable, &mut random);
                let done = timeline.retain(&wanted, true, false).unwrap();
                assert_eq!(planned, done, "a dry run plans what is done");
                if !done.layers.is_empty() || done.shrinkable > 0 {
                    let state = timeline.state().readable.unwrap();
                    let own: Spans = [Span::since(timeline.start())].into_iter().collect();
                    let (state, wanted) = (state.and(&own), wanted.and(readable).and(&own));
                    assert_eq!(state.and(&wanted), wanted, "no less");
                    assert_eq!(state.and(readable), state, "no more than before");
                    *readable = state;
                }
                dropped += done.layers.len() as u64;
            }
            13..15 => {
                let done = timeline.shrink(&|| false).unwrap();
                assert!(done.to <= done.from);
                shrunk += done.from - done.to;
                check(&branch.model, &timeline, readable, &mut random);
            }
            15 => {
                timeline.compact(&|| false).unwrap();
            }
            _ => check(&branch.model, &timeline, readable, &mut random),
        }
    }
    repository.reopen();
    for (branch, readable) in &branches {
        let timeline = repository.store.get(branch.id).unwrap();
        check(&branch.model, &timeline, readable, &mut random);
    }
    let findings = fsck(&repository.store, &mut |_, _| true).unwrap();
    assert!(findings.is_empty(), "{findings:?}");
    let deep = fsck_deep(&repository.store, &mut |_, _| true);
    assert!(deep.findings.is_empty(), "{:?}", deep.findings);
    (dropped, shrunk, deep.versions)
}

#[test]
fn what_is_retained_reads_as_before_and_what_is_not_says_so() {
    let (mut dropped, mut shrunk, mut derived) = (0, 0, 0);
    for seed in 0..24 {
        let (layers, bytes, versions) = run(seed, 60);
        dropped += layers;
        shrunk += bytes;
        derived += versions;
    }
    assert!(dropped > 50, "{dropped} layers went");
    assert!(shrunk > 1000, "{shrunk} bytes of others went");
    assert!(derived > 1000, "{derived} versions were derived again");
}

/// Positions inside a run keep what they see of it, not all of it, whoever else sees more.
#[test]
fn a_run_keeps_what_is_readable_of_it() {
    let (mut shrunk, mut inside) = (0, 0);
    for seed in 0..20 {
        let mut random = Random(seed);
        let repository = Repository::new(settings());
        let timeline = repository.import();
        let mut branch = Branch {
            id: ROOT,
            model: Model::default(),
        };
        branch.grow(&timeline, &mut random, 300, &mut 0);
        timeline.seal().unwrap();
        let ends = branch.model.ends();
        let mut wanted = vec![Span::since(timeline.end())];
        for _ in 0..2 {
            wanted.push(Span::at(any_boundary(&mut random, &branch.model, &timeline)));
        }
        if seed.is_multiple_of(2) {
            let from = usize::try_from(random.below(ends.len() as u64)).unwrap();
            let to = ends.get(from + 20).or(ends.last()).unwrap();
            wanted.push(Span {
                from: ends[from],
                to: *to,
            });
        }
        let wanted: Spans = wanted.into_iter().collect();
        for _ in 0..2 {
            timeline.retain(&wanted, true, false).unwrap();
            let done = timeline.shrink(&|| false).unwrap();
            shrunk += u64::from(done.from > 0);
            // What every layer must answer for, each readable position, and those that are not.
            for lsn in ends.iter().filter(|lsn| wanted.contains(**lsn)) {
                branch.model.check(&timeline, *lsn);
                inside += u64::from(*lsn < timeline.sealed());
            }
            check(
                &branch.model,
                &timeline,
                &timeline.readable().unwrap(),
                &mut random,
            );
        }
        let findings = fsck(&repository.store, &mut |_, _| true).unwrap();
        assert!(findings.is_empty(), "{findings:?}");
        let deep = fsck_deep(&repository.store, &mut |_, _| true);
        assert!(deep.findings.is_empty(), "{:?}", deep.findings);
    }
    assert!(shrunk > 15 && inside > 60, "{shrunk} runs, {inside} positions");
}

/// A database that was copied file by file reads its pages where it was copied, until it writes them.
#[test]
fn what_a_copy_was_made_of_is_retained() {
    let repository = Repository::new(settings());
    let timeline = repository.import();
    let mut random = Random(5);
    let mut pen = Pen::at_end(&timeline);
    let mut write = |record: RecordBuilder| {
        let (bytes, span) = pen.write(record);
        receive(&timeline, &bytes);
        span.end
    };
    let image = |page: &neon_postgres::Page, block| {
        let block = NewBlock::new(0, rel(0), block).image(page, true, Compression::None);
        RecordBuilder::new(VERSION, rmgr::XLOG, 0xB0).block(block)
    };
    let (old, new) = (page(&mut random), page(&mut random));
    write(image(&old, 0));
    timeline.seal().unwrap();
    let words = [77_u32, 1663, 5, 1663];
    let main: Vec<u8> = words.iter().flat_map(|word| word.to_le_bytes()).collect();
    let copied_at = write(RecordBuilder::new(VERSION, rmgr::DBASE, 0).main(&main));
    timeline.seal().unwrap();
    write(image(&new, 0));
    timeline.seal().unwrap();
    write_images(&timeline, &mut random, false);
    let end = timeline.end();
    let copy = neon_types::RelTag { db: 77, ..rel(0) };
    let before = timeline.get_page(copy, 0, end).unwrap();
    assert_eq!(
        before.as_bytes()[4096..],
        old.as_bytes()[4096..],
        "as it was when it was copied"
    );

    let dropped = timeline
        .retain(&[Span::since(end)].into_iter().collect(), true, false)
        .unwrap();
    assert!(!dropped.layers.is_empty());
    assert!(timeline.readable().unwrap().contains(copied_at));
    assert_eq!(timeline.get_page(copy, 0, end).unwrap(), before);
    assert_eq!(
        timeline.get_page(rel(0), 0, end).unwrap().as_bytes()[4096..],
        new.as_bytes()[4096..]
    );
    assert!(fsck(&repository.store, &mut |_, _| true).unwrap().is_empty());
}
