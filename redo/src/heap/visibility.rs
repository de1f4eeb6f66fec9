//! The visibility map: two bits for each heap block (all visible, all frozen), behind a page header.

use neon_postgres::Page;
use neon_postgres::page::PAGE_HEADER_SIZE;
use neon_postgres::records::heap::{HeapRecord, delete_flags, insert_flags, lock_flags, update_flags};
use neon_postgres::records::heap2::Heap2Record;
use neon_postgres::wal::{DecodeError, Record, rmgr};

use crate::Damage;
use crate::page::{bytes_at, copy_to};

/// Heap blocks that one page of the map covers: four a byte (`HEAPBLOCKS_PER_PAGE`).
pub const HEAP_BLOCKS_PER_PAGE: u32 = (8192 - 24) * 4;
/// `VISIBILITYMAP_ALL_FROZEN`
pub const ALL_FROZEN: u8 = 2;
/// `VISIBILITYMAP_VALID_BITS`: all visible and all frozen.
pub const VALID_BITS: u8 = 3;

/// Returns the block of the visibility map that covers a heap block.
pub fn map_block(heap_block: u32) -> u32 {
    heap_block / HEAP_BLOCKS_PER_PAGE
}

fn place(heap_block: u32) -> (usize, u32) {
    let in_page = heap_block % HEAP_BLOCKS_PER_PAGE;
    (PAGE_HEADER_SIZE + (in_page / 4) as usize, 2 * (in_page % 4))
}

/// Clears `bits` of a heap block; returns true when one of them was set.
pub(crate) fn clear(page: &mut Page, heap_block: u32, bits: u8) -> Result<bool, Damage> {
    let (at, shift) = place(heap_block);
    let old = bytes_at(page, at..at + 1)?.first().copied().unwrap_or(0);
    let new = old & !(bits << shift);
    copy_to(page, at, &[new])?;
    Ok(new != old)
}

/// Sets `bits` of a heap block, making the page when it is new; returns true when the bits were not exactly these before.
pub(crate) fn set(page: &mut Page, heap_block: u32, bits: u8) -> Result<bool, Damage> {
    if page.is_new() {
        page.init(0);
    }
    let (at, shift) = place(heap_block);
    let old = bytes_at(page, at..at + 1)?.first().copied().unwrap_or(0);
    copy_to(page, at, &[old | bits << shift])?;
    Ok(old >> shift & VALID_BITS != bits)
}

/// Bits of one heap block in the visibility map.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct MapBits {
    /// Number of the heap block.
    pub heap_block: u32,
    /// [`ALL_FROZEN`] or [`VALID_BITS`].
    pub bits: u8,
}

/// Returns the bits that a `Heap` or `Heap2` record clears in pages of the visibility map that it does not name: older minor
/// versions never name them. Also returned when the bits were clear already, which the record cannot tell. The relation is
/// that of the record's first block reference; a map page that does not exist stays so.
///
/// # Errors
/// The record cannot be decoded.
pub fn unnamed_clears(record: &Record) -> Result<Vec<MapBits>, DecodeError> {
    let block_of = |id: u8| {
        record
            .blocks
            .iter()
            .find(|block| block.id == id)
            .map(|block| block.block)
    };
    let Some(new_block) = block_of(0) else {
        return Ok(Vec::new());
    };
    let one = |cleared: bool, bits: u8| {
        if cleared && block_of(1).is_none() {
            vec![MapBits {
                heap_block: new_block,
                bits,
            }]
        } else {
            Vec::new()
        }
    };
    Ok(match record.rmid {
        rmgr::HEAP => match HeapRecord::decode(record)? {
            HeapRecord::Insert(insert) => {
                one(insert.flags & insert_flags::ALL_VISIBLE_CLEARED != 0, VALID_BITS)
            }
            HeapRecord::Delete(delete) => {
                one(delete.flags & delete_flags::ALL_VISIBLE_CLEARED != 0, VALID_BITS)
            }
            HeapRecord::Lock(lock) => one(lock.flags & lock_flags::ALL_FROZEN_CLEARED != 0, ALL_FROZEN),
            HeapRecord::Update(update) | HeapRecord::HotUpdate(update)
                if block_of(2).is_none() && block_of(3).is_none() =>
            {
                let old_block = block_of(1).unwrap_or(new_block);
                let pairs = [
                    (update_flags::OLD_ALL_VISIBLE_CLEARED, old_block),
                    (update_flags::NEW_ALL_VISIBLE_CLEARED, new_block),
                ];
                let cleared = pairs.into_iter().filter(|(flag, _)| update.flags & flag != 0);
                cleared
                    .map(|(_, heap_block)| MapBits {
                        heap_block,
                        bits: VALID_BITS,
                    })
                    .collect()
            }
            _ => Vec::new(),
        },
        rmgr::HEAP2 => match Heap2Record::decode(record)? {
            Heap2Record::MultiInsert(insert) => {
                one(insert.flags & insert_flags::ALL_VISIBLE_CLEARED != 0, VALID_BITS)
            }
            Heap2Record::LockUpdated(lock) => {
                one(lock.flags & lock_flags::ALL_FROZEN_CLEARED != 0, ALL_FROZEN)
            }
            _ => Vec::new(),
        },
        _ => Vec::new(),
    })
}
