//! What a name stands for: a ref, however it is spelled, or a commit by its first digits.

use neon_types::{CommitId, Prefix, RefName};

use crate::error::{RepoError, Result};
use crate::repository::Repository;

/// What a name was found to be.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Named {
    /// A ref, and the commit that it names.
    Ref(RefName, CommitId),
    /// A commit.
    Commit(CommitId),
}

impl Named {
    /// Returns the commit.
    pub(crate) fn commit(&self) -> CommitId {
        match self {
            Named::Ref(_, id) | Named::Commit(id) => *id,
        }
    }

    /// Returns the branch, when it is one of ours.
    pub(crate) fn branch(&self) -> Option<&str> {
        match self {
            Named::Ref(RefName::Branch(name), _) => Some(name),
            _ => None,
        }
    }
}

/// Returns the ref that a name spells with its kind: `tags/v1`, `refs/origins/cloud/main`.
fn with_kind(name: &str) -> Option<RefName> {
    name.parse().or_else(|_| format!("refs/{name}").parse()).ok()
}

/// Returns the refs that a name may mean without one.
fn without_kind(name: &str) -> Vec<RefName> {
    let of_origin = name
        .split_once('/')
        .and_then(|(origin, branch)| RefName::origin(origin, branch).ok());
    let own = [RefName::branch(name), RefName::tag(name)];
    own.into_iter().flatten().chain(of_origin).collect()
}

/// Returns the shortest way to say a ref that can mean nothing else.
pub(crate) fn spelled_out(name: &RefName) -> String {
    let full = name.to_string();
    full.strip_prefix("refs/").map_or(full.clone(), str::to_owned)
}

impl Repository {
    /// Finds what a name stands for; `HEAD` is its branch.
    ///
    /// # Errors
    /// [`RepoError::AmbiguousName`] when a branch, a tag or a fetched branch have it at once.
    pub(crate) fn named(&self, name: &str) -> Result<Named> {
        if name == "HEAD" {
            let head = self.refs.head()?;
            let (id, _) = self.head_of(&head)?;
            return Ok(Named::Ref(RefName::Branch(head), id));
        }
        if let Some(name) = with_kind(name)
            && let Some(id) = self.refs.get(&name)?
        {
            return Ok(Named::Ref(name, id));
        }
        let mut found = Vec::new();
        for name in without_kind(name) {
            if let Some(id) = self.refs.get(&name)? {
                found.push((name, id));
            }
        }
        match found.as_slice() {
            [] => self.commit_named(name).map(Named::Commit),
            [(name, id)] => Ok(Named::Ref(name.clone(), *id)),
            _ => Err(RepoError::AmbiguousName {
                name: name.to_owned(),
                meanings: found.iter().map(|(name, _)| spelled_out(name)).collect(),
            }),
        }
    }

    fn commit_named(&self, digits: &str) -> Result<CommitId> {
        let unknown = || RepoError::UnknownRevision(digits.to_owned());
        let prefix: Prefix = digits.parse().map_err(|_| unknown())?;
        let mut commits: Vec<CommitId> = Vec::new();
        for id in self.objects.resolve(prefix)? {
            if self.objects.read_commit(CommitId(id)).is_ok() {
                commits.push(CommitId(id));
            }
        }
        match commits.as_slice() {
            [] => Err(unknown()),
            [id] => Ok(*id),
            _ => Err(RepoError::AmbiguousRevision {
                prefix: digits.to_owned(),
                candidates: commits,
            }),
        }
    }

    /// Returns the name of the branch that a command means by `text`: `heads/main` is `main`. That it exists is the caller's to check.
    pub(crate) fn branch_meant(&self, text: &str) -> Result<String> {
        if let Ok(literal) = RefName::branch(text)
            && self.refs.get(&literal)?.is_some()
        {
            return Ok(text.to_owned());
        }
        match with_kind(text) {
            Some(RefName::Branch(branch)) if self.refs.get(&RefName::Branch(branch.clone()))?.is_some() => {
                Ok(branch)
            }
            _ => Ok(text.to_owned()),
        }
    }

    /// Returns what a user should know of a branch or tag that is about to get this name.
    pub(crate) fn namesakes(&self, new: &RefName) -> Result<Vec<String>> {
        let mut notes = Vec::new();
        for other in without_kind(&new.short()) {
            if other != *new && self.refs.get(&other)?.is_some() {
                let mut both = [spelled_out(new), spelled_out(&other)];
                both.sort();
                notes.push(format!(
                    "'{}' alone is ambiguous now: say {}",
                    new.short(),
                    both.join(" or ")
                ));
            }
        }
        Ok(notes)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_kind_makes_a_name_certain() {
        let tag = RefName::tag("v1").expect("a name");
        for spelling in ["tags/v1", "refs/tags/v1"] {
            assert_eq!(with_kind(spelling), Some(tag.clone()));
        }
        assert_eq!(spelled_out(&tag), "tags/v1");
        let fetched = RefName::origin("cloud", "a/b").expect("a name");
        assert_eq!(with_kind(&spelled_out(&fetched)), Some(fetched.clone()));
        assert_eq!(with_kind("v1"), None);
        assert_eq!(with_kind("cloud/a/b"), None);
        assert!(without_kind("cloud/a/b").contains(&fetched));
        assert_eq!(without_kind("v1"), [RefName::Branch("v1".into()), tag]);
        assert!(without_kind("a b").is_empty());
    }
}
