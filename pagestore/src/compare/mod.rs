//! The state that WAL made at a position against the files of a stopped Postgres: the file oracle.
//!
//! Masks hide from the redo oracle what Postgres does not compare: visibility maps, LSNs, SLRUs, sizes. Here they are compared. The
//! directory is read as an import reads it, one value at a time, in key order; checksums of pages are verified on the way.
//!
//! What may differ depends on who made the directory ([`Peer`]):
//!
//! | | by the server that wrote the WAL | by a recovery |
//! |---|---|---|
//! | `pd_lsn`, `PD_ALL_VISIBLE` | equal | equal |
//! | bytes between `pd_lower` and `pd_upper`, and behind a heap tuple up to a multiple of 8 | free | free |
//! | hint bits and what else `neon_redo::mask` lists for the page's kind | free | equal |
//! | values of sequences, the pages that an SP-GiST meta page recommends | free | equal |
//! | every other byte of a page; visibility maps, SLRUs, relation maps, two-phase files | equal | equal |
//! | size of a relation | equal, or empty blocks more | the same |
//! | map bits in databases that were copied by WAL | missing ones are allowed | equal |
//! | counters of the checkpoint state | equal | equal, but for the oid counter and what names the timeline |

mod items;
mod page;
mod report;
mod walk;

use std::collections::BTreeSet;
use std::sync::Arc;

use neon_postgres::Page;
use neon_types::{Key, KeyRange, Lsn, RelTag, SlruKind};

use crate::import::{ImportError, ImportSource, Imported};
use crate::{Result, Timeline};

pub use report::{Allowed, Class, Difference, MOST_DIFFERENCES, Report, Tally};

/// A state that WAL made.
pub trait Subject {
    /// Calls `f` for every metadata item, in any order. Pages of SLRUs, and what a store notes for itself, may be given too.
    fn items(&self, f: &mut dyn FnMut(Key, &[u8]) -> Result<()>) -> Result<()>;

    /// Returns a page of an SLRU, zeros where nothing was written.
    fn slru_page(&self, kind: SlruKind, page: u64) -> Result<Page>;

    /// Returns a block. [`crate::PageStoreError::Unsupported`] when it takes a record that redo does not know.
    fn block(&self, rel: RelTag, block: u32) -> Result<Page>;
}

/// A timeline at one of its positions.
pub struct AtPosition {
    /// The timeline.
    pub timeline: Arc<Timeline>,
    /// The end of a record.
    pub lsn: Lsn,
}

impl Subject for AtPosition {
    fn items(&self, f: &mut dyn FnMut(Key, &[u8]) -> Result<()>) -> Result<()> {
        self.timeline.scan_items(KeyRange::ALL, self.lsn, f)
    }

    fn slru_page(&self, kind: SlruKind, page: u64) -> Result<Page> {
        let bytes = self.timeline.get_item(Key::SlruPage { kind, page }, self.lsn)?;
        Ok(bytes
            .and_then(|bytes| Page::from_bytes(&bytes))
            .unwrap_or_else(Page::zeroed))
    }

    fn block(&self, rel: RelTag, block: u32) -> Result<Page> {
        self.timeline.get_page(rel, block, self.lsn)
    }
}

/// Who made the directory, as far as it decides what may differ.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Peer {
    /// The server that wrote the WAL, stopped at the position. Map bits that are missing in ours are allowed in databases that were
    /// copied by WAL, and in copies of those: `log_newpage_buffer` logs a map as if its middle were free.
    Wrote {
        /// Oids of those databases.
        copied_by_wal: BTreeSet<u32>,
    },
    /// A recovery that ended at the position, began a timeline of its own, and was stopped.
    Replayed,
}

/// Compares `subject` with the directory; returns also where the directory stands.
///
/// `progress` is told bytes done and in all; it ends the comparison by returning false.
///
/// Errors: the directory cannot be read, or the subject cannot (a block that cannot be rebuilt is a difference).
pub fn compare(
    subject: &dyn Subject,
    directory: &ImportSource,
    peer: &Peer,
    progress: &mut dyn FnMut(u64, u64) -> bool,
) -> std::result::Result<(Report, Imported), ImportError> {
    let mut walk = walk::Walk::new(subject, peer).map_err(|error| ImportError::Store(Box::new(error)))?;
    let imported = crate::import::import(directory, &mut |key, value| walk.take(key, value), progress)?;
    let report = walk
        .finish()
        .map_err(|error| ImportError::Store(Box::new(error)))?;
    Ok((report, imported))
}
