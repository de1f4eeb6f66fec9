//! Blocks of a data directory beside those of a position, in key order.

use std::collections::VecDeque;

use neon_postgres::Page;
use neon_types::{Lsn, RelTag};

use crate::{Result, Timeline};

/// Blocks that are read at once.
const WINDOW: u32 = 256;

/// A relation fork that both may have.
struct Relation {
    rel: RelTag,
    /// Blocks in the directory.
    now: u32,
    /// Blocks at the position.
    then: u32,
}

/// Walks through the relations of a directory, and reads what the position has of them once.
pub(super) struct Blocks<'a> {
    timeline: &'a Timeline,
    lsn: Lsn,
    /// Those not passed yet, in key order.
    relations: VecDeque<Relation>,
    /// Of the first of them, the first block not passed yet.
    next: u32,
    /// First block of `pages`.
    first: u32,
    /// Of the first relation; none of those that cannot be read.
    pages: Vec<Option<Page>>,
}

impl<'a> Blocks<'a> {
    pub(super) fn new(timeline: &'a Timeline, lsn: Lsn) -> Blocks<'a> {
        Blocks {
            timeline,
            lsn,
            relations: VecDeque::new(),
            next: 0,
            first: 0,
            pages: Vec::new(),
        }
    }

    /// Adds a relation fork of the directory, in key order, before any block is passed.
    pub(super) fn push(&mut self, rel: RelTag, now: u32, then: u32) {
        self.relations.push_back(Relation { rel, now, then });
    }

    /// Goes to a block of the directory, or behind all. The blocks in between are zeros there: `emptied` is called with those that are not at the
    /// position.
    pub(super) fn pass(
        &mut self,
        to: Option<(RelTag, u32)>,
        emptied: &mut dyn FnMut(RelTag, u32) -> Result<()>,
    ) -> Result<()> {
        while let Some((rel, both, now)) = self.first() {
            let here = to.filter(|(there, _)| *there == rel).map(|(_, block)| block);
            for block in self.next..here.unwrap_or(now).min(both) {
                if !self.page(rel, block)?.as_ref().is_some_and(Page::is_all_zero) {
                    emptied(rel, block)?;
                }
            }
            if let Some(block) = here {
                self.next = block + 1;
                return Ok(());
            }
            self.relations.pop_front();
            self.next = 0;
            self.pages.clear();
        }
        Ok(())
    }

    /// Returns whether the block that was passed last is another one at the position.
    pub(super) fn differs(&mut self, block: u32, page: &Page) -> Result<bool> {
        match self.first() {
            Some((rel, both, _)) if block < both => Ok(self.page(rel, block)?.as_ref() != Some(page)),
            _ => Ok(true),
        }
    }

    /// Returns the first relation, the blocks that both have, and those of the directory.
    fn first(&self) -> Option<(RelTag, u32, u32)> {
        let relation = self.relations.front()?;
        Some((relation.rel, relation.now.min(relation.then), relation.now))
    }

    /// Returns a block of the first relation at the position; none when it cannot be read.
    fn page(&mut self, rel: RelTag, block: u32) -> Result<Option<Page>> {
        let held = |blocks: &Blocks<'_>| {
            let index = block.checked_sub(blocks.first)?;
            blocks.pages.get(usize::try_from(index).ok()?).cloned()
        };
        if let Some(page) = held(self) {
            return Ok(page);
        }
        self.first = block;
        self.pages.clear();
        let window = block..block.saturating_add(WINDOW);
        let pages = &mut self.pages;
        let read = self.timeline.scan_pages(rel, window, self.lsn, &mut |_, page| {
            pages.push(Some(page.clone()));
            Ok(())
        });
        if let Err(error) = read {
            // A record that redo does not know, or damage: the directory's page stands in for it.
            tracing::debug!(%rel, block, %error, "blocks cannot be compared");
            self.pages.push(None);
        }
        Ok(held(self).flatten())
    }
}
