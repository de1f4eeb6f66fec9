//! `neon branch`

use std::io::{self, Write};

use neon_repo::api::{Branch, Request};

use super::{answer, show_done, show_moved, status};
use crate::failure::Failure;
use crate::session::Session;
use crate::ui::table::{self, Cell};
use crate::ui::tree::tree;
use crate::ui::{size, style};

/// List branches, make one at any position, delete or rename one
///
/// Without a name: the branches as a tree, with position, endpoint, size and where they go to. A new branch costs nothing,
/// whatever its size: it shares all history with what it left.
#[derive(Debug, clap::Args)]
#[command(after_help = "Examples:\n  \
    neon branch try 'main@{10 minutes ago}'\n  \
    neon branch -m try kept\n  \
    neon branch -d kept")]
pub struct Args {
    /// Name of the new branch
    #[arg(value_name = "NAME")]
    pub name: Option<String>,
    /// Where it begins: any revision [default: HEAD's branch]
    #[arg(value_name = "REV")]
    pub rev: Option<String>,
    /// Delete a branch whose commits another ref or an origin holds too
    #[arg(short, long, value_name = "NAME", conflicts_with_all = ["name", "rev", "force_delete", "rename"])]
    pub delete: Option<String>,
    /// Delete a branch, whatever becomes of its commits
    #[arg(short = 'D', long, value_name = "NAME", conflicts_with_all = ["name", "rev", "rename"])]
    pub force_delete: Option<String>,
    /// Rename a branch
    #[arg(short = 'm', long = "move", num_args = 2, value_names = ["OLD", "NEW"], conflicts_with_all = ["name", "rev"])]
    pub rename: Option<Vec<String>>,
}

/// Carries it out.
pub fn run(args: Args, session: &mut Session) -> Result<(), Failure> {
    match request(args) {
        Request::BranchList => {
            let branches = answer!(session, Request::BranchList, Branches);
            session.ui.show(&branches, |branches, out| print(branches, out))
        }
        create @ Request::BranchCreate { .. } => {
            let moved = answer!(session, create, Moved);
            show_moved(session, "branch", &moved)
        }
        other => {
            let done = answer!(session, other, Done);
            show_done(session, &done)
        }
    }
}

fn request(args: Args) -> Request {
    let delete = |name, force| Request::BranchDelete { name, force };
    match (args.name, args.delete, args.force_delete, args.rename.as_deref()) {
        (Some(name), ..) => Request::BranchCreate { name, rev: args.rev },
        (_, Some(name), ..) => delete(name, false),
        (_, _, Some(name), _) => delete(name, true),
        (_, _, _, Some([old, new])) => Request::BranchRename {
            old: old.clone(),
            new: new.clone(),
        },
        _ => Request::BranchList,
    }
}

fn print(branches: &[Branch], out: &mut dyn Write) -> io::Result<()> {
    if branches.is_empty() {
        return Ok(());
    }
    let rows: Vec<Vec<Cell>> = tree(branches)
        .into_iter()
        .map(|(lines, branch)| row(&lines, branch))
        .collect();
    table::write(
        out,
        &["  BRANCH", "LSN", "COMMIT", "ENDPOINT", "SIZE", "ORIGIN"],
        &rows,
    )?;
    print_damage(branches, out)
}

/// Says what is wrong with branches that cannot be read.
pub(super) fn print_damage(branches: &[Branch], out: &mut dyn Write) -> io::Result<()> {
    for branch in branches {
        if let Some(damage) = &branch.damaged {
            writeln!(
                out,
                "\n{} is damaged: {damage}\n'neon fsck' says more; 'neon fsck --repair' asks origins; 'neon branch -D {}' removes it",
                branch.name, branch.name
            )?;
        }
    }
    Ok(())
}

fn row(lines: &str, branch: &Branch) -> Vec<Cell> {
    let name = if branch.head {
        Cell::styled(format!("* {lines}{}", branch.name), style::GOOD)
    } else {
        format!("  {lines}{}", branch.name).into()
    };
    let endpoint = match (branch.endpoint.as_deref(), branch.port) {
        (Some("running"), Some(port)) => Cell::styled(format!("running :{port}"), style::GOOD),
        (Some(state), _) => status::state(state),
        (None, _) if branch.damaged.is_some() => status::state("damaged"),
        (None, _) => Cell::default(),
    };
    let origin = match (&branch.upstream, &branch.tracking) {
        (Some(upstream), Some(tracking)) => format!("{upstream} ({tracking})"),
        (Some(upstream), None) => upstream.clone(),
        (None, _) => String::new(),
    };
    vec![
        name,
        branch.lsn.to_string().into(),
        Cell::styled(branch.commit.short(), style::COMMIT),
        endpoint,
        size::bytes(branch.size).into(),
        origin.into(),
    ]
}

#[cfg(test)]
pub(crate) mod tests {
    use neon_types::{CommitId, Lsn, ObjectId, TimelineId};

    use super::*;

    /// A branch to vary.
    pub(crate) fn branch(name: &str) -> Branch {
        Branch {
            timeline: TimelineId([0x22; 16]),
            lsn: Lsn(0x16B_3748),
            ..Branch::named(name, CommitId(ObjectId::from_bytes([0x11; 32])), false)
        }
    }

    #[test]
    fn branches_are_a_tree_with_what_matters_beside() {
        let branches = [
            Branch {
                head: true,
                endpoint: Some("running".to_owned()),
                port: Some(55432),
                size: 32 << 20,
                upstream: Some("cloud/main".to_owned()),
                tracking: Some("ahead".to_owned()),
                ..branch("main")
            },
            Branch {
                parent: Some("main".to_owned()),
                lsn: Lsn(0x1_0000_0028),
                size: 33 << 20,
                ..branch("feature/one")
            },
        ];
        let mut text = anstream::StripStream::new(Vec::new());
        print(&branches, &mut text).expect("written to memory");
        assert_eq!(
            String::from_utf8(text.into_inner()).expect("text"),
            "  BRANCH          LSN        COMMIT        ENDPOINT        SIZE      ORIGIN\n\
             * main            0/16B3748  111111111111  running :55432  32.0 MiB  cloud/main (ahead)\n  \
               └─ feature/one  1/28       111111111111                  33.0 MiB\n"
        );
    }
}
