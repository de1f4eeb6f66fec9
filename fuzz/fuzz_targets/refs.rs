//! The files of refs: an edit to be finished, a ref, a log of moves. The first byte says which.
#![no_main]

use neon_fuzz::scratch;
use neon_objects::Refs;
use neon_types::RefName;

libfuzzer_sys::fuzz_target!(|data: &[u8]| {
    let Some((kind, bytes)) = data.split_first() else {
        return;
    };
    let name = RefName::branch("main").expect("a name");
    let directory = scratch::empty();
    let file = match kind % 3 {
        0 => "refs.pending",
        1 => "refs/heads/main",
        _ => "log/refs/heads/main",
    };
    scratch::write(&directory, file, bytes);
    if let Ok(refs) = Refs::open(&directory) {
        let _ = (refs.get(&name), refs.list(""), refs.read_reflog(&name));
    }
    assert!(
        !directory.join("../escaped").exists(),
        "a ref was written outside of its repository"
    );
});
