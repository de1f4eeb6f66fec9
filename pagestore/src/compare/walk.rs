//! Both sides in step: the directory's values come in key order, and ours are looked up as they come.

use std::collections::{BTreeMap, BTreeSet};

use neon_postgres::Page;
use neon_types::{Key, PackedKey, RelTag, SlruKind};

use super::items::{self, Items};
use super::report::{Class, Difference, Report, is_map, item};
use super::{Peer, Subject, page};
use crate::{PageStoreError, Result, Value};

/// A comparison that goes on.
pub(super) struct Walk<'a> {
    subject: &'a dyn Subject,
    peer: &'a Peer,
    report: Report,
    ours: Items,
    theirs: Items,
    /// Blocks of each relation fork.
    our_sizes: BTreeMap<RelTag, u32>,
    their_sizes: BTreeMap<RelTag, u32>,
    /// Where the next SLRU page and the next block are expected: what the directory leaves out is zeros.
    slru: SlruPlaces,
    blocks: Option<Blocks>,
}

/// Pages of SLRUs that both sides should have, in order.
type SlruPlaces = BTreeSet<(SlruKind, u64)>;

/// Relation forks that are left, in order, and how far the first of them is.
struct Blocks {
    left: BTreeMap<RelTag, u32>,
    next: u32,
}

impl<'a> Walk<'a> {
    pub(super) fn new(subject: &'a dyn Subject, peer: &'a Peer) -> Result<Walk<'a>> {
        let (mut ours, mut our_sizes) = (Items::new(), BTreeMap::new());
        subject.items(&mut |key, bytes| {
            if let Key::RelSize(rel) = key {
                our_sizes.insert(rel, items::blocks(key, bytes)?);
            } else if !items::is_left_out(key) {
                ours.insert(key, bytes.to_vec());
            }
            Ok(())
        })?;
        let mut slru = SlruPlaces::new();
        for (key, bytes) in &ours {
            if let Key::SlruSegments(kind) = key {
                slru.extend(items::segments(*key, bytes)?.pages().map(|page| (*kind, page)));
            }
        }
        Ok(Walk {
            subject,
            peer,
            report: Report::default(),
            ours,
            theirs: Items::new(),
            our_sizes,
            their_sizes: BTreeMap::new(),
            slru,
            blocks: None,
        })
    }

    /// Takes the next value of the directory.
    pub(super) fn take(&mut self, packed: PackedKey, value: Value) -> Result<()> {
        let key = Key::unpack(&packed).map_err(|error| PageStoreError::damaged("a key", error))?;
        match (key, value) {
            (Key::SlruPage { kind, page }, Value::Image(theirs)) => self.slru_page(kind, page, &theirs),
            (Key::Block(rel, block), Value::Image(theirs)) => self.block(rel, block, &theirs),
            (Key::RelSize(rel), Value::Item(bytes)) => {
                self.their_sizes.insert(rel, items::blocks(key, &bytes)?);
                Ok(())
            }
            (key, Value::Item(bytes)) => {
                if !items::is_left_out(key) {
                    self.theirs.insert(key, bytes);
                }
                Ok(())
            }
            (key, _) => Err(PageStoreError::damaged(
                "what was read from the directory",
                format!("{key:?} is neither a page nor an item"),
            )),
        }
    }

    /// Compares what the directory had nothing for.
    pub(super) fn finish(mut self) -> Result<Report> {
        for (kind, page) in std::mem::take(&mut self.slru) {
            self.compare_slru_page(kind, page, &Page::zeroed())?;
        }
        self.zeros_before(None)?;
        let keys: BTreeSet<Key> = self.ours.keys().chain(self.theirs.keys()).copied().collect();
        for key in keys {
            items::compare(
                key,
                self.ours.get(&key).map(Vec::as_slice),
                self.theirs.get(&key).map(Vec::as_slice),
                self.peer,
                &mut self.report,
            )?;
        }
        Ok(self.report)
    }

    fn slru_page(&mut self, kind: SlruKind, page: u64, theirs: &Page) -> Result<()> {
        // A page that only the directory has is a difference of sizes, if it holds something also one of contents.
        self.slru.remove(&(kind, page));
        self.compare_slru_page(kind, page, theirs)
    }

    fn compare_slru_page(&mut self, kind: SlruKind, page: u64, theirs: &Page) -> Result<()> {
        let ours = self.subject.slru_page(kind, page)?;
        let class = Class::Slru(kind);
        self.report.tally(class).pages += 1;
        if let Some((offset, mine, other)) = page::first_difference(ours.as_bytes(), theirs.as_bytes()) {
            let difference = Difference {
                block: Some(page),
                offset: Some(offset),
                ..item(kind.directory(), mine, other)
            };
            self.report.differs(class, difference);
        }
        Ok(())
    }

    fn block(&mut self, rel: RelTag, block: u32, theirs: &Page) -> Result<()> {
        self.zeros_before(Some((rel, block)))?;
        if let Some(blocks) = &mut self.blocks {
            blocks.next = block + 1;
        }
        self.compare_block(rel, block, theirs)
    }

    /// Compares every block before `stop` that was not given: the directory has zeros there.
    fn zeros_before(&mut self, stop: Option<(RelTag, u32)>) -> Result<()> {
        let mut blocks = match self.blocks.take() {
            Some(blocks) => blocks,
            None => Blocks {
                left: self.relations(),
                next: 0,
            },
        };
        let zero = Page::zeroed();
        while let Some((rel, size)) = blocks.left.first_key_value().map(|(rel, size)| (*rel, *size)) {
            let end = match stop {
                Some((other, block)) if other == rel => block,
                _ => size,
            };
            while blocks.next < end {
                self.compare_block(rel, blocks.next, &zero)?;
                blocks.next += 1;
            }
            if stop.is_some_and(|(other, _)| other == rel) {
                break;
            }
            blocks.left.pop_first();
            blocks.next = 0;
        }
        self.blocks = Some(blocks);
        Ok(())
    }

    /// Compares which relation forks there are and how long; returns those of both sides, as long as the directory's.
    fn relations(&mut self) -> BTreeMap<RelTag, u32> {
        let all: BTreeSet<RelTag> = self
            .our_sizes
            .keys()
            .chain(self.their_sizes.keys())
            .copied()
            .collect();
        for rel in all {
            let (ours, theirs) = (
                self.our_sizes.get(&rel).copied(),
                self.their_sizes.get(&rel).copied(),
            );
            self.report.tally(Class::Sizes).files += 1;
            let same = match (ours, theirs) {
                // Postgres makes maps without WAL, before a record sets bits in them.
                (None, Some(_)) => is_map(rel),
                // And blocks at the end, which are compared as empty ones.
                (Some(ours), Some(theirs)) => ours <= theirs,
                _ => false,
            };
            if !same {
                let show =
                    |size: Option<u32>| size.map_or("missing".to_owned(), |size| format!("{size} blocks"));
                self.report
                    .differs(Class::Sizes, item(rel, show(ours), show(theirs)));
            }
        }
        self.their_sizes.clone()
    }

    fn compare_block(&mut self, rel: RelTag, block: u32, theirs: &Page) -> Result<()> {
        let exists = self.our_sizes.get(&rel).is_some_and(|size| block < *size);
        let ours = if exists {
            self.subject.block(rel, block)
        } else {
            Ok(Page::zeroed())
        };
        match ours {
            Ok(ours) => page::compare(rel, block, ours, theirs, self.peer, &mut self.report),
            Err(PageStoreError::Unsupported { .. }) => self.report.not_replayed += 1,
            Err(error @ PageStoreError::Redo { .. }) => {
                let difference = Difference {
                    block: Some(u64::from(block)),
                    ..item(rel, error, "a page")
                };
                self.report.differs(Class::Empty, difference);
            }
            Err(error) => return Err(error),
        }
        Ok(())
    }
}
