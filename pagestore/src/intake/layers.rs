//! Layers of bounded size that together answer for every key.

use neon_types::{KeyRange, Lsn, LsnRange, PackedKey};

use crate::layer::LayerWriter;
use crate::map::MapEntry;
use crate::{PageStore, Result, Value};

/// The LSNs that layers are of.
#[derive(Clone, Copy)]
pub(super) enum Of {
    /// Images at an LSN.
    At(Lsn),
    /// Changes in a range, all of them at its end.
    Range(LsnRange),
}

/// Layers that are being written. Dropped unfinished, they leave objects that nothing names.
pub(super) struct Layers<'a> {
    store: &'a PageStore,
    of: Of,
    writer: LayerWriter,
    begin: PackedKey,
    entries: Vec<MapEntry>,
    /// What is put among the rest when its place is reached.
    between: Option<(PackedKey, Value)>,
}

impl<'a> Layers<'a> {
    pub(super) fn new(store: &'a PageStore, of: Of, between: (PackedKey, Value)) -> Result<Layers<'a>> {
        Ok(Layers {
            store,
            of,
            writer: writer(store, of)?,
            begin: PackedKey::MIN,
            entries: Vec::new(),
            between: Some(between),
        })
    }

    /// Adds a value; keys must ascend.
    pub(super) fn add(&mut self, key: PackedKey, value: &Value) -> Result<()> {
        if self.between.as_ref().is_some_and(|(at, _)| *at < key)
            && let Some((at, value)) = self.between.take()
        {
            self.write(at, &value)?;
        }
        self.write(key, value)
    }

    fn write(&mut self, key: PackedKey, value: &Value) -> Result<()> {
        if self.writer.len() >= self.store.settings().layer_bytes {
            let next = writer(self.store, self.of)?;
            let full = std::mem::replace(&mut self.writer, next);
            self.close(full, key)?;
        }
        let lsn = match self.of {
            Of::At(lsn) => lsn,
            Of::Range(lsns) => lsns.end,
        };
        self.writer.add(&key, lsn, value.stored(true))
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

    /// Ends the last layer; returns all of them.
    pub(super) fn finish(mut self) -> Result<Vec<MapEntry>> {
        if let Some((key, value)) = self.between.take() {
            self.write(key, &value)?;
        }
        let next = writer(self.store, self.of)?;
        let last = std::mem::replace(&mut self.writer, next);
        self.close(last, PackedKey::MAX)?;
        Ok(self.entries)
    }
}

fn writer(store: &PageStore, of: Of) -> Result<LayerWriter> {
    match of {
        Of::At(lsn) => LayerWriter::image(store.objects(), lsn),
        Of::Range(lsns) => LayerWriter::delta(store.objects(), lsns),
    }
}
