//! Replay of recorded references, and of arbitrary bytes.

mod bites;
mod directory;
mod gist;
mod hash;
mod hostile;
mod recorded;
mod rules;
mod spgist;

use std::fs::File;
use std::path::Path;

use neon_redo::oracle::fixture::{self, Fixture};

/// Returns the references of every fixture file, which `neon dev oracle --samples` wrote.
fn fixtures() -> Vec<Fixture> {
    let dir = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/fixtures");
    let mut fixtures = Vec::new();
    for entry in std::fs::read_dir(dir).expect("the fixtures are checked in") {
        let file = File::open(entry.expect("is readable").path()).expect("is readable");
        fixtures.extend(fixture::read(file).expect("is a fixture file"));
    }
    fixtures
}
