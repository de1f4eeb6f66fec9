//! Writes the layers of one run: of bounded length, together answering for every key.

use neon_types::{KeyRange, Lsn, PackedKey};

use super::Merge;
use crate::Result;
use crate::layer::LayerWriter;
use crate::map::MapEntry;
use crate::store::Core;

/// A run that is being written. Dropped unfinished, it leaves objects that nothing names.
pub(super) struct RunWriter<'a> {
    core: &'a Core,
    run: &'a Merge,
    redo_version: u32,
    writer: LayerWriter,
    begin: PackedKey,
    entries: Vec<MapEntry>,
    made: &'a mut dyn FnMut(&MapEntry) -> Result<()>,
}

impl<'a> RunWriter<'a> {
    /// Begins the run that stands for the layers of `run`; `made` is told of each layer.
    pub(super) fn new(
        core: &'a Core,
        run: &'a Merge,
        made: &'a mut dyn FnMut(&MapEntry) -> Result<()>,
    ) -> Result<RunWriter<'a>> {
        let mut redo_version = 0;
        for entry in &run.layers {
            let layer = core.cache.layer(&core.objects, entry.layer)?;
            redo_version = redo_version.max(layer.footer().redo_version);
        }
        Ok(RunWriter {
            core,
            run,
            redo_version,
            writer: LayerWriter::delta(&core.objects, run.lsns)?.made_with(redo_version),
            begin: PackedKey::MIN,
            entries: Vec::new(),
            made,
        })
    }

    /// Says that pages are among what is added that this program's redo made.
    pub(super) fn made_here(mut self) -> RunWriter<'a> {
        self.redo_version = self.redo_version.max(crate::layer::REDO_VERSION);
        self.writer = self.writer.made_with(self.redo_version);
        self
    }

    /// Adds a version in its stored form; (key, LSN) must ascend.
    pub(super) fn add(&mut self, key: &PackedKey, lsn: Lsn, stored: (u8, &[u8])) -> Result<()> {
        let is_full = self.writer.len() >= self.core.settings.layer_bytes;
        if is_full && self.writer.last_key().is_some_and(|last| last < *key) {
            let next = LayerWriter::delta(&self.core.objects, self.run.lsns)?.made_with(self.redo_version);
            let full = std::mem::replace(&mut self.writer, next);
            self.entries.push(close(full, self.begin, *key, self.made)?);
            self.begin = *key;
        }
        self.writer.add(key, lsn, stored)
    }

    /// Ends the last layer; returns all of them.
    pub(super) fn finish(mut self) -> Result<Vec<MapEntry>> {
        let last = close(self.writer, self.begin, PackedKey::MAX, self.made)?;
        self.entries.push(last);
        Ok(self.entries)
    }
}

fn close(
    writer: LayerWriter,
    start: PackedKey,
    end: PackedKey,
    made: &mut dyn FnMut(&MapEntry) -> Result<()>,
) -> Result<MapEntry> {
    let sealed = writer.finish(KeyRange { start, end })?;
    let entry = MapEntry::whole(&sealed);
    made(&entry)?;
    Ok(entry)
}
