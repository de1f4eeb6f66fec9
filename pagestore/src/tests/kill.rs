//! `kill -9` at every named step of a seal, in a process of its own; then reopen and compare.

use std::path::Path;
use std::process::Command;

use neon_postgres::wal::{Compression, NewBlock, RecordBuilder, rmgr};

use super::fixture::*;

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
        let output = Command::new(std::env::current_exe().unwrap())
            .args(["tests::kill::child", "--exact", "--ignored", "--nocapture"])
            .env(DIRECTORY, directory.path())
            .env("NEON_FAILPOINTS", format!("{point}=kill:{visit}"))
            .output()
            .unwrap();
        assert!(!output.status.success(), "{point}");
        let log = String::from_utf8_lossy(&output.stderr);
        assert!(log.contains(&format!("failpoint {point}")), "{log}");
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
