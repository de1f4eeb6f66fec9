//! The daemon and `neon serve`: one process owns the write side of a repository, commands talk to it over a socket.
#![cfg_attr(not(test), deny(clippy::unwrap_used, clippy::indexing_slicing))]

mod audit;
pub mod client;
pub mod context;
pub mod daemon;
mod descriptors;
mod host;
mod keeper;
mod occupancy;
mod ration;
mod rest;
pub mod serve;
mod settings;
mod shown;
pub mod signals;
mod spawn;
mod talk;
pub mod users;
pub mod wire;
