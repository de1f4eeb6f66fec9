//! Names of refs, checked before they become paths.

use std::fmt;
use std::str::FromStr;

use serde::{Deserialize, Serialize};

/// Longest branch, tag or origin name, in bytes.
const MAX_NAME: usize = 100;

/// A ref: a name that points to a commit. Kept as a file of that path below `.neon/`.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum RefName {
    /// `refs/heads/NAME`
    Branch(String),
    /// `refs/tags/NAME`
    Tag(String),
    /// `refs/origins/ORIGIN/BRANCH`: where a branch of an origin was when we last looked.
    Origin {
        /// Name of the origin.
        origin: String,
        /// Name of the branch there.
        branch: String,
    },
}

/// The name may not be used.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error(
    "'{0}' is not a valid name: use letters, digits, '.', '_', '-' and '/' between parts, at most 100 bytes, \
     no part that is empty or begins with '-' or '.', or ends with '.lock'"
)]
pub struct RefNameError(pub String);

/// Returns true for a name that a branch or tag may have: parts of `[A-Za-z0-9._-]` joined by `/`, none empty, beginning
/// with `.` or `-`, or ending in `.lock`; not `HEAD`; not something that reads as a commit id of 40 or more digits.
pub fn is_valid_name(name: &str) -> bool {
    !name.is_empty()
        && name.len() <= MAX_NAME
        && name != "HEAD"
        && !(name.len() >= 40 && name.bytes().all(|b| b.is_ascii_hexdigit()))
        && name.split('/').all(|part| {
            !part.is_empty()
                && !part.starts_with(['.', '-'])
                && !part.ends_with(".lock")
                && !part.contains("..")
                && part
                    .bytes()
                    .all(|b| b.is_ascii_alphanumeric() || matches!(b, b'.' | b'_' | b'-'))
        })
}

impl RefName {
    /// Returns the ref of branch `name`.
    pub fn branch(name: &str) -> Result<RefName, RefNameError> {
        check(name).map(RefName::Branch)
    }

    /// Returns the ref of tag `name`.
    pub fn tag(name: &str) -> Result<RefName, RefNameError> {
        check(name).map(RefName::Tag)
    }

    /// Returns the ref that remembers `branch` of `origin`; an origin's name has one part.
    pub fn origin(origin: &str, branch: &str) -> Result<RefName, RefNameError> {
        if origin.contains('/') {
            return Err(RefNameError(origin.to_owned()));
        }
        Ok(RefName::Origin {
            origin: check(origin)?,
            branch: check(branch)?,
        })
    }

    /// Returns the name as people write it: `main`, `v1.0`, `cloud/main`.
    pub fn short(&self) -> String {
        match self {
            RefName::Branch(name) | RefName::Tag(name) => name.clone(),
            RefName::Origin { origin, branch } => format!("{origin}/{branch}"),
        }
    }
}

fn check(name: &str) -> Result<String, RefNameError> {
    if is_valid_name(name) {
        Ok(name.to_owned())
    } else {
        Err(RefNameError(name.to_owned()))
    }
}

impl fmt::Display for RefName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            RefName::Branch(name) => write!(f, "refs/heads/{name}"),
            RefName::Tag(name) => write!(f, "refs/tags/{name}"),
            RefName::Origin { origin, branch } => write!(f, "refs/origins/{origin}/{branch}"),
        }
    }
}

impl FromStr for RefName {
    type Err = RefNameError;
    fn from_str(text: &str) -> Result<RefName, RefNameError> {
        let bad = || RefNameError(text.to_owned());
        let rest = text.strip_prefix("refs/").ok_or_else(bad)?;
        match rest.split_once('/').ok_or_else(bad)? {
            ("heads", name) => RefName::branch(name),
            ("tags", name) => RefName::tag(name),
            ("origins", rest) => {
                let (origin, branch) = rest.split_once('/').ok_or_else(bad)?;
                RefName::origin(origin, branch)
            }
            _ => Err(bad()),
        }
    }
}

impl Serialize for RefName {
    fn serialize<S: serde::Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(self)
    }
}

impl<'de> Deserialize<'de> for RefName {
    fn deserialize<D: serde::Deserializer<'de>>(deserializer: D) -> Result<RefName, D::Error> {
        String::deserialize(deserializer)?
            .parse()
            .map_err(serde::de::Error::custom)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_that_could_escape_or_confuse_are_refused() {
        for good in ["main", "feature/one", "v1.0", "a_b-c", "UPPER", "3f9a12"] {
            assert!(is_valid_name(good), "{good:?} was refused");
        }
        let long = "a".repeat(101);
        for bad in [
            "", "HEAD", "../x", "a/../b", "a//b", "/a", "a/", "-d", "a/-d", ".hidden", "a b", "a.lock",
            "a..b", "é", &long,
        ] {
            assert!(!is_valid_name(bad), "{bad:?} was taken");
        }
        assert!(!is_valid_name(&"ab".repeat(20)), "a full id was taken as a name");
    }

    #[test]
    fn refs_print_as_paths_and_parse_back() {
        for text in [
            "refs/heads/main",
            "refs/tags/v1.0",
            "refs/origins/cloud/feature/x",
        ] {
            assert_eq!(
                text.parse::<RefName>().map(|r| r.to_string()),
                Ok(text.to_owned())
            );
        }
        assert!("refs/notes/x".parse::<RefName>().is_err());
        assert!("refs/heads/../../etc".parse::<RefName>().is_err());
    }
}
