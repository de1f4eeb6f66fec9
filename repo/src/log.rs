//! Reading history: `log` and `show`.

use std::collections::{HashMap, HashSet};

use neon_objects::Commit;
use neon_postgres::checkpoint::CheckpointState;
use neon_types::{CommitId, Lsn, TimelineId, with_causes};

use crate::api;
use crate::error::{RepoError, Result};
use crate::history::Place;
use crate::naming::spelled_out;
use crate::repository::Repository;
use crate::revision::timestamptz_text;

impl Repository {
    /// Returns the commits from a revision back, newest first.
    pub(crate) fn log(&self, rev: Option<&str>, limit: Option<usize>) -> Result<Vec<api::Commit>> {
        let target = self.resolve(rev)?;
        let refs = self.ref_names()?;
        let mut rows = Vec::new();
        let mut seen = HashSet::new();
        let mut queue = vec![target.commit_id];
        while let Some(id) = queue.pop() {
            if limit.is_some_and(|limit| rows.len() >= limit) {
                break;
            }
            if !seen.insert(id) {
                continue;
            }
            // A transfer leaves out commits that are not on the path.
            if !rows.is_empty() && !self.objects.contains(id.0) {
                continue;
            }
            let commit = match self.commit(id) {
                Err(error) if !rows.is_empty() && error.is_damage() => {
                    rows.push(damaged_row(id, &error, &refs));
                    continue;
                }
                commit => commit?,
            };
            queue.extend(commit.parents.iter().rev());
            rows.push(row(id, &commit, &refs));
        }
        Ok(rows)
    }

    /// Returns one commit, or position, in full.
    pub(crate) fn show(&self, rev: &str) -> Result<api::Commit> {
        let target = self.resolve(Some(rev))?;
        let mut shown = row(target.commit_id, &target.commit, &self.ref_names()?);
        if !target.is_commit() {
            // A position without a commit: what is known of the place, under the commit before it.
            let state = self
                .timeline(target.place.position().timeline)?
                .checkpoint_state(target.place.lsn)?;
            shown.timeline = target.place.position().timeline;
            shown.lsn = target.place.lsn;
            shown.refs = Vec::new();
            shown.last_transaction_time = timestamptz_text(state.last_time);
            shown.message = format!(
                "(no commit here; the one before it is {})",
                target.commit_id.short()
            );
        }
        let place = if target.is_commit() {
            Place::of(&target.commit)
        } else {
            target.place
        };
        shown.size = self.size_at(&place).ok();
        shown.path = place
            .path
            .iter()
            .map(|fork| format!("{}@{}", fork.timeline, fork.start))
            .collect();
        Ok(shown)
    }

    fn ref_names(&self) -> Result<HashMap<CommitId, Vec<String>>> {
        let refs = self.refs.list("refs/")?;
        let mut namesakes: HashMap<String, u32> = HashMap::new();
        for name in refs.keys() {
            *namesakes.entry(name.short()).or_default() += 1;
        }
        let mut names: HashMap<CommitId, Vec<String>> = HashMap::new();
        for (name, id) in refs {
            let short = name.short();
            let shown = match namesakes.get(&short) {
                Some(1) => short,
                _ => spelled_out(&name),
            };
            names.entry(id).or_default().push(shown);
        }
        Ok(names)
    }
}

/// Stands in for a commit that cannot be read; what it followed on is not known.
fn damaged_row(id: CommitId, error: &RepoError, refs: &HashMap<CommitId, Vec<String>>) -> api::Commit {
    api::Commit {
        id,
        timeline: TimelineId([0; 16]),
        lsn: Lsn::INVALID,
        parents: Vec::new(),
        refs: refs.get(&id).cloned().unwrap_or_default(),
        author: String::new(),
        time: String::new(),
        message: format!("(damaged: {})", with_causes(error)),
        pg_version_num: 0,
        system_id: 0,
        last_transaction_time: None,
        size: None,
        path: Vec::new(),
        wal_segments: 0,
    }
}

fn row(id: CommitId, commit: &Commit, refs: &HashMap<CommitId, Vec<String>>) -> api::Commit {
    let state = CheckpointState::decode(&commit.checkpoint).ok();
    api::Commit {
        id,
        timeline: commit.position.timeline,
        lsn: commit.position.lsn,
        parents: commit.parents.clone(),
        refs: refs.get(&id).cloned().unwrap_or_default(),
        author: commit.author.clone(),
        time: commit.timestamp().to_string(),
        message: commit.message.clone(),
        pg_version_num: commit.environment.pg_version_num,
        system_id: commit.system_id,
        last_transaction_time: state.and_then(|(_, state)| timestamptz_text(state.last_time)),
        size: None,
        path: Vec::new(),
        wal_segments: commit.digests.len(),
    }
}
