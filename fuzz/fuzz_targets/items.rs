//! Metadata items: the first byte says which.
#![no_main]

use neon_pagestore::items::{
    CarriedFile, Database, OriginProgress, RelMap, RelSize, SlruSegments, Tablespace, TwoPhase,
};
use neon_postgres::CheckpointState;

libfuzzer_sys::fuzz_target!(|data: &[u8]| {
    let Some((kind, bytes)) = data.split_first() else {
        return;
    };
    let again = match kind % 9 {
        0 => RelSize::decode(bytes).ok().map(|item| item.encode()),
        1 => SlruSegments::decode(bytes).ok().map(|item| item.encode()),
        2 => Database::decode(bytes).ok().map(|item| item.encode()),
        3 => RelMap::decode(bytes).ok().map(|item| item.encode()),
        4 => Tablespace::decode(bytes).ok().map(|item| item.encode()),
        5 => TwoPhase::decode(bytes).ok().map(|item| item.encode()),
        6 => OriginProgress::decode(bytes).ok().map(|item| item.encode()),
        7 => CarriedFile::decode(bytes).ok().map(|item| item.encode()),
        _ => CheckpointState::decode(bytes)
            .ok()
            .map(|(version, state)| state.encode(version)),
    };
    assert!(
        again.is_none_or(|again| again == bytes),
        "one item has one spelling"
    );
});
