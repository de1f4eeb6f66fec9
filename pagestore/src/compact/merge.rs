//! Runs that follow each other become one: every version as it is, in the order of (key, LSN).
//!
//! Memory: for each run a block or a few small ones, for the layer that is written one block, its index and its key hashes.

use neon_types::{KeyRange, PackedKey};

use super::Merge;
use crate::Result;
use crate::layer::{LayerWriter, MergedCursor};
use crate::map::MapEntry;
use crate::store::Core;

/// Writes the layers that stand for those of `merge`; `made` is told of each. None when `stop` said so, which is asked now and then.
pub(crate) fn merge(
    core: &Core,
    merge: &Merge,
    stop: &dyn Fn() -> bool,
    made: &mut dyn FnMut(&MapEntry) -> Result<()>,
) -> Result<Option<Vec<MapEntry>>> {
    let mut redo_version = 0;
    for entry in &merge.layers {
        let layer = core.cache.layer(&core.objects, entry.layer)?;
        redo_version = redo_version.max(layer.footer().redo_version);
    }
    let new_writer = || -> Result<LayerWriter> {
        Ok(LayerWriter::delta(&core.objects, merge.lsns)?.made_with(redo_version))
    };
    let mut entries = Vec::new();
    let mut begin = PackedKey::MIN;
    let mut writer: LayerWriter = new_writer()?;
    let mut finish = |writer: LayerWriter, begin: PackedKey, end: PackedKey| -> Result<()> {
        let sealed = writer.finish(KeyRange { start: begin, end })?;
        let entry = MapEntry::whole(&sealed);
        made(&entry)?;
        entries.push(entry);
        Ok(())
    };
    let layers = merge.layers.iter().map(|entry| (entry.layer, entry.keys));
    let mut cursor = MergedCursor::new(&core.cache, &core.objects, layers)?;
    let mut versions = 0_u64;
    while let Some((entry, _)) = cursor.entry() {
        if versions.is_multiple_of(1024) && stop() {
            return Ok(None);
        }
        let is_full = writer.len() >= core.settings.layer_bytes;
        if is_full && writer.last_key().is_some_and(|last| last < entry.key) {
            let full = std::mem::replace(&mut writer, new_writer()?);
            finish(full, begin, entry.key)?;
            begin = entry.key;
        }
        writer.add(&entry.key, entry.lsn, (entry.tag, entry.value))?;
        cursor.advance()?;
        versions += 1;
    }
    finish(writer, begin, PackedKey::MAX)?;
    Ok(Some(entries))
}
