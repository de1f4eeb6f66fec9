//! Comparing a rebuilt page with its image in the log.

use neon_postgres::Page;
use neon_postgres::page::PD_ALL_VISIBLE;
use neon_postgres::wal::rmgr;
use neon_types::Fork;

use crate::{Damage, mask};

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

/// Compares a rebuilt page with the image of it, after masking both as records of resource manager `rmid` ask for. Of
/// visibility map pages nothing but LSN and checksum is masked, of heap pages not `PD_ALL_VISIBLE`.
///
/// # Errors
/// One of the pages cannot be masked.
pub fn compare(
    rmid: u8,
    fork: Fork,
    block: u32,
    found: &Page,
    expected: &Page,
) -> Result<Option<Difference>, Damage> {
    let [found, expected] = [
        masked(rmid, fork, block, found)?,
        masked(rmid, fork, block, expected)?,
    ];
    let pairs = found.as_bytes().iter().zip(expected.as_bytes());
    let mut differing = pairs
        .enumerate()
        .filter(|(_, (found, expected))| found != expected);
    Ok(differing.next().map(|(at, (found, expected))| Difference {
        at,
        expected: *expected,
        found: *found,
        bytes: 1 + differing.count(),
    }))
}

fn masked(rmid: u8, fork: Fork, block: u32, page: &Page) -> Result<Page, Damage> {
    let mut masked = page.clone();
    let is_heap = matches!(rmid, rmgr::HEAP | rmgr::HEAP2);
    if is_heap && fork == Fork::VisibilityMap {
        mask::mask_lsn(&mut masked);
        return Ok(masked);
    }
    mask::mask(rmid, &mut masked, block)?;
    if is_heap {
        masked.set_flags(masked.flags() | page.flags() & PD_ALL_VISIBLE);
    }
    Ok(masked)
}
