//! Whether a branch moves, and how: the table of a push and of a pull, as one pure function.

use neon_objects::Commit;
use neon_objects::ancestry::{Line, Relation, relation};
use neon_types::{CommitId, TimelineId};

use crate::wire::Motion;
use crate::{Divergence, Head, Refusal};

/// A head with the line of descent that leads to it.
#[derive(Clone, Copy, Debug)]
pub struct Side<'a> {
    /// The commit.
    pub commit: CommitId,
    /// Its content.
    pub content: &'a Commit,
}

impl<'a> Side<'a> {
    /// Returns the head, as refusals name it.
    pub fn head(&self) -> Head {
        Head {
            commit: self.commit,
            position: self.content.position,
        }
    }

    fn line(&self) -> Line<'a> {
        self.content.line()
    }
}

/// Who asks for the move, which decides what it means that the branch is ahead.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Direction {
    /// The other repository's branch is to follow ours.
    Push,
    /// Our branch is to follow the other repository's.
    Pull,
}

/// Whether the incoming commit descends from the current one by its parents.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Descent {
    /// It does.
    Yes,
    /// It does not.
    No,
    /// It is not known before the commits have arrived; the move then waits for the answer.
    Unknown,
}

/// Everything that the decision depends on. "There" is the repository whose branch may move.
#[derive(Clone, Copy, Debug)]
pub struct Situation<'a> {
    /// Push or pull.
    pub direction: Direction,
    /// Name of the branch there.
    pub branch: &'a str,
    /// Where it is to go.
    pub incoming: Side<'a>,
    /// Where it is; none: it does not exist.
    pub current: Option<Side<'a>>,
    /// The timelines that histories there begin with; empty: a repository without history.
    pub roots_there: &'a [TimelineId],
    /// An endpoint runs on the branch there.
    pub running: bool,
    /// Something may be dropped.
    pub force: bool,
    /// Looked at only when positions are equal and commits are not.
    pub descent: Descent,
}

/// What to do.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Decision {
    /// Nothing is sent and nothing moves.
    Nothing,
    /// Send what is missing, then move the branch.
    Move(Motion),
    /// The rules say no.
    Refuse(Refusal),
}

/// Decides by positions; only at an equal position do commits count.
pub fn decide(situation: &Situation<'_>) -> Decision {
    let incoming = &situation.incoming;
    let Some(root) = incoming.content.path.first().map(|step| step.timeline) else {
        // Commits without a path do not decode.
        return Decision::Refuse(Refusal::Limit {
            what: "the commit has no path".to_owned(),
        });
    };
    if let Some(there) = situation.roots_there.first()
        && !situation.roots_there.contains(&root)
    {
        return Decision::Refuse(Refusal::Unrelated {
            incoming: root,
            there: *there,
        });
    }
    let Some(current) = &situation.current else {
        return Decision::Move(Motion::Create);
    };
    if incoming.commit == current.commit {
        return Decision::Nothing;
    }
    let motion = match relation(incoming.line(), current.line()) {
        Relation::Equal if situation.descent == Descent::No => return Decision::Nothing,
        Relation::Equal => Motion::Recommit,
        Relation::Descendant => Motion::Forward,
        Relation::Ancestor if situation.force => Motion::Back,
        Relation::Ancestor if situation.direction == Direction::Pull => return Decision::Nothing,
        Relation::Ancestor => {
            return Decision::Refuse(Refusal::Ahead {
                branch: situation.branch.to_owned(),
                head: current.head(),
            });
        }
        Relation::Diverged { common: None } => {
            return Decision::Refuse(Refusal::Unrelated {
                incoming: root,
                there: current.content.path.first().map_or(root, |step| step.timeline),
            });
        }
        Relation::Diverged { .. } if situation.force => Motion::Replace,
        Relation::Diverged { common: Some(common) } => {
            return Decision::Refuse(Refusal::Diverged {
                branch: situation.branch.to_owned(),
                divergence: Box::new(Divergence {
                    incoming: incoming.head(),
                    current: current.head(),
                    common,
                    incoming_transactions: None,
                    current_transactions: None,
                }),
            });
        }
    };
    // Last, because stopping the endpoint would not help against any of the others.
    if situation.running {
        return Decision::Refuse(Refusal::EndpointRuns {
            branch: situation.branch.to_owned(),
        });
    }
    Decision::Move(motion)
}

#[cfg(test)]
mod tests;
