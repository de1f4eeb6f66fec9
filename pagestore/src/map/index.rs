//! Which of a list of key ranges hold a key, in O(log n): a segment tree over the places where ranges begin and end.

use neon_types::{KeyRange, PackedKey};

/// An index over up to 65,536 key ranges, by their numbers in a list.
#[derive(Debug)]
pub(super) struct KeyIndex {
    /// Where ranges begin or end, ascending. Slot `i` holds the keys from `edges[i - 1]` up to `edges[i]`.
    edges: Vec<PackedKey>,
    /// Node 1 is the root, `2 n` and `2 n + 1` are below `n`; the leaves are the slots. A range is at the highest nodes that it fills.
    nodes: Vec<Vec<u16>>,
    leaves: usize,
}

impl KeyIndex {
    /// Makes the index of these ranges, none of them empty; a number is at each of its nodes once, in ascending order.
    pub(super) fn new(ranges: impl Iterator<Item = (u16, KeyRange)> + Clone) -> KeyIndex {
        let mut edges: Vec<PackedKey> = ranges
            .clone()
            .flat_map(|(_, keys)| [keys.start, keys.end])
            .collect();
        edges.sort_unstable();
        edges.dedup();
        let leaves = edges.len() + 1;
        let mut index = KeyIndex {
            edges,
            nodes: vec![Vec::new(); 2 * leaves],
            leaves,
        };
        for (number, keys) in ranges {
            index.add(number, index.slot(&keys.start), index.slot(&keys.end));
        }
        index
    }

    fn slot(&self, key: &PackedKey) -> usize {
        self.edges.partition_point(|edge| edge <= key)
    }

    /// Adds a number to the nodes that together are the slots from `first` up to `end`.
    fn add(&mut self, number: u16, first: usize, end: usize) {
        let (mut left, mut right) = (first + self.leaves, end + self.leaves);
        while left < right {
            if left % 2 == 1 {
                self.push(left, number);
                left += 1;
            }
            if right % 2 == 1 {
                right -= 1;
                self.push(right, number);
            }
            left /= 2;
            right /= 2;
        }
    }

    fn push(&mut self, node: usize, number: u16) {
        if let Some(numbers) = self.nodes.get_mut(node) {
            numbers.push(number);
        }
    }

    /// Returns lists, each ascending, that together are the numbers of the ranges that hold `key`.
    pub(super) fn holding(&self, key: &PackedKey) -> impl Iterator<Item = &[u16]> {
        let mut node = self.slot(key) + self.leaves;
        std::iter::from_fn(move || {
            let numbers = self.nodes.get(node).filter(|_| node > 0)?;
            node /= 2;
            Some(numbers.as_slice())
        })
        .filter(|numbers| !numbers.is_empty())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use neon_types::Key;
    use proptest::prelude::*;

    fn key(mebibyte: u64) -> PackedKey {
        Key::Boundaries { mebibyte }.pack()
    }

    proptest! {
        #[test]
        fn a_key_is_found_in_the_ranges_that_hold_it(ranges in proptest::collection::vec((0u64..60, 1u64..40), 0..80), wanted in 0u64..110) {
            let ranges: Vec<KeyRange> = ranges
                .iter()
                .map(|(start, len)| KeyRange { start: key(*start), end: key(start + len) })
                .collect();
            let numbered = ranges.iter().enumerate().map(|(number, keys)| (number as u16, *keys));
            let index = KeyIndex::new(numbered);
            let mut found: Vec<u16> = index.holding(&key(wanted)).flatten().copied().collect();
            found.sort_unstable();
            let expected: Vec<u16> = (0..ranges.len())
                .filter(|number| ranges[*number].contains(&key(wanted)))
                .map(|number| number as u16)
                .collect();
            prop_assert_eq!(found, expected);
        }
    }
}
