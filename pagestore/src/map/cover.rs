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

/// Returns the first place of all keys x `wanted` that none of `rectangles` covers. Costs O(n log n).
pub(crate) fn gap(rectangles: &[(KeyRange, LsnRange)], wanted: LsnRange) -> Option<Gap> {
    if wanted.is_empty() {
        return None;
    }
    // A sweep over the keys: where a rectangle begins and where it ends. Between two edges all keys are covered by the same ones.
    let mut edges: Vec<(PackedKey, bool, LsnRange)> = rectangles
        .iter()
        .flat_map(|(keys, lsns)| [(keys.start, true, *lsns), (keys.end, false, *lsns)])
        .collect();
    edges.sort_unstable();
    let mut cover = Cover::new(rectangles.iter().map(|(_, lsns)| *lsns), wanted);
    let mut rest = edges.into_iter().peekable();
    let mut key = PackedKey::MIN;
    loop {
        while let Some((_, begins, lsns)) = rest.next_if(|edge| edge.0 <= key) {
            cover.change(lsns, begins);
        }
        if let Some(from) = cover.first_hole() {
            return Some(Gap { key, from });
        }
        match rest.peek() {
            Some((next, _, _)) if *next < PackedKey::MAX => key = *next,
            _ => return None,
        }
    }
}

/// How often each part of an LSN range is covered: a segment tree over the places where ranges begin and end.
struct Cover {
    /// Ascending; part `i` is between `edges[i]` and `edges[i + 1]`.
    edges: Vec<Lsn>,
    parts: usize,
    /// By node, 1 being the root: ranges that fill it and not the node above, and whether all of it is covered.
    nodes: Vec<(u32, bool)>,
}

impl Cover {
    fn new(ranges: impl Iterator<Item = LsnRange>, wanted: LsnRange) -> Cover {
        let mut edges: Vec<Lsn> = ranges
            .flat_map(|range| [range.start, range.end])
            .filter(|edge| wanted.start < *edge && *edge < wanted.end)
            .chain([wanted.start, wanted.end])
            .collect();
        edges.sort_unstable();
        edges.dedup();
        let parts = (edges.len() - 1).next_power_of_two();
        let mut nodes = vec![(0, false); 2 * parts];
        // Parts beyond the last edge are there to fill the tree.
        for node in nodes.iter_mut().skip(parts + edges.len() - 1) {
            *node = (1, true);
        }
        let mut cover = Cover { edges, parts, nodes };
        for node in (1..parts).rev() {
            cover.settle(node);
        }
        cover
    }

    /// Adds or takes away a range.
    fn change(&mut self, range: LsnRange, add: bool) {
        let place = |lsn: Lsn| self.edges.partition_point(|edge| *edge < lsn);
        let last = self.edges.len() - 1;
        let (first, end) = (place(range.start).min(last), place(range.end).min(last));
        let (mut left, mut right) = (first + self.parts, end + self.parts);
        let (leftmost, rightmost) = (left, right.max(1) - 1);
        while left < right {
            if left % 2 == 1 {
                self.count(left, add);
                left += 1;
            }
            if right % 2 == 1 {
                right -= 1;
                self.count(right, add);
            }
            left /= 2;
            right /= 2;
        }
        if first < end {
            for mut node in [leftmost, rightmost] {
                while node > 1 {
                    node /= 2;
                    self.settle(node);
                }
            }
        }
    }

    fn count(&mut self, node: usize, add: bool) {
        if let Some((ranges, _)) = self.nodes.get_mut(node) {
            *ranges = if add {
                *ranges + 1
            } else {
                ranges.saturating_sub(1)
            };
        }
        self.settle(node);
    }

    fn covered(&self, node: usize) -> bool {
        self.nodes.get(node).is_none_or(|(_, covered)| *covered)
    }

    fn settle(&mut self, node: usize) {
        let below = node < self.parts && self.covered(2 * node) && self.covered(2 * node + 1);
        if let Some((ranges, covered)) = self.nodes.get_mut(node) {
            *covered = *ranges > 0 || below;
        }
    }

    /// Returns where the first part begins that nothing covers.
    fn first_hole(&self) -> Option<Lsn> {
        if self.covered(1) {
            return None;
        }
        let mut node = 1;
        while node < self.parts {
            node *= 2;
            node += usize::from(self.covered(node));
        }
        self.edges.get(node - self.parts).copied()
    }
}
