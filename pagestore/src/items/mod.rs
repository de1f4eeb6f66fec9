//! Metadata items: values that are not pages.
//!
//! Each kind of [`Key`](neon_types::Key) that is not a block or an SLRU page has one type here, with a versioned
//! encoding (`docs/format/items.md`). What no longer exists is `Value::Absent`, never an item that says so. The
//! checkpoint item is `neon_postgres::checkpoint::CheckpointState`, which brings its own encoding.

mod codec;
mod database;
mod file;
mod origin;
mod rel_size;
mod slru;

pub use codec::ItemError;
pub use database::{Database, RelMap, Tablespace};
pub use file::{CarriedFile, MAX_FILE_SIZE};
pub use origin::{OriginProgress, TwoPhase};
pub use rel_size::{Copied, Cut, MAX_CUTS, RelSize};
pub use slru::{PAGES_PER_SEGMENT, SlruSegments};
