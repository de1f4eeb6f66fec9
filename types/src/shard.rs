//! Which part of a relation's blocks a page service holds.

use std::fmt;

use serde::{Deserialize, Serialize};

/// Shard `number` of `count`; `count` 0 or 1 means that nothing is striped.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub struct ShardIndex {
    /// From 0 up to `count`.
    pub number: u8,
    /// Number of shards.
    pub count: u8,
}

impl fmt::Display for ShardIndex {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:02x}{:02x}", self.number, self.count)
    }
}
