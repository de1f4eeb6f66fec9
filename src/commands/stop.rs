//! `neon stop`

use std::io::{self, Write};

use neon_repo::api::{Request, Stopped};

use super::answer;
use crate::failure::Failure;
use crate::session::Session;
use crate::ui::style;

/// Stop endpoints, and commit what they wrote
#[derive(Debug, clap::Args)]
pub struct Args {
    /// Branch, or what a read-only endpoint was started at: its revision or its name [default: HEAD's branch]
    #[arg(value_name = "BRANCH|REV", conflicts_with = "all")]
    pub branch: Option<String>,
    /// Stop every endpoint of the repository
    #[arg(long)]
    pub all: bool,
}

/// Carries it out.
pub fn run(args: Args, session: &mut Session) -> Result<(), Failure> {
    let stopped = answer!(
        session,
        Request::Stop {
            branch: args.branch,
            all: args.all,
        },
        Stopped
    );
    session.ui.show(&stopped, |stopped, out| print(stopped, out))
}

/// Writes a sentence a line.
pub(super) fn print(stopped: &[Stopped], out: &mut dyn Write) -> io::Result<()> {
    stopped
        .iter()
        .try_for_each(|one| writeln!(out, "{}", sentence(one)))
}

fn sentence(stopped: &Stopped) -> String {
    let name = &stopped.name;
    let verb = if stopped.was_running {
        "stopped"
    } else {
        "was not running:"
    };
    match (stopped.commit, stopped.lsn) {
        (Some(commit), lsn) => {
            let at = lsn.map(|lsn| format!(" at {lsn}")).unwrap_or_default();
            let (on, off) = (style::COMMIT.render(), style::COMMIT.render_reset());
            format!("{verb} {name}, committed {on}{}{off}{at}", commit.short())
        }
        (None, Some(lsn)) => format!("{verb} {name} at {lsn}, nothing to commit"),
        (None, None) => format!("{verb} {name}"),
    }
}

#[cfg(test)]
mod tests {
    use neon_types::{CommitId, Lsn, ObjectId};

    use super::*;

    #[test]
    fn it_says_what_was_committed() {
        let stopped = Stopped {
            name: "main".to_owned(),
            commit: None,
            lsn: Some(Lsn(0x16B_3748)),
            was_running: true,
        };
        assert_eq!(sentence(&stopped), "stopped main at 0/16B3748, nothing to commit");
        let committed = Stopped {
            commit: Some(CommitId(ObjectId::from_bytes([0xAB; 32]))),
            ..stopped
        };
        let text = anstream::adapter::strip_str(&sentence(&committed)).to_string();
        assert_eq!(text, "stopped main, committed abababababab at 0/16B3748");
    }
}
