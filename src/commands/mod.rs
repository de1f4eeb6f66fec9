//! One file a command: arguments whose doc comments are the help, and a function that calls the repository and prints.

pub mod branch;
pub mod clone;
pub mod commit;
pub mod completion;
pub mod config;
pub mod daemon;
pub mod dev;
pub mod du;
pub mod export;
pub mod fetch;
pub mod fsck;
pub mod gc;
pub mod init;
pub mod layers;
pub mod log;
pub mod man;
pub mod origin;
pub mod psql;
pub mod pull;
pub mod push;
pub mod retention;
pub mod serve;
pub mod show;
pub mod start;
pub mod status;
pub mod stop;
pub mod switch;
pub mod tag;
mod transfer;
pub mod uri;
pub mod user;

/// Carries out a request and takes its answer apart: the answer of another kind is a defect.
macro_rules! answer {
    ($session:expr, $request:expr, $variant:ident) => {
        match $session.call($request)? {
            neon_repo::api::Response::$variant(answer) => answer,
            other => return Err($crate::failure::Failure::unexpected(&other)),
        }
    };
}
use answer;

use std::io::{self, Write};

use neon_repo::api::{Done, Moved};

use crate::failure::Failure;
use crate::session::Session;
use crate::ui::style;

/// Prints that something was done, a sentence a line.
fn show_done(session: &Session, done: &Done) -> Result<(), Failure> {
    session.ui.show(done, |done, out| print_lines(&done.notes, out))
}

fn print_lines(lines: &[String], out: &mut dyn Write) -> io::Result<()> {
    lines.iter().try_for_each(|line| writeln!(out, "{line}"))
}

/// Prints a ref that was made or moved: `branch x at 0/16B3748 (3f9a12…)`.
fn show_moved(session: &Session, what: &str, moved: &Moved) -> Result<(), Failure> {
    session.ui.notes(&moved.notes);
    session.ui.show(moved, |moved, out| {
        let id = moved.commit.short();
        writeln!(
            out,
            "{what} {} is at {} ({}{id}{:#})",
            moved.name,
            moved.lsn,
            style::COMMIT,
            style::COMMIT
        )
    })
}
