//! `neon daemon` (hidden): what commands start when they need one.

use neon_server::client;

use crate::failure::Failure;
use crate::root;
use crate::session::Session;

/// Run the daemon of a repository in the foreground
///
/// Commands start it when they need it; it ends 30 seconds after the last endpoint.
#[derive(Debug, clap::Args)]
pub struct Args {}

/// Carries it out; returns when the daemon ends.
pub fn run(_: Args, session: &mut Session) -> Result<(), Failure> {
    root::refuse("daemon")?;
    Ok(client::daemon(&session.context)?)
}
