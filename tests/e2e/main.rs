//! The whole program on real Postgres servers: what a user does, what a user does wrong, and what happens to machines.

mod compaction;
mod crash;
mod damage;
mod dev;
mod forged;
mod fsck;
mod gap;
mod gc;
mod load;
mod main_job;
mod refusals;
mod repair;
mod revisions;
mod serving;
mod space;
mod tidy;
mod transfers;
