//! Digest ladders: whether two sides have the same WAL where both have some.

use std::collections::BTreeMap;

use neon_objects::WalDigest;
use neon_types::Lsn;

use crate::{Ladder, MAX_RUNGS, Possession, Refusal};

/// The newest rungs that a sample always holds.
const NEWEST: usize = 16;

/// Compares every range of which both sides have a digest.
///
/// Returns the refusal that names the last equal and the first different range of the first timeline that differs.
pub fn compare(ours: &[Ladder], theirs: &[Ladder]) -> Result<(), Refusal> {
    for ladder in ours {
        let Some(other) = theirs.iter().find(|other| other.timeline == ladder.timeline) else {
            continue;
        };
        let other: BTreeMap<(Lsn, Lsn), &WalDigest> = other
            .rungs
            .iter()
            .map(|rung| ((rung.end, rung.start), rung))
            .collect();
        let mut rungs: Vec<&WalDigest> = ladder.rungs.iter().collect();
        rungs.sort_by_key(|rung| (rung.end, rung.start));
        let mut last_equal = None;
        for rung in rungs {
            match other.get(&(rung.end, rung.start)) {
                None => {}
                Some(same) if same.blake3 == rung.blake3 => last_equal = Some(rung.end),
                Some(_) => {
                    return Err(Refusal::LadderMismatch {
                        timeline: ladder.timeline,
                        start: rung.start,
                        end: rung.end,
                        last_equal,
                    });
                }
            }
        }
    }
    Ok(())
}

/// Returns the rungs that the holder of `have` could have too, newest last, at most [`MAX_RUNGS`] in all.
pub fn overlap(ladders: &[Ladder], have: &Possession) -> Vec<Ladder> {
    let mut left = MAX_RUNGS;
    let mut overlapping: Vec<Ladder> = Vec::new();
    // The newest timeline is the last of the path; it goes first when there are too many.
    for ladder in ladders.iter().rev() {
        let ranges = have.ranges(ladder.timeline);
        let mut rungs: Vec<WalDigest> = ladder
            .rungs
            .iter()
            .filter(|rung| {
                ranges
                    .iter()
                    .any(|range| range.start < rung.end && rung.start < range.end)
            })
            .copied()
            .collect();
        rungs.sort_by_key(|rung| (rung.end, rung.start));
        rungs.drain(..rungs.len().saturating_sub(left));
        left -= rungs.len();
        if !rungs.is_empty() {
            overlapping.push(Ladder {
                timeline: ladder.timeline,
                rungs,
            });
        }
    }
    overlapping.reverse();
    overlapping
}

/// Returns the newest rungs of each ladder and ever fewer of the older ones.
///
/// Two writers that left a common past write different bytes into every later segment, so the newest rungs tell whether there is
/// a difference; the whole ladders, asked for then, tell where.
pub fn sample(ladders: &[Ladder]) -> Vec<Ladder> {
    ladders
        .iter()
        .map(|ladder| {
            let count = ladder.rungs.len();
            let rungs = ladder
                .rungs
                .iter()
                .enumerate()
                .filter(|(index, _)| {
                    let age = count - index;
                    age <= NEWEST || age.is_power_of_two() || *index == 0
                })
                .map(|(_, rung)| *rung)
                .collect();
            Ladder {
                timeline: ladder.timeline,
                rungs,
            }
        })
        .collect()
}

#[cfg(test)]
mod tests {
    use neon_types::{LsnRange, TimelineId};

    use super::*;
    use crate::Held;

    const TIMELINE: TimelineId = TimelineId([7; 16]);

    fn ladder(from: u64, digests: &[u8]) -> Vec<Ladder> {
        let rungs = digests
            .iter()
            .zip(from..)
            .map(|(digest, segment)| WalDigest {
                segment,
                start: Lsn(segment * 16),
                end: Lsn(segment * 16 + 16),
                blake3: [*digest; 32],
            })
            .collect();
        vec![Ladder {
            timeline: TIMELINE,
            rungs,
        }]
    }

    #[test]
    fn only_ranges_that_both_have_are_compared() {
        assert_eq!(compare(&ladder(0, &[1, 2, 3]), &ladder(1, &[2, 3, 4])), Ok(()));
        assert_eq!(compare(&ladder(0, &[1]), &ladder(5, &[9])), Ok(()));
        assert_eq!(compare(&ladder(0, &[1]), &[]), Ok(()));
        // A commit in the middle of a segment is a rung of its own, another range than the whole segment.
        let mut open = ladder(0, &[1, 9]);
        open[0].rungs[1].end = Lsn(24);
        assert_eq!(compare(&ladder(0, &[1, 2]), &open), Ok(()));
    }

    #[test]
    fn the_first_difference_and_the_last_equality_are_named() {
        let refusal = compare(&ladder(0, &[1, 2, 3, 4]), &ladder(1, &[2, 8, 9])).expect_err("they differ");
        assert_eq!(
            refusal,
            Refusal::LadderMismatch {
                timeline: TIMELINE,
                start: Lsn(32),
                end: Lsn(48),
                last_equal: Some(Lsn(32)),
            }
        );
        assert!(refusal.hint().contains("0/20"), "{}", refusal.hint());
        let nothing = compare(&ladder(0, &[1]), &ladder(0, &[2])).expect_err("they differ");
        assert!(matches!(
            nothing,
            Refusal::LadderMismatch { last_equal: None, .. }
        ));
    }

    #[test]
    fn a_sample_is_short_and_keeps_the_ends() {
        let full = ladder(0, &vec![5; 10_000]);
        let sampled = sample(&full);
        let rungs = &sampled[0].rungs;
        assert!(rungs.len() < 40, "{} rungs", rungs.len());
        assert_eq!(rungs.first(), full[0].rungs.first());
        assert_eq!(rungs.last(), full[0].rungs.last());
        assert_eq!(sample(&ladder(0, &[1, 2, 3])), ladder(0, &[1, 2, 3]));
    }

    #[test]
    fn only_what_the_other_side_holds_is_sent() {
        let have = Possession {
            held: vec![Held {
                timeline: TIMELINE,
                ranges: vec![LsnRange {
                    start: Lsn(16),
                    end: Lsn(40),
                }],
            }],
        };
        let overlapping = overlap(&ladder(0, &[1, 2, 3, 4]), &have);
        assert_eq!(overlapping, ladder(1, &[2, 3]));
        assert!(overlap(&ladder(0, &[1]), &Possession::default()).is_empty());
    }
}
