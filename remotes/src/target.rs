//! What `[BRANCH] [ORIGIN[:OTHER]]` means: which branch here, which origin, which branch there.

use neon_types::{RefName, is_valid_name};

/// What the configuration remembers of a branch.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Upstream {
    /// Name of the origin.
    pub origin: String,
    /// Name of the branch there.
    pub branch: String,
}

/// A branch here and a branch there.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Pairing {
    /// Name of the branch here.
    pub ours: String,
    /// Name of the origin.
    pub origin: String,
    /// Name of the branch there.
    pub theirs: String,
}

impl Pairing {
    /// Returns the ref that remembers where the branch there is, to be moved after every success.
    pub fn tracking(&self) -> Result<RefName, TargetError> {
        RefName::origin(&self.origin, &self.theirs).map_err(|error| TargetError::Name(error.0))
    }
}

/// The arguments do not say which branches are meant.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum TargetError {
    /// A name that no branch or origin can have.
    #[error("'{0}' is not a valid name of a branch or an origin")]
    Name(String),
    /// No such origin.
    #[error("there is no origin '{name}'")]
    NoOrigin {
        /// What was asked for.
        name: String,
        /// Those that exist.
        known: Vec<String>,
    },
    /// None was named and none can be guessed.
    #[error("branch '{branch}' has no origin")]
    Unclear {
        /// The branch.
        branch: String,
        /// Origins that exist.
        known: Vec<String>,
    },
}

impl TargetError {
    /// Returns what to do next.
    pub fn hint(&self) -> String {
        let list = |known: &[String]| match known {
            [] => "add one: neon origin add NAME URI".to_owned(),
            known => format!("name one of: {}", known.join(", ")),
        };
        match self {
            TargetError::Name(_) => {
                "use letters, digits, '.', '_', '-' and '/'; an origin is followed by ':' and the branch there".to_owned()
            }
            TargetError::NoOrigin { known, .. } | TargetError::Unclear { known, .. } => list(known),
        }
    }
}

/// Finds out which branches are meant.
///
/// `branch` and `target` are the arguments, `head` the branch that HEAD names, `upstream` what the configuration remembers of a
/// branch, `origins` the names of all origins. Without an origin: the branch's upstream, else the only origin, else the one called
/// `origin`. Without a branch there: the upstream's if it is at that origin, else the same name.
pub fn resolve(
    branch: Option<&str>,
    target: Option<&str>,
    head: &str,
    upstream: impl FnOnce(&str) -> Option<Upstream>,
    origins: &[String],
) -> Result<Pairing, TargetError> {
    let check = |name: &str| {
        if is_valid_name(name) {
            Ok(name.to_owned())
        } else {
            Err(TargetError::Name(name.to_owned()))
        }
    };
    let ours = check(branch.unwrap_or(head))?;
    let upstream = upstream(&ours);
    let (origin, theirs) = match target {
        Some(target) => match target.split_once(':') {
            Some((origin, theirs)) => (Some(origin), Some(check(theirs)?)),
            None => (Some(target), None),
        },
        None => (None, None),
    };
    let origin = match (origin.filter(|name| !name.is_empty()), &upstream, origins) {
        (Some(origin), _, _) => origin.to_owned(),
        (None, Some(upstream), _) => upstream.origin.clone(),
        (None, None, [only]) => only.clone(),
        (None, None, many) => match many.iter().find(|name| *name == "origin") {
            Some(origin) => origin.clone(),
            None => {
                return Err(TargetError::Unclear {
                    branch: ours,
                    known: many.to_vec(),
                });
            }
        },
    };
    if !origins.contains(&origin) {
        return Err(TargetError::NoOrigin {
            name: origin,
            known: origins.to_vec(),
        });
    }
    let theirs = theirs
        .or_else(|| {
            upstream
                .filter(|upstream| upstream.origin == origin)
                .map(|upstream| upstream.branch)
        })
        .unwrap_or_else(|| ours.clone());
    Ok(Pairing {
        ours,
        origin,
        theirs: check(&theirs)?,
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn origins(names: &[&str]) -> Vec<String> {
        names.iter().map(|name| (*name).to_owned()).collect()
    }

    fn pair(ours: &str, origin: &str, theirs: &str) -> Result<Pairing, TargetError> {
        Ok(Pairing {
            ours: ours.to_owned(),
            origin: origin.to_owned(),
            theirs: theirs.to_owned(),
        })
    }

    fn cloud(_: &str) -> Option<Upstream> {
        Some(Upstream {
            origin: "cloud".to_owned(),
            branch: "prod".to_owned(),
        })
    }

    #[test]
    fn arguments_win_over_memory_and_memory_over_guesses() {
        let both = origins(&["cloud", "origin"]);
        let none = |_: &str| None;
        assert_eq!(
            resolve(Some("b"), Some("cloud:x"), "main", none, &both),
            pair("b", "cloud", "x")
        );
        assert_eq!(
            resolve(None, Some("cloud"), "main", none, &both),
            pair("main", "cloud", "main")
        );
        assert_eq!(
            resolve(None, None, "main", cloud, &both),
            pair("main", "cloud", "prod")
        );
        assert_eq!(
            resolve(None, Some("origin"), "main", cloud, &both),
            pair("main", "origin", "main")
        );
        assert_eq!(
            resolve(None, Some(":y"), "main", cloud, &both),
            pair("main", "cloud", "y")
        );
        assert_eq!(
            resolve(None, None, "main", none, &both),
            pair("main", "origin", "main")
        );
        assert_eq!(
            resolve(None, None, "main", none, &origins(&["only"])),
            pair("main", "only", "main")
        );
    }

    #[test]
    fn what_is_unclear_or_bad_is_refused_by_name() {
        let none = |_: &str| None;
        let two = origins(&["a", "b"]);
        let unclear = resolve(None, None, "main", none, &two).expect_err("two origins");
        assert!(unclear.hint().contains("a, b"));
        assert!(matches!(
            resolve(None, Some("c"), "main", none, &two),
            Err(TargetError::NoOrigin { .. })
        ));
        assert!(matches!(
            resolve(None, Some("a:../x"), "main", none, &two),
            Err(TargetError::Name(_))
        ));
        assert!(matches!(
            resolve(Some("-d"), Some("a"), "main", none, &two),
            Err(TargetError::Name(_))
        ));
        let nothing = resolve(None, None, "main", none, &[]).expect_err("no origin");
        assert!(nothing.hint().contains("neon origin add"));
    }

    #[test]
    fn the_tracking_ref_is_named() {
        let pairing = pair("main", "cloud", "a/b").expect("a pairing");
        assert_eq!(
            pairing.tracking().map(|name| name.to_string()),
            Ok("refs/origins/cloud/a/b".to_owned())
        );
    }
}
