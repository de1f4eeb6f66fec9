//! Postgres timeline numbers of forks (law 5): no two histories that a standby could meet share one.

use neon_types::TimelineId;

/// Highest timeline number that we hand out; Postgres compares them as signed in places.
pub const MAX_TLI: u32 = 0x7fff_ffff;

/// Returns the TLI of a fork: the parent's + 1 + the first 12 bits of the new timeline's id; nothing above [`MAX_TLI`].
pub fn fork_tli(parent: u32, timeline: TimelineId) -> Option<u32> {
    let [first, second, ..] = timeline.0;
    let twelve_bits = u32::from(first) << 4 | u32::from(second) >> 4;
    parent
        .checked_add(1)?
        .checked_add(twelve_bits)
        .filter(|tli| *tli <= MAX_TLI)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_fork_lies_above_its_parent_by_its_id() {
        let mut id = TimelineId([0; 16]);
        assert_eq!(fork_tli(1, id), Some(2));
        id.0[0] = 0xab;
        id.0[1] = 0xc7;
        assert_eq!(fork_tli(1, id), Some(2 + 0xabc));
        assert_eq!(fork_tli(MAX_TLI, id), None);
        assert_eq!(fork_tli(u32::MAX, id), None);
    }
}
