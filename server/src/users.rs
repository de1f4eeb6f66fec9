//! Who may push and pull: names with SCRAM-SHA-256 verifiers in a file that only its owner reads.
//!
//! One line a user: `name verifier`, sorted by name. The verifier is Postgres's own form, `SCRAM-SHA-256$4096:salt$stored:server`;
//! the password cannot be had from it. A change needs no restart, and ends the sessions of whom it takes away: whoever asks looks whether the file
//! is the one that was read last.
//!
//! Beside it, `NAME.secret` holds what all salts are made from: 64 hexadecimal digits, drawn once. Whoever changes the users locks that file.

use std::collections::BTreeMap;
use std::fs::{self, File};
use std::io::{Read, Write};
use std::os::unix::fs::{MetadataExt, OpenOptionsExt};
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, PoisonError};

use neon_objects::owned::{self, Access, Owner};
use neon_objects::{ObjectsError, durable};
use neon_repo::RepoError;
use neon_repo::api::ApiError;
use neon_transport::scram::{self, Secret};
use neon_transport::server::{Users, UsersError};
use neon_types::with_causes;

use crate::client::local;

/// Longest file that is read.
const MAX_FILE: u64 = 16 << 20;
/// Longest secret that is read.
const MAX_SECRET: u64 = 1 << 10;

/// Verifiers by name.
type Verifiers = BTreeMap<String, String>;

/// The users file of a server root, or of one repository.
#[derive(Clone, Debug)]
pub struct UserFile {
    path: PathBuf,
    last: Arc<Mutex<Option<Seen>>>,
}

/// What was read last, and of which file.
#[derive(Clone, Debug)]
struct Seen {
    stamp: Stamp,
    users: Arc<Verifiers>,
}

/// Tells one state of a file from another: whatever is done to it changes one of these.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Stamp {
    inode: (u64, u64),
    len: u64,
    modified: (i64, i64),
    changed: (i64, i64),
}

impl Stamp {
    fn of(metadata: &fs::Metadata) -> Stamp {
        Stamp {
            inode: (metadata.dev(), metadata.ino()),
            len: metadata.len(),
            modified: (metadata.mtime(), metadata.mtime_nsec()),
            changed: (metadata.ctime(), metadata.ctime_nsec()),
        }
    }
}

/// The right to change the users, for as long as it lives, and the secret that their salts are made from.
struct Turn {
    _lock: File,
    secret: Secret,
}

impl UserFile {
    fn at(path: PathBuf) -> UserFile {
        UserFile {
            path,
            last: Arc::default(),
        }
    }

    /// Returns the file of the repositories below `root`.
    pub fn of_root(root: &Path) -> UserFile {
        UserFile::at(root.join(".neon-users"))
    }

    /// Returns the file of one repository.
    pub fn of_repository(neon_dir: &Path) -> UserFile {
        UserFile::at(neon_dir.join("users"))
    }

    /// Returns the users, from memory when the file is still the one that was read last: that takes no descriptor.
    fn read(&self) -> Result<Arc<Verifiers>, ObjectsError> {
        let stamp = fs::metadata(&self.path).ok().map(|metadata| Stamp::of(&metadata));
        let mut last = self.last.lock().unwrap_or_else(PoisonError::into_inner);
        if let (Some(now), Some(seen)) = (&stamp, &*last)
            && *now == seen.stamp
        {
            return Ok(Arc::clone(&seen.users));
        }
        let text = owned::read(&self.path, Owner::Us, Access::Secret, MAX_FILE)?.unwrap_or_default();
        let users: Verifiers = text
            .lines()
            .filter_map(|line| line.split_once(' '))
            .map(|(name, verifier)| (name.to_owned(), verifier.to_owned()))
            .collect();
        let users = Arc::new(users);
        // The stamp was taken before: a change in between is read with the next look.
        *last = stamp.map(|stamp| Seen {
            stamp,
            users: Arc::clone(&users),
        });
        Ok(users)
    }

    fn write(&self, users: &Verifiers) -> Result<(), ApiError> {
        let text: String = users
            .iter()
            .map(|(name, verifier)| format!("{name} {verifier}\n"))
            .collect();
        durable::replace(&self.path, text.as_bytes(), 0o600)
            .map_err(|error| local("users", &format!("cannot write {}", self.path.display()), error))
    }

    fn load(&self) -> Result<Verifiers, ApiError> {
        let users = self.read().map_err(RepoError::from)?;
        Ok((*users).clone())
    }

    fn secret_path(&self) -> PathBuf {
        let mut path = self.path.clone().into_os_string();
        path.push(".secret");
        PathBuf::from(path)
    }

    /// Takes the turn of changing the users, when nobody else has it; draws the secret if there is none yet.
    fn turn(&self) -> Result<Turn, ApiError> {
        let path = self.secret_path();
        let failed =
            |error: &dyn std::fmt::Display| local("users", &format!("cannot use {}", path.display()), error);
        let mut file = File::options()
            .read(true)
            .append(true)
            .create(true)
            .mode(0o600)
            .open(&path)
            .map_err(|error| failed(&error))?;
        owned::check(&file, &path, Owner::Us, Access::Secret).map_err(RepoError::from)?;
        file.lock().map_err(|error| failed(&error))?;
        let mut text = String::new();
        (&file)
            .take(MAX_SECRET)
            .read_to_string(&mut text)
            .map_err(|error| failed(&error))?;
        let secret = match Secret::from_hex(text.trim_end()) {
            Some(secret) => secret,
            // New, or its writer died before it was used.
            None if text.len() < 65 => {
                let secret = Secret::draw().map_err(|error| failed(&error))?;
                file.set_len(0).map_err(|error| failed(&error))?;
                file.write_all(format!("{}\n", secret.to_hex()).as_bytes())
                    .and_then(|()| file.sync_all())
                    .map_err(|error| failed(&error))?;
                durable::sync_directory(path.parent().unwrap_or(Path::new(".")))
                    .map_err(|error| failed(&error))?;
                secret
            }
            None => {
                return Err(refused(
                    "bad_secret",
                    format!("{} does not hold 64 hexadecimal digits", path.display()),
                    "remove it: a new one is drawn, and a salt that somebody saw before tells then that a user was here",
                ));
            }
        };
        Ok(Turn { _lock: file, secret })
    }

    /// Returns what the salts of this server are made from.
    pub(crate) fn secret(&self) -> Result<Secret, ApiError> {
        self.turn().map(|turn| turn.secret)
    }

    /// Adds a user, or gives one another password.
    pub fn add(&self, name: &str, password: &str) -> Result<(), ApiError> {
        if !neon_transport::is_user_name(name) {
            return Err(refused(
                "bad_user",
                format!("'{}' cannot be the name of a user", neon_types::on_one_line(name)),
                "use 1 to 63 letters, digits, '.', '_', '-' and '@'",
            ));
        }
        if password.is_empty() {
            return Err(refused(
                "bad_password",
                "the password is empty".into(),
                "type one, or give it on standard input",
            ));
        }
        let turn = self.turn()?;
        let mut users = self.load()?;
        let salt = scram::salt_of(name, &turn.secret);
        let verifier = scram::make_verifier(password, &salt, scram::DEFAULT_ITERATIONS)
            .map_err(|error| local("password", "this password cannot be used", error))?;
        users.insert(name.to_owned(), verifier);
        self.write(&users)
    }

    /// Returns the names.
    pub fn list(&self) -> Result<Vec<String>, ApiError> {
        Ok(self.load()?.into_keys().collect())
    }

    /// Takes a user away.
    pub fn remove(&self, name: &str) -> Result<(), ApiError> {
        let _turn = self.turn()?;
        let mut users = self.load()?;
        if users.remove(name).is_none() {
            return Err(refused(
                "no_user",
                format!("there is no user '{}'", neon_types::on_one_line(name)),
                "'neon user list' lists them",
            ));
        }
        self.write(&users)
    }
}

impl Users for UserFile {
    fn verifier(&self, user: &str, _database: &str) -> Result<Option<String>, UsersError> {
        match self.read() {
            Ok(users) => Ok(users.get(user).cloned()),
            Err(error) => Err(UsersError(with_causes(&error))),
        }
    }
}

fn refused(code: &str, message: String, hint: &str) -> ApiError {
    ApiError {
        code: code.into(),
        message,
        caused_by: Vec::new(),
        hint: Some(hint.into()),
    }
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::PermissionsExt;

    use super::*;

    #[test]
    fn users_are_kept_without_their_passwords() {
        let root = tempfile::tempdir().expect("a directory");
        let file = UserFile::of_root(root.path());
        assert_eq!(file.list(), Ok(vec![]));
        file.add("me", "secret").expect("added");
        file.add("you@home", "other").expect("added");
        assert_eq!(file.list(), Ok(vec!["me".into(), "you@home".into()]));
        let path = root.path().join(".neon-users");
        let text = fs::read_to_string(&path).expect("a file");
        assert!(!text.contains("secret"), "the password is on disk");
        assert_eq!(
            fs::metadata(&path).expect("a file").permissions().mode() & 0o777,
            0o600
        );
        let known = file.verifier("me", "any").expect("read").expect("known");
        assert!(scram::is_verifier(&known));
        assert_eq!(file.verifier("them", "any"), Ok(None));
        file.remove("me").expect("removed");
        assert!(file.remove("me").is_err());
        for bad in ["", "a b", "a\nb", "a:b", &"x".repeat(64)] {
            assert!(file.add(bad, "secret").is_err(), "{bad:?} was taken");
        }
        assert!(file.add("me", "").is_err());
    }

    #[test]
    fn salts_are_the_same_whoever_comes_and_goes() {
        let root = tempfile::tempdir().expect("a directory");
        let salt = |file: &UserFile| {
            let verifier = file.verifier("me", "any").expect("read").expect("known");
            let salt = verifier.split(['$', ':']).nth(2).map(str::to_owned);
            (salt.expect("a salt"), verifier)
        };
        let file = UserFile::of_root(root.path());
        file.add("me", "secret").expect("added");
        let (first, verifier) = salt(&file);
        file.remove("me").expect("removed");
        // As another process does it.
        let again = UserFile::of_root(root.path());
        again.add("me", "another").expect("added");
        let (second, other) = salt(&file);
        assert_eq!(first, second);
        assert_ne!(verifier, other);
        assert!(file.stands("me", "any", &other) && !file.stands("me", "any", &verifier));
        let path = root.path().join(".neon-users.secret");
        let text = fs::read_to_string(&path).expect("kept");
        assert_eq!(text.len(), 65);
        assert_eq!(
            fs::metadata(&path).expect("kept").permissions().mode() & 0o777,
            0o600
        );
        assert_eq!(Secret::from_hex(text.trim_end()), again.secret().ok());
        fs::write(&path, "5e").expect("as a writer leaves it that died");
        assert!(file.secret().is_ok());
        fs::write(&path, "x".repeat(70)).expect("written");
        assert!(file.secret().is_err());
    }

    #[test]
    fn a_change_is_seen_at_once_and_a_file_that_others_may_read_is_not_used() {
        let root = tempfile::tempdir().expect("a directory");
        let (ours, theirs) = (UserFile::of_root(root.path()), UserFile::of_root(root.path()));
        for round in 0..20 {
            let name = format!("user{round}");
            theirs.add(&name, "secret").expect("added");
            assert!(ours.verifier(&name, "any").expect("read").is_some(), "{round}");
            theirs.remove(&name).expect("removed");
            assert_eq!(ours.verifier(&name, "any"), Ok(None), "{round}");
        }
        theirs.add("me", "secret").expect("added");
        assert!(ours.verifier("me", "any").expect("read").is_some());
        let path = root.path().join(".neon-users");
        for mode in [0o644, 0o660] {
            fs::set_permissions(&path, fs::Permissions::from_mode(mode)).expect("our own");
            assert!(ours.verifier("me", "any").is_err(), "{mode:o}");
            assert!(
                ours.stands("me", "any", "whatever"),
                "it is not known that it does not"
            );
        }
    }
}
