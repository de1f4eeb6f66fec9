//! The newest page of each block, bounded.

use std::collections::{HashMap, HashSet, VecDeque};

use neon_postgres::Page;
use neon_types::{Fork, RelTag};

/// Who changed a page last.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Author {
    pub(super) rmid: u8,
    pub(super) info: u8,
}

/// A page and where its state comes from.
pub(super) struct Base {
    pub(super) page: Page,
    pub(super) author: Author,
    /// The server may have moved the page's LSN without telling replay to.
    pub(super) lsn_uncertain: bool,
    /// A visibility map page whose bits the log lost: CREATE DATABASE logs its copies without their free space, which all of
    /// a map page looks like. Recovery gets an empty map from that too.
    pub(super) map_lost: bool,
}

/// Pages by relation and block. When there are too many, those that were first stored longest ago go.
pub(super) struct Bases {
    relations: HashMap<RelTag, HashMap<u32, Base>>,
    /// Main forks of relations that began in the log that we read and of which no page was evicted.
    born: HashSet<RelTag>,
    /// Every block that was put in, oldest first; some are gone already.
    order: VecDeque<(RelTag, u32)>,
    pages: usize,
    limit: usize,
    evicted: u64,
}

impl Bases {
    pub(super) fn new(limit: usize) -> Bases {
        Bases {
            relations: HashMap::new(),
            born: HashSet::new(),
            order: VecDeque::new(),
            pages: 0,
            limit,
            evicted: 0,
        }
    }

    /// Returns how many pages went for want of room.
    pub(super) fn evicted(&self) -> u64 {
        self.evicted
    }

    /// Notes that a relation begins.
    pub(super) fn create(&mut self, rel: RelTag) {
        self.drop_fork(rel);
        if rel.fork == Fork::Main {
            self.born.insert(rel);
        }
    }

    /// Returns true when a block that is not here is known to be all zeros: its relation began in the log.
    pub(super) fn is_zero(&self, rel: RelTag) -> bool {
        self.born.contains(&rel.with_fork(Fork::Main))
    }

    pub(super) fn get_mut(&mut self, rel: RelTag, block: u32) -> Option<&mut Base> {
        self.relations.get_mut(&rel)?.get_mut(&block)
    }

    pub(super) fn take(&mut self, rel: RelTag, block: u32) -> Option<Base> {
        let base = self.relations.get_mut(&rel)?.remove(&block)?;
        self.pages -= 1;
        Some(base)
    }

    /// Stores a page; the order of a block that was taken and comes back stays.
    pub(super) fn put(&mut self, rel: RelTag, block: u32, base: Base, known: bool) {
        if self
            .relations
            .entry(rel)
            .or_default()
            .insert(block, base)
            .is_none()
        {
            self.pages += 1;
        }
        if !known {
            self.order.push_back((rel, block));
        }
        while self.pages > self.limit {
            let Some((rel, block)) = self.order.pop_front() else {
                return;
            };
            if self.take(rel, block).is_some() {
                self.evicted += 1;
                self.born.remove(&rel.with_fork(Fork::Main));
            }
        }
    }

    /// Forgets all forks of a relation.
    pub(super) fn drop_relation(&mut self, rel: RelTag) {
        self.born.remove(&rel.with_fork(Fork::Main));
        for fork in [Fork::Main, Fork::FreeSpaceMap, Fork::VisibilityMap, Fork::Init] {
            self.drop_fork(rel.with_fork(fork));
        }
    }

    /// Forgets one fork of a relation.
    pub(super) fn drop_fork(&mut self, rel: RelTag) {
        if let Some(blocks) = self.relations.remove(&rel) {
            self.pages -= blocks.len();
        }
    }

    /// Forgets the blocks of a fork from `block` on.
    pub(super) fn cut(&mut self, rel: RelTag, block: u32) {
        if let Some(blocks) = self.relations.get_mut(&rel) {
            let before = blocks.len();
            blocks.retain(|number, _| *number < block);
            self.pages -= before - blocks.len();
        }
    }

    /// Forgets everything in a database, in one tablespace if one is given.
    pub(super) fn drop_database(&mut self, db: u32, spc: Option<u32>) {
        let doomed: Vec<RelTag> = self
            .relations
            .keys()
            .filter(|rel| rel.db == db && spc.is_none_or(|spc| rel.spc == spc))
            .copied()
            .collect();
        for rel in doomed {
            self.drop_relation(rel);
        }
    }
}
