//! `neon log`

use std::io::{self, Write};

use neon_repo::api::{Commit, Request};

use super::answer;
use crate::failure::Failure;
use crate::session::Session;
use crate::ui::style;

/// List the commits from a revision back
#[derive(Debug, clap::Args)]
pub struct Args {
    /// Revision [default: HEAD's branch]
    #[arg(value_name = "REV")]
    pub rev: Option<String>,
    /// Show at most N commits
    #[arg(short = 'n', long, value_name = "N")]
    pub limit: Option<usize>,
}

/// Carries it out.
pub fn run(args: Args, session: &mut Session) -> Result<(), Failure> {
    let commits = answer!(
        session,
        Request::Log {
            rev: args.rev,
            limit: args.limit,
        },
        Commits
    );
    session.ui.show(&commits, |commits, out| {
        for (index, commit) in commits.iter().enumerate() {
            if index > 0 {
                writeln!(out)?;
            }
            print(commit, out)?;
        }
        Ok(())
    })
}

/// Writes what `log` and `show` both say of a commit.
pub(super) fn print(commit: &Commit, out: &mut dyn Write) -> io::Result<()> {
    write!(out, "{}commit {}{:#}", style::COMMIT, commit.id, style::COMMIT)?;
    if !commit.refs.is_empty() {
        write!(out, " ({})", commit.refs.join(", "))?;
    }
    writeln!(out)?;
    writeln!(
        out,
        "LSN:     {} on timeline {}",
        commit.lsn,
        commit.timeline.short()
    )?;
    writeln!(out, "Author:  {}", printable(&commit.author))?;
    writeln!(out, "Date:    {}", commit.time)?;
    if let Some(time) = &commit.last_transaction_time {
        writeln!(out, "Last tx: {time}")?;
    }
    writeln!(out)?;
    for line in commit.message.trim_end().lines() {
        writeln!(out, "    {}", printable(line))?;
    }
    Ok(())
}

/// A message may come from anywhere: what would move the cursor or recolor the terminal is shown, not obeyed.
fn printable(line: &str) -> String {
    let between_tabs: Vec<String> = line.split('\t').map(neon_types::on_one_line).collect();
    between_tabs.join("\t")
}

#[cfg(test)]
pub(super) mod tests {
    use neon_types::{CommitId, Lsn, ObjectId, TimelineId};

    use super::*;

    pub(in super::super) fn commit() -> Commit {
        Commit {
            id: CommitId(ObjectId::from_bytes([0xAB; 32])),
            timeline: TimelineId([0x22; 16]),
            lsn: Lsn(0x16B_3748),
            parents: vec![CommitId(ObjectId::from_bytes([0xCD; 32]))],
            refs: vec!["main".to_owned(), "v1.0".to_owned()],
            author: "Ada <ada@example.org>".to_owned(),
            time: "2026-01-01T00:00:00Z".to_owned(),
            message: "load the census\n\nfirst \u{1b}[31mhalf\n".to_owned(),
            pg_version_num: 170_011,
            system_id: 7,
            last_transaction_time: None,
            size: Some(32 << 20),
            path: vec!["1111@0/1000028".to_owned(), "2222@0/1600000".to_owned()],
            wal_segments: 2,
        }
    }

    #[test]
    fn a_commit_reads_as_in_git() {
        let mut text = anstream::StripStream::new(Vec::new());
        print(&commit(), &mut text).expect("written to memory");
        assert_eq!(
            String::from_utf8(text.into_inner()).expect("text"),
            format!(
                "commit {} (main, v1.0)\n\
                 LSN:     0/16B3748 on timeline 22222222\n\
                 Author:  Ada <ada@example.org>\n\
                 Date:    2026-01-01T00:00:00Z\n\
                 \n    load the census\n    \n    first \\u{{1b}}[31mhalf\n",
                "ab".repeat(32)
            )
        );
    }
}
