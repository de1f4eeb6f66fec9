//! Objects by their names: what a peer may have of ours, and where those go that we ask for.

use std::collections::{HashMap, HashSet};
use std::io::Read;
use std::sync::Arc;

use neon_objects::Commit;
use neon_pagestore::failpoint;
use neon_remotes::{Catalog, ObjectSink, Objects, PartWriter, history, stretches};
use neon_types::{CommitId, Lsn, ObjectId, TimelineId};

use crate::peer::{Arriving, Local, objects};
use crate::repository::Repository;

/// A head that is served, with its commit.
type Head = (CommitId, Commit);

impl Objects for Repository {
    fn find_objects(&self, wanted: &[ObjectId]) -> Local<Vec<Option<u64>>> {
        let heads = self.served_heads()?;
        let physical = self.served_objects(&heads)?;
        let mut found = Vec::with_capacity(wanted.len());
        for id in wanted {
            let may_have = physical.contains(id) || self.is_served_commit(&heads, CommitId(*id))?;
            // Whoever was told of it asks for it next.
            let here = may_have && self.objects.touch(*id);
            found.push(if here { self.objects.len(*id).ok() } else { None });
        }
        Ok(found)
    }

    fn open_object(&self, id: ObjectId) -> Local<Box<dyn Read + Send>> {
        Ok(Box::new(self.objects.open_object(id).map_err(objects)?))
    }
}

impl Repository {
    /// Returns what a fetch could ask for. A head that cannot be read leads nowhere.
    fn served_heads(&self) -> Local<Vec<Head>> {
        let heads: HashSet<CommitId> = self
            .branches()?
            .into_iter()
            .map(|(_, branch)| branch.head)
            .collect();
        let read = |head: CommitId| Some((head, self.objects.read_commit(head).ok()?));
        Ok(heads.into_iter().filter_map(read).collect())
    }

    /// Returns the layer maps, their chunks and the layers that lie within the paths of the heads.
    fn served_objects(&self, heads: &[Head]) -> Local<HashSet<ObjectId>> {
        let mut served: HashMap<TimelineId, Lsn> = HashMap::new();
        for (_, commit) in heads {
            for (step, upto) in stretches(&commit.path, commit.position.lsn) {
                let known = served.entry(step.timeline).or_insert(upto);
                *known = upto.max(*known);
            }
        }
        let mut found = HashSet::new();
        for (timeline, upto) in served {
            if self.pages.contains(timeline)
                && let Ok(timeline) = self.pages.get(timeline)
            {
                found.extend(timeline.objects_up_to(upto));
            }
        }
        Ok(found)
    }

    /// Returns true for a commit that comes with one of the heads.
    fn is_served_commit(&self, heads: &[Head], wanted: CommitId) -> Local<bool> {
        for (head, _) in heads {
            if history::leads_to(self, *head, wanted)? {
                return Ok(true);
            }
        }
        Ok(false)
    }
}

/// Puts objects that arrive in the place of damaged ones.
pub(crate) struct Repairs(pub Arc<Repository>);

impl ObjectSink for Repairs {
    fn stage_object(&self, id: ObjectId, len: u64) -> Local<Box<dyn PartWriter + '_>> {
        let mut staging = self.0.objects.staging(id).map_err(objects)?.limited(len);
        // What was left there came from somebody else, perhaps.
        staging.restart().map_err(objects)?;
        Ok(Box::new(Repair {
            repository: &self.0,
            id,
            staging: Box::new(Arriving(staging)),
        }))
    }
}

/// An object under its temporary name.
struct Repair<'a> {
    repository: &'a Repository,
    id: ObjectId,
    staging: Box<Arriving>,
}

impl PartWriter for Repair<'_> {
    fn len(&self) -> u64 {
        self.staging.len()
    }

    fn append(&mut self, bytes: &[u8]) -> Local<()> {
        self.staging.append(bytes)
    }

    fn finish(self: Box<Self>) -> Local<()> {
        failpoint("repair-before-install")?;
        // The damaged file stays under the name until the new one, verified and durable, is renamed over it.
        self.staging.finish()?;
        failpoint("repair-after-install")?;
        self.repository.pages.forget_object(self.id);
        Ok(())
    }
}
