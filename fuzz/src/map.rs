//! A layer map and one chunk for it, in a store of their own.
//!
//! ```text
//! u16 length of the chunk | chunk | map
//! ```
//! References of the map whose name begins with a zero byte become references to the chunk. The format is described in
//! `docs/format/layer-map.md`.

use std::sync::OnceLock;

use neon_objects::ObjectStore;
use neon_pagestore::LayerMap;
use neon_types::{LayerMapId, Lsn};

use crate::scratch;

const HEADER: usize = 32;
const ENTRY: usize = 112;
const REFERENCE: usize = 48;

/// Reads the map, cuts it, and reads what was written of it.
///
/// # Panics
/// What was written reads otherwise.
pub fn run(data: &[u8]) {
    static OBJECTS: OnceLock<ObjectStore> = OnceLock::new();
    let objects = OBJECTS.get_or_init(|| {
        ObjectStore::open(scratch::empty().join("objects")).expect("an empty store can be opened")
    });
    let Some((length, rest)) = data.split_first_chunk() else {
        return;
    };
    let (chunk, map) = rest.split_at(usize::from(u16::from_le_bytes(*length)).min(rest.len()));
    let chunk = objects.put(chunk).expect("can be stored");
    let mut map = map.to_vec();
    let count = |at: usize| Some(u32::from_le_bytes(*map.get(at..)?.first_chunk()?) as usize);
    if let (Some(layers @ ..1024), Some(chunks @ ..1024)) = (count(12), count(24)) {
        for number in 0..chunks {
            let at = HEADER + ENTRY * layers + REFERENCE * number;
            if let Some(name) = map.get_mut(at..at + 32).filter(|name| name[0] == 0) {
                name.copy_from_slice(&chunk.to_bytes());
            }
        }
    }
    let id = objects.put(&map).expect("can be stored");
    let mut written = vec![chunk, id];
    if let Ok(map) = LayerMap::read(objects, LayerMapId(id)) {
        let newest = map.entries().next().map_or(Lsn(8), |entry| entry.visible().start);
        let _ = map.clipped(newest).entries().count();
        let again = map.write(objects).expect("can be stored");
        let read = LayerMap::read(objects, again).expect("what was written can be read");
        written.push(again.0);
        written.extend(read.objects());
        assert_eq!(read.sealed(), map.sealed());
        assert!(
            read.entries().eq(map.entries()),
            "what was written reads otherwise"
        );
    }
    for id in written {
        let _ = objects.remove(id);
    }
}
