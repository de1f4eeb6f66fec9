//! A copy of a delta layer cut to an LSN range, so that nothing outside it leaves the repository.

use std::sync::Arc;

use neon_objects::ObjectStore;
use neon_types::{Key, KeyRange, LsnRange, PackedKey};

use super::{Layer, LayerCursor, LayerKind, LayerWriter, SealedLayer};
use crate::boundaries::Boundaries;
use crate::value::Value;
use crate::{PageStoreError, Result};

/// Versions between two questions whether to go on.
const CHECK: u64 = 1024;

/// Writes the layer of the versions of `layer` in `range`, which is inside the layer's. The same input makes the same bytes.
///
/// Indexes of record boundaries are cut inside, because one version reaches beyond its own LSN. Once `stop` says so, [`PageStoreError::Stopped`].
pub(crate) fn slice(
    objects: &ObjectStore,
    layer: Arc<Layer>,
    range: LsnRange,
    stop: &dyn Fn() -> bool,
) -> Result<SealedLayer> {
    let footer = *layer.footer();
    if footer.kind != LayerKind::Delta
        || range.is_empty()
        || range.start < footer.lsns.start
        || range.end > footer.lsns.end
    {
        return Err(PageStoreError::damaged(
            "a slice",
            format!("layer {} does not hold the changes of {range}", layer.id()),
        ));
    }
    let mut writer = LayerWriter::delta(objects, range)?;
    let mut cursor = LayerCursor::seek(
        layer,
        None,
        KeyRange {
            start: PackedKey::MIN,
            end: PackedKey::MAX,
        },
    )?;
    for count in 0u64.. {
        let Some(entry) = cursor.entry() else { break };
        if count.is_multiple_of(CHECK) && stop() {
            return Err(PageStoreError::Stopped("nobody waits for the slice".to_owned()));
        }
        if matches!(Key::unpack(&entry.key), Ok(Key::Boundaries { .. })) {
            if let (Value::Item(bytes), _) = Value::from_stored(entry.tag, entry.value)?
                && let Some((lsn, bytes)) = Boundaries::decode(&bytes)?.within(range)
            {
                writer.add(&entry.key, lsn, Value::Item(bytes).stored(true))?;
            }
        } else if range.contains(entry.lsn) {
            writer.add(&entry.key, entry.lsn, (entry.tag, entry.value))?;
        }
        cursor.advance()?;
    }
    writer.finish(footer.keys)
}
