//! `fsck`: every object re-hashed, every ref, commit and layer map followed.

mod amcheck;
mod boot;
mod deep;
mod repair;
mod small_files;

use std::collections::HashSet;
use std::sync::Arc;

use neon_types::{CommitId, with_causes};

use crate::api::{Checked, Finding, Fsck, Progress, ProgressSink};
use crate::error::{RepoError, Result};
use crate::repository::Repository;

impl Repository {
    pub(crate) fn fsck(self: &Arc<Self>, request: &Fsck, progress: &mut dyn ProgressSink) -> Result<Checked> {
        let mut checked = match &request.repair {
            Some(from) => self.check_and_repair(from, progress)?,
            None => self.check(progress)?,
        };
        if request.deep {
            self.rederive(&mut checked, progress)?;
        }
        if request.boot {
            checked.booted = self.boot_branches(request.functions, &mut checked.findings, progress)?;
        }
        Ok(checked)
    }

    /// Hashes every object and follows every ref, commit and layer map.
    fn check(&self, progress: &mut dyn ProgressSink) -> Result<Checked> {
        let before = self.turns.collections();
        let checked = self.check_once(progress)?;
        if checked.findings.is_empty() || self.turns.collections() == before {
            return Ok(checked);
        }
        // What a collection deleted meanwhile was missed where it had been named a moment before.
        let _no_collection = self.turns.collecting();
        self.check_once(progress)
    }

    fn check_once(&self, progress: &mut dyn ProgressSink) -> Result<Checked> {
        let mut checked = Checked::default();
        self.check_small_files(&mut checked);
        let mut seen: HashSet<CommitId> = HashSet::new();
        let mut queue: Vec<(String, CommitId)> = Vec::new();
        let (names, damaged) = self.refs.survey("refs/")?;
        for name in damaged {
            let last = self
                .last_logged(&name)
                .map(|last| format!("; its log says that it named commit {}", last.short()));
            checked.findings.push(Finding {
                object: None,
                message: format!("{name} is damaged{}", last.unwrap_or_default()),
            });
        }
        for (name, id) in names {
            checked.refs += 1;
            queue.push((name.to_string(), id));
        }
        let head = self.refs.head()?;
        if self.heads()?.iter().all(|(name, _)| *name != head) && checked.refs > 0 {
            checked.findings.push(Finding {
                object: None,
                message: format!("HEAD names branch '{head}', which does not exist"),
            });
        }
        while let Some((from, id)) = queue.pop() {
            if !seen.insert(id) {
                continue;
            }
            match self.commit(id) {
                Ok(commit) => {
                    checked.commits += 1;
                    if !from.starts_with("refs/origins/") {
                        self.check_readable(&from, id, &commit, &mut checked);
                    }
                    // Parents off the path of what was transferred were never sent.
                    let here = commit
                        .parents
                        .iter()
                        .filter(|parent| self.objects.contains(parent.0));
                    queue.extend(here.map(|parent| (format!("commit {}", id.short()), *parent)));
                }
                Err(error) => checked.findings.push(Finding {
                    object: Some(id.0),
                    message: format!("{from} leads to commit {}: {}", id.short(), with_causes(&error)),
                }),
            }
        }
        checked.layer_maps = self.pages.list().len() as u64;
        let mut told = (0, 0);
        let pages = neon_pagestore::fsck(&self.pages, &mut |done, total| {
            told = (done, total);
            progress.report(&Progress {
                label: "checking objects".into(),
                done,
                total,
                unit: "bytes".into(),
            });
            !progress.cancelled()
        })?;
        if told.0 < told.1 {
            return Err(RepoError::Interrupted);
        }
        (checked.objects, checked.bytes) = (pages.objects, pages.bytes);
        checked
            .findings
            .extend(pages.findings.into_iter().map(Finding::from));
        Ok(checked)
    }

    /// A commit must stand on a timeline that is here, at the end of a record of it, with the state that the record left.
    fn check_readable(&self, from: &str, id: CommitId, commit: &neon_objects::Commit, checked: &mut Checked) {
        let position = commit.position;
        let problem = match self.timeline(position.timeline) {
            Err(error) => Some(with_causes(&error)),
            Ok(timeline) => match timeline.checkpoint_state(position.lsn) {
                Ok(state) if state.encode(timeline.version()) != commit.checkpoint => {
                    Some("the checkpoint state there is not the one that was signed off".to_owned())
                }
                // Commits outlive the pages that retention drops.
                Ok(_) | Err(neon_pagestore::PageStoreError::Dropped { .. }) => None,
                Err(error) => Some(with_causes(&error)),
            },
        };
        if let Some(problem) = problem {
            checked.findings.push(Finding {
                object: Some(id.0),
                message: format!(
                    "{from}: commit {} at {position} cannot be read: {problem}",
                    id.short()
                ),
            });
        }
    }
}

impl From<neon_pagestore::Finding> for Finding {
    fn from(finding: neon_pagestore::Finding) -> Finding {
        Finding {
            object: finding.object,
            message: match finding.timeline {
                Some(timeline) => format!("timeline {}: {}", timeline.short(), finding.problem),
                None => finding.problem,
            },
        }
    }
}
