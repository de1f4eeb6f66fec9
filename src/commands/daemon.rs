//! `neon daemon`: the process that owns the write side of a repository.

use neon_repo::api::Stopped;
use neon_server::client;
use neon_server::wire::DaemonStatus;
use serde::Serialize;

use super::stop;
use crate::failure::Failure;
use crate::root;
use crate::session::Session;

/// Look at the daemon of a repository, or end it
///
/// Commands start a daemon when they need one: it receives the WAL of running endpoints. It ends 30 seconds after the last endpoint, and at once
/// when somebody else needs the repository while it has nothing to do. Without a subcommand it runs in the foreground, as commands start it.
#[derive(Debug, clap::Args)]
pub struct Args {
    /// What to do
    #[command(subcommand)]
    pub command: Option<Command>,
}

/// What to do with the daemon.
#[derive(Debug, clap::Subcommand)]
pub enum Command {
    /// Stop every endpoint, commit what they wrote, and end the daemon
    Stop,
    /// Show whether a daemon runs, and what it does
    Status,
}

/// What `daemon stop` says.
#[derive(Serialize)]
struct Ended {
    /// The daemon that ended; none when none ran.
    daemon: Option<DaemonStatus>,
    /// The endpoints that it stopped.
    stopped: Vec<Stopped>,
}

/// Carries it out; without a subcommand it returns when the daemon ends.
pub fn run(args: Args, session: &mut Session) -> Result<(), Failure> {
    match args.command {
        None => {
            root::refuse("daemon")?;
            Ok(client::daemon(&session.context)?)
        }
        Some(Command::Status) => {
            let status = client::daemon_status(&session.context)?;
            session.ui.show(&status, |status, out| match status {
                Some(status) => writeln!(out, "{}", sentence(status)),
                None => writeln!(out, "no daemon runs"),
            })
        }
        Some(Command::Stop) => {
            let ended = client::stop_daemon(&session.context, &mut session.progress())?;
            let (daemon, stopped) = ended.unzip();
            let ended = Ended {
                daemon,
                stopped: stopped.unwrap_or_default(),
            };
            session.ui.show(&ended, |ended, out| {
                stop::print(&ended.stopped, out)?;
                match &ended.daemon {
                    Some(daemon) => writeln!(out, "ended the daemon (process {})", daemon.pid),
                    None => writeln!(out, "no daemon ran"),
                }
            })
        }
    }
}

fn sentence(status: &DaemonStatus) -> String {
    let does = match (status.endpoints.as_slice(), status.requests) {
        ([], 0) => "has nothing to do".to_owned(),
        ([], 1) => "works on a request".to_owned(),
        ([], requests) => format!("works on {requests} requests"),
        (endpoints, _) => format!("runs {}", endpoints.join(", ")),
    };
    format!("process {} (neon {}) {does}", status.pid, status.version)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_daemon_is_told_by_what_it_does() {
        let status = |endpoints: &[&str], requests| {
            sentence(&DaemonStatus {
                pid: 4711,
                version: "1.0.0".to_owned(),
                requests,
                endpoints: endpoints.iter().map(|&name| name.to_owned()).collect(),
            })
        };
        assert_eq!(status(&[], 0), "process 4711 (neon 1.0.0) has nothing to do");
        assert_eq!(status(&[], 1), "process 4711 (neon 1.0.0) works on a request");
        assert_eq!(
            status(&["main", "try"], 1),
            "process 4711 (neon 1.0.0) runs main, try"
        );
    }
}
