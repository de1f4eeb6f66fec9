//! Who did what to what is served: lines of JSON, appended. The format is in `docs/format/audit.md`.

use std::fs::{self, File};
use std::io::{self, Write};
use std::os::unix::fs::{MetadataExt, OpenOptionsExt};
use std::path::{Path, PathBuf};
use std::sync::{Mutex, MutexGuard, PoisonError};

use neon_objects::owned::{self, Access, Owner};
use neon_repo::world::SharedWorld;
use neon_types::is_printable;
use serde::Serialize;

use crate::ration::Ration;

/// Refused logins that are written within ten seconds; the rest are counted.
const REFUSED_LOGINS: u32 = 20;
/// The same of refused commands.
const REFUSED_COMMANDS: u32 = 200;

/// Who is on the other side.
#[derive(Clone, Debug, Serialize)]
pub(crate) struct Who {
    /// Number of the session; absent before there is one.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub session: Option<u64>,
    /// The user; absent when it said no name that anybody can have.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub user: Option<String>,
    /// Address and port.
    pub address: String,
}

/// What happened.
#[derive(Clone, Debug, Serialize)]
#[serde(tag = "event", rename_all = "snake_case")]
pub(crate) enum Event {
    /// Somebody logged in.
    Login {
        /// What for.
        repository: String,
    },
    /// Somebody did not get in.
    LoginRefused {
        /// What for, if it was said.
        #[serde(skip_serializing_if = "Option::is_none")]
        repository: Option<String>,
        /// Why not: SQLSTATE and words.
        reason: String,
        /// Refused logins since the last such line that have no line.
        #[serde(skip_serializing_if = "is_zero")]
        not_written: u64,
    },
    /// A command was refused, or failed.
    Refused {
        /// Of which repository.
        repository: String,
        /// The command.
        command: String,
        /// Why.
        reason: String,
        /// Refused commands since the last such line that have no line.
        #[serde(skip_serializing_if = "is_zero")]
        not_written: u64,
    },
    /// A ref is about to move.
    Move {
        /// Of which repository.
        repository: String,
        /// The command.
        command: String,
        /// Its full name.
        #[serde(rename = "ref")]
        name: String,
        /// Where it was; null when it did not exist.
        old: Option<String>,
        /// Where it goes.
        new: String,
        /// As in the reflog.
        why: String,
        /// Bytes of parts that arrived for it.
        bytes: u64,
    },
}

fn is_zero(number: &u64) -> bool {
    *number == 0
}

#[derive(Serialize)]
struct Line<'a> {
    time: String,
    #[serde(flatten)]
    event: &'a Event,
    #[serde(flatten)]
    who: &'a Who,
}

/// An audit file. What cannot be written is said in the log, and only a move of a ref is not made then.
pub(crate) struct Audit {
    path: PathBuf,
    world: SharedWorld,
    state: Mutex<State>,
}

struct State {
    file: Option<File>,
    /// An earlier line may not have been written to its end.
    torn: bool,
    refused_logins: Ration,
    refused_commands: Ration,
}

impl Audit {
    /// Returns the audit at `path`, which is made with its first line.
    pub fn new(path: PathBuf, world: SharedWorld) -> Audit {
        Audit {
            path,
            world,
            state: Mutex::new(State {
                file: None,
                torn: false,
                refused_logins: Ration::new(REFUSED_LOGINS),
                refused_commands: Ration::new(REFUSED_COMMANDS),
            }),
        }
    }

    /// Returns the audit of a server root.
    pub fn of_root(root: &Path, world: SharedWorld) -> Audit {
        Audit::new(root.join(".neon-audit"), world)
    }

    /// Returns the audit of one repository.
    pub fn of_repository(neon_dir: &Path, world: SharedWorld) -> Audit {
        Audit::new(neon_dir.join("log").join("audit"), world)
    }

    /// Writes that somebody logged in.
    pub fn login(&self, who: &Who, repository: &str) {
        let repository = repository.to_owned();
        self.try_write(&mut self.state(), who, &Event::Login { repository });
    }

    /// Writes that somebody did not get in; false when there were too many of those, and this one is only counted.
    pub fn login_refused(&self, who: &Who, repository: Option<&str>, reason: String) -> bool {
        let now = self.world.now();
        let mut state = self.state();
        let Some(not_written) = state.refused_logins.take(now) else {
            return false;
        };
        let event = Event::LoginRefused {
            repository: repository.map(str::to_owned),
            reason,
            not_written,
        };
        self.try_write(&mut state, who, &event);
        true
    }

    /// Writes that a command was refused, unless there are too many of those.
    pub fn refused(&self, who: &Who, repository: &str, command: &str, reason: String) {
        let now = self.world.now();
        let mut state = self.state();
        let Some(not_written) = state.refused_commands.take(now) else {
            return;
        };
        let event = Event::Refused {
            repository: repository.to_owned(),
            command: command.to_owned(),
            reason,
            not_written,
        };
        self.try_write(&mut state, who, &event);
    }

    /// Writes, durably, that a ref is about to move. With an error it must not.
    pub fn moves(&self, who: &Who, event: &Event) -> io::Result<()> {
        let mut state = self.state();
        self.write(&mut state, who, event)?;
        let synced = state.file.as_ref().map_or(Ok(()), File::sync_data);
        if synced.is_err() {
            // What an fsync failed for may be gone, and the next one would not say so (law 10).
            state.file = None;
            state.torn = true;
        }
        synced
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn try_write(&self, state: &mut State, who: &Who, event: &Event) {
        if let Err(error) = self.write(state, who, event) {
            tracing::error!(path = %self.path.display(), %error, ?who, ?event, "a line of the audit cannot be written");
        }
    }

    fn write(&self, state: &mut State, who: &Who, event: &Event) -> io::Result<()> {
        let time = jiff::Timestamp::from_microsecond(self.world.now()).map_err(io::Error::other)?;
        let line = Line {
            time: time.to_string(),
            event,
            who,
        };
        let mut text = ascii(&serde_json::to_string(&line)?);
        text.push('\n');
        if std::mem::take(&mut state.torn) {
            text.insert(0, '\n');
        }
        let written = self.open(state).and_then(|file| file.write_all(text.as_bytes()));
        if written.is_err() {
            state.torn = true;
        }
        written
    }

    /// Returns the file of that name: another one when it was moved away meanwhile.
    fn open<'s>(&self, state: &'s mut State) -> io::Result<&'s mut File> {
        let inode = |metadata: fs::Metadata| (metadata.dev(), metadata.ino());
        if let Some(file) = &state.file {
            let there = fs::metadata(&self.path).ok().map(inode);
            if there != Some(inode(file.metadata()?)) {
                state.file = None;
            }
        }
        let file = match state.file.take() {
            Some(file) => file,
            None => {
                let file = File::options()
                    .append(true)
                    .create(true)
                    .mode(0o600)
                    .open(&self.path)?;
                owned::check(&file, &self.path, Owner::Us, Access::Secret).map_err(io::Error::other)?;
                file
            }
        };
        Ok(state.file.insert(file))
    }
}

/// Writes what is not printable, which JSON allows inside of texts, as JSON's escapes.
fn ascii(json: &str) -> String {
    let mut text = String::with_capacity(json.len());
    for c in json.chars() {
        if is_printable(c) {
            text.push(c);
        } else {
            for unit in c.encode_utf16(&mut [0; 2]) {
                text.push_str(&format!("\\u{unit:04x}"));
            }
        }
    }
    text
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::PermissionsExt;
    use std::sync::Arc;

    use neon_repo::world::RealWorld;
    use serde_json::Value;

    use super::*;

    fn who(user: &str) -> Who {
        Who {
            session: Some(7),
            user: Some(user.to_owned()),
            address: "127.0.0.1:5000".to_owned(),
        }
    }

    fn moves(command: &str) -> Event {
        Event::Move {
            repository: "shop".to_owned(),
            command: command.to_owned(),
            name: "refs/heads/main".to_owned(),
            old: None,
            new: "ab".repeat(32),
            why: "push".to_owned(),
            bytes: 5,
        }
    }

    fn lines(path: &Path) -> Vec<Value> {
        let text = fs::read_to_string(path).expect("read");
        text.lines()
            .filter(|line| !line.is_empty())
            .map(|line| serde_json::from_str(line).expect("JSON"))
            .collect()
    }

    fn at(path: &Path) -> Audit {
        Audit::new(path.to_owned(), Arc::new(RealWorld))
    }

    #[test]
    fn each_event_is_one_line_that_nobody_else_reads() {
        let dir = tempfile::tempdir().expect("a directory");
        let path = dir.path().join("audit");
        let audit = at(&path);
        audit.login(&who("ada"), "shop");
        audit
            .moves(&who("ada"), &moves("branch_push main 00"))
            .expect("written");
        audit.refused(&who("ada"), "shop", "branch_push x", "no".to_owned());
        let lines = lines(&path);
        let events: Vec<&str> = lines.iter().filter_map(|line| line["event"].as_str()).collect();
        assert_eq!(events, ["login", "move", "refused"]);
        assert_eq!(lines[1]["ref"], "refs/heads/main");
        assert_eq!(lines[1]["old"], Value::Null);
        assert_eq!(
            (&lines[1]["user"], &lines[1]["bytes"]),
            (&"ada".into(), &5.into())
        );
        assert!(
            lines
                .iter()
                .all(|line| line["time"].as_str().is_some_and(|time| time.ends_with('Z')))
        );
        let mode = fs::metadata(&path).expect("there").permissions().mode();
        assert_eq!(mode & 0o777, 0o600);
    }

    #[test]
    fn nothing_that_anybody_says_makes_another_line() {
        let dir = tempfile::tempdir().expect("a directory");
        let path = dir.path().join("audit");
        let evil = "x\n{\"event\":\"login\"}\r\u{1b}[2K\u{202e}\u{2028}\u{7f}\u{9b}\u{e0001}\"\\";
        at(&path).refused(&who(evil), evil, evil, evil.to_owned());
        let text = fs::read_to_string(&path).expect("read");
        assert_eq!(text.lines().count(), 1);
        assert!(text.trim_end().chars().all(is_printable), "{text:?}");
        let lines = lines(&path);
        assert_eq!(
            (&lines[0]["user"], &lines[0]["command"]),
            (&evil.into(), &evil.into())
        );
    }

    #[test]
    fn refused_logins_are_counted_when_there_are_too_many() {
        let dir = tempfile::tempdir().expect("a directory");
        let path = dir.path().join("audit");
        let audit = at(&path);
        for _ in 0..1000 {
            audit.login_refused(&who("eve"), Some("shop"), "28P01 wrong".to_owned());
        }
        let count = lines(&path).len();
        assert!((20..100).contains(&count), "{count}");
        // A login that succeeds is always told.
        audit.login(&who("eve"), "shop");
        assert_eq!(lines(&path).len(), count + 1);
    }

    #[test]
    fn a_line_that_was_cut_takes_no_other_along_and_a_file_that_is_moved_is_begun_anew() {
        let dir = tempfile::tempdir().expect("a directory");
        let path = dir.path().join("audit");
        let audit = at(&path);
        audit.login(&who("ada"), "shop");
        audit.state().torn = true;
        fs::write(&path, "{\"event\":\"mo").expect("as a full disk leaves it");
        audit.login(&who("ada"), "shop");
        let text = fs::read_to_string(&path).expect("read");
        let last: Value = serde_json::from_str(text.lines().last().expect("a line")).expect("JSON");
        assert_eq!(last["event"], "login");
        fs::rename(&path, dir.path().join("audit.1")).expect("moved");
        audit.login(&who("ada"), "shop");
        assert_eq!(lines(&path).len(), 1);
    }

    #[test]
    fn what_cannot_be_written_is_an_error_for_a_move_alone() {
        let dir = tempfile::tempdir().expect("a directory");
        let audit = at(&dir.path().join("nowhere/audit"));
        audit.login(&who("ada"), "shop");
        assert!(audit.moves(&who("ada"), &moves("branch_push main 00")).is_err());
        // A file that others may write says nothing.
        let path = dir.path().join("open");
        fs::write(&path, "").expect("written");
        fs::set_permissions(&path, fs::Permissions::from_mode(0o666)).expect("our own");
        let open = at(&path);
        assert!(open.moves(&who("ada"), &moves("branch_push main 00")).is_err());
        assert_eq!(fs::read_to_string(&path).expect("read"), "");
    }
}
