//! `neon fetch`

use neon_repo::api::{Request, Transfer};

use super::transfer::{self, Target};
use crate::failure::Failure;
use crate::session::Session;

/// Bring what an origin has, and move no branch of ours
///
/// What was fetched is called ORIGIN/BRANCH. Without arguments: every branch of the origin that HEAD's branch goes to by default.
///
/// The password comes from the origin's URI, PGPASSWORD or ~/.pgpass; else it is asked for on a terminal.
#[derive(Debug, clap::Args)]
pub struct Args {
    #[command(flatten)]
    target: Target,
}

/// Carries it out.
pub fn run(args: Args, session: &mut Session) -> Result<(), Failure> {
    let transfer = Transfer {
        branch: args.target.branch,
        target: args.target.target,
        dry_run: args.target.dry_run,
        ..Transfer::default()
    };
    transfer::run(session, &transfer, Request::Fetch)
}
