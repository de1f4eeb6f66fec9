//! Postgres on a position: data directories made from pages, Postgres processes, and what a dead one leaves behind.
//!
//! The way of an endpoint: [`Installation::find`], [`DataDirectory::build`] (or [`decide`] that the old one will do),
//! [`Stamp::write`], [`settings::pin_directory`], [`Postmaster::start`], [`Postmaster::stop`]. After a crash: [`Postmaster::adopt`], else
//! [`kill_everything`], then [`salvage`].
//!
//! `docs/endpoint.md` says what a data directory of ours contains and which settings are ours.
#![cfg_attr(not(test), deny(clippy::unwrap_used, clippy::indexing_slicing))]

pub mod conf;
mod directory;
mod durable;
mod environment;
mod error;
mod export;
pub mod hba;
mod initdb;
mod installation;
mod pid_file;
mod port;
mod postmaster;
mod process;
mod reuse;
mod salvage;
pub mod settings;
pub mod socket;
mod source;
mod stamp;
mod timeline_source;
mod witness;

pub use directory::{
    Boot, Built, DataDirectory, LocalSettings, Prepared, Progress, Purpose, carry_configuration, read_control,
};
pub use environment::ServerEnvironment;
pub use error::{BoxError, ComputeError, Result, Unbuildable};
pub use export::export;
pub use initdb::{InitOptions, initdb};
pub use installation::{
    Found, Installation, NotFound, SearchPath, Searched, find_client, parse_version, refuse_root,
};
pub use pid_file::{PidFile, SharedMemory};
pub use port::{FIRST_PORT, check_port, free_port};
pub use postmaster::{Adoption, Postmaster, Start, Stopped, socket_name};
pub use process::{Killed, is_in_use, kill_everything};
pub use reuse::{Evidence, RebuildReason, Reuse, decide};
pub use salvage::{Salvaged, salvage, whole_records};
pub use source::{Item, PageSource, Subject};
pub use stamp::{Stamp, sync};
pub use timeline_source::TimelineSource;
