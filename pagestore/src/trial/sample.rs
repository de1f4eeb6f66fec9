//! At most so many of any number of keys, each as likely as the others.

use std::collections::BinaryHeap;
use std::hash::{BuildHasher, RandomState};

use neon_types::PackedKey;

/// The keys with the lowest hashes. Which those are differs each time: nobody can choose keys that are not looked at.
pub(super) struct Sample {
    hashes: RandomState,
    limit: usize,
    lowest: BinaryHeap<(u64, [u8; 18])>,
    seen: u64,
}

impl Sample {
    pub(super) fn new(limit: usize) -> Sample {
        Sample {
            hashes: RandomState::new(),
            limit,
            lowest: BinaryHeap::new(),
            seen: 0,
        }
    }

    pub(super) fn put(&mut self, key: PackedKey) {
        self.seen += 1;
        self.lowest.push((self.hashes.hash_one(key.0), key.0));
        if self.lowest.len() > self.limit {
            self.lowest.pop();
        }
    }

    /// Returns how many keys were put.
    pub(super) fn seen(&self) -> u64 {
        self.seen
    }

    /// Returns the keys in order.
    pub(super) fn into_keys(self) -> Vec<PackedKey> {
        let mut keys: Vec<PackedKey> = self.lowest.into_iter().map(|(_, key)| PackedKey(key)).collect();
        keys.sort_unstable();
        keys
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn key(number: u32) -> PackedKey {
        let mut bytes = [16; 18];
        bytes[14..].copy_from_slice(&number.to_be_bytes());
        PackedKey(bytes)
    }

    #[test]
    fn few_keys_are_all_kept_and_of_many_some_from_everywhere() {
        let mut few = Sample::new(100);
        (0..100).rev().for_each(|number| few.put(key(number)));
        assert_eq!(few.into_keys(), (0..100).map(key).collect::<Vec<_>>());
        let mut many = Sample::new(100);
        (0..100_000).for_each(|number| many.put(key(number)));
        assert_eq!(many.seen(), 100_000);
        let keys = many.into_keys();
        assert_eq!(keys.len(), 100);
        assert!(keys.iter().any(|kept| *kept < key(50_000)) && keys.iter().any(|kept| *kept >= key(50_000)));
    }
}
