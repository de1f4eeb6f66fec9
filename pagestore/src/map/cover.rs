//! Whether layers answer for every key and every change of a range: what makes a claim complete.

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
    let mut edges: Vec<PackedKey> = rectangles
        .iter()
        .flat_map(|(keys, _)| [keys.start, keys.end])
        .chain([PackedKey::MIN])
        .filter(|key| *key < PackedKey::MAX)
        .collect();
    edges.sort_unstable();
    edges.dedup();
    let mut by_start: Vec<&(KeyRange, LsnRange)> = rectangles.iter().collect();
    by_start.sort_by_key(|(_, lsns)| lsns.start);
    // Between two edges all keys are covered by the same rectangles.
    for key in edges {
        let mut reached = wanted.start;
        for (_, lsns) in by_start.iter().filter(|(keys, _)| keys.contains(&key)) {
            if lsns.start > reached {
                break;
            }
            reached = reached.max(lsns.end);
        }
        if reached < wanted.end {
            return Some(Gap { key, from: reached });
        }
    }
    None
}
