//! Who may push and pull: names with SCRAM-SHA-256 verifiers in a file that only its owner reads.
//!
//! One line a user: `name verifier`, sorted by name. The verifier is Postgres's own form, `SCRAM-SHA-256$4096:salt$stored:server`;
//! the password cannot be had from it. The file is read anew for each connection, so that a change needs no restart.

use std::collections::BTreeMap;
use std::fs;
use std::io;
use std::path::{Path, PathBuf};

use neon_objects::durable;
use neon_repo::api::ApiError;
use neon_transport::scram;
use neon_transport::server::Users;

use crate::client::local;

/// Longest name of a user, as of a Postgres role.
const MAX_NAME: usize = 63;
/// Longest file that is read.
const MAX_FILE: u64 = 16 << 20;

/// The users file of a server root, or of one repository.
#[derive(Clone, Debug)]
pub struct UserFile {
    path: PathBuf,
}

impl UserFile {
    /// Returns the file of the repositories below `root`.
    pub fn of_root(root: &Path) -> UserFile {
        UserFile {
            path: root.join(".neon-users"),
        }
    }

    /// Returns the file of one repository.
    pub fn of_repository(neon_dir: &Path) -> UserFile {
        UserFile {
            path: neon_dir.join("users"),
        }
    }

    fn read(&self) -> io::Result<BTreeMap<String, String>> {
        match fs::metadata(&self.path) {
            Ok(metadata) if metadata.len() > MAX_FILE => {
                return Err(io::Error::other("the file of users is too long"));
            }
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(BTreeMap::new()),
            _ => {}
        }
        let text = fs::read_to_string(&self.path)?;
        Ok(text
            .lines()
            .filter_map(|line| line.split_once(' '))
            .map(|(name, verifier)| (name.to_owned(), verifier.to_owned()))
            .collect())
    }

    fn write(&self, users: &BTreeMap<String, String>) -> Result<(), ApiError> {
        let text: String = users
            .iter()
            .map(|(name, verifier)| format!("{name} {verifier}\n"))
            .collect();
        durable::replace(&self.path, text.as_bytes(), 0o600)
            .map_err(|error| local("users", &format!("cannot write {}", self.path.display()), error))
    }

    fn load(&self) -> Result<BTreeMap<String, String>, ApiError> {
        self.read()
            .map_err(|error| local("users", &format!("cannot read {}", self.path.display()), error))
    }

    /// Adds a user, or gives one another password.
    pub fn add(&self, name: &str, password: &str) -> Result<(), ApiError> {
        if name.is_empty()
            || name.len() > MAX_NAME
            || !name
                .bytes()
                .all(|b| b.is_ascii_alphanumeric() || b"._-@".contains(&b))
        {
            return Err(refused(
                "bad_user",
                format!("'{name}' cannot be the name of a user"),
                "use letters, digits, '.', '_', '-' and '@'",
            ));
        }
        if password.is_empty() {
            return Err(refused(
                "bad_password",
                "the password is empty".into(),
                "type one, or give it on standard input",
            ));
        }
        let mut users = self.load()?;
        let salt = scram::random_salt().map_err(|error| local("random", "cannot draw a salt", error))?;
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
        let mut users = self.load()?;
        if users.remove(name).is_none() {
            return Err(refused(
                "no_user",
                format!("there is no user '{name}'"),
                "'neon user list' lists them",
            ));
        }
        self.write(&users)
    }
}

impl Users for UserFile {
    fn verifier(&self, user: &str, _database: &str) -> Option<String> {
        match self.read() {
            Ok(users) => users.get(user).cloned(),
            Err(error) => {
                tracing::error!(path = %self.path.display(), %error, "cannot read the users");
                None
            }
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
        assert!(
            file.verifier("me", "any")
                .is_some_and(|verifier| scram::is_verifier(&verifier))
        );
        assert_eq!(file.verifier("them", "any"), None);
        file.remove("me").expect("removed");
        assert!(file.remove("me").is_err());
        for bad in ["", "a b", "a\nb", "a:b", &"x".repeat(64)] {
            assert!(file.add(bad, "secret").is_err(), "{bad:?} was taken");
        }
        assert!(file.add("me", "").is_err());
    }
}
