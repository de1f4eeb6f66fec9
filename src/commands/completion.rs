//! `neon completion`

use std::io::{self, Write};

use clap::CommandFactory;
use clap_complete::Shell;

use crate::cli::Cli;
use crate::failure::Failure;
use crate::session::Session;

/// Print a completion script for a shell
#[derive(Debug, clap::Args)]
#[command(after_help = "As in: neon completion bash > ~/.local/share/bash-completion/completions/neon")]
pub struct Args {
    /// Which shell
    #[arg(value_name = "SHELL", value_enum)]
    pub shell: Shell,
}

/// Carries it out.
pub fn run(args: Args, _: &mut Session) -> Result<(), Failure> {
    let mut script = Vec::new();
    clap_complete::generate(args.shell, &mut Cli::command(), "neon", &mut script);
    Ok(io::stdout().write_all(&script)?)
}
