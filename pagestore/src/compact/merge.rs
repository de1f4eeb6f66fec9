//! Runs that follow each other become one: every version as it is, in the order of (key, LSN).
//!
//! Memory: for each run a block or a few small ones, for the layer that is written a few blocks, its index and its key hashes.

use super::Merge;
use super::run_writer::RunWriter;
use crate::Result;
use crate::layer::MergedCursor;
use crate::map::MapEntry;
use crate::store::Core;

/// Writes the layers that stand for those of `merge`; `made` is told of each. None when `stop` said so, which is asked now and then.
pub(crate) fn merge(
    core: &Core,
    merge: &Merge,
    stop: &dyn Fn() -> bool,
    made: &mut dyn FnMut(&MapEntry) -> Result<()>,
) -> Result<Option<Vec<MapEntry>>> {
    let mut writer = RunWriter::new(core, merge, made)?;
    let layers = merge.layers.iter().map(|entry| (entry.layer, entry.keys));
    let mut cursor = MergedCursor::new(&core.cache, &core.objects, layers)?;
    let mut versions = 0_u64;
    while let Some((entry, _)) = cursor.entry() {
        if versions.is_multiple_of(1024) && stop() {
            return Ok(None);
        }
        writer.add(&entry.key, entry.lsn, (entry.tag, entry.value))?;
        cursor.advance()?;
        versions += 1;
    }
    writer.finish().map(Some)
}
