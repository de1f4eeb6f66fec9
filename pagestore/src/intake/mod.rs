//! Data directories become layers: the first state of a history, and one that went on without us.

mod blocks;
mod changes;
mod import;
mod layers;
mod resync;

use neon_types::{Key, Lsn, PackedKey};

use crate::boundaries::{RecordSpan, Run};
use crate::import::{self as directory, ImportSource};
use crate::timeline::ClusterFacts;
use crate::{PageStoreError, Result, Value};

/// The shutdown checkpoint that a directory ends with: where it begins and ends, and its place among the keys.
struct LastRecord {
    span: RecordSpan,
    boundary: (PackedKey, Value),
}

impl LastRecord {
    fn of(source: &ImportSource) -> Result<LastRecord> {
        let (start, end) = directory::position(source).map_err(refused)?;
        let span = RecordSpan { start, end };
        let mut run = Run::default();
        run.push(span, None);
        Ok(LastRecord {
            span,
            boundary: (Key::boundaries_of(start).pack(), Value::Item(run.encode())),
        })
    }

    fn lsn(&self) -> Lsn {
        self.span.end
    }
}

fn refused(error: directory::ImportError) -> PageStoreError {
    PageStoreError::Import(Box::new(error))
}

fn cluster_facts(source: &ImportSource) -> ClusterFacts {
    let control = &source.control;
    ClusterFacts {
        system_id: control.system_id(),
        version: source.version,
        segment_size: control.segment_size(),
        hints_logged: control.hints_logged(),
    }
}
