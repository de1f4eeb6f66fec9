//! `neon pull`

use neon_repo::api::{Request, Transfer};

use super::transfer::{self, Target};
use crate::failure::Failure;
use crate::session::Session;

/// Bring a branch from an origin, and move ours to it
///
/// Refused when ours has commits that the origin's does not descend from, and while an endpoint runs on it.
///
/// A database is a program: what arrives runs, as you, once you start the branch and connect. Pull only what you would run.
///
/// The password comes from the origin's URI, PGPASSWORD or ~/.pgpass; else it is asked for on a terminal.
#[derive(Debug, clap::Args)]
pub struct Args {
    #[command(flatten)]
    target: Target,
    /// Move our branch even when that is not a fast-forward; its old head stays in the reflog
    #[arg(long)]
    force: bool,
    /// Bring it into a branch of this name
    #[arg(long = "as", value_name = "NAME")]
    as_name: Option<String>,
    /// Stop the branch's endpoint first, and start it again on the new head
    #[arg(long)]
    restart: bool,
}

/// Carries it out.
pub fn run(args: Args, session: &mut Session) -> Result<(), Failure> {
    let transfer = Transfer {
        branch: args.target.branch,
        target: args.target.target,
        dry_run: args.target.dry_run,
        force: args.force,
        as_name: args.as_name,
        restart: args.restart,
        ..Transfer::default()
    };
    transfer::run(session, &transfer, Request::Pull)
}
