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

/// A page that is known, with its place in the order of eviction.
struct Kept {
    base: Base,
    place: u64,
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
    relations: HashMap<RelTag, HashMap<u32, Kept>>,
    /// Main forks of relations that began in the log that we read and of which no page was evicted.
    born: HashSet<RelTag>,
    /// Every block that was put in with its place, oldest first; some are gone already.
    order: VecDeque<(u64, RelTag, u32)>,
    next_place: u64,
    pages: usize,
    most: usize,
    limit: usize,
    evicted: u64,
}

impl Bases {
    pub(super) fn new(limit: usize) -> Bases {
        Bases {
            relations: HashMap::new(),
            born: HashSet::new(),
            order: VecDeque::new(),
            next_place: 0,
            pages: 0,
            most: 0,
            limit,
            evicted: 0,
        }
    }

    /// Returns how many pages went for want of room.
    pub(super) fn evicted(&self) -> u64 {
        self.evicted
    }

    /// Returns how many pages are kept, and the most that ever were.
    pub(super) fn pages(&self) -> (usize, usize) {
        (self.pages, self.most)
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
        let kept = self.relations.get_mut(&rel)?.get_mut(&block)?;
        Some(&mut kept.base)
    }

    /// Takes a page out; its place is for [`put`](Bases::put).
    pub(super) fn take(&mut self, rel: RelTag, block: u32) -> Option<(Base, u64)> {
        let kept = self.relations.get_mut(&rel)?.remove(&block)?;
        self.pages -= 1;
        Some((kept.base, kept.place))
    }

    /// Stores a page; one that was taken goes back to its place.
    pub(super) fn put(&mut self, rel: RelTag, block: u32, base: Base, place: Option<u64>) {
        let place = place.unwrap_or_else(|| {
            self.next_place += 1;
            self.order.push_back((self.next_place, rel, block));
            self.next_place
        });
        let kept = Kept { base, place };
        let before = self.relations.entry(rel).or_default().insert(block, kept);
        self.pages += usize::from(before.is_none());
        while self.pages > self.limit {
            let Some((place, rel, block)) = self.order.pop_front() else {
                break;
            };
            if self.is_at(place, rel, block) && self.take(rel, block).is_some() {
                self.evicted += 1;
                self.born.remove(&rel.with_fork(Fork::Main));
            }
        }
        self.most = self.most.max(self.pages);
        if self.order.len() > 2 * self.limit {
            let mut order = std::mem::take(&mut self.order);
            order.retain(|(place, rel, block)| self.is_at(*place, *rel, *block));
            self.order = order;
        }
    }

    fn is_at(&self, place: u64, rel: RelTag, block: u32) -> bool {
        let kept = self.relations.get(&rel).and_then(|blocks| blocks.get(&block));
        kept.is_some_and(|kept| kept.place == place)
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
