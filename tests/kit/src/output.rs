//! What a program left behind: status, stdout, stderr, and what tests ask of them.

use std::io::Write;
use std::process::{Command, ExitStatus, Stdio};

use serde_json::Value;

/// A program that has ended.
#[derive(Debug)]
pub struct Output {
    line: String,
    /// How it ended.
    pub status: ExitStatus,
    /// What it printed.
    pub stdout: String,
    /// What it said beside.
    pub stderr: String,
}

/// A refusal as a user sees it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Refused {
    /// After `error:`.
    pub message: String,
    /// After `caused by:`.
    pub caused_by: Vec<String>,
    /// After `hint:`; empty when there is none.
    pub hint: String,
}

impl Output {
    /// Runs a command to its end.
    pub fn of(command: &mut Command) -> Output {
        let line = format!("{command:?}");
        let output = command.output().unwrap_or_else(|error| panic!("{line}: {error}"));
        Output {
            line,
            status: output.status,
            stdout: String::from_utf8_lossy(&output.stdout).into_owned(),
            stderr: String::from_utf8_lossy(&output.stderr).into_owned(),
        }
    }

    /// Runs a command that reads `input`.
    pub fn fed(command: &mut Command, input: &str) -> Output {
        let line = format!("{command:?}\n{input}");
        command
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .stderr(Stdio::piped());
        let mut child = command.spawn().unwrap_or_else(|error| panic!("{line}: {error}"));
        let mut stdin = child.stdin.take().expect("a pipe");
        let output = std::thread::scope(|scope| {
            // Beside the reading of what comes out, or both sides could wait. It may end before it has read all.
            scope.spawn(move || stdin.write_all(input.as_bytes()));
            child
                .wait_with_output()
                .unwrap_or_else(|error| panic!("{line}: {error}"))
        });
        Output {
            line,
            status: output.status,
            stdout: String::from_utf8_lossy(&output.stdout).into_owned(),
            stderr: String::from_utf8_lossy(&output.stderr).into_owned(),
        }
    }

    /// Returns the exit code; none when a signal ended it.
    pub fn code(&self) -> Option<i32> {
        self.status.code()
    }

    /// Returns stdout without the line break at its end.
    ///
    /// # Panics
    /// When it failed, with all that it said.
    #[track_caller]
    pub fn success(&self) -> String {
        assert!(self.status.success(), "{}", self.describe());
        self.stdout.trim_end_matches('\n').to_owned()
    }

    /// Returns stdout as JSON.
    #[track_caller]
    pub fn json(&self) -> Value {
        serde_json::from_str(&self.success())
            .unwrap_or_else(|error| panic!("stdout is not JSON ({error}): {}", self.describe()))
    }

    /// Returns what it said on being refused: exit code 1, nothing on stdout, `error:` and `hint:` on stderr.
    #[track_caller]
    pub fn refused(&self) -> Refused {
        assert_eq!(self.code(), Some(1), "{}", self.describe());
        assert_eq!(self.stdout, "", "{}", self.describe());
        let refused = Refused::read(&self.stderr)
            .unwrap_or_else(|| panic!("no 'error:' on stderr: {}", self.describe()));
        assert_ne!(refused.hint, "", "no 'hint:' on stderr: {}", self.describe());
        refused
    }

    /// Returns everything, for a person who has to find out why.
    pub fn describe(&self) -> String {
        format!(
            "{}\n{}\n--- stdout\n{}--- stderr\n{}",
            self.line, self.status, self.stdout, self.stderr
        )
    }
}

impl Refused {
    fn read(stderr: &str) -> Option<Refused> {
        let (_, text) = stderr.split_once("error: ")?;
        let (text, hint) = match text.split_once("\nhint: ") {
            Some((text, hint)) => (text, hint.trim_end()),
            None => (text.trim_end(), ""),
        };
        let mut parts = text.split("\ncaused by: ");
        Some(Refused {
            message: parts.next()?.to_owned(),
            caused_by: parts.map(str::to_owned).collect(),
            hint: hint.to_owned(),
        })
    }

    /// Returns true when message, causes or hint contain the words.
    pub fn says(&self, words: &str) -> bool {
        self.message.contains(words)
            || self.hint.contains(words)
            || self.caused_by.iter().any(|cause| cause.contains(words))
    }
}

/// Asserts that two texts are equal, and shows the first lines that are not.
#[track_caller]
pub fn assert_same(left: &str, right: &str, what: &str) {
    if left == right {
        return;
    }
    let cut = |line: Option<&str>| line.map(|line| line.chars().take(300).collect::<String>());
    let (mut lefts, mut rights) = (left.lines(), right.lines());
    let mut differences = Vec::new();
    for number in 1.. {
        let (one, other) = (lefts.next(), rights.next());
        if (one.is_none() && other.is_none()) || differences.len() == 5 {
            break;
        }
        if one != other {
            differences.push(format!("line {number}:\n  {:?}\n  {:?}", cut(one), cut(other)));
        }
    }
    panic!("{what} differ:\n{}", differences.join("\n"));
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_refusal_is_read_as_it_is_printed() {
        let refused =
            Refused::read("note: x\nerror: no a\ncaused by: b\nb2\ncaused by: c\nhint: try d\nor e\n");
        assert_eq!(
            refused,
            Some(Refused {
                message: "no a".to_owned(),
                caused_by: vec!["b\nb2".to_owned(), "c".to_owned()],
                hint: "try d\nor e".to_owned(),
            })
        );
        assert_eq!(Refused::read("all is well"), None);
    }
}
