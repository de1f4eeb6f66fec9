//! Receiving: what is refused, what survives, what is trimmed.

use neon_postgres::wal::{Compression, NewBlock, RecordBuilder, rmgr};
use neon_types::{Lsn, LsnRange, RelTag};

use super::fixture::*;
use super::model::{Branch, Model};
use crate::failpoint::fail_once_here;
use crate::{PageStoreError, Settings, fsck};

fn image_record(random: &mut Random, block: u32) -> RecordBuilder {
    image_of(random, rel(0), block)
}

fn image_of(random: &mut Random, rel: RelTag, block: u32) -> RecordBuilder {
    let image = page(random);
    RecordBuilder::new(VERSION, rmgr::XLOG, 0xB0).block(NewBlock::new(0, rel, block).image(
        &image,
        true,
        Compression::None,
    ))
}

#[test]
fn bytes_go_only_between_the_last_whole_record_and_the_received_end() {
    let repository = Repository::new(settings());
    let timeline = repository.import();
    let mut random = Random(1);
    let mut pen = Pen::at_end(&timeline);
    let (first, span) = pen.write(image_record(&mut random, 0));
    let (second, _) = pen.write(image_record(&mut random, 1));
    receive(&timeline, &first);
    assert_eq!(timeline.end(), span.end);
    let refused = |at: Lsn| {
        matches!(
            timeline.append_wal(at, &[0; 8]),
            Err(PageStoreError::NotContiguous { .. })
        )
    };
    assert!(refused(START) && refused(Lsn(span.end.0 - 8)) && refused(Lsn(span.end.0 + 8)));
    // Half a record, then another connection that begins again at the last whole one.
    timeline.append_wal(span.end, &second[..100]).unwrap();
    assert_eq!(timeline.index_wal().unwrap(), span.end);
    timeline.append_wal(span.end, &second).unwrap();
    assert_eq!(timeline.index_wal().unwrap(), pen.at);
    assert_eq!(timeline.received_end(), pen.at);
}

#[test]
fn broken_bytes_are_told_and_can_be_replaced() {
    let repository = Repository::new(settings());
    let timeline = repository.import();
    let mut random = Random(2);
    let mut pen = Pen::at_end(&timeline);
    let (mut bytes, span) = pen.write(image_record(&mut random, 0));
    let good = bytes.clone();
    bytes[200] ^= 1;
    timeline.append_wal(START, &bytes).unwrap();
    assert!(matches!(
        timeline.index_wal(),
        Err(PageStoreError::BrokenWal { lsn: START, .. })
    ));
    assert!(
        matches!(timeline.index_wal(), Err(PageStoreError::BrokenWal { .. })),
        "it stays broken"
    );
    timeline.append_wal(START, &good).unwrap();
    assert_eq!(timeline.index_wal().unwrap(), span.end);
}

#[test]
fn a_stream_that_does_not_link_back_is_not_joined() {
    let repository = Repository::new(settings());
    let timeline = repository.import();
    let mut random = Random(3);
    let mut stranger = Pen::at_end(&timeline);
    stranger.write(image_record(&mut random, 0));
    stranger.at = START;
    let (bytes, _) = stranger.write(image_record(&mut random, 0));
    timeline.append_wal(START, &bytes).unwrap();
    assert!(timeline.index_wal().is_err());
    assert_eq!(timeline.end(), START);
}

#[test]
fn a_torn_tail_is_kept_and_written_over_after_a_crash() {
    let mut repository = Repository::new(settings());
    let timeline = repository.import();
    let mut random = Random(4);
    let mut pen = Pen::at_end(&timeline);
    let (first, span) = pen.write(image_record(&mut random, 0));
    let (second, _) = pen.write(image_record(&mut random, 1));
    receive(&timeline, &[&first[..], &second[..300]].concat());
    drop(timeline);
    repository.reopen();
    let timeline = repository.store.get(ROOT).unwrap();
    assert_eq!(timeline.end(), span.end);
    assert_eq!(timeline.received_end(), span.end + 300);
    timeline.append_wal(span.end, &second).unwrap();
    assert_eq!(timeline.index_wal().unwrap(), pen.at);
}

#[test]
fn wal_is_trimmed_in_whole_segments_and_only_when_sealed() {
    let repository = Repository::new(settings());
    let timeline = repository.import();
    let mut random = Random(5);
    let mut pen = Pen::at_end(&timeline);
    while pen.at < Lsn(0x10_0000 * 4 + 500_000) {
        let (bytes, _) = pen.write(image_record(&mut random, 0));
        receive(&timeline, &bytes);
    }
    assert_eq!(timeline.wal_start(), START);
    let rungs = timeline.ladder();
    assert_eq!(rungs.len(), 3, "the segments 1, 2 and 3 are whole");
    assert_eq!((rungs[0].start, rungs[0].end), (START, Lsn(0x20_0000)));
    let all = timeline
        .wal_bytes(LsnRange {
            start: START,
            end: Lsn(0x20_0000),
        })
        .unwrap();
    assert_eq!(rungs[0].blake3, *blake3::hash(&all).as_bytes());
    timeline.seal().unwrap();
    assert_eq!(timeline.wal_start(), Lsn(0x40_0000));
    assert!(matches!(
        timeline.wal_bytes(LsnRange {
            start: START,
            end: Lsn(0x20_0000)
        }),
        Err(PageStoreError::WalGone { .. })
    ));
    assert_eq!(timeline.ladder(), rungs);
    let open = timeline.digests(Lsn(0x30_0000), timeline.end()).unwrap();
    assert_eq!(open.len(), 2);
    assert_eq!((open[1].start, open[1].end), (Lsn(0x40_0000), timeline.end()));
}

#[test]
fn housekeeping_of_any_length_is_told_from_history_without_its_wal() {
    let mut repository = Repository::new(settings());
    let timeline = repository.import();
    assert_eq!(timeline.last_significant(), START, "an import begins history");
    let mut random = Random(8);
    let mut pen = Pen::at_end(&timeline);
    let commit = || {
        RecordBuilder::new(VERSION, rmgr::XACT, 0x00)
            .xid(750)
            .main(&0_i64.to_le_bytes())
    };
    let (bytes, committed) = pen.write(commit());
    receive(&timeline, &bytes);
    assert_eq!(timeline.last_significant(), committed.end);
    while timeline.wal_start() < committed.end {
        for _ in 0..100 {
            let (bytes, _) = pen.write(image_record(&mut random, 0));
            receive(&timeline, &bytes);
        }
        timeline.seal().unwrap();
        assert_eq!(timeline.last_significant(), committed.end);
    }
    drop(timeline);
    repository.reopen();
    let timeline = repository.store.get(ROOT).unwrap();
    assert!(timeline.wal_start() >= committed.end);
    assert_eq!(timeline.last_significant(), committed.end);
    // Open, and sealed.
    let (bytes, again) = pen.write(commit());
    receive(&timeline, &bytes);
    assert_eq!(timeline.last_significant(), again.end);
    timeline.seal().unwrap();
    assert_eq!(timeline.last_significant(), again.end);
    // Of a timeline of before, nobody knows: all that is sealed may be history.
    timeline.update_state(|state| state.significant = None).unwrap();
    assert_eq!(timeline.last_significant(), timeline.sealed());
    let fork = repository.fork(2, ROOT, committed.end);
    assert_eq!(fork.last_significant(), committed.end, "its start");
}

#[test]
fn retention_keeps_wal_that_is_sealed() {
    let repository = Repository::new(Settings {
        keep_wal: 2 << 20,
        ..settings()
    });
    let timeline = repository.import();
    let mut random = Random(6);
    let mut pen = Pen::at_end(&timeline);
    while pen.at < Lsn(0x10_0000 * 6) {
        let (bytes, _) = pen.write(image_record(&mut random, 0));
        receive(&timeline, &bytes);
    }
    timeline.seal().unwrap();
    assert_eq!(timeline.wal_start(), Lsn(0x40_0000));
}

#[test]
fn wal_that_a_transfer_was_planned_with_stays_until_it_is_over() {
    let repository = Repository::new(settings());
    let timeline = repository.import();
    let mut random = Random(15);
    let mut pen = Pen::at_end(&timeline);
    while pen.at < Lsn(0x10_0000 * 4) {
        let (bytes, _) = pen.write(image_record(&mut random, 0));
        receive(&timeline, &bytes);
    }
    let (from, to) = (timeline.start(), timeline.end());
    let keep = timeline.keep_wal(Some(from));
    timeline.seal().unwrap();
    assert!(timeline.wal_start() <= from, "{}", timeline.wal_start());
    assert_eq!(
        timeline
            .wal_bytes(LsnRange { start: from, end: to })
            .unwrap()
            .len() as u64,
        to.bytes_since(from)
    );
    drop(keep);
    timeline.trim().unwrap();
    assert!(timeline.wal_start() > from);
}

#[test]
fn a_ladder_survives_reopening() {
    let mut repository = Repository::new(settings());
    let timeline = repository.import();
    let mut random = Random(7);
    let mut pen = Pen::at_end(&timeline);
    let mut seals = 0;
    while pen.at < Lsn(0x10_0000 * 5) {
        let (bytes, _) = pen.write(image_record(&mut random, 0));
        receive(&timeline, &bytes);
        if timeline.wants_seal() {
            timeline.seal().unwrap();
            seals += 1;
        }
    }
    assert!(seals > 2);
    let rungs = timeline.ladder();
    let open = timeline.digests(Lsn(0x10_0000 * 4), timeline.end()).unwrap();
    drop(timeline);
    repository.reopen();
    let timeline = repository.store.get(ROOT).unwrap();
    assert_eq!(timeline.ladder(), rungs);
    assert_eq!(
        timeline.digests(Lsn(0x10_0000 * 4), timeline.end()).unwrap(),
        open
    );
}

#[test]
fn after_a_failed_fsync_nothing_is_acknowledged_until_it_was_received_again() {
    fail_an_fsync(false);
    fail_an_fsync(true);
}

fn fail_an_fsync(by_index: bool) {
    let repository = Repository::new(settings());
    let timeline = repository.import();
    let mut random = Random(8);
    let mut pen = Pen::at_end(&timeline);
    let (first, span) = pen.write(image_record(&mut random, 0));
    let (second, _) = pen.write(image_record(&mut random, 0));
    receive(&timeline, &first);
    timeline.append_wal(span.end, &second).unwrap();
    timeline.index_wal().unwrap();
    fail_once_here("wal-fsync");
    assert!(timeline.sync_wal().is_err());
    assert!(matches!(timeline.sync_wal(), Err(PageStoreError::Poisoned(_))));
    assert!(matches!(
        timeline.append_wal(pen.at, &second),
        Err(PageStoreError::Poisoned(_))
    ));
    assert!(timeline.seal().is_err(), "what may be lost is not sealed");
    let again = if by_index {
        timeline.index_wal()
    } else {
        timeline.reopen_wal()
    };
    assert_eq!(again.unwrap(), span.end);
    assert_eq!(timeline.end(), span.end);
    receive(&timeline, &second);
    assert_eq!(timeline.end(), pen.at);
    timeline.seal().unwrap();
    assert!(timeline.get_page(rel(0), 0, pen.at).is_ok());
}

#[test]
fn what_an_fsync_could_not_write_is_not_found_by_who_opens_the_files_next() {
    let mut repository = Repository::new(settings());
    let timeline = repository.import();
    let mut random = Random(8);
    let mut pen = Pen::at_end(&timeline);
    let (first, span) = pen.write(image_record(&mut random, 0));
    let (second, _) = pen.write(image_record(&mut random, 0));
    receive(&timeline, &first);
    timeline.append_wal(span.end, &second).unwrap();
    fail_once_here("wal-fsync");
    assert!(timeline.sync_wal().is_err());
    drop(timeline);
    repository.reopen();
    let timeline = repository.store.get(ROOT).unwrap();
    assert_eq!((timeline.end(), timeline.received_end()), (span.end, span.end));
    // Nor is what was acknowledged before lost by the next failure.
    timeline.append_wal(span.end, &second).unwrap();
    fail_once_here("wal-fsync");
    assert!(timeline.sync_wal().is_err());
    assert_eq!(timeline.index_wal().unwrap(), span.end);
    receive(&timeline, &second);
    assert_eq!(timeline.end(), pen.at);
}

#[test]
fn a_seal_that_fails_at_any_step_loses_nothing() {
    for step in [
        "seal-after-layer",
        "seal-after-map",
        "seal-before-swap",
        "seal-after-swap",
    ] {
        for reopen in [false, true] {
            let mut repository = Repository::new(settings());
            let mut timeline = repository.import();
            let mut random = Random(9);
            let mut pen = Pen::at_end(&timeline);
            for block in 0..40 {
                let (bytes, _) = pen.write(image_record(&mut random, block));
                receive(&timeline, &bytes);
            }
            let expected: Vec<_> = (0..40)
                .map(|block| timeline.get_page(rel(0), block, pen.at).unwrap())
                .collect();
            fail_once_here(step);
            assert!(timeline.seal().is_err(), "{step}");
            if reopen {
                drop(timeline);
                repository.reopen();
                timeline = repository.store.get(ROOT).unwrap();
            }
            let check = |timeline: &crate::Timeline| {
                for (block, page) in (0..).zip(&expected) {
                    assert!(
                        timeline.get_page(rel(0), block, pen.at).unwrap() == *page,
                        "{step}"
                    );
                }
            };
            check(&timeline);
            timeline.seal().unwrap();
            assert_eq!(timeline.sealed(), pen.at);
            check(&timeline);
            assert!(fsck(&repository.store, &mut |_, _| true).unwrap().is_empty());
        }
    }
}

/// A record that was sound when it was received, and is not when it is read again.
#[test]
fn a_bit_that_flips_in_the_file_is_found() {
    let repository = Repository::new(settings());
    let timeline = repository.import();
    let mut pen = Pen::at_end(&timeline);
    let (bytes, span) = pen.write(image_record(&mut Random(3), 0));
    receive(&timeline, &bytes);
    let directory = timeline.directory().join("wal");
    let file = std::fs::read_dir(directory)
        .unwrap()
        .next()
        .unwrap()
        .unwrap()
        .path();
    let sound = std::fs::read(&file).unwrap();
    let mut damaged = sound.clone();
    // In the middle of the page's image.
    let middle = (span.start.0 + 3000) % u64::from(SEGMENT);
    damaged[usize::try_from(middle).unwrap()] ^= 4;
    std::fs::write(&file, damaged).unwrap();
    let is_told =
        |error| matches!(error, PageStoreError::BrokenWal { reason, .. } if reason.contains("checksum"));
    assert!(is_told(timeline.get_page(rel(0), 0, pen.at).unwrap_err()));
    assert!(is_told(timeline.seal().unwrap_err()));
    std::fs::write(&file, &sound).unwrap();
    timeline.get_page(rel(0), 0, pen.at).unwrap();
    timeline.seal().unwrap();
}

/// Whichever thread meets it: the seal fails, ends, and succeeds once the WAL is there again.
#[test]
fn a_seal_whose_wal_is_damaged_says_so() {
    let repository = Repository::new(settings());
    let timeline = repository.import();
    let mut random = Random(77);
    let mut branch = Branch {
        id: ROOT,
        model: Model::default(),
    };
    branch.grow(&timeline, &mut random, 600, &mut 0);
    assert_eq!(timeline.sealed(), timeline.start());
    let wal = timeline.directory().join("wal");
    let mut files: Vec<_> = std::fs::read_dir(wal)
        .unwrap()
        .map(|entry| entry.unwrap().path())
        .collect();
    files.sort();
    let (first, sound) = (&files[0], std::fs::read(&files[0]).unwrap());
    assert!(files.len() > 1, "all of the first one is history");
    for share in [25, 50, 97] {
        let mut damaged = sound.clone();
        // Several records: one may be of no page.
        let at = sound.len() * share / 100;
        damaged[at..at + 30_000].iter_mut().for_each(|byte| *byte ^= 1);
        std::fs::write(first, damaged).unwrap();
        let sealed = timeline.seal();
        assert!(
            matches!(sealed, Err(PageStoreError::BrokenWal { .. })),
            "at {share} %: {sealed:?}"
        );
        std::fs::write(first, &sound).unwrap();
    }
    timeline.seal().unwrap();
    assert_eq!(timeline.sealed(), timeline.end());
    branch.model.check(&timeline, timeline.end());
    assert!(fsck(&repository.store, &mut |_, _| true).unwrap().is_empty());
}

#[test]
fn reads_and_ingest_go_on_while_seals_run() {
    let repository = Repository::new(settings());
    let timeline = repository.import();
    let stop = std::sync::atomic::AtomicBool::new(false);
    std::thread::scope(|scope| {
        scope.spawn(|| {
            while !stop.load(std::sync::atomic::Ordering::Relaxed) {
                timeline.seal().unwrap();
            }
        });
        scope.spawn(|| {
            while !stop.load(std::sync::atomic::Ordering::Relaxed) {
                let lsn = timeline.end();
                if timeline.rel_size(rel(0), lsn).unwrap().is_some() {
                    let page = timeline.get_page(rel(0), 0, lsn).unwrap();
                    assert!(page.lsn() <= lsn);
                    let mut seen = 0;
                    timeline
                        .scan_pages(rel(0), 0..10, lsn, &mut |_, page| {
                            assert!(page.lsn() <= lsn);
                            seen += 1;
                            Ok(())
                        })
                        .unwrap();
                    assert_eq!(Some(seen), timeline.rel_size(rel(0), lsn).unwrap());
                }
            }
        });
        let mut random = Random(10);
        let mut pen = Pen::at_end(&timeline);
        for round in 0..400 {
            let (bytes, span) = pen.write(image_record(&mut random, round % 10));
            receive(&timeline, &bytes);
            assert_eq!(
                timeline.get_page(rel(0), round % 10, span.end).unwrap().lsn(),
                span.end
            );
        }
        stop.store(true, std::sync::atomic::Ordering::Relaxed);
    });
    assert!(timeline.wal_start() > START);
}

#[test]
fn a_fork_gets_its_own_map_and_then_wal_may_go() {
    for open in [true, false] {
        let mut repository = Repository::new(settings());
        let timeline = repository.import();
        let mut random = Random(11);
        let mut pen = Pen::at_end(&timeline);
        let mut fork_at = START;
        while pen.at < Lsn(0x10_0000 * 4) {
            let (bytes, span) = pen.write(image_record(&mut random, 0));
            receive(&timeline, &bytes);
            if span.end < Lsn(0x18_0000) {
                fork_at = span.end;
            }
        }
        let expected = timeline.get_page(rel(0), 0, fork_at).unwrap();
        let fork = repository.fork(2, ROOT, fork_at);
        assert!(
            fork.layer_map().is_none(),
            "nothing is sealed: it reads through its ancestor"
        );
        assert!(fork.get_page(rel(0), 0, fork_at).unwrap() == expected);
        let id = fork.id();
        drop((timeline, fork));
        repository.reopen();
        let timeline = repository.store.get(ROOT).unwrap();
        let fork = open.then(|| repository.store.get(id).unwrap());
        timeline.seal().unwrap();
        assert_eq!(timeline.wal_start(), Lsn(0x40_0000), "open: {open}");
        let fork = fork.unwrap_or_else(|| repository.store.get(id).unwrap());
        let map = fork.layer_map().unwrap();
        assert_eq!(map.sealed(), fork_at);
        assert!(map.entries().all(|entry| entry.visible().end <= fork_at));
        assert!(fork.get_page(rel(0), 0, fork_at).unwrap() == expected);
        // It goes on by itself, and its ancestor does not move it.
        let mut pen = Pen::at_end(&fork);
        let (bytes, span) = pen.write(image_record(&mut random, 0));
        receive(&fork, &bytes);
        fork.seal().unwrap();
        assert_eq!(fork.get_page(rel(0), 0, span.end).unwrap().lsn(), span.end);
        assert!(matches!(
            repository.store.remove(ROOT),
            Err(PageStoreError::TimelineNeeded { .. })
        ));
        repository.store.remove(id).unwrap();
        repository.store.remove(ROOT).unwrap();
        assert!(repository.store.list().is_empty());
    }
}

#[test]
fn a_record_that_redo_does_not_know_is_named_and_hurts_nobody_else() {
    let repository = Repository::new(settings());
    let timeline = repository.import();
    let mut random = Random(12);
    let mut pen = Pen::at_end(&timeline);
    const CUSTOM: u8 = 200;
    assert!(!neon_redo::is_supported(CUSTOM, 0));
    let (bytes, before) = pen.write(image_record(&mut random, 0));
    receive(&timeline, &bytes);
    let (bytes, span) =
        pen.write(RecordBuilder::new(VERSION, CUSTOM, 0).block(NewBlock::new(0, rel(0), 0).data(&[1, 2])));
    receive(&timeline, &bytes);
    let (bytes, _) = pen.write(image_record(&mut random, 1));
    receive(&timeline, &bytes);
    for sealed in [false, true] {
        if sealed {
            timeline.seal().unwrap();
        }
        assert!(timeline.get_page(rel(0), 0, before.end).is_ok());
        match timeline.get_page(rel(0), 0, pen.at) {
            Err(PageStoreError::Unsupported { lsn, .. }) => assert_eq!(lsn, span.end),
            other => panic!("{other:?}"),
        }
        assert!(timeline.get_page(rel(0), 1, pen.at).is_ok());
        assert!(timeline.unsupported_records(before.end).unwrap().is_empty());
        let marks = timeline.unsupported_records(pen.at).unwrap();
        assert_eq!((marks.len(), marks[0].0, marks[0].2), (1, rel(0), span.end));
    }
}

#[test]
fn a_fork_at_the_start_of_a_fork_seals_over_all_that_is_below() {
    let repository = Repository::new(settings());
    let root = repository.import();
    let mut random = Random(13);
    let mut pen = Pen::at_end(&root);
    let (bytes, span) = pen.write(image_record(&mut random, 3));
    receive(&root, &bytes);
    let expected = root.get_page(rel(0), 3, span.end).unwrap();
    repository.fork(2, ROOT, span.end);
    repository.fork(3, neon_types::TimelineId([2; 16]), span.end);
    let last = repository.fork(4, neon_types::TimelineId([3; 16]), span.end);
    let mut pen = Pen::at_end(&last);
    let (bytes, span) = pen.write(image_record(&mut random, 0));
    receive(&last, &bytes);
    last.seal().unwrap();
    assert!(last.get_page(rel(0), 3, span.end).unwrap() == expected);
    assert_eq!(last.get_page(rel(0), 0, span.end).unwrap().lsn(), span.end);
    assert!(
        crate::fsck(&repository.store, &mut |_, _| true)
            .unwrap()
            .is_empty()
    );
}

#[test]
fn what_was_acknowledged_stays_on_disk_when_a_connection_begins_again() {
    let mut repository = Repository::new(settings());
    let timeline = repository.import();
    let mut random = Random(14);
    let mut pen = Pen::at_end(&timeline);
    let (first, span) = pen.write(image_record(&mut random, 0));
    let (second, _) = pen.write(image_record(&mut random, 1));
    receive(&timeline, &[&first[..], &second[..2000]].concat());
    assert_eq!(timeline.sync_wal().unwrap(), span.end + 2000);
    // The new connection has brought only a little of it when everything ends.
    timeline.append_wal(span.end, &second[..100]).unwrap();
    assert_eq!(timeline.received_end(), span.end + 100);
    assert_eq!(timeline.index_wal().unwrap(), span.end);
    assert_eq!(timeline.sync_wal().unwrap(), span.end + 100);
    drop(timeline);
    repository.reopen();
    let timeline = repository.store.get(ROOT).unwrap();
    assert_eq!(timeline.received_end(), span.end + 2000);
    // Other bytes than before replace what is there.
    let mut other = Pen::at_end(&timeline);
    let (third, _) = other.write(image_record(&mut random, 2));
    timeline.append_wal(span.end, &third[..50]).unwrap();
    timeline.append_wal(span.end + 50, &third[50..]).unwrap();
    assert_eq!(timeline.index_wal().unwrap(), other.at);
    assert_eq!(timeline.received_end(), other.at);
    drop(timeline);
    repository.reopen();
    assert_eq!(repository.store.get(ROOT).unwrap().received_end(), other.at);
}

#[test]
fn two_who_sync_at_once_both_wait() {
    let repository = Repository::new(settings());
    let timeline = repository.import();
    let mut random = Random(15);
    let mut pen = Pen::at_end(&timeline);
    std::thread::scope(|scope| {
        for _ in 0..100 {
            let (bytes, span) = pen.write(image_record(&mut random, 0));
            timeline.append_wal(timeline.received_end(), &bytes).unwrap();
            let both = [(); 2].map(|()| scope.spawn(|| timeline.sync_wal().unwrap()));
            for one in both {
                assert_eq!(one.join().unwrap(), span.end);
            }
            timeline.index_wal().unwrap();
        }
    });
}

#[test]
fn a_fork_does_not_see_records_that_its_ancestor_wrote_later() {
    let repository = Repository::new(settings());
    let root = repository.import();
    let mut random = Random(14);
    let mut pen = Pen::at_end(&root);
    let (bytes, forked_at) = pen.write(image_record(&mut random, 0));
    receive(&root, &bytes);
    let small = || RecordBuilder::new(VERSION, rmgr::LOGICALMSG, 0).main(&[7; 40]);
    let (bytes, later) = pen.write(small());
    receive(&root, &bytes);
    let fork = repository.fork(2, ROOT, forked_at.end);
    let forks_fork = repository.fork(3, fork.id(), forked_at.end);
    for sealed in [false, true] {
        for timeline in [&fork, &forks_fork] {
            if !sealed {
                // Its own first record ends behind the one that the ancestor wrote there.
                let (bytes, own) = Pen::at_end(timeline).write(image_record(&mut random, 1));
                assert!(own.end > later.end);
                receive(timeline, &bytes);
            }
            assert_eq!(timeline.record_at_or_before(later.end).unwrap(), forked_at);
        }
        root.seal().unwrap();
        fork.seal().unwrap();
        forks_fork.seal().unwrap();
    }
    assert_eq!(root.record_at_or_before(later.end).unwrap(), later);
}

#[test]
fn usage_shares_layers_out_to_relations() {
    let repository = Repository::new(settings());
    let timeline = repository.import();
    let before = timeline.usage(timeline.end(), &mut |_, _| true).unwrap();
    let mut random = Random(3);
    let mut pen = Pen::at_end(&timeline);
    for number in [1, 2] {
        for block in 0..40 {
            let (bytes, _) = pen.write(image_of(&mut random, rel(number), block));
            receive(&timeline, &bytes);
        }
    }
    timeline.seal().unwrap();
    let usage = timeline.usage(timeline.end(), &mut |_, _| true).unwrap();
    let layers = timeline.layers_at(timeline.end()).unwrap();
    let stored: u64 = layers.entries().map(|entry| entry.len).sum();
    assert_eq!(usage.total(), stored, "every byte belongs somewhere");
    let of = |usage: &crate::Usage, number: u32| {
        let rel = rel(number);
        usage
            .relations
            .get(&(rel.spc, rel.db, rel.rel))
            .copied()
            .unwrap_or(0)
    };
    for number in [1, 2] {
        let grown = of(&usage, number) - of(&before, number);
        assert!(grown > 2000, "{number}: {grown}");
    }
}

/// What is indexed and not sealed has a bound in memory, whoever indexes: one who receives, one who opens.
#[test]
fn indexing_seals_when_memory_is_full() {
    const ROOM: usize = 64 << 10;
    let tight = Settings {
        index_memory: ROOM,
        ..settings()
    };
    let mut repository = Repository::new(settings());
    let timeline = repository.import();
    let mut random = Random(41);
    let mut pen = Pen::at_end(&timeline);
    let current = page(&mut random);
    let mut write = |blocks: std::ops::Range<u32>| -> Vec<u8> {
        let records = blocks.map(|block| {
            let block = NewBlock::new(0, rel(2), block).image(&current, true, Compression::None);
            pen.write(RecordBuilder::new(VERSION, 0, 0xB0).block(block)).0
        });
        records.collect::<Vec<_>>().concat()
    };
    receive(&timeline, &write(0..1500));
    assert_eq!(timeline.sealed(), START, "there is room for it");
    let end = timeline.end();
    drop(timeline);
    repository.reopen_with(tight);
    let timeline = repository.store.get(ROOT).unwrap();
    assert_eq!(timeline.end(), end, "all of it is indexed");
    assert!(timeline.sealed() > START, "and most of it sealed");
    // An error of the seal is told, and loses nothing.
    fail_once_here("seal-after-layer");
    timeline.append_wal(end, &write(1500..3000)).unwrap();
    timeline.sync_wal().unwrap();
    assert!(timeline.index_wal().is_err());
    let stuck = timeline.end();
    assert!(stuck >= end && stuck < timeline.received_end());
    assert_eq!(timeline.index_wal().unwrap(), timeline.received_end());
    assert!(timeline.sealed() > stuck);
    for block in [0, 1499, 1500, 2999] {
        let found = timeline.get_page(rel(2), block, timeline.end()).unwrap();
        assert_eq!(found.as_bytes()[8..], current.as_bytes()[8..], "all but the LSN");
    }
}
