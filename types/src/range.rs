//! Half-open ranges of keys and of LSNs.

use std::fmt;

use crate::{Lsn, PackedKey};

/// Keys from `start` up to, not including, `end`, in packed order.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct KeyRange {
    /// First key of the range.
    pub start: PackedKey,
    /// First key after the range.
    pub end: PackedKey,
}

impl KeyRange {
    /// Every key.
    pub const ALL: KeyRange = KeyRange {
        start: PackedKey::MIN,
        end: PackedKey::MAX,
    };

    /// Returns true when the range holds `key`.
    pub fn contains(&self, key: &PackedKey) -> bool {
        self.start <= *key && *key < self.end
    }

    /// Returns true when some key is in both ranges.
    pub fn overlaps(&self, other: &KeyRange) -> bool {
        self.start < other.end && other.start < self.end
    }
}

/// Changes whose record ends above `start` and at or below `end`: `start` is a state, `end` the state after the changes.
///
/// The version of a key made by the record that ends at L is in `(start, end]` iff `start < L <= end`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct LsnRange {
    /// The state before the first change.
    pub start: Lsn,
    /// The state after the last change.
    pub end: Lsn,
}

impl LsnRange {
    /// Returns true when a change whose record ends at `lsn` is in the range.
    pub fn contains(&self, lsn: Lsn) -> bool {
        self.start < lsn && lsn <= self.end
    }

    /// Returns true when no change can be in the range.
    pub fn is_empty(&self) -> bool {
        self.end <= self.start
    }

    /// Returns true when a change can be in both ranges.
    pub fn overlaps(&self, other: &LsnRange) -> bool {
        self.start < other.end && other.start < self.end
    }
}

impl fmt::Display for LsnRange {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}..{}", self.start, self.end)
    }
}
