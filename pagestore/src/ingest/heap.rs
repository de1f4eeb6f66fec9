//! Visibility map bits that a heap record clears without naming the map page.
//!
//! Up to 16, and in 17 before 17.11 and 18 before 18.6, no heap record names it; later ones do, unless the bits were clear
//! already. So what counts is the reference, not the version: where there is none, the page that Postgres computes is
//! changed, if it exists.

use neon_postgres::records::heap::{delete_flags, insert_flags, lock_flags, update_flags};
use neon_postgres::wal::{Record, rmgr};
use neon_redo::change::{Change, HEAP_BLOCKS_PER_VM_PAGE, VM_ALL_FROZEN, VM_ALL_VISIBLE, VmBits};
use neon_types::{Fork, Key, RelTag};

use super::sizes::Sizes;
use super::{Effect, State};
use crate::{Result, Value};

/// `XLOG_HEAP_OPMASK`
const OPCODE: u8 = 0x70;
const INSERT: u8 = 0x00;
const DELETE: u8 = 0x10;
const UPDATE: u8 = 0x20;
const HOT_UPDATE: u8 = 0x40;
const LOCK: u8 = 0x60;
const MULTI_INSERT: u8 = 0x50;
const LOCK_UPDATED: u8 = 0x60;

const BOTH: u8 = VM_ALL_VISIBLE | VM_ALL_FROZEN;
/// Where the flags byte of a record is in its main data.
const INSERT_FLAGS: usize = 2;
const MULTI_INSERT_FLAGS: usize = 0;
const OTHER_FLAGS: usize = 7;

/// Returns the bits that the record clears for its block 0 and for its block 1; UPDATE within a page has block 0 alone.
fn cleared(record: &Record) -> (u8, u8) {
    let flag = |at: usize, bit: u8| record.main_data().get(at).is_some_and(|flags| flags & bit != 0);
    let bits = |set: bool, bits: u8| if set { bits } else { 0 };
    match (record.rmid, record.info & OPCODE) {
        (rmgr::HEAP, INSERT) => (
            bits(flag(INSERT_FLAGS, insert_flags::ALL_VISIBLE_CLEARED), BOTH),
            0,
        ),
        (rmgr::HEAP, DELETE) => (
            bits(flag(OTHER_FLAGS, delete_flags::ALL_VISIBLE_CLEARED), BOTH),
            0,
        ),
        (rmgr::HEAP, UPDATE | HOT_UPDATE) => (
            bits(flag(OTHER_FLAGS, update_flags::NEW_ALL_VISIBLE_CLEARED), BOTH),
            bits(flag(OTHER_FLAGS, update_flags::OLD_ALL_VISIBLE_CLEARED), BOTH),
        ),
        (rmgr::HEAP, LOCK) | (rmgr::HEAP2, LOCK_UPDATED) => (
            bits(flag(OTHER_FLAGS, lock_flags::ALL_FROZEN_CLEARED), VM_ALL_FROZEN),
            0,
        ),
        (rmgr::HEAP2, MULTI_INSERT) => (
            bits(flag(MULTI_INSERT_FLAGS, insert_flags::ALL_VISIBLE_CLEARED), BOTH),
            0,
        ),
        _ => (0, 0),
    }
}

/// Adds the map pages that a `Heap` or `Heap2` record changes without naming them.
pub(super) fn clear_map(
    record: &Record,
    sizes: &mut Sizes,
    state: &dyn State,
    out: &mut Vec<(Key, Effect)>,
) -> Result<()> {
    let (new, old) = cleared(record);
    if new | old == 0
        || record
            .blocks
            .iter()
            .any(|block| block.rel.fork == Fork::VisibilityMap)
    {
        return Ok(());
    }
    let heap_block = |id: u8| {
        let index = record.block_by_id(id)?;
        let block = record.blocks.get(index)?;
        Some((block.rel, block.block))
    };
    let Some((heap, new_block)) = heap_block(0) else {
        return Ok(());
    };
    let old_block = heap_block(1).map_or(new_block, |(_, block)| block);
    let vm = heap.with_fork(Fork::VisibilityMap);
    let mut pages: Vec<(u32, Vec<VmBits>)> = Vec::new();
    for (block, bits) in [(old_block, old), (new_block, new)] {
        if bits == 0 {
            continue;
        }
        let page = block / HEAP_BLOCKS_PER_VM_PAGE;
        let slot = VmBits {
            slot: (block % HEAP_BLOCKS_PER_VM_PAGE) as u16,
            bits,
        };
        match pages.last_mut() {
            Some(last) if last.0 == page => {
                if !last.1.contains(&slot) {
                    last.1.push(slot);
                }
            }
            _ => pages.push((page, vec![slot])),
        }
    }
    for (page, slots) in pages {
        if exists(vm, page, sizes, state)? {
            let key = Key::Block(vm, page);
            out.push((key, Effect::Put(Value::Change(Change::ClearVm(slots).encode()))));
        }
    }
    Ok(())
}

/// Returns true when the relation has that block.
pub(super) fn exists(rel: RelTag, block: u32, sizes: &mut Sizes, state: &dyn State) -> Result<bool> {
    Ok(sizes.get(rel, state)?.is_some_and(|size| block < size.size))
}
