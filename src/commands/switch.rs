//! `neon switch`

use neon_repo::api::Request;

use super::{answer, show_done};
use crate::failure::Failure;
use crate::session::Session;

/// Make a branch the default of other commands
///
/// Sets HEAD, and nothing else: endpoints go on as they are.
#[derive(Debug, clap::Args)]
pub struct Args {
    /// Branch
    #[arg(value_name = "BRANCH")]
    pub branch: String,
}

/// Carries it out.
pub fn run(args: Args, session: &mut Session) -> Result<(), Failure> {
    let done = answer!(session, Request::Switch { branch: args.branch }, Done);
    show_done(session, &done)
}
