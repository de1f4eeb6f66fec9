//! DEDUP: runs of equal tuples become one tuple with a posting list.

use neon_postgres::{Cursor, Page};

use super::opaque::{HAS_GARBAGE, Opaque};
use super::tuple::IndexTuple;
use crate::Damage;
use crate::page::{Slot, add_item, bytes_at, init_like, layout, stored_range};

/// Longest tuple of a btree page (`BTMaxItemSize`).
const MAX_TUPLE: usize = 2704;

/// Rebuilds the page, merging the runs that the record lists. Data: for each run u16 offset of its first tuple, u16 number of
/// tuples.
pub(super) fn dedup(page: &mut Page, count: u16, data: &[u8]) -> Result<(), Damage> {
    let mut intervals = Intervals::new(data, count)?;
    let original = page.clone();
    let mut opaque = Opaque::read(&original)?;
    init_like(page, &original)?;
    let stored = |offset: u16| bytes_at(&original, stored_range(&original, offset)?);

    let mut added = 0;
    let mut add = |item: &[u8]| {
        added += 1;
        add_item(page, item, added, Slot::Index)
    };
    let last = layout(&original)?.items();
    let mut offset = 1;
    if !opaque.is_rightmost() {
        add(stored(1)?)?;
        offset = 2;
    }
    while offset <= last {
        let first = IndexTuple::read(stored(offset)?)?;
        let run = intervals.take(offset)?;
        if run == 1 {
            add(first.bytes())?;
        } else {
            let mut tids = first.tids()?.to_vec();
            for other in 1..run {
                let place = offset.checked_add(other).ok_or(Damage::OffsetList)?;
                tids.extend_from_slice(IndexTuple::read(stored(place)?)?.tids()?);
            }
            let merged = first.with_tids(&tids)?;
            if merged.bytes().len() > MAX_TUPLE {
                return Err(Damage::NoSpace {
                    len: merged.bytes().len(),
                    free: MAX_TUPLE,
                });
            }
            add(merged.bytes())?;
        }
        offset = offset.checked_add(run).ok_or(Damage::OffsetList)?;
    }
    intervals.expect_end()?;
    opaque.flags &= !HAS_GARBAGE;
    opaque.write(page)
}

struct Intervals {
    /// First offset and number of tuples, the next one last.
    left: Vec<(u16, u16)>,
}

impl Intervals {
    fn new(data: &[u8], count: u16) -> Result<Intervals, Damage> {
        let mut cursor = Cursor::new(data);
        let mut left = Vec::new();
        for _ in 0..count {
            left.push((cursor.u16()?, cursor.u16()?));
        }
        left.reverse();
        Ok(Intervals { left })
    }

    /// Returns how many tuples from `offset` on become one.
    fn take(&mut self, offset: u16) -> Result<u16, Damage> {
        let Some((_, run)) = self.left.pop_if(|(first, _)| *first == offset) else {
            return Ok(1);
        };
        if run < 2 {
            return Err(Damage::Value {
                what: "a run of fewer than two tuples",
            });
        }
        Ok(run)
    }

    fn expect_end(&self) -> Result<(), Damage> {
        if self.left.is_empty() {
            Ok(())
        } else {
            Err(Damage::OffsetList)
        }
    }
}
