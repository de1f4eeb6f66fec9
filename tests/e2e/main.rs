//! The whole program on real Postgres servers: what a user does, what a user does wrong, and what happens to machines.

mod caller;
mod compaction;
mod crash;
mod damage;
mod dev;
mod forged;
mod fsck;
mod gap;
mod gc;
mod hints;
mod hostile;
mod load;
mod main_job;
mod not_wal;
mod places;
mod read_only;
mod refusals;
mod repair;
mod revisions;
mod serving;
mod settings;
mod space;
mod superuser;
mod tidy;
mod transfers;
