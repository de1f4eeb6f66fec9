//! Tags: refs that stay where they are.

use neon_objects::{Expect, RefEdit};

use crate::api;
use crate::error::{RepoError, Result};
use crate::repository::{Repository, new_tag_ref, tag_ref};

impl Repository {
    /// Lists the tags.
    pub(crate) fn list_tags(&self) -> Result<Vec<api::Tag>> {
        let mut tags = Vec::new();
        for (name, id) in self.refs.list("refs/tags/")? {
            let commit = self.commit(id)?;
            tags.push(api::Tag {
                name: name.short(),
                commit: id,
                lsn: commit.position.lsn,
                message: commit.message.lines().next().unwrap_or_default().to_owned(),
            });
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
