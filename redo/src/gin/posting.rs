//! A segment: ascending heap TIDs, the first one plain, the others as distances of one to seven bytes (`GinPostingList`).
//!
//! ```text
//! 6 bytes first TID (u16 block high, u16 block low, u16 offset) | u16 n | n bytes of distances | 1 zero byte if n is odd
//! ```
//! For distances a TID is the number `block << 11 | offset`, of 43 bits. A distance goes low 7 bits first; the high bit of a
//! byte says that another one follows. Block 5, offsets 1, 2 and 200 are `00 00 05 00 01 00 | 03 00 | 01 c6 01 | 00`.

use neon_postgres::Cursor;
use neon_postgres::records::gin::TID_SIZE;

use crate::Damage;

/// Bits of an offset number in the number of a TID.
const OFFSET_BITS: u32 = 11;
/// Most bytes of a distance: 43 bits.
const MAX_BYTES: usize = 7;

/// A heap TID as a number, in the same order.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) struct Tid(u64);

impl Tid {
    /// Takes a TID as Postgres stores it. Its offset must be one that segments can hold: 1 to 2047.
    pub(super) fn read(bytes: [u8; TID_SIZE]) -> Result<Tid, Damage> {
        let [high0, high1, low0, low1, offset0, offset1] = bytes;
        let block = u64::from(u32::from_le_bytes([low0, low1, high0, high1]));
        let offset = u64::from(u16::from_le_bytes([offset0, offset1]));
        Tid::from_number(block << OFFSET_BITS | offset)
            .filter(|_| offset >> OFFSET_BITS == 0)
            .ok_or(BAD_TID)
    }

    fn from_number(number: u64) -> Option<Tid> {
        let offset = number & ((1 << OFFSET_BITS) - 1);
        (number >> (OFFSET_BITS + 32) == 0 && offset > 0).then_some(Tid(number))
    }

    fn bytes(self) -> [u8; TID_SIZE] {
        let block = (self.0 >> OFFSET_BITS) as u32;
        let offset = (self.0 & ((1 << OFFSET_BITS) - 1)) as u16;
        let ([low0, low1, high0, high1], [offset0, offset1]) = (block.to_le_bytes(), offset.to_le_bytes());
        [high0, high1, low0, low1, offset0, offset1]
    }
}

const BAD_TID: Damage = Damage::Value {
    what: "a heap TID that no segment holds",
};

/// Returns the TIDs of a segment: one more than there are distances.
///
/// # Errors
/// The segment is shorter than it says, a distance is zero, cut short or longer than seven bytes, or leads to no TID.
pub(super) fn decode(segment: &[u8]) -> Result<Vec<Tid>, Damage> {
    let mut cursor = Cursor::new(segment);
    let mut last = Tid::read(cursor.array()?)?;
    let encoded = cursor.u16()?.into();
    let mut distances = Cursor::new(cursor.take(encoded)?);
    let mut tids = vec![last];
    while distances.remaining() > 0 {
        let distance = take_distance(&mut distances)?;
        // Below 2^43 + 2^49: no overflow.
        last = Tid::from_number(last.0 + distance)
            .filter(|_| distance > 0)
            .ok_or(BAD_TID)?;
        tids.push(last);
    }
    Ok(tids)
}

fn take_distance(cursor: &mut Cursor<'_>) -> Result<u64, Damage> {
    let mut distance = 0;
    for number in 0..MAX_BYTES {
        let byte = cursor.u8()?;
        distance |= u64::from(byte & 0x7f) << (7 * number);
        if byte & 0x80 == 0 {
            return Ok(distance);
        }
    }
    Err(Damage::Value {
        what: "a distance of heap TIDs of more than seven bytes",
    })
}

/// Returns the segment of these TIDs, which must ascend; there must be one (`ginCompressPostingList`).
///
/// # Errors
/// The TIDs do not ascend, there is none, or they take more than 65535 bytes.
pub(super) fn encode(tids: &[Tid]) -> Result<Vec<u8>, Damage> {
    let [first, rest @ ..] = tids else {
        return Err(Damage::Value {
            what: "a segment without heap TIDs",
        });
    };
    let mut distances = Vec::with_capacity(2 * rest.len());
    let mut last = *first;
    for tid in rest {
        let distance = tid.0.checked_sub(last.0).filter(|distance| *distance > 0);
        put_distance(
            &mut distances,
            distance.ok_or(Damage::Value {
                what: "heap TIDs that do not ascend",
            })?,
        );
        last = *tid;
    }
    let encoded = u16::try_from(distances.len()).map_err(|_| Damage::Value {
        what: "a segment longer than a page",
    })?;
    let mut segment = Vec::with_capacity(8 + distances.len() + 1);
    segment.extend_from_slice(&first.bytes());
    segment.extend_from_slice(&encoded.to_le_bytes());
    segment.append(&mut distances);
    segment.resize(segment.len().next_multiple_of(2), 0);
    Ok(segment)
}

fn put_distance(out: &mut Vec<u8>, mut distance: u64) {
    while distance > 0x7f {
        out.push(0x80 | (distance & 0x7f) as u8);
        distance >>= 7;
    }
    out.push(distance as u8);
}

/// Returns the segment of the TIDs of `segment` and of `items`, which must all be new.
pub(super) fn merge(segment: &[u8], items: &[[u8; TID_SIZE]]) -> Result<Vec<u8>, Damage> {
    let mut tids = decode(segment)?;
    for item in items {
        tids.push(Tid::read(*item)?);
    }
    tids.sort();
    // Two equal ones are next to each other now, and refused.
    encode(&tids)
}

#[cfg(test)]
mod tests {
    use proptest::collection::{btree_set, vec};
    use proptest::prelude::*;

    use super::*;

    fn tid(block: u32, offset: u16) -> Tid {
        let ([low0, low1, high0, high1], [offset0, offset1]) = (block.to_le_bytes(), offset.to_le_bytes());
        Tid::read([high0, high1, low0, low1, offset0, offset1]).expect("is one that segments hold")
    }

    fn tids() -> impl Strategy<Value = Tid> {
        let block = prop_oneof![0u32..3, 0u32..5000, any::<u32>()];
        (block, 1u16..2048).prop_map(|(block, offset)| tid(block, offset))
    }

    #[test]
    fn the_example_of_the_format_is_what_is_written() {
        let example = [0, 0, 5, 0, 1, 0, 3, 0, 0x01, 0xc6, 0x01, 0];
        let list = [tid(5, 1), tid(5, 2), tid(5, 200)];
        assert_eq!(encode(&list).expect("ascend"), example);
        assert_eq!(decode(&example).expect("is a segment"), list);
    }

    #[test]
    fn the_longest_distance_takes_seven_bytes() {
        let list = [tid(0, 1), tid(u32::MAX, 2047)];
        let segment = encode(&list).expect("ascend");
        assert_eq!(segment[6..8], [7, 0]);
        assert_eq!(decode(&segment).expect("is a segment"), list);
    }

    #[test]
    fn what_no_segment_holds_is_refused() {
        let first = [0, 0, 5, 0, 1, 0];
        let with = |distances: &[u8]| {
            let mut segment = first.to_vec();
            segment.extend([distances.len() as u8, 0]);
            segment.extend(distances);
            decode(&segment)
        };
        assert!(with(&[1]).is_ok());
        for (what, distances) in [
            ("the same TID again", &[0][..]),
            ("a distance cut short", &[1, 0x80]),
            ("eight bytes", &[0x81, 0x80, 0x80, 0x80, 0x80, 0x80, 0x80, 0x01]),
            (
                "a block past the last one",
                &[0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0x7f],
            ),
            ("offset 0 of the next block", &[0xff, 0x0f]),
        ] {
            assert!(with(distances).is_err(), "{what}");
        }
        assert!(Tid::read([0, 0, 5, 0, 0, 0]).is_err(), "offset 0");
        assert!(Tid::read([0, 0, 5, 0, 0, 8]).is_err(), "offset 2048");
        assert!(encode(&[]).is_err());
        assert!(encode(&[tid(5, 2), tid(5, 1)]).is_err());
    }

    proptest! {
        #![proptest_config(ProptestConfig { failure_persistence: None, ..ProptestConfig::default() })]

        #[test]
        fn a_segment_gives_back_its_tids(list in btree_set(tids(), 1..300)) {
            let list: Vec<Tid> = list.into_iter().collect();
            let segment = encode(&list).expect("ascend");
            prop_assert_eq!(segment.len() % 2, 0);
            prop_assert_eq!(decode(&segment).expect("was just written"), list);
            prop_assert!(decode(&segment[..segment.len() - 2]).is_err());
        }

        #[test]
        fn new_tids_are_merged_and_known_ones_refused(
            old in btree_set(tids(), 1..100), new in btree_set(tids(), 0..100), known in any::<prop::sample::Index>(),
        ) {
            let segment = encode(&old.iter().copied().collect::<Vec<_>>()).expect("ascend");
            let added: Vec<_> = new.difference(&old).map(|tid| tid.bytes()).collect();
            let all: Vec<Tid> = old.union(&new).copied().collect();
            let merged = merge(&segment, &added).expect("are new");
            prop_assert_eq!(&merged, &encode(&all).expect("ascend"));
            prop_assert!(merge(&merged, &[known.get(&all).bytes()]).is_err());
        }

        #[test]
        fn hostile_bytes_are_refused_or_ascend(bytes in vec(any::<u8>(), 0..60), encoded in 0u16..70, small in any::<bool>()) {
            let mut segment = bytes;
            if small && segment.len() >= 8 {
                // A possible first TID and length get further than random ones.
                segment[..8].copy_from_slice(&[0, 0, 0, 0, 1, 0, encoded as u8, 0]);
            }
            if let Ok(list) = decode(&segment) {
                prop_assert!(list.windows(2).all(|pair| pair[0] < pair[1]));
                let again = encode(&list).expect("ascend");
                prop_assert_eq!(decode(&again).expect("was just written"), list);
            }
        }
    }
}
