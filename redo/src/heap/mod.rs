//! Replay of `Heap` and `Heap2` records, onto heap pages and onto pages of the visibility map.

mod change;
mod insert;
mod prune;
mod tuple;
mod update;
pub mod visibility;

use neon_postgres::Page;
use neon_postgres::page::PD_ALL_VISIBLE;
use neon_postgres::records::heap::{HeapLock, HeapRecord, HeapUpdate, lock_flags, update_flags};
use neon_postgres::records::heap2::Heap2Record;
use neon_types::Fork;

use self::update::Update;
use crate::page::change_flags;
use crate::target::Target;
use crate::{Damage, Touch};

/// Returns a tuple's address as it is stored.
pub(crate) fn tid_bytes(block: u32, offset: u16) -> [u8; 6] {
    tuple::Tid { block, offset }.to_bytes()
}

/// Replays a record of resource manager `Heap` onto one of its blocks.
pub(crate) fn heap(target: &Target<'_>, page: &mut Page) -> Result<Touch, Damage> {
    let record = target.record;
    let decoded = HeapRecord::decode(record)?;
    let fresh = record.info & 0x80 != 0;
    match decoded {
        HeapRecord::Truncate(_) => return Err(target.unexpected()),
        HeapRecord::Update(update) | HeapRecord::HotUpdate(update) => {
            let hot = matches!(decoded, HeapRecord::HotUpdate(_));
            return self::update(target, page, update, hot, fresh);
        }
        HeapRecord::Insert(_) | HeapRecord::Delete(_) if target.id() == 1 => {
            return clear_bits(target, page, visibility::VALID_BITS);
        }
        HeapRecord::Lock(lock) if target.id() == 1 => return unfreeze(target, page, lock),
        _ => target.expect_ids(&[0])?,
    }
    let block = target.block();
    match decoded {
        HeapRecord::Insert(insert) => {
            insert::insert(page, insert, fresh, record.xid, block, target.data())?;
        }
        HeapRecord::Delete(delete) => change::delete(page, delete, record.xid, block)?,
        HeapRecord::Confirm { offset } => change::confirm(page, offset, block)?,
        HeapRecord::Lock(lock) => change::lock(page, lock, block)?,
        HeapRecord::Inplace { offset } => change::inplace(page, offset, target.data())?,
        HeapRecord::Truncate(_) | HeapRecord::Update(_) | HeapRecord::HotUpdate(_) => {}
    }
    Ok(Touch::Changed)
}

/// Replays a record of resource manager `Heap2` onto one of its blocks.
pub(crate) fn heap2(target: &Target<'_>, page: &mut Page) -> Result<Touch, Damage> {
    let (record, version) = (target.record, target.version());
    let decoded = Heap2Record::decode(record)?;
    match decoded {
        Heap2Record::Rewrite | Heap2Record::NewCid => return Err(target.unexpected()),
        Heap2Record::Visible(visible) => return self::visible(target, page, visible.flags),
        Heap2Record::MultiInsert(_) if target.id() == 1 => {
            return clear_bits(target, page, visibility::VALID_BITS);
        }
        Heap2Record::LockUpdated(lock) if target.id() == 1 => return unfreeze(target, page, lock),
        _ => target.expect_ids(&[0])?,
    }
    let data = target.data();
    match decoded {
        Heap2Record::Prune(prune) => prune::prune(page, version, &prune, data)?,
        Heap2Record::Vacuum { unused } => prune::vacuum(page, unused, data)?,
        Heap2Record::FreezePage { count } => prune::freeze_page(page, version, count, data)?,
        Heap2Record::PruneFreeze(prune) => prune::prune_freeze(page, &prune, data)?,
        Heap2Record::MultiInsert(insert) => {
            let fresh = record.info & 0x80 != 0;
            insert::multi_insert(page, &insert, fresh, record.xid, target.block(), data)?;
        }
        Heap2Record::LockUpdated(lock) => change::lock_updated(page, lock)?,
        Heap2Record::Rewrite | Heap2Record::NewCid | Heap2Record::Visible(_) => {}
    }
    Ok(Touch::Changed)
}

fn update(
    target: &Target<'_>,
    page: &mut Page,
    record: HeapUpdate,
    hot: bool,
    fresh: bool,
) -> Result<Touch, Damage> {
    let new_block = target.block_of(0)?;
    let old_block = target.find_block(1).unwrap_or(new_block);
    let same_page = old_block == new_block;
    match target.id() {
        2 | 3 => return update_map(target, page, record, new_block, old_block),
        0 | 1 => {}
        _ => return Err(target.unexpected()),
    }
    let update = Update {
        record,
        hot,
        xid: target.record.xid,
        new_block,
        data: target.data(),
    };
    if same_page || target.id() == 1 {
        update.apply_old(page)?;
    }
    if target.id() == 0 {
        update.apply_new(page, fresh && !same_page, same_page)?;
    }
    Ok(Touch::Changed)
}

/// Clears bits in the map page of an update: reference 2 belongs to the new block, and to the old block too when both lie
/// on that map page; 3 to the old block alone.
fn update_map(
    target: &Target<'_>,
    page: &mut Page,
    record: HeapUpdate,
    new_block: u32,
    old_block: u32,
) -> Result<Touch, Damage> {
    let mut changed = false;
    if target.id() == 3 {
        changed |= clear_one(target, page, old_block, visibility::VALID_BITS)?;
    } else {
        let old_cleared = record.flags & update_flags::OLD_ALL_VISIBLE_CLEARED != 0;
        if old_cleared && visibility::map_block(old_block) == target.block() {
            changed |= clear_one(target, page, old_block, visibility::VALID_BITS)?;
        }
        changed |= clear_one(target, page, new_block, visibility::VALID_BITS)?;
    }
    Ok(Touch::when(changed))
}

fn unfreeze(target: &Target<'_>, page: &mut Page, lock: HeapLock) -> Result<Touch, Damage> {
    if lock.flags & lock_flags::ALL_FROZEN_CLEARED == 0 {
        return Err(target.unexpected());
    }
    clear_bits(target, page, visibility::ALL_FROZEN)
}

/// Clears bits of the heap block of reference 0 in the map page of this reference.
fn clear_bits(target: &Target<'_>, page: &mut Page, bits: u8) -> Result<Touch, Damage> {
    let heap_block = target.block_of(0)?;
    clear_one(target, page, heap_block, bits).map(Touch::when)
}

fn clear_one(target: &Target<'_>, page: &mut Page, heap_block: u32, bits: u8) -> Result<bool, Damage> {
    target.expect_fork(Fork::VisibilityMap)?;
    if visibility::map_block(heap_block) != target.block() {
        return Err(Damage::Value {
            what: "a visibility map page that does not cover the heap block",
        });
    }
    visibility::clear(page, heap_block, bits)
}

/// Replays `Heap2/VISIBLE`: reference 0 is the map page, 1 the heap page, whose LSN moves only where hint bits are logged.
fn visible(target: &Target<'_>, page: &mut Page, flags: u8) -> Result<Touch, Damage> {
    match target.id() {
        0 => {
            target.expect_fork(Fork::VisibilityMap)?;
            let heap_block = target.block_of(1)?;
            if visibility::map_block(heap_block) != target.block() {
                return Err(Damage::Value {
                    what: "a visibility map page that does not cover the heap block",
                });
            }
            visibility::set(page, heap_block, flags & visibility::VALID_BITS).map(Touch::when)
        }
        1 => {
            change_flags(page, 0, PD_ALL_VISIBLE);
            Ok(Touch::when(target.cluster.hints_logged))
        }
        _ => Err(target.unexpected()),
    }
}
