use super::*;
use crate::control::tests::sample;
use crate::records::testing::{record, words};
use crate::records::{clog, commit_ts, multixact, xact, xlog};

const START: Lsn = Lsn(0x200_0000);

fn state(version: PgVersion) -> CheckpointState {
    CheckpointState::from_control(&sample(version))
}

fn applied(
    state: &mut CheckpointState,
    version: PgVersion,
    rmid: u8,
    info: u8,
    xid: u32,
    main: &[u8],
) -> bool {
    state
        .apply(&record(version, rmid, info, xid, main), START)
        .unwrap()
}

#[test]
fn states_round_trip_and_damage_is_seen() {
    for version in PgVersion::ALL {
        let mut state = state(version);
        state.last_time = -5;
        state.last_record = START;
        let bytes = state.encode(version);
        assert_eq!(CheckpointState::decode(&bytes), Ok((version, state)));
        for at in 0..bytes.len() {
            let mut damaged = bytes.clone();
            damaged[at] ^= 0x40;
            assert!(
                CheckpointState::decode(&damaged).is_err(),
                "byte {at} does not matter"
            );
            assert!(CheckpointState::decode(&bytes[..at]).is_err());
        }
        assert!(CheckpointState::decode(&[bytes, vec![0]].concat()).is_err());
    }
}

#[test]
fn every_record_moves_the_link_and_only_a_new_xid_the_counter() {
    let mut state = state(PgVersion::V15);
    assert!(!applied(&mut state, PgVersion::V15, rmgr::HEAP, 0, 729, &[]));
    assert_eq!(state.last_record, START);
    assert!(applied(&mut state, PgVersion::V15, rmgr::HEAP, 0, 730, &[]));
    assert_eq!(state.checkpoint.next_xid, 731);
    assert!(
        applied(&mut state, PgVersion::V15, 131, 0, 740, &[]),
        "a resource manager of an extension"
    );
    assert_eq!(state.checkpoint.next_xid, 741);
}

#[test]
fn commits_move_time_xids_and_commit_timestamps() {
    let mut state = state(PgVersion::V15);
    let commit =
        |time: u32, xids: &[u32]| [words(&[time, 0, 1 << 1, xids.len() as u32]), words(xids)].concat();
    assert!(applied(
        &mut state,
        PgVersion::V15,
        rmgr::XACT,
        0x80,
        735,
        &commit(9, &[736, 738])
    ));
    assert_eq!((state.last_time, state.checkpoint.next_xid), (9, 739));
    assert_eq!(
        state.checkpoint.newest_commit_ts_xid, 0,
        "nobody keeps commit timestamps"
    );

    let mut parameters = words(&[100, 8, 10, 0, 64, 1]);
    parameters.extend_from_slice(&[0, 1]);
    assert!(applied(
        &mut state,
        PgVersion::V15,
        rmgr::XLOG,
        xlog::PARAMETER_CHANGE,
        0,
        &parameters
    ));
    assert!(state.control_file().unwrap().parameters().track_commit_timestamp);
    assert_eq!(
        (
            state.checkpoint.oldest_commit_ts_xid,
            state.checkpoint.newest_commit_ts_xid
        ),
        (739, 739)
    );
    applied(
        &mut state,
        PgVersion::V15,
        rmgr::XACT,
        0x80,
        740,
        &commit(10, &[742]),
    );
    assert_eq!(
        (
            state.checkpoint.oldest_commit_ts_xid,
            state.checkpoint.newest_commit_ts_xid
        ),
        (739, 742)
    );
    applied(
        &mut state,
        PgVersion::V15,
        rmgr::XACT,
        xact::ABORT,
        743,
        &words(&[11, 0]),
    );
    assert_eq!(
        state.checkpoint.newest_commit_ts_xid, 742,
        "an abort has no commit timestamp"
    );
    applied(
        &mut state,
        PgVersion::V15,
        rmgr::COMMIT_TS,
        commit_ts::TRUNCATE,
        0,
        &words(&[0, 741]),
    );
    assert_eq!(state.checkpoint.oldest_commit_ts_xid, 741);

    parameters.pop();
    parameters.push(0);
    assert!(applied(
        &mut state,
        PgVersion::V15,
        rmgr::XLOG,
        xlog::PARAMETER_CHANGE,
        0,
        &parameters
    ));
    assert_eq!(
        (
            state.checkpoint.oldest_commit_ts_xid,
            state.checkpoint.newest_commit_ts_xid
        ),
        (0, 0)
    );
    assert!(!applied(
        &mut state,
        PgVersion::V15,
        rmgr::XLOG,
        xlog::PARAMETER_CHANGE,
        0,
        &parameters
    ));
}

#[test]
fn truncations_raise_what_is_oldest() {
    let mut state = state(PgVersion::V17);
    assert!(applied(
        &mut state,
        PgVersion::V17,
        rmgr::CLOG,
        clog::TRUNCATE,
        0,
        &words(&[0, 0, 720, 5])
    ));
    assert_eq!(
        (state.checkpoint.oldest_xid, state.checkpoint.oldest_xid_db),
        (720, 5)
    );
    assert!(!applied(
        &mut state,
        PgVersion::V17,
        rmgr::CLOG,
        clog::TRUNCATE,
        0,
        &words(&[0, 0, 710, 6])
    ));
    let truncate = words(&[7, 1, 50, 0, 99]);
    assert!(applied(
        &mut state,
        PgVersion::V17,
        rmgr::MULTIXACT,
        multixact::TRUNCATE_ID,
        0,
        &truncate
    ));
    assert_eq!(
        (state.checkpoint.oldest_multi, state.checkpoint.oldest_multi_db),
        (50, 7)
    );
}

#[test]
fn multixacts_move_both_counters_around_the_circle() {
    let mut state = state(PgVersion::V15);
    let create = |multi, offset| words(&[multi, offset, 2, 731, 0, 733, 0]);
    assert!(applied(
        &mut state,
        PgVersion::V15,
        rmgr::MULTIXACT,
        multixact::CREATE_ID,
        730,
        &create(1, 1)
    ));
    assert_eq!(
        (state.checkpoint.next_multi, state.checkpoint.next_multi_offset),
        (2, 3)
    );
    assert_eq!(state.checkpoint.next_xid, 734);
    state.checkpoint.next_multi_offset = u32::MAX;
    applied(
        &mut state,
        PgVersion::V15,
        rmgr::MULTIXACT,
        multixact::CREATE_ID,
        730,
        &create(2, u32::MAX),
    );
    assert_eq!(state.checkpoint.next_multi_offset, 1);
}

#[test]
fn an_online_checkpoint_lowers_nothing_and_a_shutdown_checkpoint_is_believed() {
    let version = PgVersion::V17;
    let mut state = state(version);
    state.checkpoint.next_xid = 1000;
    state.checkpoint.next_oid = 24576;
    state.checkpoint.oldest_xid = 720;
    let point = CheckPoint {
        redo: Lsn(0x1FF_0000),
        next_xid: 990,
        next_oid: 16384,
        oldest_xid: 725,
        oldest_xid_db: 5,
        oldest_active_xid: 985,
        full_page_writes: false,
        wal_level: 2,
        time: 1_700_000_100,
        ..state.checkpoint
    };
    assert!(applied(
        &mut state,
        version,
        rmgr::XLOG,
        xlog::CHECKPOINT_ONLINE,
        0,
        &point.encode(version)
    ));
    let own = &state.checkpoint;
    assert_eq!(
        (own.next_xid, own.next_oid, own.full_page_writes),
        (1000, 24576, true)
    );
    assert_eq!(
        (own.redo, own.oldest_xid, own.oldest_xid_db),
        (Lsn(0x1FF_0000), 725, 5)
    );
    assert_eq!((own.wal_level, own.oldest_active_xid), (2, 985));
    assert_eq!(state.last_unix_time(), 1_700_000_100);
    assert!(applied(
        &mut state,
        version,
        rmgr::XLOG,
        xlog::CHECKPOINT_SHUTDOWN,
        0,
        &point.encode(version)
    ));
    assert_eq!(state.checkpoint, point);
}

#[test]
fn single_values_have_their_own_records() {
    let mut state = state(PgVersion::V17);
    assert!(applied(
        &mut state,
        PgVersion::V17,
        rmgr::XLOG,
        xlog::NEXTOID,
        0,
        &words(&[24576])
    ));
    assert_eq!(state.checkpoint.next_oid, 24576);
    assert!(applied(
        &mut state,
        PgVersion::V17,
        rmgr::XLOG,
        xlog::FPW_CHANGE,
        0,
        &[0]
    ));
    assert!(!state.checkpoint.full_page_writes);
    applied(
        &mut state,
        PgVersion::V17,
        rmgr::XLOG,
        xlog::END_OF_RECOVERY,
        0,
        &words(&[12, 0, 3, 1, 2]),
    );
    assert_eq!(
        (
            state.checkpoint.tli,
            state.checkpoint.prev_tli,
            state.checkpoint.wal_level
        ),
        (3, 1, 2)
    );
    assert_eq!(state.last_time, 12);
    let damaged = record(PgVersion::V17, rmgr::XLOG, xlog::NEXTOID, 0, &[1]);
    assert!(state.apply(&damaged, START).is_err());
}

#[test]
fn time_before_2000_rounds_down() {
    let mut state = state(PgVersion::V15);
    state.last_time = -1;
    assert_eq!(state.last_unix_time(), EPOCH_SECONDS - 1);
    assert_eq!(timestamp_of(i64::MIN), i64::MIN);
}
