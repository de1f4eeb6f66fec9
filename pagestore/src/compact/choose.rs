//! What is worth doing next: decided from the map and the block indexes of its layers.
//!
//! Bounds on a read at the end of what is sealed:
//!
//! * at most [`RECORDS`] records: key ranges where a key may have more get images;
//! * at most [`DELTAS`] runs with a version of the key, and the image, for [`CROWDED`] of the keys that were changed since
//!   their image: else the newest runs are merged;
//! * at most [`RUNS`] runs to be asked, whatever they hold: else those are merged that cost least for each run less.
//!
//! Costs: a key range gets images, too, once the changes above its image take as much space as the image itself, so that neither
//! grows without the other. A merge takes runs of like size, so that a version is written again about as often as runs double.

use neon_types::{KeyRange, Lsn, LsnRange};

use super::need::{Run, Segment, Tile, base_of, crowd, runs, segments};
use super::stretch::{Stretch, pages};
use super::{Choice, Images, Merge, imaged};
use crate::Result;
use crate::map::{LayerMap, MapEntry};

/// Most records that a read applies to an image.
pub(crate) const RECORDS: u32 = 32;
/// Most runs beside the image that hold versions of a key, but for [`CROWDED`] of them.
pub(crate) const DELTAS: usize = 2;
/// Share of keys that may be in more runs than that.
pub(crate) const CROWDED: f64 = 0.01;
/// Most runs that are not merged; also most that are merged at once.
pub(crate) const RUNS: usize = 16;
/// Of one image layer: ranges that are written each by itself; more become one.
const RANGES: usize = 8;
/// Bytes of image layers whose keys are written anew in one step, in longest layers.
const STEP: u64 = 8;

/// Returns what is worth doing next for a timeline that begins at `start`. `facts` tells the stretches of a delta layer. Of `holes` no images
/// can be made. What it says, done again and again, ends at [`Choice::Nothing`].
pub(crate) fn choose(
    map: &LayerMap,
    start: Lsn,
    layer_bytes: u64,
    holes: &[KeyRange],
    facts: &dyn Fn(&MapEntry) -> Result<Vec<Stretch>>,
) -> Result<Choice> {
    if map.sealed() <= start {
        return Ok(Choice::Nothing);
    }
    let tiles = map.newest_images(imaged(), map.sealed());
    let lowest = tiles.iter().map(base_of).min().unwrap_or(map.sealed());
    let mut live = runs(map, start);
    live.retain(|run| run.lsns.end > lowest);
    if live.len() > RUNS
        && let Some(merge) = cheapest(&live)
    {
        return Ok(Choice::Merge(merge));
    }
    let stretches: Vec<Vec<Stretch>> = live
        .iter()
        .map(|run| stretches_of(run, &tiles, facts))
        .collect::<Result<_>>()?;
    let segments = segments(&tiles, &live, &stretches, holes);
    let ranges = images(&tiles, &segments, STEP * layer_bytes, &worth_images);
    if !ranges.is_empty() {
        let lsn = map.sealed();
        return Ok(Choice::Images(Images { ranges, lsn }));
    }
    if !is_crowded(&segments, 0) {
        return Ok(Choice::Nothing);
    }
    if let Some(merge) = newest(&live, &segments) {
        return Ok(Choice::Merge(merge));
    }
    // Runs of an ancestor cannot be merged; images above them are as good.
    let ranges = images(&tiles, &segments, STEP * layer_bytes, &|tile, segments| {
        let crowded = is_crowded(segments, 0);
        if crowded {
            whole(tile, segments)
        } else {
            Vec::new()
        }
    });
    Ok(match ranges.is_empty() {
        true => Choice::Nothing,
        false => Choice::Images(Images {
            ranges,
            lsn: map.sealed(),
        }),
    })
}

/// Returns the stretches of those layers of a run that a read of some tile may go through.
fn stretches_of(
    run: &Run,
    tiles: &[Tile],
    facts: &dyn Fn(&MapEntry) -> Result<Vec<Stretch>>,
) -> Result<Vec<Stretch>> {
    let mut stretches = Vec::new();
    for layer in &run.layers {
        let first = tiles.partition_point(|(keys, _)| keys.end <= layer.keys.start);
        let seen = tiles
            .iter()
            .skip(first)
            .take_while(|(keys, _)| keys.start < layer.keys.end)
            .any(|tile| base_of(tile) < run.lsns.end);
        if seen {
            stretches.extend(facts(layer)?);
        }
    }
    Ok(stretches)
}

fn is_crowded<'a>(segments: impl IntoIterator<Item = &'a Segment>, merged: usize) -> bool {
    let (over, any) = crowd(segments, merged, DELTAS);
    over > CROWDED * any
}

fn merge_of(runs: &[Run]) -> Option<Merge> {
    let (newest, oldest) = (runs.first()?, runs.last()?);
    Some(Merge {
        layers: runs.iter().flat_map(|run| run.layers.iter().copied()).collect(),
        lsns: LsnRange {
            start: oldest.lsns.start,
            end: newest.lsns.end,
        },
    })
}

/// Returns how many runs from the first on can be merged: own ones that follow each other.
fn mergeable(runs: &[Run]) -> usize {
    if !runs.first().is_some_and(|run| run.own) {
        return 0;
    }
    let follows = runs.iter().zip(runs.iter().skip(1));
    1 + follows
        .take_while(|(newer, older)| older.own && older.lsns.end == newer.lsns.start)
        .count()
}

/// Returns the merge that costs least for each run less.
fn cheapest(runs: &[Run]) -> Option<Merge> {
    let mut best: Option<(u64, &[Run])> = None;
    for first in 0..runs.len() {
        let rest = runs.get(first..).unwrap_or_default();
        for count in 2..=mergeable(rest).min(RUNS) {
            let window = rest.get(..count).unwrap_or_default();
            let bytes: u64 = window.iter().map(|run| run.bytes).sum();
            let cost = bytes / (count as u64 - 1);
            if best.is_none_or(|(least, _)| cost < least) {
                best = Some((cost, window));
            }
        }
    }
    merge_of(best?.1)
}

/// Returns the merge of the newest runs, as few of them as help, and not without one that is smaller than they together.
fn newest(runs: &[Run], segments: &[Segment]) -> Option<Merge> {
    let most = mergeable(runs).min(RUNS);
    for count in 2..=most {
        let bytes: u64 = runs.iter().take(count).map(|run| run.bytes).sum();
        let leaves_alike = count < most && runs.get(count).is_some_and(|next| next.bytes < bytes);
        if !leaves_alike && !is_crowded(segments, count) {
            return merge_of(runs.get(..count)?);
        }
    }
    None
}

/// Returns the ranges of all tiles that `wanted` says, up to that many bytes of image layers to be written anew.
fn images(
    tiles: &[Tile],
    segments: &[Segment],
    most: u64,
    wanted: &dyn Fn(&Tile, &[Segment]) -> Vec<KeyRange>,
) -> Vec<KeyRange> {
    let mut ranges: Vec<KeyRange> = Vec::new();
    let mut bytes = 0;
    for here in segments.chunk_by(|one, next| one.tile == next.tile) {
        let Some(tile) = here.first().and_then(|segment| tiles.get(segment.tile)) else {
            continue;
        };
        let more = wanted(tile, here);
        if more.is_empty() {
            continue;
        }
        for range in more {
            match ranges.last_mut() {
                Some(last) if last.end >= range.start => last.end = range.end,
                _ => ranges.push(range),
            }
        }
        bytes += tile.1.map_or(0, |image| image.len);
        if bytes >= most {
            break;
        }
    }
    ranges
}

/// Returns the parts of a tile of which new images are worth their cost.
fn worth_images(tile: &Tile, segments: &[Segment]) -> Vec<KeyRange> {
    let bytes: u64 = segments.iter().map(|segment| segment.bytes).sum();
    let mut runs: Vec<usize> = segments
        .iter()
        .flat_map(|segment| segment.shares.iter().map(|(run, _)| *run))
        .collect();
    runs.sort_unstable();
    runs.dedup();
    if runs.len() > 1 && bytes >= tile.1.map_or(0, |image| image.len) {
        return whole(tile, segments);
    }
    let ranges = hot(segments);
    let imaged: u64 = ranges.iter().filter_map(pages).map(u64::from).sum();
    let changed: u64 = segments.iter().map(|segment| u64::from(segment.pages)).sum();
    if ranges.len() > RANGES || 2 * imaged > changed {
        let (Some(first), Some(last)) = (ranges.first(), ranges.last()) else {
            return ranges;
        };
        return vec![snapped(
            KeyRange {
                start: first.start,
                end: last.end,
            },
            tile,
            false,
        )];
    }
    ranges
        .into_iter()
        .map(|range| snapped(range, tile, false))
        .collect()
}

/// Returns the ranges in which keys have too many records, with what follows and will have soon.
fn hot(segments: &[Segment]) -> Vec<KeyRange> {
    let mut ranges: Vec<KeyRange> = Vec::new();
    let mut rest = segments;
    while let Some(first) = rest.iter().position(|segment| segment.chain > RECORDS / 2) {
        rest = rest.get(first..).unwrap_or_default();
        let follow = rest.iter().zip(rest.iter().skip(1));
        let count = 1 + follow
            .take_while(|(one, next)| one.keys.end == next.keys.start && next.chain > RECORDS / 2)
            .count();
        let (cluster, after) = rest.split_at_checked(count).unwrap_or_default();
        if cluster.iter().any(|segment| segment.chain > RECORDS)
            && let (Some(first), Some(last)) = (cluster.first(), cluster.last())
        {
            ranges.push(KeyRange {
                start: first.keys.start,
                end: last.keys.end,
            });
        }
        rest = after;
    }
    ranges
}

/// Returns the part of a tile that was changed.
fn whole(tile: &Tile, segments: &[Segment]) -> Vec<KeyRange> {
    let (Some(first), Some(last)) = (segments.first(), segments.last()) else {
        return Vec::new();
    };
    let changed = KeyRange {
        start: first.keys.start,
        end: last.keys.end,
    };
    vec![snapped(changed, tile, true)]
}

/// Returns the range up to the edges of its tile, where what lies between is little; where that cannot be told, if `unknown` says so.
fn snapped(range: KeyRange, (tile, _): &Tile, unknown: bool) -> KeyRange {
    let size = pages(&range);
    let is_little = |between: KeyRange| {
        between.start < between.end
            && match (pages(&between), size) {
                (Some(gap), Some(size)) => gap <= size / 4,
                (Some(gap), None) => gap <= RECORDS,
                (None, _) => unknown,
            }
    };
    let before = KeyRange {
        start: tile.start,
        end: range.start,
    };
    let after = KeyRange {
        start: range.end,
        end: tile.end,
    };
    KeyRange {
        start: if is_little(before) {
            tile.start
        } else {
            range.start
        },
        end: if is_little(after) { tile.end } else { range.end },
    }
}
