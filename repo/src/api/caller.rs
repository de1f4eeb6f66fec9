//! Who gave a command, and what of their world it takes: a request means the same, whoever answers it.

use std::ffi::OsString;
use std::fmt;
use std::path::{Path, PathBuf};

use neon_compute::SearchPath;
use neon_transport::{DialOptions, Password, PasswordSources};
use serde::{Deserialize, Serialize};

/// How long a connection to a server may take, and then how long the start-up may.
const PATIENCE: std::time::Duration = std::time::Duration::from_secs(20);

/// The world of whoever gave a command. It travels with the request; [`crate::world::caller`] reads it.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct Caller {
    /// Absolute path of the directory that the command was given in, where relative paths begin.
    pub directory: OsString,
    /// The time zone, as the variable `TZ` says it: a name, a POSIX rule, or a file after a colon.
    pub zone: String,
    /// `Name <mail>` of what is made, unless the command or the repository says another one.
    pub author: String,
    /// `LANG`, `LANGUAGE` and `LC_...`, as they are set: what the messages of a started Postgres are in.
    pub locale: Vec<(String, OsString)>,
    /// Directories to look for Postgres in, first to last.
    pub postgres: Vec<OsString>,
    /// The value of `PATH`.
    pub path: Option<OsString>,
    /// Who logs in at servers.
    pub login: Login,
}

/// Who logs in at servers, as libpq's variables say.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct Login {
    /// User, where an address names none.
    pub user: String,
    /// Password, where an address holds none.
    pub password: Option<Secret>,
    /// Absolute path of the password file.
    pub passfile: Option<OsString>,
}

/// A password on its way. `Debug` hides it, there is no `Display`.
#[derive(Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(transparent)]
pub struct Secret(String);

impl Secret {
    /// Returns the secret `text`.
    pub fn new(text: impl Into<String>) -> Secret {
        Secret(text.into())
    }

    fn password(&self) -> Password {
        Password::new(&*self.0)
    }
}

impl fmt::Debug for Secret {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Secret(hidden)")
    }
}

impl Caller {
    /// Returns the directory that the command was given in.
    pub fn directory(&self) -> &Path {
        Path::new(&self.directory)
    }

    /// Returns where to look for Postgres.
    pub fn search_path(&self) -> SearchPath {
        SearchPath {
            named: self.postgres.iter().map(PathBuf::from).collect(),
            path: self.path.clone(),
            only_named: false,
        }
    }

    /// Returns how to dial a server; `typed` is the password that was asked for.
    pub(crate) fn dial_options(&self, typed: Option<&Secret>) -> DialOptions {
        DialOptions {
            passwords: PasswordSources {
                typed: typed.map(Secret::password),
                environment: self.login.password.as_ref().map(Secret::password),
                passfile: self.login.passfile.as_ref().map(PathBuf::from),
            },
            user: self.login.user.clone(),
            patience: PATIENCE,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_password_is_not_shown() {
        let caller = Caller {
            login: Login {
                password: Some(Secret::new("hunter2")),
                ..Login::default()
            },
            ..Caller::default()
        };
        assert!(!format!("{caller:?}").contains("hunter2"));
    }
}
