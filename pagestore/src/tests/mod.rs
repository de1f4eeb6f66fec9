//! Tests of the store as a whole, on WAL that is written here, record by record.

mod allocation;
mod compact;
mod deep;
mod fixture;
mod hostile;
mod images;
mod kill;
mod layers;
mod model;
mod relations;
mod retain;
mod transfer;
mod wal;

pub(crate) use fixture::{Random, block_key, map_entry};
mod trial;
