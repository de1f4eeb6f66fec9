//! Whether layers answer for every key and every change of a range: what makes a claim complete.

use std::collections::BTreeSet;

use neon_types::{KeyRange, Lsn, LsnRange, PackedKey};

/// A part of a range that no layer answers for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Gap {
    /// First key that is concerned.
    pub key: PackedKey,
    /// The state from which its changes are missing.
    pub from: Lsn,
}

/// Returns the first place of all keys x `wanted` that none of `rectangles` covers.
pub(crate) fn gap(rectangles: &[(KeyRange, LsnRange)], wanted: LsnRange) -> Option<Gap> {
    if wanted.is_empty() {
        return None;
    }
    let mut starts: Vec<&(KeyRange, LsnRange)> = rectangles.iter().collect();
    starts.sort_by_key(|(keys, _)| keys.start);
    let mut edges: Vec<PackedKey> = rectangles
        .iter()
        .flat_map(|(keys, _)| [keys.start, keys.end])
        .chain([PackedKey::MIN])
        .filter(|key| *key < PackedKey::MAX)
        .collect();
    edges.sort_unstable();
    edges.dedup();
    let mut starts = starts.into_iter().peekable();
    // Those that hold the keys from the edge on, by where their changes begin.
    let mut active: BTreeSet<(Lsn, Lsn, PackedKey)> = BTreeSet::new();
    // Between two edges all keys are covered by the same rectangles.
    for key in edges {
        while let Some((keys, lsns)) = starts.next_if(|(keys, _)| keys.start <= key) {
            active.insert((lsns.start, lsns.end, keys.end));
        }
        active.retain(|(_, _, end)| key < *end);
        let mut reached = wanted.start;
        for (start, end, _) in &active {
            if *start > reached {
                break;
            }
            reached = reached.max(*end);
        }
        if reached < wanted.end {
            return Some(Gap { key, from: reached });
        }
    }
    None
}
