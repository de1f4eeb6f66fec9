//! Comparing a rebuilt page with its image in the log.

use neon_postgres::page::PD_ALL_VISIBLE;
use neon_postgres::records::gist::finished_split;
use neon_postgres::wal::{Record, rmgr};
use neon_postgres::{BLCKSZ, Page};
use neon_types::Fork;

use crate::gist::opaque::{FOLLOW_RIGHT, Opaque};
use crate::page::{put_u16, u16_at};
use crate::{Damage, mask};

/// Bytes that are compared at once.
const CHUNK: usize = 256;

/// Two pages that should be equal and are not.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Difference {
    /// First byte that differs.
    pub at: usize,
    /// That byte in the image.
    pub expected: u8,
    /// That byte in the rebuilt page.
    pub found: u8,
    /// Number of bytes that differ.
    pub bytes: usize,
}

/// Compares a rebuilt page with the image of it at reference `index` of `record`, after masking both as the record's resource
/// manager asks for. Of visibility map pages nothing but LSN and checksum is masked, of heap pages not `PD_ALL_VISIBLE`, of GIN
/// pages neither flags nor since when they are deleted (`pd_prune_xid`), of GiST pages NSN and follow-right flag only where the
/// image was taken before the record changed them.
///
/// # Errors
/// One of the pages cannot be masked, or there is no such reference.
pub fn compare(
    record: &Record,
    index: usize,
    found: &Page,
    expected: &Page,
) -> Result<Option<Difference>, Damage> {
    let [found, expected] = [masked(record, index, found)?, masked(record, index, expected)?];
    // Most pages are equal, and where not, most of the page is.
    let chunks = found
        .as_bytes()
        .chunks(CHUNK)
        .zip(expected.as_bytes().chunks(CHUNK));
    let unequal = chunks
        .enumerate()
        .filter(|(_, (found, expected))| found != expected);
    let mut differing = unequal.flat_map(|(number, (found, expected))| {
        let pairs = found.iter().zip(expected).enumerate();
        pairs
            .filter(|(_, (found, expected))| found != expected)
            .map(move |(at, (found, expected))| (number * CHUNK + at, *found, *expected))
    });
    Ok(differing.next().map(|(at, found, expected)| Difference {
        at,
        expected,
        found,
        bytes: 1 + differing.count(),
    }))
}

fn masked(record: &Record, index: usize, page: &Page) -> Result<Page, Damage> {
    let reference = record.blocks.get(index).ok_or(Damage::MissingBlock { id: 0 })?;
    let mut masked = page.clone();
    let is_heap = matches!(record.rmid, rmgr::HEAP | rmgr::HEAP2);
    if is_heap && reference.rel.fork == Fork::VisibilityMap {
        mask::mask_lsn(&mut masked);
        return Ok(masked);
    }
    mask::mask(record.rmid, &mut masked, reference.block)?;
    if is_heap {
        masked.set_flags(masked.flags() | page.flags() & PD_ALL_VISIBLE);
    }
    if record.rmid == rmgr::GIN {
        masked.set_prune_xid(page.prune_xid());
        let flags = BLCKSZ - 2;
        put_u16(&mut masked, flags, u16_at(page, flags)?)?;
    }
    let is_gist = record.rmid == rmgr::GIST && !page.is_all_zero();
    if is_gist && finished_split(record.opcode()) != Some(reference.id) {
        let before = Opaque::read(page)?;
        let mut opaque = Opaque::read(&masked)?;
        opaque.nsn = before.nsn;
        opaque.flags &= before.flags | !FOLLOW_RIGHT;
        opaque.write(&mut masked)?;
    }
    Ok(masked)
}
