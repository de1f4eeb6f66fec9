//! Commits.
#![no_main]

use neon_objects::Commit;

libfuzzer_sys::fuzz_target!(|data: &[u8]| {
    if let Ok(commit) = Commit::decode(data) {
        assert_eq!(commit.encode(), data, "one commit has one spelling");
        let _ = commit.timestamp();
    }
});
