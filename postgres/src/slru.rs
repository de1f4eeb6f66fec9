//! Where an SLRU keeps what: pages of 8192 bytes, 32 of them in a file named by its number in hex.

use neon_types::SlruKind;

use crate::BLCKSZ;
use crate::xid::{self, FIRST_MULTIXACT, FIRST_NORMAL_XID};

/// Pages in one file.
pub const PAGES_PER_SEGMENT: u32 = 32;
/// Transactions in a page of `pg_xact`, two bits each.
pub const XACTS_PER_CLOG_PAGE: u32 = BLCKSZ as u32 * 4;
/// Bytes of a commit timestamp: `i64` time, `u16` origin.
pub const COMMIT_TS_SIZE: u32 = 10;
/// Transactions in a page of `pg_commit_ts`.
pub const XACTS_PER_COMMIT_TS_PAGE: u32 = BLCKSZ as u32 / COMMIT_TS_SIZE;
/// Multixacts in a page of `pg_multixact/offsets`, `u32` each.
pub const OFFSETS_PER_PAGE: u32 = BLCKSZ as u32 / 4;
/// Members in a group of `pg_multixact/members`: 4 bytes of flags, then 4 transaction ids.
pub const MEMBERS_PER_GROUP: u32 = 4;
/// Bytes of a group.
pub const MEMBER_GROUP_SIZE: u32 = 20;
/// Members in a page; the last 12 bytes of it are unused.
pub const MEMBERS_PER_PAGE: u32 = BLCKSZ as u32 / MEMBER_GROUP_SIZE * MEMBERS_PER_GROUP;

/// What `pg_xact` says of a transaction.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(u8)]
pub enum XactStatus {
    /// It runs, or was cut off by a crash.
    InProgress = 0,
    /// It committed.
    Committed = 1,
    /// It aborted.
    Aborted = 2,
    /// It is a subtransaction that committed, its parent has not yet.
    SubCommitted = 3,
}

impl XactStatus {
    /// Returns what the page of `pg_xact` that `xid` is on (see [`clog_place`]) says of it; none when the page ends before.
    pub fn of(xid: u32, page: &[u8]) -> Option<XactStatus> {
        let (place, shift) = clog_place(xid);
        Some(match page.get(place.byte)? >> shift & 3 {
            0 => XactStatus::InProgress,
            1 => XactStatus::Committed,
            2 => XactStatus::Aborted,
            _ => XactStatus::SubCommitted,
        })
    }
}

/// Where something is in an SLRU.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Place {
    /// Page number.
    pub page: u32,
    /// Offset of its first byte in the page.
    pub byte: usize,
}

/// Returns the byte with the status of `xid`, and by how much its two bits are shifted to the left in it.
pub fn clog_place(xid: u32) -> (Place, u32) {
    let in_page = xid % XACTS_PER_CLOG_PAGE;
    let place = Place {
        page: xid / XACTS_PER_CLOG_PAGE,
        byte: (in_page / 4) as usize,
    };
    (place, xid % 4 * 2)
}

/// Returns the 10 bytes of the commit timestamp of `xid`.
pub fn commit_ts_place(xid: u32) -> Place {
    Place {
        page: xid / XACTS_PER_COMMIT_TS_PAGE,
        byte: (xid % XACTS_PER_COMMIT_TS_PAGE * COMMIT_TS_SIZE) as usize,
    }
}

/// Returns the 4 bytes with the offset of the first member of `multi`.
pub fn offset_place(multi: u32) -> Place {
    Place {
        page: multi / OFFSETS_PER_PAGE,
        byte: (multi % OFFSETS_PER_PAGE * 4) as usize,
    }
}

/// Returns the byte with the status of the member at `offset`, and the 4 bytes with its transaction id, on the same page.
pub fn member_place(offset: u32) -> (Place, Place) {
    let page = offset / MEMBERS_PER_PAGE;
    let in_page = offset % MEMBERS_PER_PAGE;
    let group = in_page / MEMBERS_PER_GROUP * MEMBER_GROUP_SIZE;
    let in_group = in_page % MEMBERS_PER_GROUP;
    let place = |byte: u32| Place {
        page,
        byte: byte as usize,
    };
    (place(group + in_group), place(group + 4 + in_group * 4))
}

/// Returns the number of the file that holds the page.
pub fn segment_of(page: u32) -> u32 {
    page / PAGES_PER_SEGMENT
}

/// Returns the name of a file: at least 4 hex digits.
pub fn segment_name(segment: u32) -> String {
    format!("{segment:04X}")
}

/// Returns the number of the file with that name: 4 to 6 hex digits, as Postgres writes them.
pub fn parse_segment_name(name: &str) -> Option<u32> {
    let digits = name.bytes().all(|b| matches!(b, b'0'..=b'9' | b'A'..=b'F'));
    let segment = (digits && (4..=6).contains(&name.len()))
        .then(|| u32::from_str_radix(name, 16).ok())
        .flatten()?;
    (segment_name(segment) == name).then_some(segment)
}

/// Returns true when page `a` of an SLRU lies wholly before page `b`, on the circle of ids. Members have no such order.
pub fn page_precedes(kind: SlruKind, a: u32, b: u32) -> bool {
    let (per_page, first) = match kind {
        SlruKind::Clog => (XACTS_PER_CLOG_PAGE, FIRST_NORMAL_XID),
        SlruKind::CommitTs => (XACTS_PER_COMMIT_TS_PAGE, FIRST_NORMAL_XID),
        SlruKind::MultixactOffsets => (OFFSETS_PER_PAGE, FIRST_MULTIXACT),
        SlruKind::MultixactMembers => (MEMBERS_PER_PAGE, 0),
    };
    let id = |page: u32| page.wrapping_mul(per_page).wrapping_add(first + 1);
    let (a, b) = (id(a), id(b));
    let before = |a: u32, b: u32| match kind {
        SlruKind::Clog | SlruKind::CommitTs => xid::precedes(a, b),
        SlruKind::MultixactOffsets | SlruKind::MultixactMembers => xid::circle_precedes(a, b),
    };
    before(a, b) && before(a, b.wrapping_add(per_page - 1))
}

/// Returns true when truncation at `cutoff_page` (`SimpleLruTruncate`) removes the file: all of its pages lie before the
/// file that holds the cutoff.
pub fn is_truncated(kind: SlruKind, segment: u32, cutoff_page: u32) -> bool {
    let cutoff = cutoff_page - cutoff_page % PAGES_PER_SEGMENT;
    let first = segment.wrapping_mul(PAGES_PER_SEGMENT);
    page_precedes(kind, first, cutoff)
        && page_precedes(kind, first.wrapping_add(PAGES_PER_SEGMENT - 1), cutoff)
}

/// Returns the page at which truncation of multixacts up to `end_multi` cuts `pg_multixact/offsets`: that of the multixact
/// before it.
pub fn offsets_cutoff_page(end_multi: u32) -> u32 {
    let before = end_multi.wrapping_sub(1);
    let before = if before < FIRST_MULTIXACT {
        u32::MAX
    } else {
        before
    };
    offset_place(before).page
}

/// Returns true when truncation of members from `start` to `end` removes the file of `pg_multixact/members`: it lies at or
/// after that of `start` and before that of `end`, around the circle.
pub fn is_members_truncated(segment: u32, start: u32, end: u32) -> bool {
    let [start, end] = [start, end].map(|offset| segment_of(offset / MEMBERS_PER_PAGE));
    if start <= end {
        (start..end).contains(&segment)
    } else {
        segment >= start || segment < end
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn places_are_those_of_postgres() {
        assert_eq!([XACTS_PER_CLOG_PAGE, XACTS_PER_COMMIT_TS_PAGE], [32_768, 819]);
        assert_eq!([OFFSETS_PER_PAGE, MEMBERS_PER_PAGE], [2048, 1636]);
        assert_eq!(clog_place(32_768 + 5), (Place { page: 1, byte: 1 }, 2));
        assert_eq!(commit_ts_place(820), Place { page: 1, byte: 10 });
        assert_eq!(offset_place(2049), Place { page: 1, byte: 4 });
        assert_eq!(
            member_place(1636 + 6),
            (Place { page: 1, byte: 22 }, Place { page: 1, byte: 32 })
        );
    }

    #[test]
    fn a_status_is_two_bits() {
        let page = [0b11_10_01_00];
        let status = |xid| XactStatus::of(XACTS_PER_CLOG_PAGE + xid, &page);
        assert_eq!(
            [status(0), status(1), status(2), status(3), status(4)],
            [
                Some(XactStatus::InProgress),
                Some(XactStatus::Committed),
                Some(XactStatus::Aborted),
                Some(XactStatus::SubCommitted),
                None
            ]
        );
    }

    #[test]
    fn files_are_named_in_hex() {
        assert_eq!(segment_name(0x1A), "001A");
        for segment in [0, 0xFFFF, 0x14078, 0x2_7000] {
            assert_eq!(parse_segment_name(&segment_name(segment)), Some(segment));
        }
        for bad in ["", "1", "00000", "000g", "001a", "0001000"] {
            assert_eq!(parse_segment_name(bad), None, "{bad}");
        }
    }

    #[test]
    fn truncation_keeps_the_file_of_the_cutoff() {
        for kind in [SlruKind::Clog, SlruKind::CommitTs, SlruKind::MultixactOffsets] {
            assert!(is_truncated(kind, 0, 32) && is_truncated(kind, 0, 63));
            assert!(!is_truncated(kind, 1, 63) && !is_truncated(kind, 0, 31));
        }
        // Page 0 holds what comes after the last page of the circle.
        assert!(!is_truncated(SlruKind::Clog, 0, 131_000));
        assert!(is_truncated(SlruKind::Clog, 4095, 64));
        assert_eq!(offsets_cutoff_page(2049), 1);
        assert_eq!(offsets_cutoff_page(2048), 0);
        assert_eq!(offsets_cutoff_page(1), u32::MAX / 2048);
    }

    #[test]
    fn members_go_around_the_circle() {
        let per_file = MEMBERS_PER_PAGE * PAGES_PER_SEGMENT;
        assert!(is_members_truncated(0, 0, per_file) && !is_members_truncated(1, 0, per_file));
        assert!(
            is_members_truncated(82_040, u32::MAX, per_file) && is_members_truncated(0, u32::MAX, per_file)
        );
        assert!(!is_members_truncated(7, u32::MAX, per_file));
    }
}
