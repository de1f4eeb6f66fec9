//! What reads take now: which runs and how many records lie above the newest image of each part of the keys.

use std::collections::BTreeMap;

use neon_types::{KeyRange, Lsn, LsnRange, PackedKey};

use super::stretch::{Stretch, pages};
use crate::layer::LayerKind;
use crate::map::{LayerMap, MapEntry};

/// Delta layers of one LSN range.
#[derive(Clone, Debug)]
pub(crate) struct Run {
    /// The changes that a map shows of them.
    pub lsns: LsnRange,
    /// In key order.
    pub layers: Vec<MapEntry>,
    /// Length of all of them.
    pub bytes: u64,
    /// They are the timeline's own, nothing of them is clipped, and they answer for each key once: what can be merged.
    pub own: bool,
}

/// Returns the runs of a map, newest first, of a timeline that begins at `start`.
pub(crate) fn runs(map: &LayerMap, start: Lsn) -> Vec<Run> {
    let mut groups: BTreeMap<(Lsn, Lsn), Vec<MapEntry>> = BTreeMap::new();
    for entry in map.entries().filter(|entry| entry.kind == LayerKind::Delta) {
        let visible = entry.visible();
        groups
            .entry((visible.end, visible.start))
            .or_default()
            .push(entry);
    }
    let run = |((end, begin), mut layers): ((Lsn, Lsn), Vec<MapEntry>)| {
        layers.sort_unstable_by_key(|entry| entry.keys.start);
        let ends = layers.iter().map(|entry| entry.keys.end);
        let starts = layers.iter().map(|entry| entry.keys.start);
        let divided = starts.eq([PackedKey::MIN].into_iter().chain(ends.take(layers.len() - 1)))
            && layers
                .last()
                .is_some_and(|entry| entry.keys.end == PackedKey::MAX);
        let whole = layers.iter().all(|entry| entry.lsns == entry.visible());
        Run {
            lsns: LsnRange { start: begin, end },
            bytes: layers.iter().map(|entry| entry.len).sum(),
            own: divided && whole && begin >= start,
            layers,
        }
    };
    groups.into_iter().rev().map(run).collect()
}

/// Keys that follow each other, of which reads take the same.
#[derive(Clone, Debug)]
pub(crate) struct Segment {
    /// The keys.
    pub keys: KeyRange,
    /// Number of the image that they are in.
    pub tile: usize,
    /// How many keys they are: 1 where that cannot be told.
    pub pages: u32,
    /// Most records that a read applies, as far as can be told.
    pub chain: u32,
    /// Stored bytes above the image.
    pub bytes: u64,
    /// Number of each run with versions above the image, and how likely it is that a key has one there.
    pub shares: Vec<(usize, f64)>,
}

/// Keys with the newest image layer of them.
pub(crate) type Tile = (KeyRange, Option<MapEntry>);

/// Returns the LSN at and below which the image of a tile answers.
pub(crate) fn base_of(tile: &Tile) -> Lsn {
    tile.1.as_ref().map_or(Lsn::INVALID, |image| image.lsns.end)
}

/// A walk through the stretches of one run.
struct Walk<'a> {
    run: usize,
    end: Lsn,
    rest: std::iter::Peekable<std::slice::Iter<'a, Stretch>>,
    /// The bytes of the stretch at hand are counted.
    counted: bool,
}

/// Returns the segments of `tiles` that have versions above their image, outside of `holes`. `stretches` are those of the runs,
/// by number.
pub(crate) fn segments(
    tiles: &[Tile],
    runs: &[Run],
    stretches: &[Vec<Stretch>],
    holes: &[KeyRange],
) -> Vec<Segment> {
    let edges_of = |keys: KeyRange| [keys.start, keys.end];
    let mut edges: Vec<PackedKey> = stretches
        .iter()
        .flatten()
        .flat_map(|stretch| edges_of(stretch.keys))
        .collect();
    edges.extend(tiles.iter().flat_map(|(keys, _)| edges_of(*keys)));
    edges.extend(holes.iter().copied().flat_map(edges_of));
    edges.sort_unstable();
    edges.dedup();
    let mut walks: Vec<Walk<'_>> = runs
        .iter()
        .zip(stretches)
        .enumerate()
        .map(|(run, (Run { lsns, .. }, stretches))| Walk {
            run,
            end: lsns.end,
            rest: stretches.iter().peekable(),
            counted: false,
        })
        .collect();
    let mut found = Vec::new();
    let mut tile = 0;
    for (start, end) in edges.iter().zip(edges.iter().skip(1)) {
        let keys = KeyRange {
            start: *start,
            end: *end,
        };
        while tiles.get(tile).is_some_and(|(tile, _)| tile.end <= keys.start) {
            tile += 1;
        }
        let Some(inside) = tiles.get(tile).filter(|(tile, _)| tile.start <= keys.start) else {
            continue;
        };
        if holes.iter().any(|hole| hole.contains(&keys.start)) {
            continue;
        }
        let mut segment = Segment {
            keys,
            tile,
            pages: pages(&keys).unwrap_or(1),
            chain: 0,
            bytes: 0,
            shares: Vec::new(),
        };
        for walk in &mut walks {
            walk.look(&mut segment, base_of(inside));
        }
        if !segment.shares.is_empty() {
            found.push(segment);
        }
    }
    found
}

impl Walk<'_> {
    /// Adds to a segment, which is behind the one before, what the run has of its keys.
    fn look(&mut self, segment: &mut Segment, base: Lsn) {
        while self
            .rest
            .next_if(|stretch| stretch.keys.end <= segment.keys.start)
            .is_some()
        {
            self.counted = false;
        }
        let Some(stretch) = self
            .rest
            .peek()
            .filter(|stretch| stretch.keys.start <= segment.keys.start)
        else {
            return;
        };
        if self.end <= base || stretch.versions == 0 {
            return;
        }
        segment.chain = segment.chain.saturating_add(stretch.chain);
        segment.bytes += match pages(&stretch.keys) {
            Some(all) => stretch.bytes * u64::from(segment.pages.min(all)) / u64::from(all),
            None if self.counted => 0,
            None => stretch.bytes,
        };
        self.counted = true;
        segment.shares.push((self.run, stretch.share()));
    }
}

/// Returns of how many keys a read meets versions in more than `most` runs, and of how many in any, when the runs below `merged`
/// are one. Runs are taken to hold keys independently of each other.
pub(crate) fn crowd<'a>(
    segments: impl IntoIterator<Item = &'a Segment>,
    merged: usize,
    most: usize,
) -> (f64, f64) {
    let (mut over, mut any) = (0.0, 0.0);
    for segment in segments {
        // How likely it is that 0, 1, ... `most` runs have a version.
        let mut counts = vec![0.0; most + 1];
        if let Some(none) = counts.first_mut() {
            *none = 1.0;
        }
        let mut add = |share: f64| {
            let mut fewer = 0.0;
            for count in &mut counts {
                let before = *count;
                *count = before * (1.0 - share) + fewer * share;
                fewer = before;
            }
        };
        let mut spared = 1.0;
        for (run, share) in &segment.shares {
            if *run < merged {
                spared *= 1.0 - share;
            } else {
                add(*share);
            }
        }
        add(1.0 - spared);
        let pages = f64::from(segment.pages);
        over += pages * (1.0 - counts.iter().sum::<f64>()).max(0.0);
        any += pages * (1.0 - counts.first().copied().unwrap_or(0.0));
    }
    (over, any)
}
