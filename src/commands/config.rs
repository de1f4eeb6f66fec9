//! `neon config`

use neon_repo::api::{Request, Response};

use super::{answer, show_done};
use crate::failure::Failure;
use crate::session::Session;

/// Read and write settings of the repository
///
/// Keys: user.author ('Name <mail>'), endpoint.first_port, endpoint.settings.NAME (a Postgres setting of every endpoint),
/// pagestore.seal_megabytes, pagestore.seal_seconds, pagestore.compaction (on or off), gc.auto (on or off), gc.interval, gc.grace and
/// gc.reflog (as 36h, 7d), retention.keep and retention.keep_wal ('neon retention' explains them).
///
/// Limits of 'neon serve', which it reads when it begins: serve.login_seconds, serve.max_logins, serve.max_sessions,
/// serve.max_sessions_per_user, serve.max_repository_bytes, serve.max_staging_bytes.
///
/// Memory, which a daemon or command reads when it begins: pagestore.index_megabytes (WAL that is not in layers, of each branch that
/// is written), pagestore.layer_cache_megabytes and pagestore.block_cache_megabytes (layers that are read).
///
/// They are kept in .neon/config.toml; comments there stay. The defaults of a user are in neon/config.toml of the configuration
/// directory (~/.config), or in the directory that NEON_HOME names: author, pg_version, pg_dirs.
#[derive(Debug, clap::Args)]
pub struct Args {
    /// What to do
    #[command(subcommand)]
    pub command: Command,
}

/// What to do with a setting.
#[derive(Debug, clap::Subcommand)]
pub enum Command {
    /// Print a setting
    Get {
        /// Dotted key
        #[arg(value_name = "KEY")]
        key: String,
    },
    /// Write a setting
    Set {
        /// Dotted key
        #[arg(value_name = "KEY")]
        key: String,
        /// New value [default: back to the default]
        #[arg(value_name = "VALUE", allow_hyphen_values = true)]
        value: Option<String>,
    },
}

/// Carries it out.
pub fn run(args: Args, session: &mut Session) -> Result<(), Failure> {
    match args.command {
        Command::Get { key } => {
            let setting = answer!(session, Request::ConfigGet { key }, Setting);
            session
                .ui
                .show(&setting, |setting, out| writeln!(out, "{}", setting.value))
        }
        Command::Set { key, value } => match session.call(Request::ConfigSet { key, value })? {
            Response::Done(done) => show_done(session, &done),
            Response::Setting(setting) => session.ui.show(&setting, |setting, out| {
                writeln!(out, "{} = {}", setting.key, setting.value)
            }),
            other => Err(Failure::unexpected(&other)),
        },
    }
}
