//! The conversation between two repositories: push, pull, fetch and clone, both halves.
//!
//! This crate owns what is said, not what carries it (`neon_transport`) and not what is kept (a [`Source`] and a [`Sink`] that
//! a repository implements). Decisions are pure functions ([`decide::decide`], [`ladder::compare`]); the halves carry them out.
//! The bytes are described in `docs/format/protocol.md`.
#![cfg_attr(not(test), deny(clippy::unwrap_used, clippy::indexing_slicing))]

mod command;
mod count;
pub mod decide;
mod error;
pub mod history;
pub mod ladder;
mod meter;
mod names;
mod objects;
mod offer;
mod options;
mod part;
mod plan;
mod possession;
mod pull;
mod push;
mod receive;
mod refusal;
mod send;
mod serve;
mod sink;
mod source;
mod talk;
pub mod target;
pub mod uri;
pub mod wire;

pub use command::Command;
pub use decide::Direction;
pub use error::{LocalError, NAME_HINT, RemoteError};
pub use meter::Meter;
pub use names::Skipped;
pub use neon_objects::Fork as Step;
pub use objects::{Fetched, ObjectSink, Objects, perform_fetch_objects};
pub use options::{Gate, Options, Progress, ProgressFn};
pub use part::{MAX_PART, MAX_PARTS, Part, PartKind, PlannedPart};
pub use plan::{Acceptance, Keeps, Plan, PlanRequest, Volume, stretches};
pub use possession::{
    Held, Ladder, MAX_ATTESTATIONS, MAX_FACTS, MAX_RANGES, MAX_RUNGS, MAX_TIMELINES, Possession,
    TimelineFacts,
};
pub use pull::{
    FetchOutcome, FetchRequest, FetchedBranch, PullOutcome, PullRequest, perform_fetch, perform_pull,
};
pub use push::{PushOutcome, PushRequest, perform_push};
pub use refusal::{Divergence, Head, Refusal};
pub use serve::{Reads, Served, serve, serve_push, serve_reads};
pub use sink::{BranchMove, PartWriter, Sink};
pub use source::{Branch, Catalog, Identity, Source};
pub use wire::{Motion, Phase};
