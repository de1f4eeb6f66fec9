//! No payload, whatever it is, may do harm.

use neon_types::Lsn;
use proptest::prelude::*;

use super::testing::record;
use super::*;
use crate::checkpoint::CheckpointState;
use crate::control::ControlFile;
use crate::control::tests::sample;
use crate::wal::rmgr;

/// Reads the record as each resource manager would; none may panic.
fn decode_all(version: PgVersion, info: u8, xid: u32, main: &[u8]) {
    let mut state = CheckpointState::from_control(&sample(version));
    for rmid in 0..=rmgr::MAX_BUILTIN {
        let record = record(version, rmid, info, xid, main);
        let _ = xlog::XlogRecord::decode(&record);
        let _ = xact::XactRecord::decode(&record);
        let _ = clog::ClogRecord::decode(&record);
        let _ = commit_ts::CommitTsRecord::decode(&record);
        let _ = multixact::MultixactRecord::decode(&record);
        let _ = smgr::SmgrRecord::decode(&record);
        let _ = dbase::DbaseRecord::decode(&record);
        let _ = tblspc::TblspcRecord::decode(&record);
        let _ = relmap::RelmapUpdate::decode(&record);
        let _ = standby::StandbyRecord::decode(&record);
        let _ = replorigin::ReplOriginRecord::decode(&record);
        let _ = logicalmsg::LogicalMessage::decode(&record);
        let _ = brin::BrinRecord::decode(&record);
        let _ = gin::GinRecord::decode(&record);
        let _ = gin::decode_actions(main);
        let _ = hash::HashRecord::decode(&record);
        let _ = gist::GistRecord::decode(&record);
        let _ = spgist::SpgistRecord::decode(&record);
        let _ = state.apply(&record, Lsn(0x100_0000));
        rmgr::describe(&record);
    }
}

proptest! {
    #![proptest_config(ProptestConfig { failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn arbitrary_payloads_do_no_harm(
        info in any::<u8>(), xid in any::<u32>(), mut main in prop::collection::vec(any::<u8>(), 0..300),
        small in any::<bool>(),
    ) {
        if small {
            // Counts that look possible get further than random ones.
            main.iter_mut().for_each(|byte| *byte &= if *byte & 1 == 0 { 0 } else { 3 });
        }
        for version in PgVersion::ALL {
            decode_all(version, info, xid, &main);
        }
    }

    #[test]
    fn arbitrary_files_do_no_harm(bytes in prop::collection::vec(any::<u8>(), 0..600), text in "[0-9A-F/\t\n #x]{0,60}") {
        let _ = ControlFile::parse(&bytes);
        let _ = ControlFile::from_image(&bytes);
        let _ = CheckpointState::decode(&bytes);
        if let Ok(history) = crate::timeline_history::TimelineHistory::parse(&text) {
            prop_assert_eq!(crate::timeline_history::TimelineHistory::parse(&history.format()), Ok(history));
        }
    }

    #[test]
    fn a_relation_path_has_one_spelling(path in "(base|global|pg_tblspc)/[0-9_.a-z/]{0,12}") {
        for version in PgVersion::ALL {
            if let Some((rel, segment)) = crate::layout::parse_relation_path(version, &path) {
                prop_assert_eq!(crate::layout::relation_path(version, rel, segment), path.as_str());
            }
        }
    }
}
