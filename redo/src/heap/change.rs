//! DELETE, CONFIRM, LOCK, LOCK_UPDATED and INPLACE: changes to one tuple in its place.

use neon_postgres::Page;
use neon_postgres::page::PD_ALL_VISIBLE;
use neon_postgres::records::heap::{HeapDelete, HeapLock, delete_flags};

use super::tuple::{Tid, normal_tuple};
use crate::Damage;
use crate::page::{change_flags, copy_to, set_prunable, stored_range};

/// Replays `Heap/DELETE`.
pub(super) fn delete(page: &mut Page, delete: HeapDelete, xid: u32, block: u32) -> Result<(), Damage> {
    let mut tuple = normal_tuple(page, delete.offset)?;
    tuple.replace_xmax_bits(delete.infobits);
    tuple.set_hot_updated(false);
    if delete.flags & delete_flags::IS_SUPER == 0 {
        tuple.set_xmax(delete.xmax);
    } else {
        tuple.set_xmin(0);
    }
    tuple.clear_cmax();
    let moved = delete.flags & delete_flags::IS_PARTITION_MOVE != 0;
    tuple.set_ctid(if moved {
        Tid::MOVED_PARTITIONS
    } else {
        Tid {
            block,
            offset: delete.offset,
        }
    });
    set_prunable(page, xid);
    if delete.flags & delete_flags::ALL_VISIBLE_CLEARED != 0 {
        change_flags(page, PD_ALL_VISIBLE, 0);
    }
    Ok(())
}

/// Replays `Heap/HEAP_CONFIRM`: a speculative insertion became real.
pub(super) fn confirm(page: &mut Page, offset: u16, block: u32) -> Result<(), Damage> {
    normal_tuple(page, offset)?.set_ctid(Tid { block, offset });
    Ok(())
}

/// Replays `Heap/LOCK`.
pub(super) fn lock(page: &mut Page, lock: HeapLock, block: u32) -> Result<(), Damage> {
    let mut tuple = normal_tuple(page, lock.offset)?;
    tuple.replace_xmax_bits(lock.infobits);
    if tuple.is_locked_only() {
        tuple.set_hot_updated(false);
        tuple.set_ctid(Tid {
            block,
            offset: lock.offset,
        });
    }
    tuple.set_xmax(lock.xmax);
    tuple.clear_cmax();
    Ok(())
}

/// Replays `Heap2/LOCK_UPDATED`.
pub(super) fn lock_updated(page: &mut Page, lock: HeapLock) -> Result<(), Damage> {
    let mut tuple = normal_tuple(page, lock.offset)?;
    tuple.replace_xmax_bits(lock.infobits);
    tuple.set_xmax(lock.xmax);
    Ok(())
}

/// Replays `Heap/INPLACE`: new columns of the same length.
pub(super) fn inplace(page: &mut Page, offset: u16, columns: &[u8]) -> Result<(), Damage> {
    let hoff = normal_tuple(page, offset)?.hoff();
    let range = stored_range(page, offset)?;
    if range.len().checked_sub(hoff) != Some(columns.len()) {
        return Err(Damage::Value {
            what: "an in-place update of another length",
        });
    }
    copy_to(page, range.start + hoff, columns)
}
