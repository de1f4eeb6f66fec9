//! Sizes of relations, as the records so far left them.

use std::collections::HashMap;

use neon_types::{Fork, Key, KeyRange, Lsn, RelTag};

use super::State;
use crate::items::RelSize;
use crate::{PageStoreError, Result};

/// Relations, and cuts of theirs, that are remembered at most, about 8 MiB each: beyond that everything is forgotten and looked up again.
const MAX_REMEMBERED: usize = 1 << 16;
const MAX_CUTS: usize = 1 << 19;

/// How far, in bytes of WAL, the lock of a new relation may be from the record that created it.
const NEAR: u64 = 1 << 20;

/// Sizes that were looked up or changed; None for a relation that does not exist.
#[derive(Default)]
pub(super) struct Sizes {
    known: HashMap<RelTag, Known>,
    /// Relations whose size changed in the record at hand, once each.
    changed: Vec<RelTag>,
    /// Cuts that came with what is known, at least.
    cuts: usize,
}

/// What is known of a relation.
struct Known {
    size: Option<RelSize>,
    /// It is in the list of those that changed.
    changed: bool,
}

impl Sizes {
    /// Returns the size of `rel`, None when it does not exist.
    pub(super) fn get(&mut self, rel: RelTag, state: &dyn State) -> Result<Option<&RelSize>> {
        self.entry(rel, state).map(|known| known.size.as_ref())
    }

    /// A record names `block`, and ends above `start`: the relation has that block from then on.
    pub(super) fn reach(&mut self, rel: RelTag, block: u32, start: Lsn, state: &dyn State) -> Result<()> {
        let size = block.checked_add(1).ok_or_else(|| {
            PageStoreError::damaged(format!("a record of {rel}"), "it names block 4294967295")
        })?;
        match &mut self.entry(rel, state)?.size {
            Some(known) if known.size >= size => return Ok(()),
            Some(known) => known.size = size,
            // As Postgres: a record of a relation that nobody created creates it. What was there before the record is
            // of another relation of that name.
            unknown => {
                *unknown = Some(RelSize {
                    size,
                    ..RelSize::created(start)
                });
            }
        }
        self.mark(rel);
        Ok(())
    }

    /// The record that ends at `end` creates the fork for a transaction (0 while it is not known which), unless it exists.
    ///
    /// A relation that another transaction made and that is still here was left by one that never ended: data directories are made
    /// without it, so that its number may be given again. Its forks go.
    pub(super) fn create(&mut self, rel: RelTag, creator: u64, end: Lsn, state: &dyn State) -> Result<()> {
        let left = |size: &RelSize| size.creator.is_some_and(|left| left == 0 || left != creator);
        if rel.fork == Fork::Main && self.get(rel, state)?.is_some_and(left) {
            self.drop_relation(rel, state)?;
        }
        let known = self.entry(rel, state)?;
        if known.size.is_none() {
            known.size = Some(RelSize {
                creator: Some(creator),
                ..RelSize::created(end)
            });
            self.mark(rel);
        }
        Ok(())
    }

    /// The record that ends at `end` creates the fork, unless it exists, for nobody in particular.
    pub(super) fn create_missing(&mut self, rel: RelTag, end: Lsn, state: &dyn State) -> Result<()> {
        let known = self.entry(rel, state)?;
        if known.size.is_none() {
            known.size = Some(RelSize::created(end));
            self.mark(rel);
        }
        Ok(())
    }

    /// The record that begins at `start` says that transaction `xid` has locked the relation: it created it, if that was just now and
    /// the record of the creation named nobody. Others cannot see the relation then.
    pub(super) fn locked(&mut self, rel: RelTag, xid: u64, start: Lsn, state: &dyn State) -> Result<()> {
        for fork in [Fork::Main, Fork::Init] {
            let rel = rel.with_fork(fork);
            let Some(size) = &mut self.entry(rel, state)?.size else {
                continue;
            };
            let recent = size
                .cuts
                .last()
                .is_some_and(|created| start.bytes_since(created.lsn) < NEAR);
            if size.creator == Some(0) && recent && (fork == Fork::Init || size.size == 0) {
                size.creator = Some(xid);
                self.mark(rel);
            }
        }
        Ok(())
    }

    /// The record that ends at `end` cuts the fork to `blocks` blocks, if it is longer.
    pub(super) fn truncate(&mut self, rel: RelTag, blocks: u32, end: Lsn, state: &dyn State) -> Result<()> {
        if let Some(known) = &mut self.entry(rel, state)?.size
            && known.size > blocks
        {
            known.truncate(blocks, end);
            self.mark(rel);
        }
        Ok(())
    }

    /// The record drops every fork.
    pub(super) fn drop_relation(&mut self, rel: RelTag, state: &dyn State) -> Result<()> {
        for fork in [Fork::Main, Fork::VisibilityMap, Fork::Init] {
            self.drop_fork(rel.with_fork(fork), state)?;
        }
        Ok(())
    }

    /// The record drops one fork.
    pub(super) fn drop_fork(&mut self, rel: RelTag, state: &dyn State) -> Result<()> {
        if self.entry(rel, state)?.size.take().is_some() {
            self.mark(rel);
        }
        Ok(())
    }

    /// The record at hand changes all relations of a database in a tablespace by itself: what is known of them is no more so.
    pub(super) fn forget_database(&mut self, spc: u32, db: u32) {
        self.known.retain(|rel, _| (rel.spc, rel.db) != (spc, db));
    }

    /// Calls `f` with the relation forks of a database in a tablespace, as they were before the record at hand, in order.
    pub(super) fn of_database(
        spc: u32,
        db: u32,
        state: &dyn State,
        f: &mut dyn FnMut(RelTag, RelSize),
    ) -> Result<()> {
        let rel = |rel, fork| Key::RelSize(RelTag { spc, db, rel, fork }).pack();
        let range = KeyRange {
            start: rel(0, Fork::Main),
            end: rel(u32::MAX, Fork::Init).next(),
        };
        state.scan_items(range, &mut |key, bytes| {
            if let Key::RelSize(tag) = key {
                let size = RelSize::decode(bytes)
                    .map_err(|error| PageStoreError::damaged(format!("{key:?}"), error))?;
                f(tag, size);
            }
            Ok(())
        })
    }

    /// Returns what changed since the last call: the new size of each relation, None for one that was dropped.
    pub(super) fn take_changes(&mut self) -> Vec<(RelTag, Option<RelSize>)> {
        let changes = std::mem::take(&mut self.changed)
            .into_iter()
            .filter_map(|rel| {
                let known = self.known.get_mut(&rel)?;
                known.changed = false;
                self.cuts += known.size.as_ref().map_or(0, |size| size.cuts.len());
                Some((rel, known.size.clone()))
            })
            .collect();
        if self.known.len() > MAX_REMEMBERED || self.cuts > MAX_CUTS {
            self.known.clear();
            self.cuts = 0;
        }
        changes
    }

    fn mark(&mut self, rel: RelTag) {
        if let Some(known) = self.known.get_mut(&rel)
            && !known.changed
        {
            known.changed = true;
            self.changed.push(rel);
        }
    }

    fn entry(&mut self, rel: RelTag, state: &dyn State) -> Result<&mut Known> {
        use std::collections::hash_map::Entry;
        match self.known.entry(rel) {
            Entry::Occupied(known) => Ok(known.into_mut()),
            Entry::Vacant(vacant) => {
                let key = Key::RelSize(rel);
                let size = match state.item(key)? {
                    Some(bytes) => Some(
                        RelSize::decode(&bytes)
                            .map_err(|error| PageStoreError::damaged(format!("{key:?}"), error))?,
                    ),
                    None => None,
                };
                self.cuts += size.as_ref().map_or(0, |size| size.cuts.len());
                Ok(vacant.insert(Known { size, changed: false }))
            }
        }
    }
}
