//! `neon uri`

use neon_repo::api::Request;

use super::answer;
use crate::failure::Failure;
use crate::session::Session;

/// Print the connection URI of a running endpoint, password included
#[derive(Debug, clap::Args)]
pub struct Args {
    /// Branch, or the revision of a read-only endpoint [default: HEAD's branch]
    #[arg(value_name = "BRANCH|REV")]
    pub branch: Option<String>,
}

/// Carries it out.
pub fn run(args: Args, session: &mut Session) -> Result<(), Failure> {
    let endpoint = answer!(session, Request::Uri { branch: args.branch }, Endpoint);
    session
        .ui
        .show(&endpoint, |endpoint, out| writeln!(out, "{}", endpoint.uri))
}
