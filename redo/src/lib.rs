//! Replay of WAL records onto pages, and the proof that it is right.
//!
//! `page after = redo(record, block reference, page before)`: every record changes each of its blocks without looking at
//! another one, so replay is a pure function of one page. No catalog is needed. Bytes are not trusted: a record or a page
//! that contradicts itself is an error.
//!
//! Supported: all built-in resource managers of Postgres 14 to 18 that change pages of relations. Full-page images are
//! restored whatever wrote them.
#![cfg_attr(not(test), deny(clippy::unwrap_used, clippy::indexing_slicing))]

mod brin;
mod btree;
pub mod change;
mod error;
mod generic;
mod gin;
mod gist;
mod hash;
mod heap;
pub mod mask;
pub mod oracle;
mod page;
mod sequence;
mod spgist;
mod target;

use neon_postgres::wal::{Record, rmgr};
use neon_postgres::{Page, PgVersion};
use neon_types::Lsn;

pub use error::{Damage, RedoError};
pub use heap::visibility;

use target::{Target, Touch};

/// Opcode of the XLOG record that a hint bit writes when hint bits are logged.
const FPI_FOR_HINT: u8 = 0xA0;

/// What replay must know of a cluster.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Cluster {
    /// The version that wrote the WAL.
    pub version: PgVersion,
    /// Data checksums are on, or `wal_log_hints`: setting hint bits is logged, and `Heap2/VISIBLE` moves the LSN of the heap
    /// page.
    pub hints_logged: bool,
}

/// Replays `record`, which ends at `end`, onto the page of its block reference `index` (an index, not an id).
///
/// `page` is the page before, zeroed if the block is new; it becomes the page after, with its LSN set. On an error its
/// content is undefined. An image that is there to be restored is restored, whatever wrote it; its `pd_checksum` becomes 0.
///
/// # Errors
/// [`RedoError::Unsupported`] for resource managers whose replay does not exist yet, [`RedoError::Corrupt`] when page and
/// record do not fit together.
pub fn redo(
    cluster: &Cluster,
    record: &Record,
    end: Lsn,
    index: usize,
    page: &mut Page,
) -> Result<(), RedoError> {
    let Some(reference) = record.blocks.get(index) else {
        return Err(RedoError::NoSuchBlock {
            name: rmgr::describe(record),
            end,
            index,
        });
    };
    let target = Target {
        cluster,
        record,
        end,
        index,
        reference,
    };
    let result = if reference.image.as_ref().is_some_and(|image| image.apply) {
        restore(&target, page)
    } else if is_supported(record.rmid, record.info) {
        replay(&target, page)
    } else {
        let (rmid, info) = (record.rmid, record.info);
        return Err(RedoError::Unsupported {
            rmid,
            info,
            name: rmgr::describe(record),
        });
    };
    result.map_err(|damage| RedoError::Corrupt {
        name: rmgr::describe(record),
        end,
        rel: reference.rel,
        block: reference.block,
        damage,
    })
}

/// Returns false when replay onto this block does not look at the page before: the block is made anew, or restored from an
/// image. True for an index without a reference.
pub fn needs_base(record: &Record, index: usize) -> bool {
    let reference = record.blocks.get(index);
    !reference.is_some_and(|block| block.will_init || block.image.as_ref().is_some_and(|image| image.apply))
}

/// Returns true when blocks of such records can be replayed without an image. Not for custom resource managers.
pub fn is_supported(rmid: u8, _info: u8) -> bool {
    rmid <= rmgr::MAX_BUILTIN
}

fn restore(target: &Target<'_>, page: &mut Page) -> Result<(), Damage> {
    *page = target
        .record
        .block_image(target.index)
        .ok_or(Damage::MissingImage)??;
    page.set_stored_checksum(0);
    if !page.is_new() {
        page.set_lsn(target.end);
    }
    if target.record.rmid == rmgr::GIST {
        gist::after_restore(target, page)?;
    }
    Ok(())
}

fn replay(target: &Target<'_>, page: &mut Page) -> Result<(), Damage> {
    if target.reference.will_init {
        page.as_bytes_mut().fill(0);
    }
    let touch = match target.record.rmid {
        rmgr::HEAP => heap::heap(target, page)?,
        rmgr::HEAP2 => heap::heap2(target, page)?,
        rmgr::BTREE => btree::redo(target, page)?,
        rmgr::GIN => gin::redo(target, page)?,
        rmgr::GIST => gist::redo(target, page)?,
        rmgr::HASH => hash::redo(target, page)?,
        rmgr::BRIN => brin::redo(target, page)?,
        rmgr::SEQ => sequence::redo(target, page)?,
        rmgr::SPGIST => spgist::redo(target, page)?,
        rmgr::GENERIC => generic::redo(target, page)?,
        // A hint that was set between two checkpoints with full_page_writes off: nothing to do.
        rmgr::XLOG if target.record.opcode() == FPI_FOR_HINT => Touch::Unchanged,
        rmgr::XLOG => return Err(Damage::MissingImage),
        _ => return Err(target.unexpected()),
    };
    if touch == Touch::Changed {
        page.set_lsn(target.end);
    }
    Ok(())
}
