//! `neon origin`

use neon_repo::api::Request;

use super::{answer, show_done};
use crate::failure::Failure;
use crate::session::Session;
use crate::ui::table::{self, Cell};

/// Name other repositories
///
/// Origins are kept in .neon/config.toml. Passwords are never printed.
///
/// A server must prove that it knows the password before anything is sent to it. '?require_auth=none' behind its URI asks for no proof: whoever answers
/// there gets what is sent and is believed.
#[derive(Debug, clap::Args)]
pub struct Args {
    /// What to do
    #[command(subcommand)]
    pub command: Command,
}

/// What to do with origins.
#[derive(Debug, clap::Subcommand)]
pub enum Command {
    /// Name another repository
    Add {
        /// What to call it
        #[arg(value_name = "NAME")]
        name: String,
        /// Where it is: postgresql://USER@HOST:PORT/REPOSITORY, or the path of a repository on this machine
        #[arg(value_name = "URI", value_hint = clap::ValueHint::Url)]
        uri: String,
    },
    /// List origins
    List,
    /// Forget an origin, and what was fetched of its branches
    Remove {
        /// Its name
        #[arg(value_name = "NAME")]
        name: String,
    },
    /// Rename an origin
    Rename {
        /// Its name
        #[arg(value_name = "OLD")]
        old: String,
        /// Its new name
        #[arg(value_name = "NEW")]
        new: String,
    },
    /// Point an origin elsewhere
    SetUrl {
        /// Its name
        #[arg(value_name = "NAME")]
        name: String,
        /// Where it is now
        #[arg(value_name = "URI", value_hint = clap::ValueHint::Url)]
        uri: String,
    },
}

/// Carries it out.
pub fn run(args: Args, session: &mut Session) -> Result<(), Failure> {
    let request = match args.command {
        Command::List => {
            let origins = answer!(session, Request::OriginList, Origins);
            return session.ui.show(&origins, |origins, out| {
                if origins.is_empty() {
                    return Ok(());
                }
                let rows: Vec<Vec<Cell>> = origins
                    .iter()
                    .map(|origin| vec![origin.name.as_str().into(), origin.uri.as_str().into()])
                    .collect();
                table::write(out, &["ORIGIN", "URI"], &rows)
            });
        }
        Command::Add { name, uri } => Request::OriginAdd { name, uri },
        Command::Remove { name } => Request::OriginRemove { name },
        Command::Rename { old, new } => Request::OriginRename { old, new },
        Command::SetUrl { name, uri } => Request::OriginSetUrl { name, uri },
    };
    let done = answer!(session, request, Done);
    show_done(session, &done)
}
