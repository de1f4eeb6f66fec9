//! What a comparison found.

use std::collections::BTreeMap;
use std::fmt;

use neon_postgres::wal::rmgr;
use neon_types::{Fork, RelTag, SlruKind};
use serde::{Deserialize, Serialize};

/// Differences that are kept one by one; the rest is only counted.
pub const MOST_DIFFERENCES: usize = 20;

/// What is compared.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Class {
    /// Pages of tables.
    Heap,
    /// Pages of B-tree indexes.
    Btree,
    /// Pages of hash indexes.
    Hash,
    /// Pages of GIN indexes.
    Gin,
    /// Pages of GiST indexes.
    Gist,
    /// Pages of SP-GiST indexes.
    Spgist,
    /// Pages of BRIN indexes.
    Brin,
    /// Pages of sequences.
    Sequence,
    /// Pages that are all zeros on both sides, or were formatted without WAL.
    Empty,
    /// Pages of visibility maps.
    VisibilityMap,
    /// Sizes of relation forks, and which there are.
    Sizes,
    /// Pages and files of an SLRU.
    Slru(SlruKind),
    /// `pg_filenode.map`
    RelationMaps,
    /// `pg_twophase`
    TwoPhase,
    /// Databases and tablespaces.
    Databases,
    /// Progress of replication origins.
    Origins,
    /// The checkpoint state, of which `pg_control` is made.
    Control,
}

impl Class {
    /// Returns the class of pages of that resource manager.
    pub(super) fn of_rmgr(rmid: u8) -> Class {
        match rmid {
            rmgr::BTREE => Class::Btree,
            rmgr::HASH => Class::Hash,
            rmgr::GIN => Class::Gin,
            rmgr::GIST => Class::Gist,
            rmgr::SPGIST => Class::Spgist,
            rmgr::BRIN => Class::Brin,
            rmgr::SEQ => Class::Sequence,
            _ => Class::Heap,
        }
    }

    /// Returns its name, as reports have it.
    pub fn name(self) -> &'static str {
        match self {
            Class::Heap => "heap",
            Class::Btree => "btree",
            Class::Hash => "hash",
            Class::Gin => "gin",
            Class::Gist => "gist",
            Class::Spgist => "spgist",
            Class::Brin => "brin",
            Class::Sequence => "sequence",
            Class::Empty => "empty",
            Class::VisibilityMap => "visibility map",
            Class::Sizes => "sizes",
            Class::Slru(kind) => kind.directory(),
            Class::RelationMaps => "relation maps",
            Class::TwoPhase => "two-phase",
            Class::Databases => "databases",
            Class::Origins => "origins",
            Class::Control => "control",
        }
    }
}

/// Counts of one class.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Tally {
    /// Files (of a relation: forks), or items that are part of one.
    pub files: u64,
    /// Pages of 8192 bytes.
    pub pages: u64,
    /// Differences.
    pub differences: u64,
}

impl Tally {
    /// Adds another one.
    pub fn add(&mut self, other: Tally) {
        self.files += other.files;
        self.pages += other.pages;
        self.differences += other.differences;
    }
}

/// Deviations that no WAL describes, counted.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Allowed {
    /// Empty blocks that Postgres added without WAL.
    pub unlogged_blocks: u64,
    /// Map pages of databases copied by WAL that have bits only in the directory.
    pub maps_behind: u64,
    /// All-visible heap pages of which Postgres did not write the last LSN.
    pub lsns_behind: u64,
    /// Sequences whose WAL is ahead of the directory.
    pub sequences_ahead: u64,
}

/// One difference.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Difference {
    /// Relation fork or file.
    pub place: String,
    /// Block or page, when it is in one.
    pub block: Option<u64>,
    /// The first byte in the page that differs, when bytes do.
    pub offset: Option<usize>,
    /// What WAL made.
    pub ours: String,
    /// What the directory has.
    pub theirs: String,
}

impl fmt::Display for Difference {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.place)?;
        if let Some(block) = self.block {
            write!(f, " block {block}")?;
        }
        if let Some(offset) = self.offset {
            write!(f, " byte {offset}")?;
        }
        write!(f, ": {}, in the directory {}", self.ours, self.theirs)
    }
}

/// What was compared, and how it differs.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Report {
    /// Counts by class.
    pub classes: BTreeMap<Class, Tally>,
    /// The first differences, [`MOST_DIFFERENCES`] at most.
    pub differences: Vec<Difference>,
    /// What may differ and does.
    pub allowed: Allowed,
    /// Pages whose last record redo does not know.
    pub not_replayed: u64,
}

impl Report {
    /// Returns the sums over all classes.
    pub fn total(&self) -> Tally {
        let mut total = Tally::default();
        for tally in self.classes.values() {
            total.add(*tally);
        }
        total
    }

    /// Returns the number of pages of a class.
    pub fn pages(&self, class: Class) -> u64 {
        self.classes.get(&class).map_or(0, |tally| tally.pages)
    }

    pub(super) fn tally(&mut self, class: Class) -> &mut Tally {
        self.classes.entry(class).or_default()
    }

    pub(super) fn differs(&mut self, class: Class, difference: Difference) {
        self.tally(class).differences += 1;
        if self.differences.len() < MOST_DIFFERENCES {
            self.differences.push(difference);
        }
    }
}

/// Returns the difference of something that is no page.
pub(super) fn item(
    place: impl fmt::Display,
    ours: impl fmt::Display,
    theirs: impl fmt::Display,
) -> Difference {
    Difference {
        place: place.to_string(),
        block: None,
        offset: None,
        ours: ours.to_string(),
        theirs: theirs.to_string(),
    }
}

/// Returns true for the forks whose blocks are not of an access method's making.
pub(super) fn is_map(rel: RelTag) -> bool {
    rel.fork == Fork::VisibilityMap
}
