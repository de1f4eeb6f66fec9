//! The commands that open a conversation: `branch_push main 8f3c...`.

use std::fmt;
use std::str::FromStr;

use neon_types::{RefNameError, TimelineId, is_safe_name, is_valid_name, on_one_line};

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
        let unknown = || RemoteError::Command(on_one_line(&text.chars().take(100).collect::<String>()));
        let bad = |name: &str| RemoteError::Name(RefNameError(name.to_owned()));
        // What a push may make is what `neon branch` may make; what is there already can be read.
        let made = |name: &str| {
            is_valid_name(name)
                .then(|| name.to_owned())
                .ok_or_else(|| bad(name))
        };
        let read = |name: &str| {
            is_safe_name(name)
                .then(|| name.to_owned())
                .ok_or_else(|| bad(name))
        };
        let timeline = |id: &str| id.parse::<TimelineId>().map_err(|_| unknown());
        let words: Vec<&str> = text.trim_end_matches(';').split(' ').take(4).collect();
        match words.as_slice() {
            ["branch_push", name, id] => Ok(Command::Push {
                branch: made(name)?,
                timeline: timeline(id)?,
            }),
            ["branch_pull", name, "-"] => Ok(Command::Pull {
                branch: read(name)?,
                timeline: None,
            }),
            ["branch_pull", name, id] => Ok(Command::Pull {
                branch: read(name)?,
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
            "branch_push main zz",
            "list_branches x",
            "BRANCH_PUSH main 00",
            "select 1",
            "branch_push a  main -",
        ] {
            assert!(
                matches!(bad.parse::<Command>(), Err(RemoteError::Command(_))),
                "{bad:?} was taken"
            );
        }
        let shown = "select\n\u{1b}[2K".parse::<Command>().expect_err("no command");
        assert_eq!(shown.to_string(), "unknown command 'select\\n\\u{1b}[2K'");
    }

    #[test]
    fn a_name_that_cannot_be_is_refused_by_name() {
        let id = TimelineId([0xab; 16]);
        for name in ["../x", "-d", "x.lock", "HEAD", "é", "a//b", ""] {
            for command in [
                format!("branch_push {name} {id}"),
                format!("branch_pull {name} -"),
            ] {
                let error = command.parse::<Command>().expect_err("no name");
                assert!(
                    matches!(&error, RemoteError::Name(bad) if bad.0 == name),
                    "{error:?}"
                );
                assert!(
                    error
                        .to_string()
                        .starts_with(&format!("'{name}' is not a valid name"))
                );
            }
        }
        // Such a branch is not made, and one that is there can be had.
        for name in ["refs/heads/x", "heads/x", "tags/x", "origins/x"] {
            let push = format!("branch_push {name} {id}").parse::<Command>();
            assert!(matches!(push, Err(RemoteError::Name(_))), "{push:?}");
            assert!(format!("branch_pull {name} -").parse::<Command>().is_ok());
        }
    }
}
