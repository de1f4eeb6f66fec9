//! What Postgres writes: pages, WAL, control file, SLRU and directory layout, of versions 14 to 18.
//!
//! Everything here is a pure function of bytes. Bytes come from disk and network and are not trusted: every length is
//! checked before it is used, a decoder returns an error and never panics. All integers are little-endian, as x86-64
//! and AArch64 write them.
#![cfg_attr(not(test), deny(clippy::unwrap_used, clippy::indexing_slicing))]

pub mod boot;
pub mod catalog;
pub mod checkpoint;
pub mod control;
mod cursor;
pub mod layout;
pub mod page;
pub mod records;
pub mod slru;
pub mod timeline_history;
mod version;
pub mod wal;
pub mod xid;

pub use checkpoint::CheckpointState;
pub use control::{CheckPoint, ControlFile, DbState};
pub use cursor::{Cursor, Truncated};
pub use page::Page;
pub use version::PgVersion;

/// Bytes in a block of a relation, an SLRU page and a WAL page. Other sizes are refused at import.
pub const BLCKSZ: usize = 8192;
/// Blocks in one segment file of a relation (1 GiB).
pub const RELSEG_BLOCKS: u32 = 131_072;
