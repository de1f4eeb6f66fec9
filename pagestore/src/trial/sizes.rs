//! When relations lost blocks while what arrived was written.

use std::collections::BTreeMap;

use neon_types::{Lsn, RelTag};

use crate::items::RelSize;
use crate::{PageStoreError, Result, Timeline, Value};

/// The relations whose sizes changed.
pub(super) struct Sizes<'t> {
    timeline: &'t Timeline,
    from: Lsn,
    relations: BTreeMap<RelTag, History>,
}

/// What became of one.
#[derive(Default)]
struct History {
    /// At which LSN blocks from which number on lost their contents, in order.
    lost: Vec<(Lsn, u32)>,
    /// It was made as a copy of another meanwhile.
    copied: bool,
}

impl<'t> Sizes<'t> {
    pub(super) fn new(timeline: &'t Timeline, from: Lsn) -> Sizes<'t> {
        Sizes {
            timeline,
            from,
            relations: BTreeMap::new(),
        }
    }

    /// Takes the next version of a relation's size.
    pub(super) fn put(&mut self, rel: RelTag, lsn: Lsn, value: Value) -> Result<()> {
        let history = self.relations.entry(rel).or_default();
        let Value::Item(bytes) = value else {
            history.lost.push((lsn, 0));
            return Ok(());
        };
        let size = RelSize::decode(&bytes)
            .map_err(|error| PageStoreError::damaged(format!("the size of relation {rel}"), error))?;
        let known = history.lost.last().map_or(self.from, |(lsn, _)| *lsn);
        let new = size.cuts.iter().filter(|cut| cut.lsn > known);
        history.lost.extend(new.map(|cut| (cut.lsn, cut.keep)));
        history.copied |= size.copied_from.is_some_and(|copied| copied.lsn > self.from);
        Ok(())
    }

    /// Returns true when what a block of the relation was before is to be looked up.
    pub(super) fn is_copied(&self, rel: RelTag) -> bool {
        self.relations.get(&rel).is_some_and(|history| history.copied)
    }

    /// Returns the last LSN above `after` and at or below `upto` at which a block lost its contents.
    pub(super) fn lost(&self, rel: RelTag, block: u32, after: Lsn, upto: Lsn) -> Option<Lsn> {
        let history = self.relations.get(&rel)?;
        let end = history.lost.partition_point(|(lsn, _)| *lsn <= upto);
        let before = history.lost.get(..end).unwrap_or_default().iter().rev();
        before
            .take_while(|(lsn, _)| *lsn > after)
            .find(|(_, keep)| *keep <= block)
            .map(|(lsn, _)| *lsn)
    }

    /// Returns how large a relation was before all of that.
    pub(super) fn before(&self, rel: RelTag) -> Result<Option<RelSize>> {
        self.timeline.rel_size_item(rel, self.from)
    }
}
