//! The values that every part of neon speaks: positions, ids, keys, names.
//!
//! No I/O, no clock, no async. Anything that two crates must agree on and that is not Postgres's own layout lives here.
#![cfg_attr(not(test), deny(clippy::unwrap_used, clippy::indexing_slicing))]

mod causes;
mod checked;
mod count;
mod id;
mod key;
mod lsn;
mod printable;
mod range;
mod ref_name;
mod shard;

pub use causes::with_causes;
pub use checked::{ChecksumError, checked_text, with_checksum};
pub use count::counted;
pub use id::{CommitId, LayerId, LayerMapId, ObjectId, ParseIdError, Prefix, RepoId, TimelineId};
pub use key::{Fork, Key, PACKED_KEY_SIZE, PackedKey, ParseKeyError, RelTag, SlruKind};
pub use lsn::{Lsn, ParseLsnError, Position};
pub use printable::{is_printable, on_lines, on_one_line};
pub use range::{KeyRange, LsnRange};
pub use ref_name::{RefName, RefNameError, is_safe_name, is_valid_name};
pub use shard::ShardIndex;
