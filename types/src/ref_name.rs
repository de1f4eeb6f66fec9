//! Names of refs, checked before they become paths.

use std::fmt;
use std::str::FromStr;

use serde::{Deserialize, Serialize};

use crate::on_one_line;

/// Longest branch, tag or origin name, in bytes.
const MAX_NAME: usize = 100;

/// Characters of a bad name that a message shows.
const MAX_SHOWN: usize = 200;

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

/// First parts that say of a revision which kind of ref it is, so that no ref of that name could be meant by it.
const RESERVED: [&str; 5] = ["HEAD", "refs", "heads", "tags", "origins"];

/// The name may not be used. The text shows it with everything escaped that a terminal would not print.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error(
    "'{}' is not a valid name: use letters, digits, '.', '_', '-' and '/' between parts, at most 100 bytes, \
     no part that is empty, begins with '-' or '.', or ends with '.lock'; the first part cannot be HEAD, refs, heads, tags or origins",
    shown(.0)
)]
pub struct RefNameError(pub String);

/// A name of anybody's choosing, short enough and printable for a message.
fn shown(name: &str) -> String {
    let shown: String = name.chars().take(MAX_SHOWN).collect();
    let more = if name.chars().nth(MAX_SHOWN).is_some() {
        "..."
    } else {
        ""
    };
    on_one_line(&shown) + more
}

/// Returns true for a name that a branch, tag or origin may be given: one that [`is_safe_name`] allows, and whose first part is not `HEAD`,
/// `refs`, `heads`, `tags` or `origins`.
pub fn is_valid_name(name: &str) -> bool {
    let first = name.split('/').next().unwrap_or_default();
    is_safe_name(name) && !RESERVED.contains(&first)
}

/// Returns true for a name that may become a path: parts of `[A-Za-z0-9._-]` joined by `/`, none empty, beginning with `.` or `-`,
/// or ending in `.lock`; not `HEAD`; not something that reads as a commit id of 40 or more digits.
///
/// Refs that were made when fewer names were reserved have such names. They are read, listed and deleted, and never made.
pub fn is_safe_name(name: &str) -> bool {
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
    /// Returns why a ref of this name may not be made, if so.
    pub fn check_new(&self) -> Result<(), RefNameError> {
        let bad = match self {
            RefName::Branch(name) | RefName::Tag(name) => [name, name],
            RefName::Origin { origin, branch } => [origin, branch],
        }
        .into_iter()
        .find(|name| !is_valid_name(name));
        bad.map_or(Ok(()), |name| Err(RefNameError(name.clone())))
    }

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
    if is_safe_name(name) {
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
    fn names_that_mean_another_ref_are_never_made_and_still_read() {
        for name in [
            "refs/heads/x",
            "heads/x",
            "tags/x",
            "origins/cloud/x",
            "refs",
            "HEAD/x",
        ] {
            assert!(!is_valid_name(name), "{name:?} was taken");
            assert!(is_safe_name(name), "{name:?} could not be deleted");
            let there = RefName::branch(name).expect("a ref that was made before");
            assert_eq!(there.check_new(), Err(RefNameError(name.to_owned())));
        }
        for name in ["head", "x/heads", "refs2/x", "my.tags/x"] {
            assert!(is_valid_name(name), "{name:?} was refused");
        }
        let origin = RefName::origin("tags", "main").expect("safe");
        assert_eq!(origin.check_new(), Err(RefNameError("tags".to_owned())));
        let branch = RefName::origin("cloud", "heads/x").expect("safe");
        assert_eq!(branch.check_new(), Err(RefNameError("heads/x".to_owned())));
    }

    #[test]
    fn a_name_in_an_error_cannot_change_the_line_around_it() {
        let error = RefNameError("a\nb\u{1b}[2K\u{202e}c".to_owned()).to_string();
        assert!(error.starts_with("'a\\nb\\u{1b}[2K\\u{202e}c' is"), "{error}");
        assert!(RefNameError("x".repeat(5_000)).to_string().len() < 600);
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
