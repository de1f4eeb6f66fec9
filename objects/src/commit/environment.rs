//! What a commit's data was made with.

use serde::{Deserialize, Serialize};

/// What Postgres, machine and libraries the pages were made with: a different layout cannot be started, different collation
/// rules mean indexes to rebuild.
#[derive(Clone, Debug, Default, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub struct Environment {
    /// `server_version_num`, as 150018 or 170011.
    pub pg_version_num: u32,
    /// As Rust's `std::env::consts::ARCH`: `x86_64`, `aarch64`.
    pub architecture: String,
    /// Whether C's `char` is signed there: it orders some indexes.
    pub char_signed: bool,
    /// Version of libc, as `glibc 2.36`; empty when not known.
    pub libc: String,
    /// Version of ICU; empty when Postgres was built without or it is not known.
    pub icu: String,
    /// Bytes in a WAL segment.
    pub segment_size: u32,
    /// `shared_preload_libraries`.
    pub preload: Vec<String>,
    /// Data checksums are on.
    pub checksums: bool,
}

impl Environment {
    /// Returns the major version of Postgres.
    pub fn pg_major(&self) -> u32 {
        self.pg_version_num / 10_000
    }
}
