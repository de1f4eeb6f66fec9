//! Image layers made again: from what lies below them and the changes in between, as compaction did.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use neon_types::{Key, LayerId, Lsn, LsnRange, PackedKey, with_causes};

use super::super::Timeline;
use super::super::scan::Merge;
use super::Differences;
use super::compare::name;
use crate::compact::images::Values;
use crate::layer::{LayerCursor, LayerKind};
use crate::map::{LayerMap, MapEntry};
use crate::{PageStoreError, Result};

/// Values between two questions whether to stop.
const ASK: u64 = 256;

/// Image layers that are wrong: nothing else is made of them.
pub(super) type Suspects = BTreeSet<LayerId>;

/// What was compared.
#[derive(Debug, Default)]
pub(super) struct Checked {
    /// Values.
    pub versions: u64,
    pub differences: Differences,
}

/// Returns true when `map` lists an image layer above `from` and not above `to`.
pub(super) fn any(map: &LayerMap, from: Lsn, to: Lsn) -> bool {
    let lsns = LsnRange { start: from, end: to };
    let mut images = map.entries().filter(|entry| entry.kind == LayerKind::Image);
    images.any(|entry| lsns.contains(entry.lsns.end))
}

/// Returns what `map` lists without the image layers above `lsn`, which are not checked yet, and those that are wrong.
pub(super) fn checked(map: &LayerMap, lsn: Lsn, suspects: &Suspects) -> Arc<LayerMap> {
    let is_good = |entry: &MapEntry| {
        entry.kind == LayerKind::Delta || (entry.lsns.end <= lsn && !suspects.contains(&entry.layer))
    };
    Arc::new(LayerMap::new(
        map.sealed(),
        map.entries().filter(is_good).collect(),
    ))
}

/// Checks the image layers of `map` whose LSN is in `lsns`, oldest first; none when `stop` said so.
pub(super) fn check(
    timeline: &Timeline,
    map: &LayerMap,
    lsns: LsnRange,
    suspects: &mut Suspects,
    stop: &mut dyn FnMut() -> bool,
) -> Result<Option<Checked>> {
    let mut by_lsn: BTreeMap<Lsn, Vec<MapEntry>> = BTreeMap::new();
    let images = map.entries().filter(|entry| entry.kind == LayerKind::Image);
    for entry in images.filter(|entry| lsns.contains(entry.lsns.end)) {
        by_lsn.entry(entry.lsns.end).or_default().push(entry);
    }
    let mut all = Checked::default();
    for (lsn, images) in by_lsn {
        let below = checked(map, Lsn(lsn.0.saturating_sub(1)), suspects);
        for entry in images {
            let before = all.differences.count();
            if !check_layer(timeline, &below, &entry, &mut all, stop)? {
                return Ok(None);
            }
            if all.differences.count() > before {
                suspects.insert(entry.layer);
            }
        }
    }
    Ok(Some(all))
}

/// Returns false when told to stop.
fn check_layer(
    timeline: &Timeline,
    below: &Arc<LayerMap>,
    entry: &MapEntry,
    checked: &mut Checked,
    stop: &mut dyn FnMut() -> bool,
) -> Result<bool> {
    let (core, lsn) = (timeline.core(), entry.lsns.end);
    let layer = core.cache.layer(&core.objects, entry.layer)?;
    let mut held = LayerCursor::seek(layer, None, entry.keys)?;
    let mut merge = Merge::of_map(timeline, Arc::clone(below), entry.keys, lsn);
    let mut values = Values::new(timeline, Arc::clone(below), lsn);
    let mut found = Vec::new();
    let mut made = merge.next(&|_| Lsn::INVALID, &mut found)?;
    let mut differs = |key: &PackedKey, problem: &str| {
        let problem = format!("{} at {lsn}: {problem}", name(key));
        checked.differences.add(Some(entry.layer.0), problem);
    };
    loop {
        let here = held.entry();
        let next = match (here.as_ref().map(|entry| entry.key), made) {
            (None, None) => return Ok(true),
            (Some(held), Some(made)) => held.min(made),
            (Some(key), None) | (None, Some(key)) => key,
        };
        let expected = if made == Some(next) {
            let key = Key::unpack(&next).map_err(|error| PageStoreError::damaged("a key", error))?;
            match values.of(key, std::mem::take(&mut found)) {
                Ok(value) => Ok(value),
                Err(
                    error @ (PageStoreError::Damaged { .. }
                    | PageStoreError::Redo { .. }
                    | PageStoreError::Unsupported { .. }
                    | PageStoreError::WrongKind { .. }),
                ) => Err(error),
                Err(error) => return Err(error),
            }
        } else {
            Ok(None)
        };
        let here = here.filter(|entry| entry.key == next);
        match (&expected, &here) {
            (Ok(Some(value)), Some(here)) if value.stored(true) != (here.tag, here.value) => {
                differs(
                    &next,
                    "the image layer holds something else than what the changes lead to",
                );
            }
            // What is read at one LSN needs few of them.
            (Ok(Some(_)), None) if !matches!(Key::unpack(&next), Ok(Key::Boundaries { .. })) => {
                differs(&next, "the image layer leaves it out");
            }
            (Ok(None), Some(_)) => differs(&next, "the image layer holds what does not exist there"),
            (Err(error), Some(_)) => differs(
                &next,
                &format!(
                    "the image layer holds what cannot be made again: {}",
                    with_causes(error)
                ),
            ),
            _ => {}
        }
        if here.is_some() {
            held.advance()?;
        }
        if made == Some(next) {
            made = merge.next(&|_| Lsn::INVALID, &mut found)?;
        }
        checked.versions += 1;
        if checked.versions.is_multiple_of(ASK) && stop() {
            return Ok(false);
        }
    }
}
