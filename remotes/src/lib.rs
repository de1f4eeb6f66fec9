//! The conversation between two repositories: push, pull, fetch and clone, both halves.
//!
//! This crate owns what is said, not what carries it (`neon_transport`) and not what is kept (a [`Source`] and a [`Sink`] that
//! a repository implements). Decisions are pure functions ([`decide()`], [`ladder::compare`]); the halves carry them out.
//! The bytes are described in `docs/format/protocol.md`.
#![cfg_attr(not(test), deny(clippy::unwrap_used, clippy::indexing_slicing))]

mod error;
mod part;
mod plan;
mod possession;
mod refusal;
mod sink;
mod source;

pub use error::{LocalError, RemoteError};
pub use neon_objects::Fork as Step;
pub use part::{MAX_PART, MAX_PARTS, Part, PartKind, PlannedPart};
pub use plan::{Acceptance, Plan, PlanRequest, Volume, stretches};
pub use possession::{Held, Ladder, MAX_FACTS, MAX_RANGES, MAX_RUNGS, MAX_TIMELINES, Possession, TimelineFacts};
pub use refusal::{Divergence, Head, Refusal};
pub use sink::{BranchMove, PartWriter, Sink};
pub use source::{Branch, Catalog, Identity, Source};
