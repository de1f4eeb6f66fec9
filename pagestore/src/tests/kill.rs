//! `kill -9` at every named step of a seal and of a compaction, in a process of its own; then reopen and compare.

use std::path::Path;
use std::process::Command;

use neon_postgres::wal::{Compression, NewBlock, RecordBuilder, rmgr};

use neon_types::Lsn;

use super::compact::{STEPS, any_choice, picture, settle};
use super::fixture::*;
use crate::Timeline;

const DIRECTORY: &str = "NEON_KILL_TEST_DIRECTORY";
const ROUNDS: u32 = 30;

/// Fills a timeline, sealing now and then, until a failpoint ends the process.
#[test]
#[ignore = "runs in a process of its own, started by the test below"]
fn child() {
    let directory = std::env::var_os(DIRECTORY).unwrap();
    let repository = Repository::at(Path::new(&directory), settings());
    let timeline = repository.import();
    let mut random = Random(1);
    let mut pen = Pen::at_end(&timeline);
    for round in 0..ROUNDS {
        for block in 0..10 {
            let image = page(&mut random);
            let block = NewBlock::new(0, rel(0), block).image(&image, true, Compression::None);
            let (bytes, span) = pen.write(RecordBuilder::new(VERSION, rmgr::XLOG, 0xB0).block(block));
            receive(&timeline, &bytes);
            // Acknowledged: what stands here must be there afterwards.
            std::fs::write(Path::new(&directory).join("acknowledged"), span.end.0.to_string()).unwrap();
        }
        if round % 5 == 4 {
            timeline.seal().unwrap();
        }
    }
}

/// Writes, seals and compacts, the same each time; calls `each` after every seal.
fn fill(timeline: &Timeline, compacts: bool, each: &mut dyn FnMut(Lsn)) {
    let mut random = Random(2);
    let mut choices = Random(3);
    let mut pen = Pen::at_end(timeline);
    let mut ends = Vec::new();
    for round in 0..12_u32 {
        let mut bytes = Vec::new();
        for block in 0..10 {
            let image = page(&mut random);
            let block = NewBlock::new(0, rel(round % 3), block).image(&image, true, Compression::None);
            bytes.extend_from_slice(
                &pen.write(RecordBuilder::new(VERSION, rmgr::XLOG, 0xB0).block(block))
                    .0,
            );
        }
        receive(timeline, &bytes);
        timeline.seal().unwrap();
        ends.push(timeline.sealed());
        each(timeline.sealed());
        if compacts {
            let choice = any_choice(timeline, &mut choices, &ends);
            timeline.compact_as(choice, &|| false).unwrap();
            settle(timeline);
        }
    }
}

/// Compacts until a failpoint ends the process.
#[test]
#[ignore = "runs in a process of its own, started by the test below"]
fn compacting_child() {
    let directory = std::env::var_os(DIRECTORY).unwrap();
    let repository = Repository::at(Path::new(&directory), settings());
    let timeline = repository.import();
    fill(&timeline, true, &mut |end| {
        std::fs::write(Path::new(&directory).join("acknowledged"), end.0.to_string()).unwrap();
    });
}

#[test]
fn nothing_changes_when_a_compaction_is_killed() {
    // What everything was, without compaction.
    let expected = Repository::new(settings());
    let timeline = expected.import();
    let mut pictures = Vec::new();
    fill(&timeline, false, &mut |end| {
        pictures.push((end, picture(&timeline, end)))
    });
    for (point, visit) in STEPS
        .into_iter()
        .zip([1, 2, 5, 9])
        .chain(STEPS.into_iter().zip([13, 7, 1, 2]))
    {
        let directory = tempfile::tempdir().unwrap();
        killed_at(point, visit, directory.path(), "tests::kill::compacting_child");
        let acknowledged = std::fs::read_to_string(directory.path().join("acknowledged")).unwrap();
        let acknowledged = Lsn(acknowledged.parse().unwrap());
        let repository = Repository::at(directory.path(), settings());
        let timeline = repository.store.get(ROOT).unwrap();
        assert!(timeline.end() >= acknowledged, "{point}");
        let check = |when: &str| {
            for (lsn, picture_then) in pictures.iter().filter(|(lsn, _)| *lsn <= acknowledged) {
                assert!(
                    picture(&timeline, *lsn) == *picture_then,
                    "{point}, {when}, at {lsn}"
                );
            }
            let findings = crate::fsck(&repository.store, &mut |_, _| true).unwrap();
            assert!(findings.is_empty(), "{point}, {when}: {findings:?}");
        };
        check("reopened");
        settle(&timeline);
        check("compacted again");
    }
}

/// Runs a child until it is killed there.
fn killed_at(point: &str, visit: u32, directory: &Path, child: &str) {
    let output = Command::new(std::env::current_exe().unwrap())
        .args([child, "--exact", "--ignored", "--nocapture"])
        .env(DIRECTORY, directory)
        .env("NEON_FAILPOINTS", format!("{point}=kill:{visit}"))
        .output()
        .unwrap();
    assert!(!output.status.success(), "{point}");
    let log = String::from_utf8_lossy(&output.stderr);
    assert!(log.contains(&format!("failpoint {point}")), "{log}");
}

#[test]
fn nothing_acknowledged_is_lost_when_a_seal_is_killed() {
    for (point, visit) in [
        ("seal-after-layer", 1),
        ("seal-after-layer", 3),
        ("seal-after-map", 1),
        ("seal-before-swap", 2),
        ("seal-after-swap", 1),
        ("seal-after-swap", 2),
        ("wal-fsync", 77),
    ] {
        let directory = tempfile::tempdir().unwrap();
        killed_at(point, visit, directory.path(), "tests::kill::child");
        let acknowledged = std::fs::read_to_string(directory.path().join("acknowledged")).unwrap();
        let repository = Repository::at(directory.path(), settings());
        let timeline = repository.store.get(ROOT).unwrap();
        assert!(timeline.end().0 >= acknowledged.parse().unwrap(), "{point}");
        let end = timeline.end();
        for block in 0..10 {
            assert!(timeline.get_page(rel(0), block, end).unwrap().lsn() <= end);
        }
        timeline.seal().unwrap();
        assert!(
            crate::fsck(&repository.store, &mut |_, _| true)
                .unwrap()
                .is_empty(),
            "{point}"
        );
    }
}
