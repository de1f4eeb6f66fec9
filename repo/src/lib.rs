//! The repository as a user thinks of it: init, import, clone, branch, log, push, pull, fsck.
#![cfg_attr(not(test), deny(clippy::unwrap_used, clippy::indexing_slicing))]

pub mod api;

pub mod revision;
