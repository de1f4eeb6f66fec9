//! The commands that open a conversation: `branch_push main 8f3c...`.

use std::fmt;
use std::str::FromStr;

use neon_types::{TimelineId, is_valid_name};

use crate::RemoteError;

/// What a client dials for.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Command {
    /// `branch_push BRANCH TIMELINE`: the server receives.
    Push {
        /// Name of the branch at the server.
        branch: String,
        /// The timeline of the head that is pushed.
        timeline: TimelineId,
    },
    /// `branch_pull BRANCH TIMELINE`: the server sends.
    Pull {
        /// Name of the branch at the server.
        branch: String,
        /// The timeline of the head that the client has, none (`-`) without one.
        timeline: Option<TimelineId>,
    },
    /// `list_branches`: the server sends, any branch.
    ListBranches,
    /// `fetch_objects`: the server sends objects by their names.
    FetchObjects,
}

impl fmt::Display for Command {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Command::Push { branch, timeline } => write!(f, "branch_push {branch} {timeline}"),
            Command::Pull {
                branch,
                timeline: Some(timeline),
            } => write!(f, "branch_pull {branch} {timeline}"),
            Command::Pull {
                branch,
                timeline: None,
            } => write!(f, "branch_pull {branch} -"),
            Command::ListBranches => write!(f, "list_branches"),
            Command::FetchObjects => write!(f, "fetch_objects"),
        }
    }
}

impl FromStr for Command {
    type Err = RemoteError;

    fn from_str(text: &str) -> Result<Command, RemoteError> {
        let unknown = || RemoteError::Command(text.chars().take(100).filter(|c| !c.is_control()).collect());
        let branch = |name: &str| is_valid_name(name).then(|| name.to_owned()).ok_or_else(unknown);
        let timeline = |id: &str| id.parse::<TimelineId>().map_err(|_| unknown());
        let words: Vec<&str> = text.trim_end_matches(';').split(' ').take(4).collect();
        match words.as_slice() {
            ["branch_push", name, id] => Ok(Command::Push {
                branch: branch(name)?,
                timeline: timeline(id)?,
            }),
            ["branch_pull", name, "-"] => Ok(Command::Pull {
                branch: branch(name)?,
                timeline: None,
            }),
            ["branch_pull", name, id] => Ok(Command::Pull {
                branch: branch(name)?,
                timeline: Some(timeline(id)?),
            }),
            ["list_branches"] => Ok(Command::ListBranches),
            ["fetch_objects"] => Ok(Command::FetchObjects),
            _ => Err(unknown()),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn commands_print_and_parse_back() {
        let timeline = TimelineId([0xab; 16]);
        for command in [
            Command::Push {
                branch: "main".to_owned(),
                timeline,
            },
            Command::Pull {
                branch: "a/b".to_owned(),
                timeline: Some(timeline),
            },
            Command::Pull {
                branch: "main".to_owned(),
                timeline: None,
            },
            Command::ListBranches,
            Command::FetchObjects,
        ] {
            assert_eq!(command.to_string().parse::<Command>().expect("parses"), command);
        }
    }

    #[test]
    fn anything_else_is_named_and_refused() {
        for bad in [
            "",
            "branch_push",
            "branch_push main",
            "branch_push ../x 00",
            "branch_push main zz",
            "list_branches x",
            "BRANCH_PUSH main 00",
            "branch_pull -d -",
            "select 1",
            "branch_push  main -",
        ] {
            assert!(
                matches!(bad.parse::<Command>(), Err(RemoteError::Command(_))),
                "{bad:?} was taken"
            );
        }
    }
}
