//! The oracle over directories of segments.

use std::fs;
use std::path::Path;

use neon_postgres::wal::segment::file_name;
use neon_postgres::wal::{Compression, NewBlock, RecordBuilder, StreamParams, StreamWriter, rmgr};
use neon_postgres::{Page, PgVersion};
use neon_redo::oracle::{Options, OracleError, Report, Sampler, run};
use neon_types::Lsn;

use crate::rules::{REL, heap_page};

const SEGMENT: u32 = 1 << 20;
const PARAMS: StreamParams = StreamParams {
    version: PgVersion::V17,
    system_id: 7,
    tli: 1,
    segment_size: SEGMENT,
};
const FIRST: u64 = 3;

struct Log(StreamWriter);

impl Log {
    fn new() -> Log {
        Log(StreamWriter::new(PARAMS, Lsn(FIRST * u64::from(SEGMENT)), Lsn(0)))
    }

    /// Writes a sequence record, whose image has `value` at its end.
    fn sequence(&mut self, block: u32, value: u8, image: u8) {
        let mut main = [0; 36];
        main[35] = value;
        let mut after = heap_page();
        after.init(8);
        let special = usize::from(after.special());
        let bytes = after.as_bytes_mut();
        bytes[special..special + 2].copy_from_slice(&[0x17, 0x17]);
        bytes[special - 1] = image;
        bytes[24..28].copy_from_slice(&(8160_u32 | 1 << 15 | 24 << 17).to_le_bytes());
        after.set_lower(28);
        after.set_upper(8160);
        self.block(
            rmgr::SEQ,
            0,
            &main,
            NewBlock::new(0, REL, block).will_init(),
            Some(&after),
        );
    }

    fn block(&mut self, rmid: u8, info: u8, main: &[u8], block: NewBlock, after: Option<&Page>) {
        let block = match after {
            Some(after) => block.image(after, false, Compression::None),
            None => block,
        };
        self.0.push(
            RecordBuilder::new(PgVersion::V17, rmid, info)
                .xid(700)
                .main(main)
                .block(block),
        );
    }

    fn write(self, dir: &Path) {
        let bytes = self.0.into_bytes();
        for (number, chunk) in bytes.chunks(SEGMENT as usize).enumerate() {
            let mut segment = chunk.to_vec();
            segment.resize(SEGMENT as usize, 0);
            let name = file_name(1, FIRST + number as u64, SEGMENT);
            fs::write(dir.join(name), segment).expect("can write to a temporary directory");
        }
    }
}

fn check(dir: &Path, max_pages: usize) -> Result<Report, OracleError> {
    let options = Options {
        max_pages,
        ..Options::default()
    };
    run(dir, options, &mut Sampler::new(0), &mut |_| {})
}

#[test]
fn a_wrong_page_is_described() {
    let dir = tempfile::tempdir().expect("can make a temporary directory");
    let mut log = Log::new();
    log.sequence(0, 1, 1);
    log.sequence(0, 2, 3);
    log.sequence(0, 4, 4);
    log.write(dir.path());
    let report = check(dir.path(), 100).expect("is a log");
    let total = report.total();
    assert_eq!((total.records, total.checked, total.mismatched), (3, 3, 1));
    let described = report.mismatches[0].to_string();
    assert!(described.contains("Sequence/LOG"), "{described}");
    assert!(described.contains("block 0 of 1663/5/16384"), "{described}");
    assert!(
        described.contains("byte 8183 is 0x02 instead of 0x03, 1 bytes differ"),
        "{described}"
    );
    assert!(report.to_markdown().contains("| Sequence/LOG | 3 | 3 | 1 |"));
}

#[test]
fn pages_go_with_their_relation_and_for_want_of_room() {
    let lock = [9, 0, 0, 0, 1, 0, 0, 0];
    let confirm = |log: &mut Log, block: u32| {
        log.block(
            rmgr::HEAP,
            0x60,
            &lock,
            NewBlock::new(0, REL, block),
            Some(&heap_page()),
        );
    };
    let dir = tempfile::tempdir().expect("can make a temporary directory");
    let mut log = Log::new();
    confirm(&mut log, 1);
    // A commit that drops the relation: time, xinfo with dropped relations, one of them.
    let mut main = vec![0; 8];
    for word in [4u32, 1, REL.spc, REL.db, REL.rel] {
        main.extend_from_slice(&word.to_le_bytes());
    }
    log.0.push(
        RecordBuilder::new(PgVersion::V17, rmgr::XACT, 0x80)
            .xid(700)
            .main(&main),
    );
    confirm(&mut log, 1);
    log.write(dir.path());
    let total = check(dir.path(), 100).expect("is a log").total();
    assert_eq!(
        (total.checked, total.without_base),
        (0, 2),
        "the dropped page served as a base"
    );

    let dir = tempfile::tempdir().expect("can make a temporary directory");
    let mut log = Log::new();
    for block in [1, 2, 1] {
        confirm(&mut log, block);
    }
    log.write(dir.path());
    let report = check(dir.path(), 1).expect("is a log");
    assert_eq!((report.total().without_base, report.evicted), (3, 2));
    let report = check(dir.path(), 2).expect("is a log");
    // There is no tuple to lock on the page: with a base, replay is tried and fails.
    assert_eq!((report.total().without_base, report.total().mismatched), (2, 1));
}

#[test]
fn reading_begins_behind_a_record_that_began_before_and_a_gap_is_an_error() {
    let dir = tempfile::tempdir().expect("can make a temporary directory");
    let mut log = Log::new();
    for _ in 0..28_000 {
        log.sequence(0, 5, 5);
    }
    log.write(dir.path());
    let all = check(dir.path(), 10).expect("is a log").total();
    assert_eq!((all.records, all.checked, all.mismatched), (28_000, 28_000, 0));
    fs::remove_file(dir.path().join(file_name(1, FIRST, SEGMENT))).expect("exists");
    let fewer = check(dir.path(), 10).expect("is a log").total();
    assert!(fewer.records < 28_000 && fewer.mismatched == 0 && fewer.checked == fewer.records);
    fs::remove_file(dir.path().join(file_name(1, FIRST + 2, SEGMENT))).expect("exists");
    assert!(matches!(check(dir.path(), 10), Err(OracleError::Gap(_))));
}

#[test]
fn what_is_no_log_is_refused() {
    let dir = tempfile::tempdir().expect("can make a temporary directory");
    assert!(matches!(check(dir.path(), 10), Err(OracleError::NoSegments(_))));
    assert!(matches!(
        check(&dir.path().join("absent"), 10),
        Err(OracleError::Read { .. })
    ));
    fs::write(dir.path().join(file_name(1, FIRST, SEGMENT)), [0; 8192]).expect("can be written");
    assert!(matches!(check(dir.path(), 10), Err(OracleError::NotASegment(_))));
}
