//! `neon commit`

use neon_repo::api::Request;

use super::{answer, show_moved};
use crate::failure::Failure;
use crate::session::Session;

/// Commit a branch as it is now
///
/// On a running branch: everything that Postgres has acknowledged so far.
#[derive(Debug, clap::Args)]
pub struct Args {
    /// Branch [default: HEAD's branch]
    #[arg(value_name = "BRANCH")]
    pub branch: Option<String>,
    /// What was done
    #[arg(short, long, value_name = "TEXT")]
    pub message: String,
    /// Author, as 'Name <mail>' [default: the configured one]
    #[arg(long, value_name = "AUTHOR")]
    pub author: Option<String>,
}

/// Carries it out.
pub fn run(args: Args, session: &mut Session) -> Result<(), Failure> {
    let moved = answer!(
        session,
        Request::Commit {
            branch: args.branch,
            message: args.message,
            author: args.author,
        },
        Moved
    );
    show_moved(session, "branch", &moved)
}
