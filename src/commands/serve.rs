//! `neon serve`

use std::net::SocketAddr;
use std::path::PathBuf;

use neon_server::client;
use neon_server::serve::ServeOptions;

use crate::failure::Failure;
use crate::root;
use crate::session::Session;

/// Serve this repository, or every repository below a directory, to push, pull, fetch and clone
///
/// Runs in the foreground until SIGINT or SIGTERM. Users log in with the names and passwords of 'neon user'. With --root, the path
/// of a URI names the repository (letters a-z, digits, '.', '_', '-'), and the first push to a new name makes it.
///
/// Limits are settings, read at the start: serve.login_seconds, serve.max_logins, serve.max_sessions, serve.max_sessions_per_user,
/// serve.max_repository_bytes and serve.max_staging_bytes of 'neon config'. With --root they stand in DIR/.neon-serve.toml, without
/// 'serve.', and max_repositories, max_open, idle and keep_staged beside them.
///
/// Each login, refusal and moved branch is a line of JSON in DIR/.neon-audit, or .neon/log/audit of one repository; a branch does not move
/// when its line cannot be written. DIR and what is below it must belong to you, and nobody else may write it.
#[derive(Debug, clap::Args)]
pub struct Args {
    /// Address to listen on; loopback only, until there is TLS
    #[arg(long, value_name = "HOST:PORT", default_value = "127.0.0.1:6543")]
    pub listen: SocketAddr,
    /// Serve every repository below DIR
    #[arg(long, value_name = "DIR", value_hint = clap::ValueHint::DirPath)]
    pub root: Option<PathBuf>,
}

/// Carries it out; returns when it is told to end.
pub fn run(args: Args, session: &mut Session) -> Result<(), Failure> {
    root::refuse("serve")?;
    let options = ServeOptions {
        listen: args.listen,
        root: args.root.map(|root| session.absolute(&root)).transpose()?,
    };
    Ok(client::serve(
        &session.context,
        &options,
        &mut session.progress(),
    )?)
}
