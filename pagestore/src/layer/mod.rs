//! Layers: immutable rectangles of key range x LSN range, each an object named by the BLAKE3 of its bytes.
//!
//! ```text
//! header 16 | block | block | ... | index: 52 per block | filter | footer 136
//! ```
//! Everything little-endian but keys, which are big-endian so that they sort as bytes. Byte by byte: docs/format/layer.md.

mod cache;
mod compress;
mod cursor;
mod filter;
mod format;
mod merged;
mod reader;
mod slice;
mod writer;

pub(crate) use cache::LayerCache;
pub(crate) use cursor::LayerCursor;
pub(crate) use format::MAGIC;
pub(crate) use format::{Entries, Fields, IndexEntry};
pub use format::{LayerFooter, LayerKind};
pub(crate) use merged::MergedCursor;
pub use reader::Layer;
pub(crate) use slice::slice;
pub use writer::{LayerWriter, SealedLayer};

/// Version of the formulas that make pages from records; raised when redo would make other bytes of the same record.
pub const REDO_VERSION: u32 = 1;
