//! Where a password comes from, and that it is never printed.

use std::fmt;
use std::path::PathBuf;

use crate::passfile::{self, PassfileError};

/// A password. `Debug` hides it; there is no `Display`.
#[derive(Clone, PartialEq, Eq)]
pub struct Password(String);

impl Password {
    /// Returns the password `text`.
    pub fn new(text: impl Into<String>) -> Password {
        Password(text.into())
    }

    /// Returns the text itself, for what must be handed to somebody.
    pub fn reveal(&self) -> &str {
        &self.0
    }
}

impl fmt::Debug for Password {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Password(hidden)")
    }
}

/// Which place a password was found in.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum PasswordOrigin {
    /// Somebody typed it when it was asked for.
    Typed,
    /// The URI.
    Uri,
    /// The environment variable `PGPASSWORD`.
    Environment,
    /// The password file.
    Passfile(PathBuf),
    /// The program itself.
    Given,
}

impl fmt::Display for PasswordOrigin {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            PasswordOrigin::Typed => f.write_str("was typed"),
            PasswordOrigin::Uri => f.write_str("came from the URI"),
            PasswordOrigin::Given => f.write_str("came from the configuration"),
            PasswordOrigin::Environment => f.write_str("came from PGPASSWORD"),
            PasswordOrigin::Passfile(path) => write!(f, "came from {}", path.display()),
        }
    }
}

/// The places outside the URI where a password is looked for, in this order. What was typed comes before the URI, too.
#[derive(Clone, Debug, Default)]
pub struct PasswordSources {
    /// What was typed when a password was asked for.
    pub typed: Option<Password>,
    /// The value of `PGPASSWORD`.
    pub environment: Option<Password>,
    /// The password file.
    pub passfile: Option<PathBuf>,
}

impl PasswordSources {
    /// Looks the password up. `Err` carries a sentence about a password file that had to be ignored.
    pub(crate) fn find(
        &self,
        host: &str,
        port: u16,
        database: &str,
        user: &str,
    ) -> Result<Option<(Password, PasswordOrigin)>, PassfileError> {
        if let Some(password) = self
            .environment
            .as_ref()
            .filter(|password| !password.reveal().is_empty())
        {
            return Ok(Some((password.clone(), PasswordOrigin::Environment)));
        }
        let Some(path) = &self.passfile else {
            return Ok(None);
        };
        let found = passfile::find(path, &[host, &port.to_string(), database, user])?;
        Ok(found.map(|password| (password, PasswordOrigin::Passfile(path.clone()))))
    }
}
