//! How a branch stands to the branch of an origin that it goes to, as that was last fetched.

use neon_objects::Commit;
use neon_objects::ancestry::{self, Relation};
use neon_types::{CommitId, RefName};

use crate::error::Result;
use crate::history::Place;
use crate::repository::Repository;

/// What a push or a pull would find.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Standing {
    /// Nothing to send, nothing to bring.
    Equal,
    /// A pull brings something.
    Behind,
    /// A push sends something.
    Ahead,
    /// Both sides have what the other has not.
    Diverged,
}

impl Standing {
    /// Returns the word for it.
    pub(crate) fn word(self) -> &'static str {
        match self {
            Standing::Equal => "equal",
            Standing::Behind => "behind",
            Standing::Ahead => "ahead",
            Standing::Diverged => "diverged",
        }
    }

    /// Returns the same, of a branch on which something waits for a commit: a push makes that first.
    fn with_uncommitted(self) -> Standing {
        match self {
            Standing::Equal | Standing::Ahead => Standing::Ahead,
            Standing::Behind | Standing::Diverged => Standing::Diverged,
        }
    }
}

impl Repository {
    /// Returns how a branch, which reaches to `place`, stands to a branch of an origin; nothing when that was never fetched.
    pub(crate) fn standing(
        &self,
        branch: &str,
        (id, commit): (CommitId, &Commit),
        place: &Place,
        theirs: &RefName,
    ) -> Result<Option<Standing>> {
        let Some(theirs) = self.refs.get(theirs)? else {
            return Ok(None);
        };
        let of_heads = self.standing_of_heads((id, commit), theirs)?;
        let history = place.lsn > commit.position.lsn && self.is_history(branch, place, commit)?;
        if history || self.uncommitted_settings(branch, commit)?.is_some() {
            return Ok(Some(of_heads.with_uncommitted()));
        }
        Ok(Some(of_heads))
    }

    fn standing_of_heads(&self, (id, commit): (CommitId, &Commit), theirs: CommitId) -> Result<Standing> {
        if id == theirs {
            return Ok(Standing::Equal);
        }
        let other = self.commit(theirs)?;
        Ok(match ancestry::relation(commit.line(), other.line()) {
            Relation::Ancestor => Standing::Behind,
            Relation::Descendant => Standing::Ahead,
            Relation::Diverged { .. } => Standing::Diverged,
            // Two commits at one position: who made the other's child has more to say.
            Relation::Equal => match self.merge_base(id, theirs)? {
                Some(base) if base == theirs => Standing::Ahead,
                Some(base) if base == id => Standing::Behind,
                _ => Standing::Diverged,
            },
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_waits_for_a_commit_is_ours_alone() {
        assert_eq!(Standing::Equal.with_uncommitted(), Standing::Ahead);
        assert_eq!(Standing::Ahead.with_uncommitted(), Standing::Ahead);
        assert_eq!(Standing::Behind.with_uncommitted(), Standing::Diverged);
        assert_eq!(Standing::Diverged.with_uncommitted(), Standing::Diverged);
    }
}
