//! The real page store, filled with the same WAL and sealed on the way.

use std::fs;
use std::path::Path;
use std::sync::Arc;

use neon_objects::ObjectStore;
use neon_pagestore::import::{ImportSource, Imported, inspect};
use neon_pagestore::{PageStore, Settings, Timeline};
use neon_postgres::wal::segment;
use neon_types::Lsn;

/// A timeline and the directory that it lives in.
pub struct Real {
    pub timeline: Arc<Timeline>,
    _directory: tempfile::TempDir,
}

impl Real {
    /// Imports `before` and takes in the WAL of `after` up to the end of its shutdown checkpoint.
    pub fn fill(before: &Path, after: &Path, source: &ImportSource, last: &Imported) -> Real {
        let directory = tempfile::tempdir().expect("tempdir");
        let objects = ObjectStore::open(directory.path().join("objects")).expect("objects");
        let settings = Settings {
            // Several seals, the last of which leaves something open.
            seal_wal_bytes: 24 << 20,
            ..Settings::default()
        };
        let store = PageStore::open_with(directory.path(), Arc::new(objects), settings).expect("a store");
        let first = inspect(before).expect("a directory");
        let timeline = store.import(&first, &mut |_, _| true).expect("an import");
        let segment_size = u64::from(source.control.segment_size());
        let mut at = timeline.end();
        while at < last.lsn {
            let number = at.segment(segment_size);
            let name = segment::file_name(last.tli, number, source.control.segment_size());
            let bytes =
                fs::read(after.join("pg_wal").join(&name)).unwrap_or_else(|error| panic!("{name}: {error}"));
            let end = last.lsn.bytes_since(Lsn(number * segment_size)).min(segment_size);
            let part = &bytes[at.segment_offset(segment_size) as usize..end as usize];
            timeline.append_wal(at, part).expect("WAL is taken");
            at = at + part.len() as u64;
            timeline.sync_wal().expect("sync");
            timeline.index_wal().expect("index");
            if timeline.wants_seal() {
                timeline.seal().expect("seal");
            }
        }
        assert_eq!(timeline.end(), last.lsn);
        Real {
            timeline,
            _directory: directory,
        }
    }
}
