//! Every object, by all processors at once.

use std::collections::BTreeSet;
use std::num::NonZero;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::sync::mpsc;
use std::thread;

use neon_types::{LayerId, ObjectId, TimelineId, with_causes};

use super::{Checked, Claims, Finding};
use crate::layer::Layer;
use crate::map::MapEntry;
use crate::{PageStore, PageStoreError, Result};

/// Most threads that check; beyond, disks are the limit.
const MAX_WORKERS: usize = 16;

/// Hashes every object, and looks into each that is said to be a layer.
pub(super) fn check(
    store: &PageStore,
    claims: &Claims,
    progress: &mut dyn FnMut(u64, u64) -> bool,
    checked: &mut Checked,
) -> Result<()> {
    let mut sizes: Vec<(ObjectId, u64)> = Vec::new();
    for id in store.objects().iter()? {
        // What goes in this moment is not needed; what is needed and not there is found below.
        if let Ok(len) = store.objects().len(id) {
            sizes.push((id, len));
        }
    }
    let here: BTreeSet<ObjectId> = sizes.iter().map(|(id, _)| *id).collect();
    for (layer, said) in claims.iter().filter(|(layer, _)| !here.contains(&layer.0)) {
        checked.findings.push(Finding {
            timeline: said.first().map(|(timeline, _)| *timeline),
            object: Some(layer.0),
            problem: "the layer is missing".to_owned(),
        });
    }
    // Largest first: no thread is left with a large one at the end.
    sizes.sort_by_key(|(id, len)| (std::cmp::Reverse(*len), *id));
    let total: u64 = sizes.iter().map(|(_, len)| len).sum();
    let workers = thread::available_parallelism()
        .map_or(1, NonZero::get)
        .min(MAX_WORKERS);
    let (next, stop) = (AtomicUsize::new(0), AtomicBool::new(false));
    let (tell, told) = mpsc::channel::<(u64, Vec<Finding>)>();
    thread::scope(|scope| {
        for _ in 0..workers {
            let tell = tell.clone();
            let (sizes, next, stop) = (&sizes, &next, &stop);
            scope.spawn(move || {
                while let Some((id, len)) = sizes.get(next.fetch_add(1, Ordering::Relaxed))
                    && !stop.load(Ordering::Relaxed)
                {
                    // Nobody listens any more once the check was ended.
                    let _ = tell.send((*len, check_object(store, claims, *id)));
                }
            });
        }
        drop(tell);
        for (len, findings) in told {
            checked.objects += 1;
            checked.bytes += len;
            checked.findings.extend(findings);
            if !progress(checked.bytes, total) {
                stop.store(true, Ordering::Relaxed);
            }
        }
    });
    Ok(())
}

fn check_object(store: &PageStore, claims: &Claims, id: ObjectId) -> Vec<Finding> {
    let said = claims.get(&LayerId(id)).map_or(&[][..], Vec::as_slice);
    let found = |timeline: Option<TimelineId>, error: &dyn std::error::Error| Finding {
        timeline,
        object: Some(id),
        problem: with_causes(error),
    };
    let timeline = said.first().map(|(timeline, _)| *timeline);
    if let Err(error) = store.objects().verify(id) {
        let gone = said.is_empty() && !store.objects().contains(id);
        return if gone {
            Vec::new()
        } else {
            vec![found(timeline, &error)]
        };
    }
    if said.is_empty() {
        return Vec::new();
    }
    let layer = match Layer::open(store.objects(), LayerId(id)) {
        Ok(layer) => layer,
        Err(error) => return vec![found(timeline, &error)],
    };
    let mut findings: Vec<Finding> = said
        .iter()
        .filter_map(|(timeline, entry)| {
            let error = agrees(&layer, entry).err()?;
            Some(found(Some(*timeline), &error))
        })
        .collect();
    findings.extend(layer.verify().err().map(|error| found(timeline, &error)));
    findings
}

fn agrees(layer: &Layer, entry: &MapEntry) -> Result<()> {
    let footer = layer.footer();
    if (footer.kind, footer.keys, footer.lsns, layer.file_len())
        == (entry.kind, entry.keys, entry.lsns, entry.len)
    {
        return Ok(());
    }
    Err(PageStoreError::DamagedLayer {
        layer: entry.layer,
        reason: "a layer map says something else of it than its footer".to_owned(),
    })
}
