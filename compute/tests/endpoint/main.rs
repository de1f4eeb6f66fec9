//! Real Postgres on directories that we build, stop, kill and find again. Run as an unprivileged user.

mod cluster;
mod crash;
mod directory_source;
mod page_store;
mod places;
mod round_trip;
mod supervision;
