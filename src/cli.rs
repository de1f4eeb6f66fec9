//! The command line as clap sees it. Doc comments are the help and the man pages.

use std::ffi::OsString;
use std::path::PathBuf;

use clap::{Args, Parser, Subcommand, ValueEnum};

use crate::commands;
use crate::failure::Failure;
use crate::session::Session;

/// Git for PostgreSQL: branch, rewind, push and pull a stock Postgres cluster
///
/// A repository (.neon/) keeps the whole history of one Postgres cluster, byte for byte, with all its branches. Any branch, at any
/// moment of its past, runs in unmodified Postgres; branches are pushed to and pulled from other repositories.
///
/// The repository is found upward from the current directory, or named by -C or the environment variable NEON_DIR.
#[derive(Debug, Parser)]
#[command(
    name = "neon",
    version,
    max_term_width = 100,
    after_help = "Exit status: 0 done, 1 refused or failed, 2 wrong usage, 255 a defect of this program.",
    after_long_help = REVISIONS
)]
pub struct Cli {
    /// What every command takes.
    #[command(flatten)]
    pub global: Global,
    /// Which command.
    #[command(subcommand)]
    pub command: Command,
}

const REVISIONS: &str = "Revisions:\n  \
    main                      the head of a branch\n  \
    main@0/16B3748            a position: the branch at an LSN\n  \
    main@{2 hours ago}        the branch as it was, also main@{2026-01-01 12:00:00+00}; quote it for the shell\n  \
    main~3                    three commits before the head\n  \
    v1.0                      a tag\n  \
    3f9a12                    a commit, by 4 or more digits of its id\n  \
    cloud/main                a branch of an origin, as last fetched\n\n\
    Environment:\n  \
    NEON_DIR                  the repository, instead of searching upward\n  \
    NEON_HOME                 directory of the user's config.toml [~/.config/neon]\n  \
    NEON_PG_DIRS              where to look for Postgres first, separated by ':'\n  \
    NEON_LOG                  what to log on stderr, as 'debug' or 'neon_repo=trace'\n  \
    PGPASSWORD, PGPASSFILE    password for origins that hold none in their URI\n  \
    NO_COLOR                  no colors\n\n\
    Exit status: 0 done, 1 refused or failed, 2 wrong usage, 255 a defect of this program.";

/// Options of every command.
#[derive(Clone, Debug, Default, Args)]
pub struct Global {
    /// Run as if started in DIR
    #[arg(
        short = 'C',
        value_name = "DIR",
        global = true,
        help_heading = "Global options"
    )]
    pub chdir: Option<PathBuf>,
    /// Print results, and errors, as JSON
    #[arg(long, global = true, help_heading = "Global options")]
    pub json: bool,
    /// When to use colors
    #[arg(
        long,
        value_name = "WHEN",
        global = true,
        value_enum,
        default_value_t,
        help_heading = "Global options"
    )]
    pub color: Color,
}

/// When output is colored.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, ValueEnum)]
pub enum Color {
    /// On a terminal, unless NO_COLOR is set
    #[default]
    Auto,
    /// Always
    Always,
    /// Never
    Never,
}

impl Color {
    /// Makes it hold for everything that this program prints.
    pub fn apply(self) {
        match self {
            Color::Auto => anstream::ColorChoice::Auto,
            Color::Always => anstream::ColorChoice::Always,
            Color::Never => anstream::ColorChoice::Never,
        }
        .write_global();
    }
}

macro_rules! commands {
    ($($(#[$meta:meta])* $variant:ident => $module:ident),* $(,)?) => {
        /// One variant per command, one file each.
        #[derive(Debug, Subcommand)]
        pub enum Command {
            $(#[allow(missing_docs, reason = "the doc comment of the arguments is the help")] $(#[$meta])* $variant(commands::$module::Args),)*
        }

        impl Command {
            /// Carries the command out and prints its result.
            pub fn run(self, session: &mut Session) -> Result<(), Failure> {
                match self {
                    $(Command::$variant(args) => commands::$module::run(args, session),)*
                }
            }
        }
    };
}

commands! {
    Init => init,
    Clone => clone,
    Start => start,
    Stop => stop,
    Status => status,
    Psql => psql,
    Uri => uri,
    Branch => branch,
    Switch => switch,
    Tag => tag,
    Commit => commit,
    Log => log,
    Show => show,
    Export => export,
    Origin => origin,
    Push => push,
    Pull => pull,
    Fetch => fetch,
    Serve => serve,
    User => user,
    Fsck => fsck,
    Gc => gc,
    Retention => retention,
    Du => du,
    Layers => layers,
    Config => config,
    Completion => completion,
    Daemon => daemon,
    #[command(hide = true)]
    Dev => dev,
    #[command(hide = true)]
    Man => man,
}

impl Command {
    /// Returns what is logged when the user does not say: servers tell what they do, commands only what is wrong.
    pub fn log_level(&self) -> &'static str {
        match self {
            Command::Daemon(commands::daemon::Args { command: None }) | Command::Serve(_) => "info",
            _ => "warn",
        }
    }
}

/// Returns true when a command line that clap does not understand asks for JSON all the same.
pub fn asks_for_json(arguments: impl Iterator<Item = OsString>) -> bool {
    arguments
        .take_while(|argument| argument != "--")
        .any(|argument| argument == "--json")
}

/// Returns what clap says of a command line as an error of ours: its first sentence, then what it advises.
pub fn usage_failure(error: &clap::Error) -> Failure {
    let text = error.render().to_string();
    let mut lines = text.lines().map(str::trim).filter(|line| !line.is_empty());
    let first = lines.next().unwrap_or_default();
    let message = first.strip_prefix("error: ").unwrap_or(first);
    let hint: Vec<&str> = lines.collect();
    Failure::usage(message, hint.join("; "))
}

#[cfg(test)]
mod tests;
