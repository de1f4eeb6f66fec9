//! `neon user`

use std::path::PathBuf;

use neon_server::client;
use neon_server::users::UserFile;

use crate::failure::Failure;
use crate::session::Session;
use crate::ui::password;

/// Say who may push to, pull from and clone what 'neon serve' serves
///
/// Passwords are kept as SCRAM-SHA-256 verifiers, from which they cannot be read back. Sessions of a user who is removed, or gets another
/// password, end within a second.
#[derive(Debug, clap::Args)]
pub struct Args {
    /// What to do
    #[command(subcommand)]
    pub command: Command,
}

/// What to do with users.
#[derive(Debug, clap::Subcommand)]
pub enum Command {
    /// Add a user, or give one a new password
    Add {
        /// Name
        #[arg(value_name = "NAME")]
        name: String,
        #[command(flatten)]
        place: Place,
        /// Read the password from stdin, instead of asking for it
        #[arg(long)]
        password_stdin: bool,
    },
    /// List users
    List {
        #[command(flatten)]
        place: Place,
    },
    /// Remove a user
    Remove {
        /// Name
        #[arg(value_name = "NAME")]
        name: String,
        #[command(flatten)]
        place: Place,
    },
}

/// Whose users.
#[derive(Debug, clap::Args)]
pub struct Place {
    /// Users of 'neon serve --root DIR' [default: of this repository]
    #[arg(long, value_name = "DIR", value_hint = clap::ValueHint::DirPath)]
    pub root: Option<PathBuf>,
}

/// Carries it out.
pub fn run(args: Args, session: &mut Session) -> Result<(), Failure> {
    let users = |place: Place| -> Result<UserFile, Failure> {
        let root = place.root.map(|root| session.absolute(&root)).transpose()?;
        Ok(client::users(&session.context, root.as_deref())?)
    };
    match args.command {
        Command::Add {
            name,
            place,
            password_stdin,
        } => {
            let users = users(place)?;
            let password = if password_stdin {
                password::from_stdin()?
            } else {
                password::ask_new(&format!("Password of {name}"))?
            };
            users.add(&name, &password)?;
            say(session, &format!("added user {name}"))
        }
        Command::List { place } => {
            let names = users(place)?.list()?;
            session
                .ui
                .show(&names, |names, out| super::print_lines(names, out))
        }
        Command::Remove { name, place } => {
            users(place)?.remove(&name)?;
            say(session, &format!("removed user {name}"))
        }
    }
}

fn say(session: &Session, sentence: &str) -> Result<(), Failure> {
    super::show_done(
        session,
        &neon_repo::api::Done {
            notes: vec![sentence.to_owned()],
        },
    )
}
