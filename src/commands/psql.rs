//! `neon psql`

use neon_server::client;

use crate::failure::Failure;
use crate::session::Session;

/// Open psql on a running endpoint
///
/// Becomes the psql of the endpoint's Postgres version, as user and on database `postgres`, through the endpoint's Unix socket. What
/// follows `--` goes to psql: neon psql main -- -c 'select 1'
#[derive(Debug, clap::Args)]
pub struct Args {
    /// Branch, or the revision of a read-only endpoint [default: HEAD's branch]
    #[arg(value_name = "BRANCH|REV")]
    pub branch: Option<String>,
    /// Arguments of psql
    #[arg(value_name = "PSQL ARGS", last = true, allow_hyphen_values = true)]
    pub args: Vec<String>,
}

/// Carries it out; returns only when psql could not be run.
pub fn run(args: Args, session: &mut Session) -> Result<(), Failure> {
    match client::psql(&session.context, args.branch, &args.args)? {}
}
