//! `neon push`

use neon_repo::api::{Request, Transfer};

use super::transfer::{self, Target};
use crate::failure::Failure;
use crate::session::Session;

/// Send a branch to an origin
///
/// Sends what the origin does not have, then moves its branch. Refused when the origin's branch has commits that ours does not
/// descend from. A push that was cut goes on when it is run again. The first push of a branch sets where it goes by default.
///
/// The password comes from the origin's URI, PGPASSWORD or ~/.pgpass; else it is asked for on a terminal.
#[derive(Debug, clap::Args)]
pub struct Args {
    #[command(flatten)]
    target: Target,
    /// Move the origin's branch even when that is not a fast-forward; its old head stays in the reflog there
    #[arg(long)]
    force: bool,
}

/// Carries it out.
pub fn run(args: Args, session: &mut Session) -> Result<(), Failure> {
    let transfer = Transfer {
        branch: args.target.branch,
        target: args.target.target,
        dry_run: args.target.dry_run,
        force: args.force,
        ..Transfer::default()
    };
    transfer::run(session, &transfer, Request::Push)
}
