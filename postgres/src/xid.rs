//! Arithmetic of transaction and multixact ids, which are 32 bits wide and wrap around.

/// First id that is a transaction's (`FirstNormalTransactionId`); 0 is none, 1 bootstrap, 2 frozen.
pub const FIRST_NORMAL_XID: u32 = 3;
/// First id of a multixact.
pub const FIRST_MULTIXACT: u32 = 1;

/// Returns true when `a` is older than `b` (`TransactionIdPrecedes`): ids below 3 are older than all others, others are
/// compared on a circle.
pub fn precedes(a: u32, b: u32) -> bool {
    if a < FIRST_NORMAL_XID || b < FIRST_NORMAL_XID {
        return a < b;
    }
    circle_precedes(a, b)
}

/// Returns true when `a` comes before `b` on the circle (`MultiXactIdPrecedes`, `MultiXactOffsetPrecedes`).
pub fn circle_precedes(a: u32, b: u32) -> bool {
    (a.wrapping_sub(b) as i32) < 0
}

/// Returns the next full transaction id when `xid` is in use and `next` was the next one before: never less than `next`,
/// one more than `xid` if that is newer, never one whose low half is below 3.
pub fn advance_past(next: u64, xid: u32) -> u64 {
    let low = next as u32;
    if xid < FIRST_NORMAL_XID || precedes(xid, low) {
        return next;
    }
    let new = match xid.wrapping_add(1) {
        wrapped if wrapped < FIRST_NORMAL_XID => FIRST_NORMAL_XID,
        new => new,
    };
    let epoch = (next >> 32) + u64::from(new < low);
    epoch << 32 | u64::from(new)
}

/// Returns the full id of `xid`, a transaction that is in use while `next` is the next full transaction id: of the epoch
/// before if its low half is not below that of `next`.
pub fn full(next: u64, xid: u32) -> u64 {
    let epoch = next >> 32;
    let epoch = if xid >= next as u32 && xid >= FIRST_NORMAL_XID {
        epoch.saturating_sub(1)
    } else {
        epoch
    };
    epoch << 32 | u64::from(xid)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ids_are_compared_on_a_circle() {
        assert!(precedes(3, 4) && !precedes(4, 4));
        assert!(precedes(u32::MAX, 3) && !precedes(3, u32::MAX));
        assert!(precedes(2, u32::MAX) && precedes(0, 3));
    }

    #[test]
    fn the_next_id_carries_its_epoch() {
        assert_eq!(advance_past(740, 739), 740);
        assert_eq!(advance_past(740, 740), 741);
        assert_eq!(advance_past(740, 0), 740);
        assert_eq!(advance_past(740, 2), 740);
        assert_eq!(advance_past(0xFFFF_FFF0, u32::MAX), 1 << 32 | 3);
        assert_eq!(advance_past(0xFFFF_FFF0, 10), 1 << 32 | 11);
        assert_eq!(advance_past(1 << 32 | 11, 0xFFFF_FFF0), 1 << 32 | 11);
    }

    #[test]
    fn an_id_from_before_the_wraparound_has_the_epoch_before() {
        assert_eq!(full(1 << 32 | 20, 10), 1 << 32 | 10);
        assert_eq!(full(1 << 32 | 20, 0xFFFF_FFF0), 0xFFFF_FFF0);
        assert_eq!(full(740, 739), 739);
    }
}
