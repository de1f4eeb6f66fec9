//! The repository as a user thinks of it: init, import, clone, branch, log, push, pull, fsck.
//!
//! [`Repository::handle`] carries out one [`api::Request`]; everything else here is what it takes.
#![cfg_attr(not(test), deny(clippy::unwrap_used, clippy::indexing_slicing))]

mod acceptance;
pub mod api;
mod aside;
mod attest;
mod backlog;
mod branches;
mod by_name;
mod catalog;
mod clock;
mod clone;
mod commits;
mod compaction;
mod compare;
mod directory;
mod endpoint;
mod endpoint_file;
mod error;
mod export;
mod first_transaction;
mod fsck;
mod gc;
mod handle;
mod history;
mod hold;
mod init;
mod instance;
mod layers;
mod left_behind;
mod log;
mod moment;
mod naming;
pub mod neighbours;
mod not_wal;
mod origins;
mod parents;
mod peer;
mod postgres;
mod receiver;
mod repository;
mod resolve;
mod resync;
mod retention;
mod revision;
mod run;
mod settings;
pub mod sockets;
mod status;
mod superuser;
mod tags;
mod tail;
mod tli;
mod tracking;
mod transfer;
mod turns;
mod unfinished;
mod usage;
pub mod wal;
pub mod world;

pub use backlog::Backlog;
pub use clone::{clone, create_empty};
pub use directory::find_psql;
pub use endpoint::any_runs as endpoint_runs;
pub use error::RepoError;
pub use hold::is_read_only;
pub use init::{init, is_data_directory};
/// Lengths of time and amounts of bytes as people write them.
pub use neon_objects::config::span;
/// Whose a file may be that decides what this program does.
pub use neon_objects::owned;
/// The redo oracle, for `neon dev oracle`.
pub use neon_redo::oracle;
pub use repository::{OpenOptions, Repository, check_ours};
pub use transfer::REFUSED;
