//! Split points: the numbers of buckets up to which a hash index grows at a time. It doubles nine times, then grows by a
//! quarter of a doubling at a time.

use crate::Damage;

/// `HASH_SPLITPOINT_GROUPS_WITH_ONE_PHASE`
const SINGLE: u32 = 10;
/// `HASH_MAX_SPLITPOINTS`
pub(super) const COUNT: u32 = 98;
/// Most buckets that an index begins with.
const MOST_BUCKETS: u32 = 1 << 30;

/// Returns how many buckets an index begins with that expects so many tuples, `fill_factor` in a bucket: those of the first
/// split point that suffices, 2 to 2^30.
pub(super) fn initial_buckets(tuples: f64, fill_factor: u16) -> Result<u32, Damage> {
    if fill_factor == 0 || !tuples.is_finite() {
        return Err(Damage::Value {
            what: "a hash index without a number of buckets",
        });
    }
    let buckets = tuples / f64::from(fill_factor);
    if buckets <= 2.0 {
        Ok(2)
    } else if buckets >= f64::from(MOST_BUCKETS) {
        Ok(MOST_BUCKETS)
    } else {
        // Cut off, not rounded, as Postgres does.
        Ok(buckets_at(of(buckets as u32)))
    }
}

/// Returns the split point that `buckets`, at most 2^30, belong to (`_hash_spareindex`).
pub(super) fn of(buckets: u32) -> u32 {
    let group = buckets.next_power_of_two().trailing_zeros();
    if group < SINGLE {
        group
    } else {
        let phase = ((buckets - 1) >> (group - 3)) & 3;
        SINGLE + (group - SINGLE) * 4 + phase
    }
}

/// Returns the number of buckets at a split point up to that of 2^30 buckets (`_hash_get_totalbuckets`).
fn buckets_at(point: u32) -> u32 {
    match point.checked_sub(SINGLE) {
        None => 1 << point,
        Some(phases) => {
            let before = 1 << (SINGLE + phases / 4 - 1);
            before + before / 4 * (phases % 4 + 1)
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_index_doubles_first_then_grows_by_quarters() {
        let sizes: Vec<u32> = (1..16).map(buckets_at).collect();
        let expected = [
            2, 4, 8, 16, 32, 64, 128, 256, 512, 640, 768, 896, 1024, 1280, 1536,
        ];
        assert_eq!(sizes, expected);
        assert_eq!(buckets_at(of(MOST_BUCKETS)), MOST_BUCKETS);
        assert!(of(MOST_BUCKETS) < COUNT);
    }

    #[test]
    fn a_number_of_buckets_belongs_to_the_first_point_that_has_room() {
        for point in 1..40 {
            let buckets = buckets_at(point);
            assert_eq!((of(buckets), of(buckets + 1)), (point, point + 1));
        }
    }

    #[test]
    fn an_index_begins_with_room_for_what_it_expects() {
        let buckets = |tuples| initial_buckets(tuples, 300).ok();
        assert_eq!(buckets(-5.0), Some(2));
        assert_eq!(buckets(600.0), Some(2));
        assert_eq!(buckets(899.0), Some(2), "2.99 buckets are cut to 2");
        assert_eq!(buckets(900.0), Some(4));
        assert_eq!(buckets(300.0 * 513.0), Some(640));
        assert_eq!(buckets(1e30), Some(MOST_BUCKETS));
        assert!(initial_buckets(f64::NAN, 300).is_err() && initial_buckets(5.0, 0).is_err());
    }
}
