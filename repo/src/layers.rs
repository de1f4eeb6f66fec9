//! `layers`: the layer map of a revision, to be looked at.

use neon_pagestore::{LayerKind, LayerMap};
use neon_types::{Key, PackedKey};

use crate::api::{Layer, Layers};
use crate::error::Result;
use crate::repository::Repository;

impl Repository {
    /// Returns the layers that a revision is read from, newest first.
    pub(crate) fn layers(&self, rev: &str) -> Result<Layers> {
        let target = self.resolve(Some(rev))?;
        let position = target.place.position();
        let timeline = self.timeline(position.timeline)?;
        let map = timeline.layers_at(position.lsn);
        let layers = map.iter().flat_map(LayerMap::entries).map(|entry| {
            let visible = entry.visible();
            Layer {
                layer: entry.layer,
                kind: match entry.kind {
                    LayerKind::Image => "image",
                    LayerKind::Delta => "delta",
                }
                .to_owned(),
                first: hex(&entry.keys.start),
                after: hex(&entry.keys.end),
                keys: format!("{} .. {}", name(&entry.keys.start), name(&entry.keys.end)),
                start: visible.start,
                end: visible.end,
                bytes: entry.len,
                own: visible.end > timeline.start() || timeline.ancestor().is_none(),
            }
        });
        Ok(Layers {
            timeline: timeline.id(),
            start: timeline.start(),
            lsn: position.lsn,
            sealed: map.as_ref().map(LayerMap::sealed),
            layers: layers.collect(),
            notes: target.notes,
        })
    }
}

fn hex(key: &PackedKey) -> String {
    key.0.iter().map(|byte| format!("{byte:02x}")).collect()
}

/// Returns a key as people name it: `1663/5/16384 block 7`; of what is not a relation, its kind.
fn name(key: &PackedKey) -> String {
    match Key::unpack(key) {
        _ if *key == PackedKey::MIN => "start".to_owned(),
        _ if *key == PackedKey::MAX => "end".to_owned(),
        Ok(Key::Block(rel, block)) => format!("{rel} block {block}"),
        Ok(Key::RelSize(rel)) => format!("size of {rel}"),
        Ok(Key::Unreadable(rel)) => format!("unreadable {rel}"),
        Ok(Key::SlruPage { kind, page }) => format!("{} page {page}", kind.directory()),
        Ok(Key::SlruSegments(kind)) => format!("{} segments", kind.directory()),
        Ok(other) => format!("{other:?}"),
        Err(_) => hex(key),
    }
}

#[cfg(test)]
mod tests {
    use neon_types::{Fork, RelTag};

    use super::*;

    #[test]
    fn keys_have_names() {
        let rel = RelTag {
            spc: 1663,
            db: 5,
            rel: 16384,
            fork: Fork::VisibilityMap,
        };
        assert_eq!(name(&Key::Block(rel, 7).pack()), "1663/5/16384_vm block 7");
        assert_eq!(name(&PackedKey::MIN), "start");
        assert_eq!(name(&Key::Checkpoint.pack()), "Checkpoint");
        let odd = PackedKey([0xee; 18]);
        assert_eq!(name(&odd), "ee".repeat(18));
    }
}
