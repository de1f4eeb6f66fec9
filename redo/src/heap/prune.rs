//! Removing dead tuples and freezing old ones: PRUNE, VACUUM and FREEZE_PAGE of 14 to 16, PRUNE_* of 17 on.

use neon_postgres::page::ItemId;
use neon_postgres::records::heap2::{Prune, PruneFreeze, prune_flags};
use neon_postgres::{Cursor, Page, PgVersion};

use super::tuple::tuple;
use crate::Damage;
use crate::page::{
    DEAD, UNUSED, item, put_item, redirect_to, repair_fragmentation, take_offsets, truncate_line_pointers,
};

/// `FrozenTransactionId`
const FROZEN_XID: u32 = 2;
const FREEZE_XVAC: u8 = 2;
const INVALID_XVAC: u8 = 4;

/// Replays `Heap2/PRUNE` of 14 to 16: what is neither redirected nor dead in the list is unused.
pub(super) fn prune(page: &mut Page, version: PgVersion, prune: &Prune, data: &[u8]) -> Result<(), Damage> {
    let mut cursor = Cursor::new(data);
    let redirected = take_offsets(&mut cursor, 2 * usize::from(prune.redirected))?;
    let dead = take_offsets(&mut cursor, prune.dead.into())?;
    let rest = cursor.remaining() / 2;
    let unused = take_offsets(&mut cursor, rest)?;
    redirect(page, redirected.iter())?;
    mark(page, dead.iter(), DEAD)?;
    mark(page, unused.iter(), UNUSED)?;
    repair_fragmentation(page, version != PgVersion::V14)
}

/// Replays `Heap2/VACUUM` of 14 to 16.
pub(super) fn vacuum(page: &mut Page, unused: u16, data: &[u8]) -> Result<(), Damage> {
    let unused = take_offsets(&mut Cursor::new(data), unused.into())?;
    mark(page, unused.iter(), UNUSED)?;
    truncate_line_pointers(page)
}

/// Replays `Heap2/PRUNE_ON_ACCESS`, `PRUNE_VACUUM_SCAN` and `PRUNE_VACUUM_CLEANUP` of 17 on. The block's data holds, in the
/// order of the flags: freeze plans, redirected, dead, unused offsets; then the offsets of the tuples to freeze.
pub(super) fn prune_freeze(page: &mut Page, prune: &PruneFreeze, data: &[u8]) -> Result<(), Damage> {
    let mut cursor = Cursor::new(data);
    let has = |flag: u8| prune.flags & flag != 0;
    let mut plans = Vec::new();
    if has(prune_flags::HAS_FREEZE_PLANS) {
        let count = cursor.u16()?;
        cursor.skip(2)?;
        let mut list = Cursor::new(cursor.take(usize::from(count) * FreezePlan::SIZE)?);
        for _ in 0..count {
            plans.push(FreezePlan::read(&mut list)?);
        }
    }
    let mut changed = false;
    if has(prune_flags::HAS_REDIRECTIONS) {
        let count = cursor.u16()?;
        redirect(page, take_offsets(&mut cursor, 2 * usize::from(count))?.iter())?;
        changed |= count > 0;
    }
    for (flag, state) in [
        (prune_flags::HAS_DEAD_ITEMS, DEAD),
        (prune_flags::HAS_NOW_UNUSED_ITEMS, UNUSED),
    ] {
        if has(flag) {
            let count = cursor.u16()?;
            mark(page, take_offsets(&mut cursor, count.into())?.iter(), state)?;
            changed |= count > 0;
        }
    }
    if changed && has(prune_flags::CLEANUP_LOCK) {
        repair_fragmentation(page, true)?;
    } else if changed {
        truncate_line_pointers(page)?;
    }
    freeze_by_plans(page, &plans, &mut cursor)
}

/// Replays `Heap2/FREEZE_PAGE` of 14 to 16. 14 and 15 list tuples, each with its freeze; 16 lists plans, then the offsets
/// of the tuples of each plan.
pub(super) fn freeze_page(
    page: &mut Page,
    version: PgVersion,
    count: u16,
    data: &[u8],
) -> Result<(), Damage> {
    let mut cursor = Cursor::new(data);
    if version >= PgVersion::V16 {
        let mut plans = Vec::new();
        for _ in 0..count {
            plans.push(FreezePlan::read(&mut cursor)?);
        }
        return freeze_by_plans(page, &plans, &mut cursor);
    }
    for _ in 0..count {
        let xmax = cursor.u32()?;
        let offset = cursor.u16()?;
        let (infomask2, infomask, flags) = (cursor.u16()?, cursor.u16()?, cursor.u8()?);
        cursor.skip(1)?;
        FreezePlan {
            xmax,
            infomask2,
            infomask,
            flags,
            tuples: 1,
        }
        .freeze(page, offset)?;
    }
    Ok(())
}

fn freeze_by_plans(page: &mut Page, plans: &[FreezePlan], cursor: &mut Cursor<'_>) -> Result<(), Damage> {
    for plan in plans {
        for offset in take_offsets(cursor, plan.tuples.into())?.iter() {
            plan.freeze(page, offset)?;
        }
    }
    if cursor.remaining() == 0 {
        Ok(())
    } else {
        Err(Damage::Value {
            what: "bytes behind the last frozen tuple",
        })
    }
}

/// How to freeze some tuples (`xlhp_freeze_plan`, 12 bytes).
struct FreezePlan {
    xmax: u32,
    infomask2: u16,
    infomask: u16,
    flags: u8,
    tuples: u16,
}

impl FreezePlan {
    const SIZE: usize = 12;

    fn read(cursor: &mut Cursor<'_>) -> Result<FreezePlan, Damage> {
        let (xmax, infomask2, infomask) = (cursor.u32()?, cursor.u16()?, cursor.u16()?);
        let flags = cursor.u8()?;
        cursor.skip(1)?;
        Ok(FreezePlan {
            xmax,
            infomask2,
            infomask,
            flags,
            tuples: cursor.u16()?,
        })
    }

    fn freeze(&self, page: &mut Page, offset: u16) -> Result<(), Damage> {
        let mut tuple = tuple(page, offset)?;
        tuple.set_xmax(self.xmax);
        if self.flags & FREEZE_XVAC != 0 {
            tuple.set_xvac(FROZEN_XID);
        }
        if self.flags & INVALID_XVAC != 0 {
            tuple.set_xvac(0);
        }
        tuple.set_infomasks(self.infomask, self.infomask2);
        Ok(())
    }
}

fn redirect(page: &mut Page, mut pairs: impl Iterator<Item = u16>) -> Result<(), Damage> {
    while let (Some(from), Some(to)) = (pairs.next(), pairs.next()) {
        item(page, to)?;
        put_item(page, from, redirect_to(to))?;
    }
    Ok(())
}

fn mark(page: &mut Page, offsets: impl Iterator<Item = u16>, state: ItemId) -> Result<(), Damage> {
    for offset in offsets {
        put_item(page, offset, state)?;
    }
    Ok(())
}
