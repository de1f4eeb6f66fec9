//! Which keys a layer does not hold: a split block Bloom filter, about ten bits a key, 1 % false positives.
//!
//! ```text
//! hash    FNV-1a (64 bits) over the 18 key bytes, then murmur3's 64-bit finalizer
//! block   (hash >> 32) * blocks >> 32, of 32 bytes: eight little-endian u32 words
//! bit     in word i: bit (low 32 bits of hash * SALT[i]) >> 27
//! ```

use neon_types::PackedKey;

const BLOCK: usize = 32;
const BITS_PER_KEY: usize = 10;
const SALT: [u32; 8] = [
    0x47b6_137b,
    0x4497_4d91,
    0x8824_ad5b,
    0xa2b7_289d,
    0x7054_95c7,
    0x2df1_424b,
    0x9efc_4947,
    0x5c6b_fb31,
];

pub(super) fn hash(key: &PackedKey) -> u64 {
    let mut hash = 0xcbf2_9ce4_8422_2325_u64;
    for byte in key.0 {
        hash = (hash ^ u64::from(byte)).wrapping_mul(0x0100_0000_01b3);
    }
    hash ^= hash >> 33;
    hash = hash.wrapping_mul(0xff51_afd7_ed55_8ccd);
    hash ^= hash >> 33;
    hash = hash.wrapping_mul(0xc4ce_b9fe_1a85_ec53);
    hash ^ hash >> 33
}

/// Returns the bits to set in each of the eight words.
fn bits(hash: u64) -> [u32; 8] {
    #[expect(clippy::cast_possible_truncation, reason = "the low half is meant")]
    let low = hash as u32;
    SALT.map(|salt| 1 << (low.wrapping_mul(salt) >> 27))
}

fn place(hash: u64, blocks: usize) -> usize {
    usize::try_from(((hash >> 32) * blocks as u64) >> 32).unwrap_or(0) * BLOCK
}

/// Returns the filter of these key hashes.
pub(super) fn build(hashes: &[u64]) -> Vec<u8> {
    let blocks = (hashes.len() * BITS_PER_KEY).div_ceil(BLOCK * 8).max(1);
    let mut filter = vec![0; blocks * BLOCK];
    for hash in hashes {
        let at = place(*hash, blocks);
        if let Some(block) = filter.get_mut(at..at + BLOCK) {
            for (word, bit) in block.chunks_exact_mut(4).zip(bits(*hash)) {
                for (byte, set) in word.iter_mut().zip(bit.to_le_bytes()) {
                    *byte |= set;
                }
            }
        }
    }
    filter
}

/// Returns false when no key of that hash was put in. A filter of no whole block says true to all.
pub(super) fn may_hold(filter: &[u8], hash: u64) -> bool {
    let blocks = filter.len() / BLOCK;
    if blocks == 0 {
        return true;
    }
    let at = place(hash, blocks);
    filter.get(at..at + BLOCK).is_none_or(|block| {
        block.chunks_exact(4).zip(bits(hash)).all(|(word, bit)| {
            word.iter()
                .zip(bit.to_le_bytes())
                .all(|(byte, set)| byte & set == set)
        })
    })
}

#[cfg(test)]
mod tests {
    use neon_types::Key;

    use super::*;

    #[test]
    fn what_was_put_in_is_found_and_little_else() {
        let key = |number: u64| hash(&Key::Boundaries { mebibyte: number }.pack());
        let inside: Vec<u64> = (0..20_000).map(key).collect();
        let filter = build(&inside);
        assert!(inside.iter().all(|hash| may_hold(&filter, *hash)));
        let wrong = (20_000..40_000)
            .filter(|number| may_hold(&filter, key(*number)))
            .count();
        assert!(wrong < 600, "{wrong} of 20000 keys that are not there");
        assert!(!may_hold(&build(&[]), key(1)), "an empty filter holds nothing");
    }

    #[test]
    fn the_hash_is_the_documented_one() {
        assert_eq!(hash(&PackedKey::MIN), 0x1f2f985b437e5c6d);
    }
}
