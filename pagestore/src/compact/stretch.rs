//! Where in a layer how many versions are, as its block index tells: cheap, and good enough to choose by.

use neon_types::{Key, KeyRange, PackedKey};

use crate::Result;
use crate::layer::IndexEntry;

/// Most stretches that are told of one layer, beside those of single keys.
const MAX_STRETCHES: usize = 1024;

/// A chain that is worth knowing its key.
const MANY: u16 = 16;

/// Keys that follow each other, and what a layer holds of them.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Stretch {
    /// The keys.
    pub keys: KeyRange,
    /// Versions.
    pub versions: u32,
    /// Bytes in the file.
    pub bytes: u64,
    /// Most versions in a row that need an older one, of any of the keys.
    pub chain: u32,
}

impl Stretch {
    /// Returns how likely it is that a key of it has a version; of keys that cannot be counted, 1.
    pub(crate) fn share(&self) -> f64 {
        match pages(&self.keys) {
            Some(pages) => (f64::from(self.versions) / f64::from(pages)).min(1.0),
            None => 1.0,
        }
    }
}

/// Returns how many keys there are in a range, if it is a part of one relation or a single key. At least 1.
pub(crate) fn pages(keys: &KeyRange) -> Option<u32> {
    if keys.start.next() >= keys.end {
        return Some(1);
    }
    match (Key::unpack(&keys.start), Key::unpack(&keys.end)) {
        (Ok(Key::Block(from, first)), Ok(Key::Block(to, end))) if from == to => Some((end - first).max(1)),
        _ => None,
    }
}

/// What a block holds of one key.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct KeyCount {
    pub key: PackedKey,
    pub versions: u32,
    /// Most of them in a row that need an older one.
    pub chain: u32,
}

/// Returns the stretches of a layer that answers for `keys`, in order. Where the index is too coarse, because of the end of the layer or a
/// chain among keys far apart, `look` tells what the block of that number holds.
pub(crate) fn stretches(
    index: &[IndexEntry],
    keys: KeyRange,
    look: &dyn Fn(usize) -> Result<Vec<KeyCount>>,
) -> Result<Vec<Stretch>> {
    let group = index.len().div_ceil(MAX_STRETCHES).max(1);
    let mut found: Vec<Stretch> = Vec::new();
    let mut blocks_in_last = 0;
    let nexts = index.iter().skip(1).map(|next| next.key).chain([keys.end]);
    for (number, (block, next)) in index.iter().zip(nexts).enumerate() {
        if next <= block.key {
            // Nothing but one key, to the end of the block.
            let end = block.key.next();
            match found.last_mut() {
                Some(last) if last.keys.start == block.key => last.add(block, end),
                _ => found.push(Stretch::new(block.key, end, block)),
            }
            blocks_in_last = group;
            continue;
        }
        // The end of a key that filled blocks before is counted with what follows it.
        let begin = found
            .last()
            .map_or(block.key, |last| last.keys.end.max(block.key));
        if begin < next {
            let stretch = Stretch::new(begin, next, block);
            let is_last = number + 1 == index.len() && pages(&stretch.keys).is_none();
            let is_coarse = pages(&stretch.keys).is_none() || stretch.share() < 0.5;
            if is_last || (block.chain > MANY && is_coarse) {
                refine(begin, block, look(number)?, &mut found);
                blocks_in_last = group;
                continue;
            }
        }
        match found.last_mut() {
            Some(last) if blocks_in_last < group || begin >= next => {
                last.add(block, next.max(begin));
                blocks_in_last += 1;
            }
            _ => {
                found.push(Stretch::new(begin, next, block));
                blocks_in_last = 1;
            }
        }
    }
    Ok(found)
}

/// Adds stretches of the keys of one block from `begin` on: long chains alone, others of one relation together.
fn refine(begin: PackedKey, block: &IndexEntry, counts: Vec<KeyCount>, found: &mut Vec<Stretch>) {
    let first_new = found.len();
    for count in counts.into_iter().filter(|count| count.key >= begin) {
        let stretch = Stretch {
            keys: KeyRange {
                start: count.key,
                end: count.key.next(),
            },
            versions: count.versions,
            bytes: u64::from(block.len) * u64::from(count.versions) / u64::from(block.entries.max(1)),
            chain: count.chain,
        };
        let alone = |stretch: &Stretch| stretch.chain > u32::from(MANY);
        match found.get_mut(first_new..).and_then(<[Stretch]>::last_mut) {
            Some(last) if !alone(last) && !alone(&stretch) && last.reaches(&stretch) => {
                last.versions = last.versions.saturating_add(stretch.versions);
                last.bytes += stretch.bytes;
                last.chain = last.chain.max(stretch.chain);
                last.keys.end = stretch.keys.end;
            }
            _ => found.push(stretch),
        }
    }
}

impl Stretch {
    fn new(start: PackedKey, end: PackedKey, block: &IndexEntry) -> Stretch {
        Stretch {
            keys: KeyRange { start, end },
            versions: block.entries,
            bytes: u64::from(block.len),
            chain: u32::from(block.chain),
        }
    }

    /// Returns true when the other one is of the same relation.
    fn reaches(&self, other: &Stretch) -> bool {
        let both = KeyRange {
            start: self.keys.start,
            end: other.keys.end,
        };
        pages(&both).is_some()
    }

    fn add(&mut self, block: &IndexEntry, end: PackedKey) {
        self.versions = self.versions.saturating_add(block.entries);
        self.bytes += u64::from(block.len);
        self.chain = self.chain.max(u32::from(block.chain));
        self.keys.end = end;
    }
}

#[cfg(test)]
mod tests {
    use neon_types::Lsn;

    use super::*;
    use crate::tests::block_key as key;

    fn index(firsts: &[(u32, u32)]) -> Vec<IndexEntry> {
        let entry = |(number, (first, entries)): (usize, &(u32, u32))| IndexEntry {
            key: key(*first),
            lsn: Lsn(number as u64),
            at: 0,
            len: 100,
            raw_len: 0,
            entries: *entries,
            crc: 0,
            chain: (*entries / 10) as u16,
        };
        firsts.iter().enumerate().map(entry).collect()
    }

    fn told(firsts: &[(u32, u32)]) -> Vec<(u32, u32)> {
        let keys = KeyRange {
            start: PackedKey::MIN,
            end: key(100),
        };
        let stretches = stretches(&index(firsts), keys, &|_| panic!("the index tells enough")).unwrap();
        let ends = stretches.iter().map(|stretch| stretch.keys.end);
        let starts = stretches.iter().skip(1).map(|stretch| stretch.keys.start);
        assert!(ends.zip(starts).all(|(end, start)| end == start), "{stretches:?}");
        assert!(stretches.is_empty() || stretches.last().map(|last| last.keys.end) == Some(key(100)));
        let chains = stretches.iter().map(|stretch| stretch.chain).max();
        assert_eq!(chains, firsts.iter().map(|(_, entries)| *entries / 10).max());
        let versions: u32 = stretches.iter().map(|stretch| stretch.versions).sum();
        assert_eq!(versions, firsts.iter().map(|(_, entries)| entries).sum::<u32>());
        let told = stretches
            .iter()
            .map(|stretch| (pages(&stretch.keys).unwrap(), stretch.versions));
        told.collect()
    }

    #[test]
    fn a_key_that_fills_blocks_stands_alone() {
        assert_eq!(told(&[]), []);
        assert_eq!(told(&[(10, 20), (20, 30)]), [(10, 20), (80, 30)]);
        assert_eq!(
            told(&[(10, 20), (20, 30), (20, 40), (20, 50), (30, 5)]),
            [(10, 20), (1, 70), (9, 50), (70, 5)]
        );
        assert_eq!(told(&[(20, 30), (20, 40), (21, 5)]), [(1, 70), (79, 5)]);
    }

    #[test]
    fn a_layer_of_many_blocks_is_told_in_fewer_stretches() {
        let firsts: Vec<(u32, u32)> = (0..5000).map(|number| (number / 51, 7)).collect();
        assert!(told(&firsts).len() < 200);
        let keys = KeyRange {
            start: PackedKey::MIN,
            end: PackedKey::MAX,
        };
        let many: Vec<(u32, u32)> = (0..5000).map(|number| (number * 10, 7)).collect();
        let last = |number: usize| {
            assert_eq!(number, 4999);
            Ok(vec![count(49_990, 5, 5), count(50_009, 2, 2)])
        };
        let stretches = stretches(&index(&many), keys, &last).unwrap();
        assert_eq!(stretches.len(), 1001);
        assert!((stretches[3].share() - 0.7).abs() < 1e-9);
        assert_eq!(pages(&stretches[1000].keys), Some(20));
    }

    fn count(block: u32, versions: u32, chain: u32) -> KeyCount {
        KeyCount {
            key: key(block),
            versions,
            chain,
        }
    }

    #[test]
    fn a_long_chain_among_keys_far_apart_is_looked_for() {
        let keys = KeyRange {
            start: PackedKey::MIN,
            end: key(3000),
        };
        let mut index = index(&[(1000, 60), (2000, 10)]);
        index[0].chain = 50;
        let look = |number: usize| {
            assert_eq!(number, 0);
            Ok(vec![
                count(1000, 3, 3),
                count(1200, 1, 0),
                count(1234, 50, 50),
                count(1500, 6, 6),
            ])
        };
        let told: Vec<_> = stretches(&index, keys, &look)
            .unwrap()
            .iter()
            .map(|stretch| {
                let pages = pages(&stretch.keys).unwrap();
                (pages, stretch.versions, stretch.chain, stretch.bytes)
            })
            .collect();
        assert_eq!(
            told,
            [(201, 4, 3, 6), (1, 50, 50, 83), (1, 6, 6, 10), (1000, 10, 1, 100)]
        );
    }
}
