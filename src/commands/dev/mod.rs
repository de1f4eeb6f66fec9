//! `neon dev` (hidden): tools for those who work on neon.

mod compare;
mod coverage;
mod oracle;
mod wal;

use crate::failure::Failure;
use crate::session::Session;

/// Tools for those who work on neon
#[derive(Debug, clap::Args)]
pub struct Args {
    /// Which tool
    #[command(subcommand)]
    pub command: Command,
}

/// The tools.
#[derive(Debug, clap::Subcommand)]
pub enum Command {
    #[allow(missing_docs, reason = "the doc comment of the arguments is the help")]
    Compare(compare::Args),
    #[allow(missing_docs, reason = "the doc comment of the arguments is the help")]
    Oracle(oracle::Args),
    #[allow(missing_docs, reason = "the doc comment of the arguments is the help")]
    Coverage(coverage::Args),
    #[allow(missing_docs, reason = "the doc comment of the arguments is the help")]
    Wal(wal::Args),
}

/// Carries the tool's work out.
pub fn run(args: Args, session: &mut Session) -> Result<(), Failure> {
    match args.command {
        Command::Compare(args) => compare::run(args, session),
        Command::Oracle(args) => oracle::run(args, session),
        Command::Coverage(args) => coverage::run(&args, session),
        Command::Wal(args) => wal::run(args, session),
    }
}
