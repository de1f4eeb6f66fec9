//! Lines of descent as this repository knows them: paths of timelines, what a branch reaches, commits that are made.

use std::collections::{BinaryHeap, HashMap};
use std::sync::Arc;

use neon_objects::ancestry::{self, Line};
use neon_objects::{Commit, Environment, Fork as Step, MAX_DIGESTS, WalDigest};
use neon_pagestore::Timeline;
use neon_types::{CommitId, Lsn, Position};

use crate::error::Result;
use crate::repository::Repository;

/// A place in history with the path that leads to it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Place {
    /// Forks from the root; the last is the place's timeline.
    pub path: Vec<Step>,
    /// LSN on the last of them.
    pub lsn: Lsn,
}

impl Place {
    /// Returns the place of a commit.
    pub fn of(commit: &Commit) -> Place {
        Place {
            path: commit.path.clone(),
            lsn: commit.position.lsn,
        }
    }

    /// Returns it for comparisons.
    pub fn line(&self) -> Line<'_> {
        Line {
            path: &self.path,
            lsn: self.lsn,
        }
    }

    /// Returns the place named on the oldest timeline that has it, without forks at its very end.
    pub fn normal(mut self) -> Place {
        if let Some(position) = self.line().position()
            && let Some(path) = self.line().path_to(&position)
        {
            self.path = path.to_vec();
        }
        self
    }

    /// Returns the position; the path is never empty.
    pub fn position(&self) -> Position {
        let last = self.path.last().map(|fork| fork.timeline);
        Position {
            timeline: last.unwrap_or(neon_types::TimelineId([0; 16])),
            lsn: self.lsn,
        }
    }
}

impl Repository {
    /// Returns the path to a timeline that is here.
    pub(crate) fn path_of(&self, timeline: &Timeline) -> Result<Vec<Step>> {
        let mut path = vec![Step {
            timeline: timeline.id(),
            tli: timeline.tli(),
            start: timeline.start(),
        }];
        let mut ancestor = timeline.ancestor();
        while let Some(position) = ancestor {
            let parent = self.timeline(position.timeline)?;
            path.push(Step {
                timeline: parent.id(),
                tli: parent.tli(),
                start: parent.start(),
            });
            ancestor = parent.ancestor();
        }
        path.reverse();
        Ok(path)
    }

    /// Returns the timeline that `branch` was written on here, when it continues the branch's head. In a copied repository that
    /// has written nothing yet its writer is the original: it is read to its end, and not extended.
    pub(crate) fn open_timeline(&self, branch: &str, head: &Commit) -> Result<Option<Arc<Timeline>>> {
        let mut of_the_original = None;
        for id in self.pages.list() {
            // One that cannot be read is not told to be this branch's; who has its directory knows.
            let Ok(state) = self.pages.state_of(id) else {
                continue;
            };
            if state.branch.as_deref() != Some(branch) {
                continue;
            }
            let timeline = self.timeline(id)?;
            let path = self.path_of(&timeline)?;
            let continues = Line {
                path: &path,
                lsn: timeline.end(),
            };
            let own = head.line().position().is_some_and(|position| {
                // The head lies on it, or is where it forks off.
                continues.passes(&position)
                    && (position.timeline == id || timeline.ancestor().is_some_and(|fork| fork == position))
            });
            if own && state.writer == self.writer() {
                return Ok(Some(timeline));
            }
            if own {
                of_the_original = Some(timeline);
            }
        }
        Ok(of_the_original)
    }

    /// Returns how far a branch reaches: its head, or the end of the WAL that we hold after it.
    pub(crate) fn durable_place(&self, branch: &str, head: &Commit) -> Result<Place> {
        match self.open_timeline(branch, head)? {
            Some(timeline) if timeline.end() > head.position.lsn => Ok(Place {
                path: self.path_of(&timeline)?,
                lsn: timeline.end(),
            }),
            _ => Ok(Place::of(head)),
        }
    }

    /// Returns the newest commit in the chain of first parents from `tip` that lies at or before `place`.
    pub(crate) fn commit_before(&self, tip: CommitId, place: &Place) -> Result<Option<(CommitId, Commit)>> {
        let mut next = Some(tip);
        while let Some(id) = next {
            let commit = self.commit(id)?;
            if ancestry::is_ancestor(commit.line(), place.line()) {
                return Ok(Some((id, commit)));
            }
            next = commit
                .parents
                .first()
                .copied()
                .filter(|parent| self.objects.contains(parent.0));
        }
        Ok(None)
    }

    /// Makes the commit of a place that we can read. No ref names it yet; `parent` is the newest commit before it.
    pub(crate) fn make_commit(
        &self,
        place: &Place,
        parent: Option<(CommitId, &Commit)>,
        environment: Environment,
        settings: String,
        author: String,
        message: String,
    ) -> Result<CommitId> {
        let commit = self.commit_at(place, parent, environment, settings, author, message)?;
        Ok(self.objects.write_commit(&commit)?)
    }

    /// Returns the commit of a place that we can read, not written yet.
    pub(crate) fn commit_at(
        &self,
        place: &Place,
        parent: Option<(CommitId, &Commit)>,
        environment: Environment,
        settings: String,
        author: String,
        message: String,
    ) -> Result<Commit> {
        let position = place.position();
        let timeline = self.timeline(position.timeline)?;
        let since = parent
            .filter(|(_, commit)| commit.position.timeline == position.timeline)
            .map_or(timeline.start(), |(_, commit)| commit.position.lsn);
        timeline.make_durable(position.lsn)?;
        // Law 1: what a ref may name is published first, so that a tail that is cut later is noticed.
        if timeline.state().published_end < position.lsn {
            timeline.update_state(|state| state.published_end = state.published_end.max(position.lsn))?;
        }
        Ok(Commit {
            position,
            prev_record: timeline.record_at_or_before(position.lsn)?.start,
            path: place.path.clone(),
            checkpoint: timeline
                .checkpoint_state(position.lsn)?
                .encode(timeline.version()),
            digests: newest(timeline.digests(since, position.lsn)?),
            parents: parent.map(|(id, _)| id).into_iter().collect(),
            system_id: timeline.state().system_id,
            environment,
            settings,
            author,
            time: self.world().now(),
            message,
        })
    }

    /// Returns the newest commit that both descend from, as far as their parents are here; a commit descends from itself.
    pub(crate) fn merge_base(&self, one: CommitId, other: CommitId) -> Result<Option<CommitId>> {
        let mut seen: HashMap<CommitId, u8> = HashMap::new();
        let mut open = BinaryHeap::new();
        for (id, side) in [(one, 1), (other, 2)] {
            *seen.entry(id).or_default() |= side;
            let commit = self.commit(id)?;
            open.push((commit.position.lsn, commit.time, id));
        }
        // Parents lie lower, or were made earlier at the same place: when a commit's turn comes, all who descend from it have had theirs.
        while let Some((_, _, id)) = open.pop() {
            let sides = seen.get(&id).copied().unwrap_or_default();
            if sides == 3 {
                return Ok(Some(id));
            }
            for parent in self.commit(id)?.parents {
                if !self.objects.contains(parent.0) {
                    continue;
                }
                let known = seen.entry(parent).or_default();
                if *known == 0 {
                    let commit = self.commit(parent)?;
                    open.push((commit.position.lsn, commit.time, parent));
                }
                *known |= sides;
            }
        }
        Ok(None)
    }

    /// Checks that retention has not dropped the pages of a place.
    pub(crate) fn check_readable_place(&self, place: &Place) -> Result<()> {
        let position = place.position();
        Ok(self.timeline(position.timeline)?.check_position(position.lsn)?)
    }

    /// Returns the bytes of all relation forks at a place.
    pub(crate) fn size_at(&self, place: &Place) -> Result<u64> {
        let mut blocks = 0u64;
        self.timeline(place.position().timeline)?
            .scan_relations(place.lsn, &mut |_, size| blocks += u64::from(size.size))?;
        Ok(blocks * neon_postgres::BLCKSZ as u64)
    }
}

/// Returns as many of the digests as a commit may have.
fn newest(mut digests: Vec<WalDigest>) -> Vec<WalDigest> {
    digests.drain(..digests.len().saturating_sub(MAX_DIGESTS));
    digests
}

/// Returns true when a record of the timeline that ends after `since` makes history.
pub(crate) fn is_significant_after(timeline: &Timeline, since: Lsn) -> bool {
    timeline.last_significant() > since.max(timeline.start())
}
