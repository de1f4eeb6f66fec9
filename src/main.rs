//! `neon`: git for PostgreSQL, on the command line. Parse, call, print; what is done is done in `neon-repo` and `neon-server`.

#[cfg(all(target_os = "linux", target_env = "gnu"))]
mod allocator;
mod cli;
mod commands;
mod defaults;
mod failure;
mod interrupt;
mod log;
mod manual;
mod root;
mod session;
mod ui;

use std::panic::{self, AssertUnwindSafe};
use std::process::ExitCode;

use clap::Parser;

use crate::cli::Cli;
use crate::failure::Failure;

fn main() -> ExitCode {
    #[cfg(all(target_os = "linux", target_env = "gnu"))]
    allocator::bound();
    // Only the command's own thread ends the program: the daemon outlives a task that panics.
    match panic::catch_unwind(AssertUnwindSafe(run)) {
        Ok(code) => code,
        Err(_) => ExitCode::from(failure::INTERNAL),
    }
}

fn run() -> ExitCode {
    let cli = match Cli::try_parse() {
        Ok(cli) => cli,
        Err(error) if error.use_stderr() && cli::asks_for_json(std::env::args_os().skip(1)) => {
            let failure = cli::usage_failure(&error);
            ui::error::print(&failure, true);
            return ExitCode::from(failure.exit_code());
        }
        Err(error) => {
            // `--help` and `--version` come this way too; a reader that has gone away is no failure.
            let _ = error.print();
            return ExitCode::from(u8::try_from(error.exit_code()).unwrap_or(failure::USAGE));
        }
    };
    let json = cli.global.json;
    cli.global.color.apply();
    log::start(cli.command.log_level());
    let result = session::Session::new(cli.global).and_then(|mut session| cli.command.run(&mut session));
    match result {
        Ok(()) => ExitCode::SUCCESS,
        Err(Failure::ReaderGone) => ExitCode::SUCCESS,
        Err(failure) => {
            ui::error::print(&failure, json);
            ExitCode::from(interrupt::exit_status().unwrap_or(failure.exit_code()))
        }
    }
}
