//! `neon export`

use std::path::PathBuf;

use neon_repo::api::Request;

use super::answer;
use crate::failure::Failure;
use crate::session::Session;
use crate::ui::size;

/// Write a plain data directory that stock Postgres starts
///
/// The directory is at that very position and has nothing to do with the repository any more; it has a timeline number of its own.
#[derive(Debug, clap::Args)]
pub struct Args {
    /// Revision
    #[arg(value_name = "REV")]
    pub rev: String,
    /// Directory to write; must not exist or be empty
    #[arg(long, value_name = "DIR", value_hint = clap::ValueHint::DirPath)]
    pub pgdata: PathBuf,
}

/// Carries it out.
pub fn run(args: Args, session: &mut Session) -> Result<(), Failure> {
    let pgdata = session.absolute(&args.pgdata)?;
    let exported = answer!(
        session,
        Request::Export {
            rev: args.rev,
            pgdata
        },
        Exported
    );
    session.ui.notes(&exported.notes);
    session.ui.show(&exported, |exported, out| {
        writeln!(
            out,
            "exported {} to {} (timeline {}, {})",
            exported.lsn,
            exported.pgdata.display(),
            exported.tli,
            size::bytes(exported.bytes)
        )
    })
}
