//! Everything that a directory will hold, pages aside, sorted by kind.

use std::collections::BTreeMap;

use neon_pagestore::items::{CarriedFile, SlruSegments};
use neon_postgres::layout::{DEFAULT_TABLESPACE, GLOBAL_TABLESPACE};
use neon_types::{Fork, Lsn, RelTag, SlruKind};

use super::unfinished;
use crate::error::{ComputeError, Result};
use crate::source::{Item, PageSource};

/// The items of a position.
#[derive(Debug, Default)]
pub(super) struct Contents {
    pub files: Vec<CarriedFile>,
    pub tablespaces: Vec<u32>,
    /// Contents of `PG_VERSION` by tablespace and database.
    pub databases: BTreeMap<(u32, u32), Vec<u8>>,
    /// Contents of `pg_filenode.map` by tablespace and database.
    pub rel_maps: BTreeMap<(u32, u32), Vec<u8>>,
    pub two_phase: BTreeMap<u64, Vec<u8>>,
    pub origins: BTreeMap<u16, Lsn>,
    pub slrus: Vec<(SlruKind, SlruSegments)>,
    /// Sizes in blocks.
    pub relations: BTreeMap<RelTag, u32>,
}

impl Contents {
    /// Reads them all.
    pub(super) fn collect(source: &dyn PageSource) -> Result<Contents> {
        let mut contents = Contents::default();
        let mut creators = BTreeMap::new();
        source.items(&mut |item| {
            match item {
                Item::File(file) => contents.files.push(file),
                Item::Tablespace { spc } => contents.tablespaces.push(spc),
                Item::Database {
                    spc,
                    db,
                    version_file,
                } => {
                    contents.databases.insert((spc, db), version_file);
                }
                Item::RelMap { spc, db, file } => {
                    contents.rel_maps.insert((spc, db), file);
                }
                Item::TwoPhase { xid, file } => {
                    contents.two_phase.insert(xid, file);
                }
                Item::ReplicationOrigin { id, remote } => {
                    contents.origins.insert(id, remote);
                }
                Item::Slru { kind, segments } => contents.slrus.push((kind, segments)),
                Item::Relation { rel, blocks, creator } => {
                    contents.relations.insert(rel, blocks);
                    if let Some(creator) = creator {
                        creators.insert(rel, creator);
                    }
                }
            }
            Ok(())
        })?;
        unfinished::remove(source, &mut contents, &creators)?;
        if !contents.rel_maps.contains_key(&(GLOBAL_TABLESPACE, 0)) {
            return Err(ComputeError::Damaged(
                "there is no shared relation map".to_owned(),
            ));
        }
        for place in contents.rel_maps.keys().chain(contents.databases.keys()) {
            contents.check_tablespace(place.0)?;
        }
        for rel in contents.relations.keys() {
            contents.check_tablespace(rel.spc)?;
            if (rel.spc == GLOBAL_TABLESPACE) != (rel.db == 0) {
                return Err(ComputeError::Damaged(format!("relation {rel} is in no database")));
            }
        }
        Ok(contents)
    }

    fn check_tablespace(&self, spc: u32) -> Result<()> {
        if spc == DEFAULT_TABLESPACE || spc == GLOBAL_TABLESPACE || self.tablespaces.contains(&spc) {
            return Ok(());
        }
        Err(ComputeError::Damaged(format!("there is no tablespace {spc}")))
    }

    /// Returns true for a relation that starts from its init fork.
    pub(super) fn is_unlogged(&self, rel: RelTag) -> bool {
        self.relations.contains_key(&rel.with_fork(Fork::Init))
    }

    /// Returns the number of unlogged relations.
    pub(super) fn unlogged_count(&self) -> u64 {
        self.relations.keys().filter(|rel| rel.fork == Fork::Init).count() as u64
    }

    /// Returns every file fork to be made, with the fork whose pages it gets and its size in blocks.
    ///
    /// A main fork beside an init fork is a copy of that, since nothing else resets it in a directory that looks cleanly
    /// stopped. Free space maps are left for vacuum to rebuild.
    pub(super) fn forks(&self) -> Vec<(RelTag, RelTag, u32)> {
        let mut forks = Vec::with_capacity(self.relations.len());
        for (rel, blocks) in &self.relations {
            match rel.fork {
                Fork::FreeSpaceMap => {}
                Fork::Main | Fork::VisibilityMap if self.is_unlogged(*rel) => {}
                Fork::Main | Fork::VisibilityMap => forks.push((*rel, *rel, *blocks)),
                Fork::Init => {
                    forks.push((*rel, *rel, *blocks));
                    forks.push((rel.with_fork(Fork::Main), *rel, *blocks));
                }
            }
        }
        forks
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn unlogged_relations_begin_from_their_init_fork() {
        let rel = |rel, fork| RelTag {
            spc: 1663,
            db: 5,
            rel,
            fork,
        };
        let contents = Contents {
            relations: BTreeMap::from([
                (rel(1, Fork::Main), 10),
                (rel(1, Fork::FreeSpaceMap), 3),
                (rel(1, Fork::VisibilityMap), 1),
                (rel(2, Fork::Main), 10),
                (rel(2, Fork::VisibilityMap), 1),
                (rel(2, Fork::Init), 2),
                (rel(3, Fork::Init), 0),
            ]),
            ..Contents::default()
        };
        assert_eq!(
            contents.forks(),
            [
                (rel(1, Fork::Main), rel(1, Fork::Main), 10),
                (rel(1, Fork::VisibilityMap), rel(1, Fork::VisibilityMap), 1),
                (rel(2, Fork::Init), rel(2, Fork::Init), 2),
                (rel(2, Fork::Main), rel(2, Fork::Init), 2),
                (rel(3, Fork::Init), rel(3, Fork::Init), 0),
                (rel(3, Fork::Main), rel(3, Fork::Init), 0),
            ]
        );
        assert_eq!(contents.unlogged_count(), 2);
    }
}
