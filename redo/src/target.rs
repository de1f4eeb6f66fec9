//! The block that a record is being replayed onto.

use neon_postgres::PgVersion;
use neon_postgres::wal::Record;
use neon_types::{Fork, Lsn};

use crate::{Cluster, Damage};

/// What replay did to a page, which decides whether its LSN moves.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Touch {
    /// The page takes the record's LSN.
    Changed,
    /// The page keeps its LSN.
    Unchanged,
}

impl Touch {
    /// Returns [`Touch::Changed`] when `changed`.
    pub(crate) fn when(changed: bool) -> Touch {
        if changed { Touch::Changed } else { Touch::Unchanged }
    }
}

/// A record and one of its block references.
pub(crate) struct Target<'a> {
    pub(crate) cluster: &'a Cluster,
    pub(crate) record: &'a Record,
    /// End of the record: the LSN that its pages take.
    pub(crate) end: Lsn,
    /// Index of the reference in the record's blocks.
    pub(crate) index: usize,
    pub(crate) reference: &'a neon_postgres::wal::BlockRef,
}

impl<'a> Target<'a> {
    pub(crate) fn version(&self) -> PgVersion {
        self.cluster.version
    }

    /// Returns the id of the reference, by which records tell their blocks apart.
    pub(crate) fn id(&self) -> u8 {
        self.reference.id
    }

    pub(crate) fn block(&self) -> u32 {
        self.reference.block
    }

    pub(crate) fn data(&self) -> &'a [u8] {
        self.record.block_data(self.index)
    }

    /// Returns the block number of the reference with that id, if there is one.
    pub(crate) fn find_block(&self, id: u8) -> Option<u32> {
        self.record
            .blocks
            .iter()
            .find(|block| block.id == id)
            .map(|block| block.block)
    }

    /// Returns the block number of the reference with that id.
    pub(crate) fn block_of(&self, id: u8) -> Result<u32, Damage> {
        self.find_block(id).ok_or(Damage::MissingBlock { id })
    }

    /// Returns the error for a reference that this kind of record does not have.
    pub(crate) fn unexpected(&self) -> Damage {
        Damage::UnexpectedBlock { id: self.id() }
    }

    pub(crate) fn expect_ids(&self, ids: &[u8]) -> Result<(), Damage> {
        if ids.contains(&self.id()) {
            Ok(())
        } else {
            Err(self.unexpected())
        }
    }

    pub(crate) fn expect_fork(&self, fork: Fork) -> Result<(), Damage> {
        if self.reference.rel.fork == fork {
            Ok(())
        } else {
            Err(self.unexpected())
        }
    }
}
