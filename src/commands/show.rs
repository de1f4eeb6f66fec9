//! `neon show`

use std::io::{self, Write};

use neon_repo::api::{Commit, Request};
use neon_types::counted;

use super::{answer, log};
use crate::failure::Failure;
use crate::session::Session;
use crate::ui::size;

/// Show one commit or position in full
#[derive(Debug, clap::Args)]
pub struct Args {
    /// Revision
    #[arg(value_name = "REV", default_value = "HEAD", hide_default_value = true)]
    pub rev: String,
}

/// Carries it out.
pub fn run(args: Args, session: &mut Session) -> Result<(), Failure> {
    let commit = answer!(session, Request::Show { rev: args.rev }, Commit);
    session.ui.show(&*commit, print)
}

fn print(commit: &Commit, out: &mut dyn Write) -> io::Result<()> {
    log::print(commit, out)?;
    writeln!(out)?;
    for parent in &commit.parents {
        writeln!(out, "parent    {parent}")?;
    }
    for (index, fork) in commit.path.iter().enumerate() {
        writeln!(
            out,
            "{}  {fork}",
            if index == 0 { "root    " } else { "fork    " }
        )?;
    }
    writeln!(out, "postgres  {}", version(commit.pg_version_num))?;
    writeln!(out, "cluster   {}", commit.system_id)?;
    if let Some(bytes) = commit.size {
        writeln!(out, "size      {}", size::bytes(bytes))?;
    }
    writeln!(
        out,
        "digests   {} since the parent",
        counted(commit.wal_segments, "WAL segment")
    )
}

fn version(number: u32) -> String {
    format!("{}.{}", number / 10_000, number % 10_000)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_commit_in_full() {
        let mut text = anstream::StripStream::new(Vec::new());
        print(&super::super::log::tests::commit(), &mut text).expect("written to memory");
        let text = String::from_utf8(text.into_inner()).expect("text");
        let (_, details) = text.split_once("half\n").expect("the message");
        assert_eq!(
            details,
            format!(
                "\nparent    {}\nroot      1111@0/1000028\nfork      2222@0/1600000\npostgres  17.11\ncluster   7\n\
                 size      32.0 MiB\ndigests   2 WAL segments since the parent\n",
                "cd".repeat(32)
            )
        );
    }
}
