//! The crate against real programs: psql and Postgres on the other side, and TCP in between.

mod door;
mod guarded;
mod impostor;
mod postgres;
mod replication;
mod server;
mod stock_server;
mod world;
