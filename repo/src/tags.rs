//! Tags: refs that stay where they are.

use neon_objects::{Expect, RefEdit};

use neon_types::{Lsn, RefName, with_causes};

use crate::api;
use crate::branches::no_commit;
use crate::error::{RepoError, Result};
use crate::repository::{Repository, new_tag_ref, tag_ref};

impl Repository {
    /// Lists the tags.
    pub(crate) fn list_tags(&self) -> Result<Vec<api::Tag>> {
        let mut tags = Vec::new();
        let (names, damaged) = self.refs.survey("refs/tags/")?;
        let broken = |name: &RefName, commit, why: String| api::Tag {
            name: name.short(),
            commit,
            lsn: Lsn::INVALID,
            message: format!("(damaged: {why})"),
        };
        for (name, id) in names {
            tags.push(match self.commit(id) {
                Ok(commit) => api::Tag {
                    name: name.short(),
                    commit: id,
                    lsn: commit.position.lsn,
                    message: commit.message.lines().next().unwrap_or_default().to_owned(),
                },
                Err(error) => broken(&name, id, with_causes(&error)),
            });
        }
        for name in damaged {
            let last = self.last_logged(&name).unwrap_or_else(no_commit);
            tags.push(broken(&name, last, format!("the file of {name}")));
        }
        Ok(tags)
    }

    /// Makes a tag at a revision.
    pub(crate) fn create_tag(&self, name: &str, rev: Option<&str>) -> Result<api::Moved> {
        let new_ref = new_tag_ref(name)?;
        if self.refs.get(&new_ref)?.is_some() {
            return Err(RepoError::TagExists(name.to_owned()));
        }
        let (target, mut notes) = self.resolve_current(rev)?;
        let (id, made_commit) = self.commit_of(&target, &format!("tag {name}"))?;
        notes.extend(target.notes.iter().cloned());
        notes.extend(self.namesakes(&new_ref)?);
        self.move_refs(
            &[RefEdit {
                name: new_ref,
                expect: Expect::Absent,
                new: Some(id),
            }],
            "tag: created",
        )?;
        let position = target.place.position();
        Ok(api::Moved {
            name: name.to_owned(),
            commit: id,
            timeline: position.timeline,
            lsn: position.lsn,
            made_commit,
            notes,
        })
    }

    /// Deletes a tag.
    pub(crate) fn delete_tag(&self, name: &str) -> Result<api::Done> {
        let name_ref = tag_ref(name)?;
        let id = self
            .refs
            .get(&name_ref)?
            .ok_or_else(|| RepoError::NoTag(name.to_owned()))?;
        self.move_refs(
            &[RefEdit {
                name: name_ref,
                expect: Expect::Exactly(id),
                new: None,
            }],
            "tag: deleted",
        )?;
        Ok(api::Done {
            notes: vec![format!("deleted tag {name} (was {})", id.short())],
        })
    }
}
