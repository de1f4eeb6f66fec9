//! Does everything that timelines name exist, and is it what its name and footer say?

use std::collections::BTreeSet;

use neon_types::{LayerId, LsnRange, ObjectId, TimelineId};

use crate::layer::{Layer, LayerKind};
use crate::map::{LayerMap, MapEntry, gap};
use crate::timeline::TimelineState;
use crate::{PageStore, PageStoreError, Result};

/// Something that is wrong.
#[derive(Debug)]
pub struct Finding {
    /// The timeline that is concerned first; others may share the layer.
    pub timeline: TimelineId,
    /// The object that is concerned, if it is one.
    pub object: Option<ObjectId>,
    /// What is wrong with it.
    pub problem: String,
}

/// Checks every timeline: state, layer map, coverage, each layer's hash and every block of it, the WAL beyond. `progress` is told
/// bytes checked and bytes in all as far as known. Errors only where the file system fails; damage is a finding.
pub fn fsck(store: &PageStore, progress: &mut dyn FnMut(u64, u64)) -> Result<Vec<Finding>> {
    let mut findings = Vec::new();
    let mut layers: Vec<(TimelineId, MapEntry)> = Vec::new();
    for id in store.list() {
        let mut found = |object, problem: String| {
            findings.push(Finding {
                timeline: id,
                object,
                problem,
            });
        };
        let state = match TimelineState::read(id, &store.directory_of(id)) {
            Ok(state) => state,
            Err(error) => {
                found(None, error.to_string());
                continue;
            }
        };
        if let Some(ancestor) = state.ancestor
            && !store.contains(ancestor.timeline)
        {
            found(None, format!("its ancestor {} is missing", ancestor.timeline));
        }
        if let Some(map_id) = state.layer_map {
            match store.layer_map(map_id) {
                Ok(map) => {
                    if let Some(problem) = check_cover(&map, &state) {
                        found(Some(map_id.0), problem);
                    }
                    layers.extend(map.entries().map(|entry| (id, entry)));
                }
                Err(error) => found(Some(map_id.0), error.to_string()),
            }
        }
        // Opening decodes and indexes the WAL.
        match store.get(id) {
            Ok(timeline) if timeline.end() < state.published_end => found(
                None,
                format!(
                    "it ends at {}, and {} was published",
                    timeline.end(),
                    state.published_end
                ),
            ),
            Ok(_) => {}
            Err(error) => found(None, error.to_string()),
        }
    }
    let mut seen: BTreeSet<LayerId> = BTreeSet::new();
    layers.retain(|(_, entry)| seen.insert(entry.layer));
    let total: u64 = layers.iter().map(|(_, entry)| entry.len).sum();
    let mut done = 0;
    for (timeline, entry) in layers {
        if let Err(error) = check_layer(store, &entry) {
            findings.push(Finding {
                timeline,
                object: Some(entry.layer.0),
                problem: error.to_string(),
            });
        }
        done += entry.len;
        progress(done, total);
    }
    Ok(findings)
}

fn check_layer(store: &PageStore, entry: &MapEntry) -> Result<()> {
    store.objects().verify(entry.layer.0)?;
    let layer = Layer::open(store.objects(), entry.layer)?;
    let footer = layer.footer();
    if (footer.kind, footer.keys, footer.lsns, layer.file_len())
        != (entry.kind, entry.keys, entry.lsns, entry.len)
    {
        return Err(PageStoreError::DamagedLayer {
            layer: entry.layer,
            reason: "a layer map says something else of it than its footer".to_owned(),
        });
    }
    layer.verify()?;
    Ok(())
}

fn check_cover(map: &LayerMap, state: &TimelineState) -> Option<String> {
    if map.sealed() != state.sealed {
        return Some(format!(
            "it serves up to {}, the timeline is sealed up to {}",
            map.sealed(),
            state.sealed
        ));
    }
    let base = map
        .entries()
        .filter(|entry| entry.kind == LayerKind::Image)
        .map(|entry| entry.lsns.end)
        .min();
    let Some(base) = base else {
        return Some("it has no image layer to begin with".to_owned());
    };
    let rectangles: Vec<_> = map
        .entries()
        .map(|entry| match entry.kind {
            // Images answer for everything below them.
            LayerKind::Image => (
                entry.keys,
                LsnRange {
                    start: neon_types::Lsn(base.0.saturating_sub(1)),
                    end: entry.lsns.end,
                },
            ),
            LayerKind::Delta => (entry.keys, entry.visible()),
        })
        .collect();
    let wanted = LsnRange {
        start: neon_types::Lsn(base.0.saturating_sub(1)),
        end: map.sealed(),
    };
    gap(&rectangles, wanted).map(|gap| format!("no layer answers for {:?} after {}", gap.key, gap.from))
}
