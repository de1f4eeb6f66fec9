//! The oracle over directories of segments.

use std::fs;
use std::path::Path;

use neon_postgres::wal::segment::file_name;
use neon_postgres::wal::{Compression, NewBlock, RecordBuilder, StreamParams, StreamWriter, rmgr};
use neon_postgres::{Page, PgVersion};
use neon_redo::oracle::{Options, OracleError, Report, Sampler, Segments, run};
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
    run(
        Segments::open(dir)?,
        options,
        &mut Sampler::new(0),
        &mut |_, _| {},
    )
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

/// Checks the segments that a list names, and returns what it was asked to delete, too.
fn check_listed(list: &str, delete: bool) -> Result<Report, OracleError> {
    let segments = Segments::listed(list.as_bytes(), delete)?.expect("names a segment");
    run(segments, Options::default(), &mut Sampler::new(0), &mut |_, _| {})
}

/// Returns a directory and the paths of the segments in it, which are at least three.
fn some_segments() -> (tempfile::TempDir, Vec<String>) {
    let dir = tempfile::tempdir().expect("can make a temporary directory");
    let mut log = Log::new();
    for _ in 0..28_000 {
        log.sequence(0, 5, 5);
    }
    log.write(dir.path());
    let paths = (FIRST..).map(|number| dir.path().join(file_name(1, number, SEGMENT)));
    let paths = paths
        .take_while(|path| path.exists())
        .map(|path| path.to_str().expect("is UTF-8").to_owned())
        .collect();
    (dir, paths)
}

#[test]
fn listed_segments_are_read_in_order_and_deleted_when_asked_to() {
    let (dir, paths) = some_segments();
    let history = dir.path().join("00000002.history");
    fs::write(&history, "1").expect("can be written");
    let other = dir.path().join(file_name(2, FIRST + 1, SEGMENT));
    fs::write(&other, "another timeline").expect("can be written");
    let (one, two, rest) = (&paths[0], &paths[1], paths[2..].join("\n"));
    // An archive_command that was killed before the server heard of its success hands a segment over twice.
    let list = format!(
        "{one}\n{two}\n{two}\n{}\n{}\n{rest}\n",
        history.display(),
        other.display()
    );
    let kept = check_listed(&list, false).expect("is a log").total();
    assert_eq!((kept.checked, kept.mismatched), (28_000, 0));
    let files = || fs::read_dir(dir.path()).expect("is readable").count();
    assert_eq!(files(), paths.len() + 2);
    let deleted = check_listed(&list, true).expect("is a log").total();
    assert_eq!((deleted.checked, deleted.mismatched), (28_000, 0));
    assert_eq!(files(), 0);
}

#[test]
fn lists_that_cannot_be_followed_are_refused() {
    let (_dir, paths) = some_segments();
    let [one, two, three] = [&paths[0], &paths[1], &paths[2]];
    let none = Segments::listed(&b""[..], true).expect("can be read");
    assert!(none.is_none());
    let cut = check_listed(&format!("{one}\n{two}"), false);
    assert!(matches!(cut, Err(OracleError::List)));
    let long = check_listed(&format!("{one}\n{}\n", "x".repeat(5000)), false);
    assert!(matches!(long, Err(OracleError::List)));
    let gap = check_listed(&format!("{one}\n{three}\n"), false);
    assert!(matches!(gap, Err(OracleError::Gap(path)) if path.to_str() == Some(three.as_str())));
    let absent = check_listed(
        &format!("{one}\n/nowhere/{}\n", file_name(1, FIRST + 1, SEGMENT)),
        true,
    );
    assert!(matches!(absent, Err(OracleError::Read { .. })));
    assert!(
        fs::exists(two).expect("can be asked"),
        "what was not read is not deleted"
    );
}

#[test]
fn a_wrong_page_is_kept_as_it_was_replayed() {
    let dir = tempfile::tempdir().expect("can make a temporary directory");
    let mut log = Log::new();
    log.sequence(0, 1, 1);
    log.sequence(0, 2, 3);
    log.write(dir.path());
    let report = check(dir.path(), 100).expect("is a log");
    let [failure] = report.failures.as_slice() else {
        panic!("{} failures", report.failures.len());
    };
    let page = failure.replay().expect("was replayed before");
    let difference = failure
        .difference(&page)
        .expect("can be masked")
        .expect("differs");
    assert_eq!(
        (difference.at, difference.found, difference.expected),
        (8183, 2, 3)
    );
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
