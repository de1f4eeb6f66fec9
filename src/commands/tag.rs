//! `neon tag`

use std::io::{self, Write};

use neon_repo::api::{Request, Tag};

use super::{answer, show_done, show_moved};
use crate::failure::Failure;
use crate::session::Session;
use crate::ui::style;
use crate::ui::table::{self, Cell};

/// List tags, make one at any position, delete one
#[derive(Debug, clap::Args)]
pub struct Args {
    /// Name of the new tag
    #[arg(value_name = "NAME")]
    pub name: Option<String>,
    /// What it names: any revision [default: HEAD's branch]
    #[arg(value_name = "REV")]
    pub rev: Option<String>,
    /// Delete a tag
    #[arg(short, long, value_name = "NAME", conflicts_with_all = ["name", "rev"])]
    pub delete: Option<String>,
}

/// Carries it out.
pub fn run(args: Args, session: &mut Session) -> Result<(), Failure> {
    match (args.name, args.delete) {
        (Some(name), _) => {
            let moved = answer!(session, Request::TagCreate { name, rev: args.rev }, Moved);
            show_moved(session, "tag", &moved)
        }
        (None, Some(name)) => {
            let done = answer!(session, Request::TagDelete { name }, Done);
            show_done(session, &done)
        }
        (None, None) => {
            let tags = answer!(session, Request::TagList, Tags);
            session.ui.show(&tags, |tags, out| print(tags, out))
        }
    }
}

fn print(tags: &[Tag], out: &mut dyn Write) -> io::Result<()> {
    if tags.is_empty() {
        return Ok(());
    }
    let rows: Vec<Vec<Cell>> = tags
        .iter()
        .map(|tag| {
            vec![
                tag.name.as_str().into(),
                tag.lsn.to_string().into(),
                Cell::styled(tag.commit.short(), style::COMMIT),
                tag.message.lines().next().unwrap_or_default().into(),
            ]
        })
        .collect();
    table::write(out, &["TAG", "LSN", "COMMIT", "MESSAGE"], &rows)
}
