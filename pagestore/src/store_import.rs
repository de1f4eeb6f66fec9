//! The first state of a history: a data directory becomes image layers under a timeline of its own.

use std::sync::Arc;

use neon_postgres::PgVersion;
use neon_types::{Key, KeyRange, Lsn, PackedKey};

use crate::boundaries::{RecordSpan, Run};
use crate::import::{self, ImportSource};
use crate::layer::LayerWriter;
use crate::map::{LayerMap, MapEntry};
use crate::timeline::{ClusterFacts, ImportFacts, NOBODY, TimelineState};
use crate::{PageStore, PageStoreError, Result, Timeline, Value};

/// Image layers of bounded size that answer for every key.
struct Images<'a> {
    store: &'a PageStore,
    lsn: Lsn,
    writer: LayerWriter,
    begin: PackedKey,
    entries: Vec<MapEntry>,
    /// The record that ends at `lsn`, until its place among the keys is reached.
    boundary: Option<(PackedKey, Value)>,
}

impl Images<'_> {
    fn add(&mut self, key: PackedKey, value: &Value) -> Result<()> {
        if self.boundary.as_ref().is_some_and(|(at, _)| *at < key)
            && let Some((at, value)) = self.boundary.take()
        {
            self.write(at, &value)?;
        }
        self.write(key, value)
    }

    fn write(&mut self, key: PackedKey, value: &Value) -> Result<()> {
        if self.writer.len() >= self.store.settings().layer_bytes {
            let next = LayerWriter::image(self.store.objects(), self.lsn)?;
            let full = std::mem::replace(&mut self.writer, next);
            self.close(full, key)?;
        }
        self.writer.add(&key, self.lsn, value.stored(true))
    }

    fn close(&mut self, writer: LayerWriter, end: PackedKey) -> Result<()> {
        let keys = KeyRange {
            start: self.begin,
            end,
        };
        self.entries.push(MapEntry::whole(&writer.finish(keys)?));
        self.begin = end;
        Ok(())
    }

    fn finish(mut self) -> Result<Vec<MapEntry>> {
        if let Some((key, value)) = self.boundary.take() {
            self.write(key, &value)?;
        }
        let next = LayerWriter::image(self.store.objects(), self.lsn)?;
        let last = std::mem::replace(&mut self.writer, next);
        self.close(last, PackedKey::MAX)?;
        Ok(self.entries)
    }
}

impl PageStore {
    /// Makes the timeline of a cleanly stopped data directory, readable at the end of its shutdown checkpoint. The same
    /// directory imported twice is one timeline. `progress` is told bytes read and bytes in all; it ends the import by
    /// returning false.
    pub fn import(
        &self,
        source: &ImportSource,
        progress: &mut dyn FnMut(u64, u64) -> bool,
    ) -> Result<Arc<Timeline>> {
        let _hold = self.objects().hold();
        let refused = |error| PageStoreError::Import(Box::new(error));
        let (start, lsn) = import::position(source).map_err(refused)?;
        let mut run = Run::default();
        run.push(RecordSpan { start, end: lsn }, None);
        let mut images = Images {
            store: self,
            lsn,
            writer: LayerWriter::image(self.objects(), lsn)?,
            begin: PackedKey::MIN,
            entries: Vec::new(),
            boundary: Some((Key::boundaries_of(start).pack(), Value::Item(run.encode()))),
        };
        let imported =
            import::import(source, &mut |key, value| images.add(key, &value), progress).map_err(refused)?;
        let entries = images.finish()?;
        let id = imported.timeline_id();
        if self.contains(id) {
            return self.get(id);
        }
        let map = LayerMap::new(lsn, entries).write(self.objects())?;
        let cluster = cluster_facts(source, imported.system_id);
        let mut state = TimelineState::new(id, NOBODY, imported.tli, lsn, cluster);
        state.layer_map = Some(map);
        state.import = Some(ImportFacts {
            prev_record: imported.prev_record,
            digest: hex(&imported.digest),
            tli: imported.tli,
        });
        self.install(&state)?;
        self.get(id)
    }
}

fn cluster_facts(source: &ImportSource, system_id: u64) -> ClusterFacts {
    let control = &source.control;
    let version: PgVersion = source.version;
    ClusterFacts {
        system_id,
        version,
        segment_size: control.segment_size(),
        hints_logged: control.hints_logged(),
    }
}

fn hex(bytes: &[u8]) -> String {
    bytes.iter().map(|byte| format!("{byte:02x}")).collect()
}
