//! Where an origin is.

use std::fmt;
use std::path::{Path, PathBuf};
use std::str::FromStr;

use neon_transport::{Address, AddressError};

/// Where an origin is. `Display` never shows a password.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum OriginUri {
    /// `postgresql://user@host:port/repository`: a neon server.
    Server(Address),
    /// A repository on this machine, opened directly: a path, or `file://`.
    Directory(PathBuf),
}

/// The text does not say where an origin is. No variant holds a password.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum UriError {
    /// Nothing.
    #[error("the address of an origin is empty")]
    Empty,
    /// A scheme that is planned.
    #[error("{0}:// is not supported yet")]
    NotSupportedYet(String),
    /// A scheme that nobody knows.
    #[error("unknown scheme '{0}://'")]
    UnknownScheme(String),
    /// `file://host/path`.
    #[error("file://{0}/... names a host; only file:///path is possible")]
    FileHost(String),
    /// A bad `postgresql://`.
    #[error(transparent)]
    Address(#[from] AddressError),
}

impl UriError {
    /// Returns what to do instead.
    pub fn hint(&self) -> &'static str {
        match self {
            UriError::Empty | UriError::Address(_) | UriError::UnknownScheme(_) => {
                "write postgresql://user@host:port/repository, or a path"
            }
            UriError::NotSupportedYet(_) => {
                "use postgresql://user@host:port/repository of a 'neon serve', or a path"
            }
            UriError::FileHost(_) => "write file:///path, or the path alone",
        }
    }
}

/// Schemes that later releases will know.
const PLANNED: &[&str] = &["ssh", "s3", "gs", "az", "http", "https", "git+ssh"];

impl FromStr for OriginUri {
    type Err = UriError;

    fn from_str(text: &str) -> Result<OriginUri, UriError> {
        if text.is_empty() {
            return Err(UriError::Empty);
        }
        let Some((scheme, rest)) = text.split_once("://") else {
            return Ok(OriginUri::Directory(PathBuf::from(text)));
        };
        match scheme {
            "postgresql" | "postgres" => Ok(OriginUri::Server(text.parse()?)),
            "file" => match rest.split_once('/') {
                Some(("" | "localhost", path)) => Ok(OriginUri::Directory(Path::new("/").join(path))),
                Some((host, _)) => Err(UriError::FileHost(host.to_owned())),
                None => Err(UriError::FileHost(rest.to_owned())),
            },
            planned if PLANNED.contains(&planned) => Err(UriError::NotSupportedYet(planned.to_owned())),
            other => Err(UriError::UnknownScheme(other.chars().take(32).collect())),
        }
    }
}

impl fmt::Display for OriginUri {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            OriginUri::Server(address) => address.fmt(f),
            OriginUri::Directory(path) => path.display().fmt(f),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn servers_paths_and_files_are_told_apart() {
        let server: OriginUri = "postgresql://alice:hunter2@h:1/shop".parse().expect("an address");
        assert_eq!(server.to_string(), "postgresql://alice@h:1/shop");
        for (text, path) in [
            ("../other", "../other"),
            ("/srv/repo", "/srv/repo"),
            ("file:///srv/repo", "/srv/repo"),
            ("file://localhost/srv", "/srv"),
        ] {
            assert_eq!(text.parse(), Ok(OriginUri::Directory(path.into())), "{text}");
        }
    }

    #[test]
    fn what_is_not_possible_is_said_by_name() {
        for scheme in ["ssh", "s3", "gs", "az"] {
            let error = format!("{scheme}://x/y")
                .parse::<OriginUri>()
                .expect_err("not yet");
            assert_eq!(error, UriError::NotSupportedYet(scheme.to_owned()));
            assert!(error.to_string().contains("not supported yet"));
        }
        assert_eq!("".parse::<OriginUri>(), Err(UriError::Empty));
        assert_eq!(
            "gopher://x".parse::<OriginUri>(),
            Err(UriError::UnknownScheme("gopher".to_owned()))
        );
        assert_eq!(
            "file://host/x".parse::<OriginUri>(),
            Err(UriError::FileHost("host".to_owned()))
        );
        assert!(matches!(
            "postgresql://".parse::<OriginUri>(),
            Err(UriError::Address(_))
        ));
    }
}
