//! Everything a repository knows about pages: layers, layer maps, timelines, ingest, reads.
//!
//! WAL goes in ([`Timeline::append_wal`]), pages come out at any LSN ([`Timeline::get_page`]). Synchronous, driven from
//! threads; no clock and no randomness. What a record changes is [`ingest`]'s business, how pages are rebuilt is
//! `neon_redo`'s; this crate keeps versions of keys and finds them again.
#![cfg_attr(not(test), deny(clippy::unwrap_used, clippy::indexing_slicing))]

pub mod compare;
pub mod import;
pub mod ingest;
pub mod items;
mod page_delta;
mod significance;

mod blame;
mod boundaries;
mod compact;
#[cfg(feature = "testing")]
pub mod dissect;
mod error;
mod failpoint;
mod fsck;
mod gc;
mod intake;
mod layer;
mod map;
mod open_files;
mod store;
mod timeline;
mod trial;
mod value;

#[cfg(test)]
mod tests;

pub use blame::Blame;
pub use boundaries::RecordSpan;
pub use error::{PageStoreError, Result};
pub use failpoint::{Failure, failpoint, set_failpoint};
pub use fsck::{Checked, Deep, Finding, Skipped, fsck, fsck_deep};
pub use gc::{References, Span, Spans, StoredKind, TimelineNode};
pub use ingest::{Effect, Ingest, State};
pub use layer::{Layer, LayerFooter, LayerKind, LayerWriter, REDO_VERSION, SealedLayer};
pub use map::{LayerMap, MapEntry};
pub use store::{NewTimeline, PageStore, Settings};
pub use timeline::{
    AcceptPart, ClusterFacts, Compacted, Dropped, ImportFacts, PartsPin, ReadCost, ReceivedTimeline,
    RelationFile, Shrunk, SlicePart, Timeline, TimelineState, Usage, WalPin, WalReader,
};
pub use trial::{Examined, Going, Trial};
pub use value::{MAX_VALUE, Value};
