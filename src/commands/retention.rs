//! `neon retention`

use std::io::{self, Write};

use neon_repo::api::{Request, Retain, RetentionRow};

use super::answer;
use crate::failure::Failure;
use crate::session::Session;
use crate::ui::size;
use crate::ui::table::{self, Cell};

/// Show or set how long history and WAL are kept
///
/// Without options: what holds for each branch, and from which LSN on it can be read. With a branch, for that branch; without, for
/// every branch that says nothing else.
///
/// History that was received longer ago than --keep cannot be read any more once 'neon gc', or the daemon, has dropped it, but for what is
/// pinned: heads of branches, tags and fetched branches, positions where branches part, endpoints. Branches say how long the history
/// that leads to them is kept; where only tags and fetched branches lead, the repository says it. Commits stay, and 'neon log' shows
/// them. Layers of which only the end can be read are written anew, and the disk is given back after the grace of 'neon gc'. A
/// repository that has none of a branch whose history was dropped cannot be given it any more.
///
/// Raw WAL serves exact transfers and 'neon dev wal'; it is kept up to --keep-wal below the end of a branch, beyond what is not in
/// layers yet.
#[derive(Debug, clap::Args)]
#[command(after_help = "Examples:\n  \
    neon retention --keep 30d\n  \
    neon retention main --keep 7d --keep-wal 50GB\n  \
    neon retention main --keep default")]
pub struct Args {
    /// The branch [default: every branch that says nothing else]
    #[arg(value_name = "BRANCH")]
    pub branch: Option<String>,
    /// How long history can be read: 'forever', as 36h, 7d or 2w, or 'default'
    #[arg(long, value_name = "TIME")]
    pub keep: Option<String>,
    /// How much raw WAL is kept, as 512MB or 50GB, or 'default'
    #[arg(long, value_name = "SIZE")]
    pub keep_wal: Option<String>,
}

/// Carries it out.
pub fn run(args: Args, session: &mut Session) -> Result<(), Failure> {
    let request = Request::Retention(Retain {
        branch: args.branch,
        keep: args.keep,
        keep_wal: args.keep_wal,
    });
    let rows = answer!(session, request, Retention);
    session.ui.show(&rows, |rows, out| print(rows, out))
}

fn print(rows: &[RetentionRow], out: &mut dyn Write) -> io::Result<()> {
    let said = |value: String, own: bool| match own {
        true => value,
        false => format!("({value})"),
    };
    let cells: Vec<Vec<Cell>> = rows
        .iter()
        .map(|row| {
            let of_repository = row.branch.is_none();
            vec![
                row.branch.as_deref().unwrap_or("(every branch)").into(),
                said(row.keep.clone(), row.own_keep || of_repository).into(),
                said(size::bytes(row.keep_wal), row.own_keep_wal || of_repository).into(),
                row.readable_from
                    .map(|lsn| lsn.to_string())
                    .unwrap_or_default()
                    .into(),
            ]
        })
        .collect();
    table::write(out, &["BRANCH", "KEEP", "WAL", "READABLE FROM"], &cells)
}

#[cfg(test)]
mod tests {
    use neon_types::Lsn;

    use super::*;

    #[test]
    fn what_is_not_said_of_a_branch_itself_is_in_brackets() {
        let rows = [
            RetentionRow {
                branch: None,
                keep: "forever".to_owned(),
                keep_wal: 256 << 20,
                own_keep: false,
                own_keep_wal: false,
                readable_from: None,
            },
            RetentionRow {
                branch: Some("main".to_owned()),
                keep: "7d".to_owned(),
                keep_wal: 256 << 20,
                own_keep: true,
                own_keep_wal: false,
                readable_from: Some(Lsn(0x16B_3748)),
            },
        ];
        let mut text = anstream::StripStream::new(Vec::new());
        print(&rows, &mut text).expect("written to memory");
        assert_eq!(
            String::from_utf8(text.into_inner()).expect("text"),
            "BRANCH          KEEP     WAL          READABLE FROM\n\
             (every branch)  forever  256.0 MiB\n\
             main            7d       (256.0 MiB)  0/16B3748\n"
        );
    }
}
