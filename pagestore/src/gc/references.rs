//! Which objects timelines need.

use std::collections::{BTreeSet, HashSet};
use std::path::PathBuf;

use neon_types::{LayerMapId, ObjectId, TimelineId};

use crate::map::LayerMap;
use crate::timeline::TimelineState;
use crate::{PageStore, PageStoreError, Result};

/// What a collector must know of a timeline.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct TimelineNode {
    /// Its id.
    pub id: TimelineId,
    /// The timeline that it forks from.
    pub ancestor: Option<TimelineId>,
    /// The branch that it is open for.
    pub branch: Option<String>,
}

/// The objects that timelines name: layer maps with their chunks, and the layers in them.
#[derive(Debug, Default)]
pub struct References {
    maps: BTreeSet<LayerMapId>,
    objects: HashSet<ObjectId>,
}

/// A timeline whose state is damaged, and what is wrong.
pub type DamagedNode = (TimelineId, PageStoreError);

impl References {
    /// Returns true when a timeline needs the object.
    pub fn contains(&self, id: ObjectId) -> bool {
        self.objects.contains(&id)
    }

    fn add(&mut self, map: &LayerMap) {
        self.objects.extend(map.objects());
        self.objects.extend(map.entries().map(|entry| entry.layer.0));
    }
}

impl PageStore {
    /// Returns every timeline, by id, and beside them those whose state is damaged, with what is wrong.
    pub fn nodes(&self) -> Result<(Vec<TimelineNode>, Vec<DamagedNode>)> {
        let (mut nodes, mut damaged) = (Vec::new(), Vec::new());
        for id in self.list() {
            match TimelineState::read(id, &self.directory_of(id)) {
                Ok(state) => nodes.push(TimelineNode {
                    id,
                    ancestor: state.ancestor.map(|ancestor| ancestor.timeline),
                    branch: state.branch,
                }),
                // Removed since it was listed.
                Err(PageStoreError::NoSuchTimeline(_)) if !self.contains(id) => {}
                Err(error @ (PageStoreError::NoSuchTimeline(_) | PageStoreError::DamagedState { .. })) => {
                    damaged.push((id, error));
                }
                Err(error) => return Err(error),
            }
        }
        Ok((nodes, damaged))
    }

    /// Returns the objects that the timelines name, those of `without` left out. Errors when a map cannot be read: then nothing is known.
    pub fn named(&self, without: &BTreeSet<TimelineId>) -> Result<References> {
        let mut references = References::default();
        self.add_named(without, &mut references)?;
        Ok(references)
    }

    /// Returns the objects that any timeline names, and those that readers in this process still use: what may not be deleted.
    ///
    /// Nothing is missed that moves from timeline to timeline meanwhile: maps that replace others, or that a fork takes over, are made of
    /// layers that were named or held when this began, or were put under a hold. Errors when a map cannot be read.
    pub fn needed(&self) -> Result<References> {
        let none = BTreeSet::new();
        let mut references = self.named(&none)?;
        for map in self.live_maps() {
            references.add(&map);
        }
        // A fork may have taken over its ancestor's map after its own state and before its ancestor's was read.
        self.add_named(&none, &mut references)?;
        Ok(references)
    }

    fn add_named(&self, without: &BTreeSet<TimelineId>, references: &mut References) -> Result<()> {
        for id in self.list().into_iter().filter(|id| !without.contains(id)) {
            self.add_of(id, references)?;
        }
        Ok(())
    }

    fn add_of(&self, id: TimelineId, references: &mut References) -> Result<()> {
        let state = match TimelineState::read(id, &self.directory_of(id)) {
            Ok(state) => state,
            Err(PageStoreError::NoSuchTimeline(_)) if !self.contains(id) => return Ok(()),
            Err(error) => return Err(error),
        };
        if let Some(map) = state.layer_map
            && references.maps.insert(map)
        {
            references.objects.insert(map.0);
            references.add(&self.layer_map(map)?);
        }
        Ok(())
    }

    /// Takes a timeline that nobody needs out of the store: its state and WAL. Returns the directory that they are in now, to be deleted;
    /// what a crash leaves of it goes when the store is opened. Its layers stay.
    ///
    /// Errors: [`PageStoreError::TimelineNeeded`] while another one forks from it.
    pub fn set_aside(&self, id: TimelineId) -> Result<PathBuf> {
        if let Some((child, _)) = self.children(id).first() {
            return Err(PageStoreError::TimelineNeeded {
                timeline: id,
                child: *child,
            });
        }
        self.forget(id)
    }

    /// Forgets what is kept in memory, and open, of a layer that was deleted.
    pub fn forget_layer(&self, id: ObjectId) {
        self.layer_cache().forget(self.objects(), neon_types::LayerId(id));
    }
}
