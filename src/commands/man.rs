//! `neon man` (hidden): writes the man pages that are checked in under `man/`.

use std::fs;
use std::path::PathBuf;

use crate::failure::Failure;
use crate::manual;
use crate::session::Session;

/// Write the man pages into a directory
#[derive(Debug, clap::Args)]
pub struct Args {
    /// Directory; pages of commands that are gone stay
    #[arg(value_name = "DIR", value_hint = clap::ValueHint::DirPath)]
    pub directory: PathBuf,
}

/// Carries it out.
pub fn run(args: Args, session: &mut Session) -> Result<(), Failure> {
    let directory = session.absolute(&args.directory)?;
    for (name, roff) in manual::pages()? {
        let path = directory.join(name);
        fs::write(&path, roff)
            .map_err(|error| Failure::local("man", format!("cannot write {}", path.display()), error))?;
    }
    Ok(())
}
