//! What a revision stands for here.

use jiff::Timestamp;
use neon_objects::{Commit, Fork};
use neon_types::{CommitId, Lsn};

use crate::error::{RepoError, Result};
use crate::history::Place;
use crate::naming::Named;
use crate::repository::Repository;
use crate::revision::{Revision, Step, timestamptz_text, to_timestamptz};

/// A revision that was found.
#[derive(Clone, Debug)]
pub struct Target {
    /// Where it is.
    pub place: Place,
    /// The newest commit at or before the place.
    pub commit_id: CommitId,
    /// That commit.
    pub commit: Commit,
    /// Remarks: an LSN that was rounded, a moment that was not plain.
    pub notes: Vec<String>,
}

impl Target {
    /// Returns true when the commit is at the place itself.
    pub fn is_commit(&self) -> bool {
        self.commit.line().position() == self.place.line().position()
    }
}

impl Repository {
    /// Parses a revision, HEAD's branch when absent; relative times and those without a zone are the caller's.
    pub(crate) fn revision(&self, text: Option<&str>) -> Result<Revision> {
        Ok(Revision::parse(text.unwrap_or("HEAD"), &self.now())?)
    }

    /// Finds a revision; HEAD's branch when absent.
    ///
    /// Reads what is here: a running or stopped endpoint's tail counts as far as it has been received.
    pub(crate) fn resolve(&self, text: Option<&str>) -> Result<Target> {
        let revision = self.revision(text)?;
        let named = self.named(&revision.base)?;
        let commit = self.commit(named.commit())?;
        let mut notes: Vec<String> = revision.note.into_iter().collect();
        let place = match revision.step {
            Step::Here => Place::of(&commit),
            Step::Back(count) => {
                let (commit_id, commit) = self.back(&revision.base, named.commit(), commit, count)?;
                return Ok(Target {
                    place: Place::of(&commit),
                    commit_id,
                    commit,
                    notes,
                });
            }
            Step::At(lsn) => self.at_lsn(&revision.base, self.reach(&named, &commit)?, lsn, &mut notes)?,
            Step::When(moment) => {
                self.at_time(&revision.base, self.reach(&named, &commit)?, moment, &mut notes)?
            }
        };
        let (commit_id, commit) =
            self.commit_before(named.commit(), &place)?
                .ok_or_else(|| RepoError::BeforeBeginning {
                    what: place.lsn.to_string(),
                    start: root_start(&place.path).to_string(),
                })?;
        Ok(Target {
            place,
            commit_id,
            commit,
            notes,
        })
    }

    fn reach(&self, named: &Named, commit: &Commit) -> Result<Place> {
        match named.branch() {
            Some(branch) => self.durable_place(branch, commit),
            None => Ok(Place::of(commit)),
        }
    }

    /// Returns what to say of a moment after the last transaction of what `base` names: that its end is taken.
    fn after_the_end(&self, base: &str, reach: &Place, moment: Timestamp) -> Result<Option<String>> {
        let state = self
            .timeline(reach.position().timeline)?
            .checkpoint_state(reach.lsn)?;
        let Some(last) = timestamptz_text(state.last_time) else {
            return Ok(None);
        };
        if to_timestamptz(moment) <= state.last_time {
            return Ok(None);
        }
        let now = self.now().timestamp();
        let future = if moment > now { "in the future, and " } else { "" };
        Ok(Some(format!(
            "{moment} is {future}after the last transaction of '{base}' ({last}): its end is taken"
        )))
    }

    fn back(&self, base: &str, id: CommitId, commit: Commit, count: u32) -> Result<(CommitId, Commit)> {
        let (mut id, mut commit) = (id, commit);
        for available in 0..count {
            let parent = commit
                .parents
                .first()
                .copied()
                .ok_or_else(|| RepoError::NoSuchAncestor {
                    base: base.to_owned(),
                    available,
                })?;
            (id, commit) = (parent, self.commit(parent)?);
        }
        Ok((id, commit))
    }

    fn at_lsn(&self, base: &str, reach: Place, lsn: Lsn, notes: &mut Vec<String>) -> Result<Place> {
        if lsn > reach.lsn {
            return Err(RepoError::BeyondEnd {
                lsn,
                base: base.to_owned(),
                end: reach.lsn,
            });
        }
        let path = path_at(&reach.path, lsn).ok_or_else(|| RepoError::BeforeBeginning {
            what: lsn.to_string(),
            start: root_start(&reach.path).to_string(),
        })?;
        let place = Place { path, lsn };
        let timeline = self.timeline(place.position().timeline)?;
        timeline.check_position(lsn)?;
        let span = timeline.record_at_or_before(lsn)?;
        if span.end != lsn {
            notes.push(format!("{lsn} is inside a record: rounded down to {}", span.end));
        }
        Ok(Place {
            lsn: span.end,
            ..place
        }
        .normal())
    }

    fn at_time(
        &self,
        base: &str,
        reach: Place,
        timestamp: Timestamp,
        notes: &mut Vec<String>,
    ) -> Result<Place> {
        let moment = to_timestamptz(timestamp);
        // From the newest stretch back: the first timeline with a commit at or before the moment has the last one.
        let mut end = reach.lsn;
        for index in (0..reach.path.len()).rev() {
            let Some(fork) = reach.path.get(index) else {
                continue;
            };
            let timeline = self.timeline(fork.timeline)?;
            if let Some(lsn) = timeline.lsn_at_time(moment)? {
                // Later commits of this timeline are not on the path; everything up to where it was left had happened then.
                let lsn = lsn.min(end);
                let path = reach.path.iter().take(index + 1).copied().collect();
                notes.extend(self.after_the_end(base, &reach, timestamp)?);
                return Ok(Place { path, lsn }.normal());
            }
            end = fork.start;
        }
        let start = root_start(&reach.path);
        let root = reach.path.iter().take(1).copied().collect::<Vec<_>>();
        let begin = match root.first() {
            Some(fork) => self.timeline(fork.timeline)?.checkpoint_state(start)?.last_time,
            None => 0,
        };
        if begin != 0 && moment < begin {
            return Err(RepoError::BeforeBeginning {
                what: timestamp.to_string(),
                start: match timestamptz_text(begin) {
                    Some(time) => format!("{start}, of {time}"),
                    None => start.to_string(),
                },
            });
        }
        notes.push(format!(
            "no transaction had committed then: this is the beginning, {start}"
        ));
        Ok(Place {
            path: root,
            lsn: start,
        })
    }
}

fn root_start(path: &[Fork]) -> Lsn {
    path.first().map_or(Lsn::INVALID, |root| root.start)
}

/// Returns the path to the timeline on which `lsn` lies: the last one that begins below it. The root's own start is readable.
fn path_at(path: &[Fork], lsn: Lsn) -> Option<Vec<Fork>> {
    let count = path.iter().take_while(|fork| fork.start < lsn).count();
    match (count, path.first()) {
        (0, Some(root)) if root.start == lsn => Some(vec![*root]),
        (0, _) => None,
        _ => Some(path.iter().take(count).copied().collect()),
    }
}

#[cfg(test)]
mod tests {
    use neon_types::TimelineId;

    use super::*;

    #[test]
    fn an_lsn_lies_on_the_last_timeline_that_begins_below_it() {
        let fork = |number: u8, start| Fork {
            timeline: TimelineId([number; 16]),
            tli: 1,
            start: Lsn(start),
        };
        let path = [fork(1, 100), fork(2, 200)];
        let at = |lsn| path_at(&path, Lsn(lsn)).map(|path| path.len());
        assert_eq!(at(99), None);
        assert_eq!(at(100), Some(1));
        assert_eq!(at(200), Some(1));
        assert_eq!(at(208), Some(2));
    }
}
