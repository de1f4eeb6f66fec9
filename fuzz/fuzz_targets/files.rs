//! Small files and names of a data directory: the first byte says which.
#![no_main]

use neon_postgres::control::ControlFile;
use neon_postgres::timeline_history::{self, TimelineHistory};
use neon_postgres::wal::segment::{self, PageHeader};
use neon_postgres::{CheckpointState, PgVersion, layout, slru};

libfuzzer_sys::fuzz_target!(|data: &[u8]| {
    let Some((kind, bytes)) = data.split_first() else {
        return;
    };
    if let Ok(header) = PageHeader::read(bytes) {
        assert_eq!(PageHeader::read(&header.to_bytes()), Ok(header));
    }
    if kind % 2 == 0 {
        if let Ok(file) = ControlFile::parse(bytes).or_else(|_| ControlFile::from_image(bytes)) {
            let _ = (
                file.check_layout(),
                file.state(),
                file.checkpoint(),
                file.parameters(),
                file.char_signed(),
            );
            assert!(ControlFile::parse(&file.encode()).is_ok());
            let _ = CheckpointState::from_control(&file).control_file();
        }
        return;
    }
    let Ok(text) = std::str::from_utf8(bytes) else {
        return;
    };
    if let Ok(history) = TimelineHistory::parse(text) {
        assert!(TimelineHistory::parse(&history.format()).is_ok());
    }
    for size in [1 << 20, 1 << 24, 1 << 30] {
        if let Some((tli, number)) = segment::parse_file_name(text, size) {
            assert_eq!(segment::file_name(tli, number, size), text);
        }
    }
    let _ = (
        slru::parse_segment_name(text),
        timeline_history::parse_file_name(text),
    );
    for version in PgVersion::ALL {
        if let Some((rel, number)) = layout::parse_relation_path(version, text) {
            assert_eq!(layout::relation_path(version, rel, number), text);
        }
        let _ = layout::parse_database_directory(version, text);
    }
});
