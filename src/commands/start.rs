//! `neon start`

use neon_repo::api::{Existing, Request, Role};

use super::answer;
use crate::failure::Failure;
use crate::root;
use crate::session::Session;

/// Run Postgres on a branch, or read-only at any position
///
/// The last line on stdout is the connection URI. When it runs already, the URI is printed again and nothing else happens.
///
/// A database is a program, and Postgres runs it as you. Starting a branch that others wrote calls nothing of it: our own sessions switch its code
/// off, and of its settings only those are taken over that name no program, file or library. But whoever connects runs what its maker put in:
/// functions, triggers, settings of roles. Start what you do not trust as a user who has nothing to lose.
#[derive(Debug, clap::Args)]
pub struct Args {
    /// Branch to run on, or revision to look at read-only [default: HEAD's branch]
    #[arg(value_name = "BRANCH|REV")]
    pub rev: Option<String>,
    /// TCP port on 127.0.0.1 [default: the one of last time, else the first free from 55432]
    #[arg(long, value_name = "P", value_parser = clap::value_parser!(u16).range(1..))]
    pub port: Option<u16>,
    /// Take the data directory in as it is, when its WAL has a gap: what it has changed becomes one commit
    #[arg(long, conflicts_with = "set_aside")]
    pub resync: bool,
    /// Keep the data directory aside, in `.neon/aside`, and make another from the branch's last commit
    #[arg(long)]
    pub set_aside: bool,
    /// Let it do what its original does: apply subscriptions; archive and wait for standbys as configured here
    #[arg(long)]
    pub act_as_primary: bool,
}

/// Carries it out.
pub fn run(args: Args, session: &mut Session) -> Result<(), Failure> {
    root::refuse("start")?;
    let existing = match (args.resync, args.set_aside) {
        (true, _) => Existing::Resync,
        (_, true) => Existing::SetAside,
        _ => Existing::Use,
    };
    let endpoint = answer!(
        session,
        Request::Start {
            rev: args.rev,
            port: args.port,
            existing,
            role: if args.act_as_primary {
                Role::Primary
            } else {
                Role::Copy
            },
        },
        Endpoint
    );
    session.ui.notes(&endpoint.notes);
    let how = if endpoint.already_running {
        "runs already on"
    } else {
        "runs on"
    };
    let access = if endpoint.read_only { ", read-only" } else { "" };
    session.ui.say(&format!(
        "Postgres {how} {} at {} (port {}, process {}{access})",
        endpoint.name, endpoint.lsn, endpoint.port, endpoint.pid
    ));
    session
        .ui
        .show(&endpoint, |endpoint, out| writeln!(out, "{}", endpoint.uri))
}
