//! Commits, aborts, prepared transactions, multixacts, SLRU pages.

use neon_postgres::PgVersion;
use neon_postgres::wal::{NewBlock, RecordBuilder};
use neon_redo::change::{Change, MultixactMember, MultixactOffset, XactState};
use neon_types::{Key, Lsn, SlruKind};

use super::{History, absent, changes, rel, words};
use crate::items::{OriginProgress, TwoPhase};

const XACT: u8 = 1;
const CLOG: u8 = 3;
const MULTIXACT: u8 = 6;
const COMMIT_TS: u8 = 18;
const HAS_INFO: u8 = 0x80;

fn clog(page: u64) -> Key {
    Key::SlruPage {
        kind: SlruKind::Clog,
        page,
    }
}

fn page(kind: SlruKind, page: u64) -> Key {
    Key::SlruPage { kind, page }
}

/// A commit or abort with time 77, subtransactions, dropped relations, prepared transaction and origin progress.
fn end(
    history: &History,
    info: u8,
    xid: u32,
    subxacts: &[u32],
    dropped: &[u32],
    prepared: Option<u32>,
) -> RecordBuilder {
    let mut main = 77_i64.to_le_bytes().to_vec();
    let bits = u32::from(!subxacts.is_empty()) << 1
        | u32::from(!dropped.is_empty()) << 2
        | u32::from(prepared.is_some()) << 4
        | 1 << 5;
    main.extend(words(&[bits]));
    if !subxacts.is_empty() {
        main.extend(words(&[subxacts.len() as u32]));
        main.extend(words(subxacts));
    }
    if !dropped.is_empty() {
        main.extend(words(&[dropped.len() as u32]));
        for number in dropped {
            main.extend(words(&[1663, 5, *number]));
        }
    }
    if let Some(prepared) = prepared {
        main.extend(words(&[prepared]));
    }
    main.extend_from_slice(&0x5000_u64.to_le_bytes());
    main.extend_from_slice(&99_i64.to_le_bytes());
    history
        .record(XACT, info | HAS_INFO)
        .xid(xid)
        .origin(3)
        .main(&main)
}

fn status(state: XactState, slots: &[u16]) -> Change {
    Change::XactStatus {
        state,
        slots: slots.to_vec(),
    }
}

#[test]
fn a_commit_sets_the_status_of_its_tree_and_drops_relations() {
    let mut history = History::new(PgVersion::V15, 0);
    for fork in [neon_types::Fork::Main, neon_types::Fork::VisibilityMap] {
        let record = history
            .record(11, 0)
            .block(NewBlock::new(0, rel(1).with_fork(fork), 0));
        history.take(&record);
    }
    let record = end(&history, 0, 32_767, &[32_768, 32_769], &[1, 2], None);
    let effects = history.take(&record);
    assert_eq!(
        changes(&effects),
        [
            (clog(0), status(XactState::Committed, &[32_767])),
            (clog(1), status(XactState::Committed, &[0, 1]))
        ]
    );
    let gone = absent(&effects);
    assert_eq!(
        gone,
        [
            Key::RelSize(rel(1)),
            Key::RelSize(rel(1).with_fork(neon_types::Fork::VisibilityMap))
        ],
        "what exists is dropped, nothing else is mentioned"
    );
    let progress = OriginProgress::decode(&history.items[&Key::ReplicationOrigin { id: 3 }.pack()]);
    assert_eq!(
        progress,
        Ok(OriginProgress {
            remote: Lsn(0x5000),
            local: history.end
        })
    );
    assert_eq!(history.segments(SlruKind::Clog).runs(), [(0, 1)]);
    assert_eq!(history.checkpoint().last_time, 77);

    let record = end(&history, 0x20, 32_770, &[32_771], &[], None);
    assert_eq!(
        changes(&history.take(&record)),
        [(clog(1), status(XactState::Aborted, &[2, 3]))]
    );
}

/// A PARAMETER_CHANGE that switches commit timestamps.
fn commit_timestamps(history: &History, on: bool) -> RecordBuilder {
    let mut main = words(&[100, 8, 10, 0, 64, 1]);
    main.extend_from_slice(&[0, u8::from(on), 0, 0]);
    history.record(0, 0x60).main(&main)
}

#[test]
fn commit_timestamps_follow_the_parameter() {
    let mut history = History::new(PgVersion::V15, 0);
    let record = end(&history, 0, 1000, &[], &[], None);
    assert_eq!(changes(&history.take(&record)).len(), 1, "status only");
    let on = commit_timestamps(&history, true);
    assert_eq!(
        changes(&history.take(&on)),
        [(page(SlruKind::CommitTs, 1), Change::Zero)],
        "page of 1001"
    );
    assert_eq!(history.segments(SlruKind::CommitTs).runs(), [(1, 1)]);
    assert_eq!(changes(&history.take(&on)), [], "it was on");
    let record = end(&history, 0, 1001, &[1002, 1700], &[], None);
    let stamps: Vec<(Key, Change)> = changes(&history.take(&record))
        .into_iter()
        .filter(|(key, _)| {
            matches!(
                key,
                Key::SlruPage {
                    kind: SlruKind::CommitTs,
                    ..
                }
            )
        })
        .collect();
    let stamp = |slots: &[u16]| Change::CommitTs {
        time: 99,
        origin: 3,
        slots: slots.to_vec(),
    };
    assert_eq!(
        stamps,
        [
            (page(SlruKind::CommitTs, 1), stamp(&[182, 183])),
            (page(SlruKind::CommitTs, 2), stamp(&[62]))
        ],
        "the time is that of the origin"
    );
    let record = end(&history, 0x20, 1003, &[], &[], None);
    assert_eq!(
        changes(&history.take(&record)).len(),
        1,
        "aborts leave no timestamp"
    );
    let off = commit_timestamps(&history, false);
    assert_eq!(
        absent(&history.take(&off)),
        [page(SlruKind::CommitTs, 1), page(SlruKind::CommitTs, 2)]
    );
    assert!(history.segments(SlruKind::CommitTs).is_empty());
    // A reopened ingest knows the parameter from the checkpoint state.
    history.take(&on);
    history.ingest.reset();
    let record = end(&history, 0, 1004, &[], &[], None);
    assert_eq!(changes(&history.take(&record)).len(), 2);
}

/// A PREPARE record of Postgres 15 without anything but its xid.
fn prepare(history: &History, xid: u32) -> RecordBuilder {
    let mut main = words(&[0x57F9_4534, 0, xid, 5, 0, 0, 10, 0, 0, 0, 0, 0, 0]);
    main.extend_from_slice(&[0, 0, 2, 0]);
    main.extend(words(&[0x2000, 0, 55, 0]));
    main.extend_from_slice(b"p\0\0\0\0\0\0\0");
    let length = main.len() as u32 + 4;
    main[4..8].copy_from_slice(&length.to_le_bytes());
    history.record(XACT, 0x10).xid(xid).main(&main)
}

#[test]
fn a_prepared_transaction_is_a_file_until_it_ends() {
    let mut history = History::new(PgVersion::V15, 1);
    let record = prepare(&history, 1500);
    let effects = history.take(&record);
    assert_eq!(changes(&effects), [], "it is not over");
    let key = Key::TwoPhase { xid: 1 << 32 | 1500 };
    let file = TwoPhase::decode(&history.items[&key.pack()])
        .expect("a file")
        .file;
    let (content, crc) = file.split_last_chunk::<4>().expect("a CRC");
    assert_eq!(*crc, crc32c::crc32c(content).to_le_bytes());
    assert_eq!(
        content.len() + 4,
        u32::from_le_bytes([content[4], content[5], content[6], content[7]]) as usize
    );

    // One that was prepared before the ids went around.
    let old = Key::TwoPhase {
        xid: u64::from(u32::MAX),
    };
    history.set(old, &[1]);
    let record = end(&history, 0x30, 0, &[], &[], Some(u32::MAX));
    assert_eq!(absent(&history.take(&record)), [old]);
    let record = end(&history, 0x40, 0, &[1501], &[], Some(1500));
    let effects = history.take(&record);
    assert_eq!(absent(&effects), [key]);
    assert_eq!(
        changes(&effects),
        [(clog(0), status(XactState::Aborted, &[1500, 1501]))]
    );
}

#[test]
fn origins_advance_and_go() {
    let mut history = History::new(PgVersion::V15, 0);
    let key = Key::ReplicationOrigin { id: 9 };
    let set = |history: &mut History, remote: u32, force: u8| {
        let mut main = words(&[remote, 0]);
        main.extend_from_slice(&[9, 0, force, 0]);
        let record = history.record(19, 0).main(&main);
        history.take(&record);
        OriginProgress::decode(&history.items[&key.pack()])
            .expect("progress")
            .remote
    };
    assert_eq!(set(&mut history, 100, 0), Lsn(100));
    assert_eq!(set(&mut history, 50, 0), Lsn(100), "it does not go back");
    assert_eq!(set(&mut history, 50, 1), Lsn(50), "but when forced");
    let drop = history.record(19, 0x10).main(&[9, 0]);
    assert_eq!(absent(&history.take(&drop)), [key]);
    assert_eq!(set(&mut history, 7, 0), Lsn(7));
}

fn create_multi(history: &History, multi: u32, offset: u32, members: &[(u32, u32)]) -> RecordBuilder {
    let mut main = words(&[multi, offset, members.len() as u32]);
    for (xid, status) in members {
        main.extend(words(&[*xid, *status]));
    }
    history.record(MULTIXACT, 0x20).main(&main)
}

fn offsets(fresh: bool, entries: &[(u16, u32)]) -> Change {
    let entries = entries.iter();
    Change::MultixactOffsets {
        fresh,
        entries: entries
            .map(|(slot, offset)| MultixactOffset {
                slot: *slot,
                offset: *offset,
            })
            .collect(),
    }
}

#[test]
fn a_multixact_says_where_the_next_one_begins() {
    let mut history = History::new(PgVersion::V15, 0);
    let record = create_multi(&history, 5, 1634, &[(700, 1), (701, 4), (702, 0)]);
    let member = |slot, xid, status| MultixactMember { slot, xid, status };
    assert_eq!(
        changes(&history.take(&record)),
        [
            (
                page(SlruKind::MultixactOffsets, 0),
                offsets(false, &[(5, 1634), (6, 1637)])
            ),
            (
                page(SlruKind::MultixactMembers, 0),
                Change::MultixactMembers(vec![member(1634, 700, 1), member(1635, 701, 4)])
            ),
            (
                page(SlruKind::MultixactMembers, 1),
                Change::MultixactMembers(vec![member(0, 702, 0)])
            ),
        ]
    );
    // Offset 0 means none, so numbers go around to 1.
    let record = create_multi(&history, 6, u32::MAX, &[(700, 1)]);
    assert_eq!(
        changes(&history.take(&record)).first(),
        Some(&(
            page(SlruKind::MultixactOffsets, 0),
            offsets(false, &[(6, u32::MAX), (7, 1)])
        ))
    );
    // So do ids.
    let record = create_multi(&history, u32::MAX, 10, &[(700, 1)]);
    let first = changes(&history.take(&record)).into_iter().next();
    assert_eq!(
        first,
        Some((page(SlruKind::MultixactOffsets, 0), offsets(false, &[(1, 11)])))
    );
}

/// Page numbers in records are 32 bits wide up to 16.
fn zero_page(history: &History, rmid: u8, info: u8, page: u32) -> RecordBuilder {
    let wide = history.version >= PgVersion::V17;
    let main = if wide { words(&[page, 0]) } else { words(&[page]) };
    history.record(rmid, info).main(&main)
}

#[test]
fn the_next_offsets_page_is_zeroed_once() {
    // WAL of a minor version that zeroes the page first.
    let mut history = History::new(PgVersion::V17, 0);
    let zero = zero_page(&history, MULTIXACT, 0, 0);
    history.take(&zero);
    let zero = zero_page(&history, MULTIXACT, 0, 1);
    assert_eq!(
        changes(&history.take(&zero)),
        [(page(SlruKind::MultixactOffsets, 1), Change::Zero)]
    );
    let record = create_multi(&history, 2047, 10, &[(700, 1)]);
    assert_eq!(
        changes(&history.take(&record))[..2],
        [
            (page(SlruKind::MultixactOffsets, 1), offsets(false, &[(0, 11)])),
            (page(SlruKind::MultixactOffsets, 0), offsets(false, &[(2047, 10)]))
        ]
    );

    // WAL of an older one, which zeroes it afterwards.
    let mut history = History::new(PgVersion::V15, 0);
    let first = zero_page(&history, MULTIXACT, 0, 0);
    history.take(&first);
    let record = create_multi(&history, 2047, 10, &[(700, 1)]);
    assert_eq!(
        changes(&history.take(&record))[..1],
        [(page(SlruKind::MultixactOffsets, 1), offsets(true, &[(0, 11)]))]
    );
    history.ingest.reset();
    let zero = zero_page(&history, MULTIXACT, 0, 1);
    assert_eq!(changes(&history.take(&zero)), [], "the offset must stay");
    assert_eq!(history.segments(SlruKind::MultixactOffsets).implicit, None);
    assert_eq!(
        changes(&history.take(&zero)),
        [(page(SlruKind::MultixactOffsets, 1), Change::Zero)],
        "only once"
    );
}

#[test]
fn truncation_removes_whole_files() {
    let mut history = History::new(PgVersion::V15, 0);
    for number in 0..70 {
        let zero = zero_page(&history, CLOG, 0, number);
        history.take(&zero);
        let zero = zero_page(&history, COMMIT_TS, 0, number);
        history.take(&zero);
    }
    let truncate = history.record(CLOG, 0x10).main(&words(&[63, 63 * 32_768, 5]));
    let gone = absent(&history.take(&truncate));
    assert_eq!(gone.len(), 32, "page 63 is in the second file");
    assert_eq!(history.segments(SlruKind::Clog).runs(), [(32, 69)]);
    assert_eq!(history.checkpoint().checkpoint.oldest_xid, 63 * 32_768);
    let truncate = history.record(COMMIT_TS, 0x10).main(&words(&[64, 64 * 819]));
    assert_eq!(absent(&history.take(&truncate)).len(), 64);
    assert_eq!(history.segments(SlruKind::CommitTs).runs(), [(64, 69)]);
}

#[test]
fn multixact_truncation_removes_offsets_and_members() {
    let mut history = History::new(PgVersion::V15, 0);
    for number in 0..70 {
        for info in [0, 0x10] {
            let zero = zero_page(&history, MULTIXACT, info, number);
            history.take(&zero);
        }
    }
    // Offsets before multixact 32 * 2048 + 1: the first file; members up to the third.
    let main = words(&[5, 1, 32 * 2048 + 1, 1, 64 * 1636]);
    let truncate = history.record(MULTIXACT, 0x30).main(&main);
    let gone = absent(&history.take(&truncate));
    assert_eq!(gone.len(), 32 + 64);
    assert_eq!(history.segments(SlruKind::MultixactOffsets).runs(), [(32, 69)]);
    assert_eq!(history.segments(SlruKind::MultixactMembers).runs(), [(64, 69)]);
    // One id less, and the page before is in the file that would go.
    let mut history = History::new(PgVersion::V15, 0);
    for number in 0..40 {
        let zero = zero_page(&history, MULTIXACT, 0, number);
        history.take(&zero);
    }
    let main = words(&[5, 1, 32 * 2048, 1, 1]);
    let truncate = history.record(MULTIXACT, 0x30).main(&main);
    assert_eq!(absent(&history.take(&truncate)), []);
}
