//! What a repository keeps apart from pages: content-addressed objects, commits, refs with their log, locks and configuration.
//!
//! Synchronous and without a clock: the time of a ref move is an argument. Everything durable follows one recipe: write a new
//! file, fsync it, rename it, fsync its directory.
#![cfg_attr(not(test), deny(clippy::unwrap_used, clippy::indexing_slicing))]

pub mod ancestry;
mod attestation;
mod codec;
mod commit;
pub mod config;
pub mod durable;
mod error;
mod head;
mod lock;
mod mode;
pub mod owned;
mod reflog;
mod refs;
mod scratch;
mod staging;
mod store;
mod uses;
mod writer;

pub use ancestry::{Line, Relation};
pub use attestation::{Attestation, WriterKey};
pub use commit::{
    COMMIT_MAGIC, Commit, Environment, Fork, MAX_AUTHOR, MAX_COMMIT, MAX_DIGESTS, MAX_MESSAGE, MAX_SETTINGS,
    WalDigest,
};
pub use config::{Config, Keep, Origin, Retention, Upstream};
pub use error::{ObjectsError, Result};
pub use lock::{Holder, ReadLock, RepoLock};
pub use mode::{Mode, check_writable, refuses_writes};
pub use owned::NotOurs;
pub use reflog::ReflogEntry;
pub use refs::{Expect, RefEdit, Refs};
pub use staging::Staging;
pub use store::{Incoming, ObjectStore, StoredFile};
pub use uses::{Hold, Sweep, Used, Uses};
pub use writer::ObjectWriter;
