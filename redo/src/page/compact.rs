//! Closing the gaps between items, and cutting line pointers off.

use neon_postgres::Page;
use neon_postgres::page::{ItemFlags, ItemId, PAGE_HEADER_SIZE, PD_HAS_FREE_LINES};

use super::bytes::{align, bytes_at, copy_to, zero};
use super::header::{Layout, change_flags, layout};
use super::item::{UNUSED, item, misplaced, put_item};
use crate::Damage;

/// Moves all items to the end of the page in the reverse order of their line pointers (`compactify_tuples`), zeroing what
/// becomes free. Line pointers without storage stay as they are.
pub(super) fn compact(page: &mut Page, old: Layout) -> Result<(), Damage> {
    let before = page.clone();
    let mut upper = old.special;
    for offset in 1..=old.items() {
        let found = item(page, offset)?;
        if !found.has_storage() {
            continue;
        }
        let (at, len) = (usize::from(found.offset()), align(found.length().into()));
        if at < old.upper || at + len > old.special {
            return Err(misplaced(offset, found));
        }
        upper = upper
            .checked_sub(len)
            .filter(|upper| *upper >= old.lower)
            .ok_or(misplaced(offset, found))?;
        copy_to(page, upper, bytes_at(&before, at..at + len)?)?;
        put_item(
            page,
            offset,
            ItemId::new(upper as u16, found.flags(), found.length()),
        )?;
    }
    page.set_upper(upper as u16);
    zero(page, old.upper..upper)
}

/// Closes the gaps of a heap page after line pointers changed (`PageRepairFragmentation`). With `cut`, unused line pointers
/// at the end of the array are cut off, all of them if need be.
pub(crate) fn repair_fragmentation(page: &mut Page, cut: bool) -> Result<(), Damage> {
    let old = layout(page)?.aligned()?;
    let (mut last_used, mut unused, mut total) = (0, 0, 0);
    for offset in 1..=old.items() {
        let found = item(page, offset)?;
        if found.flags() == ItemFlags::Unused {
            put_item(page, offset, UNUSED)?;
            unused += 1;
        } else {
            total += align(found.length().into());
            last_used = offset;
        }
    }
    let space = old.special - old.lower;
    if total > space {
        return Err(Damage::ItemLengths { total, space });
    }
    compact(page, old)?;
    if cut {
        unused -= old.items() - last_used;
        cut_after(page, old, last_used)?;
    }
    change_flags(
        page,
        PD_HAS_FREE_LINES,
        if unused > 0 { PD_HAS_FREE_LINES } else { 0 },
    );
    Ok(())
}

/// Cuts unused line pointers off the end of a heap page's array, but never the first one
/// (`PageTruncateLinePointerArray`).
pub(crate) fn truncate_line_pointers(page: &mut Page) -> Result<(), Damage> {
    let old = layout(page)?;
    let is_unused = |offset: u16| item(page, offset).map(|item| item.flags() == ItemFlags::Unused);
    let mut last = old.items();
    while last > 1 && is_unused(last)? {
        last -= 1;
    }
    let mut hint = 0;
    for offset in 1..=last {
        if is_unused(offset)? {
            hint = PD_HAS_FREE_LINES;
            break;
        }
    }
    cut_after(page, old, last)?;
    change_flags(page, PD_HAS_FREE_LINES, hint);
    Ok(())
}

/// Drops the line pointers behind `last`, of which there are none with storage.
fn cut_after(page: &mut Page, old: Layout, last: u16) -> Result<(), Damage> {
    let dropped = 4 * usize::from(old.items() - last);
    let lower = (old.lower - dropped).max(PAGE_HEADER_SIZE);
    page.set_lower(lower as u16);
    zero(page, lower..old.lower)
}

#[cfg(test)]
mod tests {
    use super::super::{DEAD, Slot, add_item};
    use super::*;

    fn page_of(count: u16) -> Page {
        let mut page = Page::zeroed();
        page.init(0);
        for offset in 1..=count {
            add_item(&mut page, &[offset as u8; 20], offset, Slot::Heap).expect("there is room");
        }
        page
    }

    #[test]
    fn gaps_are_closed_and_zeroed() {
        let mut page = page_of(4);
        put_item(&mut page, 2, DEAD).expect("exists");
        put_item(&mut page, 3, UNUSED).expect("exists");
        repair_fragmentation(&mut page, true).expect("is sane");
        let tuples = [1, 4].map(|offset| {
            page.item(offset)
                .and_then(|item| page.tuple(item))
                .map(<[u8]>::to_vec)
        });
        assert_eq!(tuples, [Some(vec![1; 20]), Some(vec![4; 20])]);
        assert_eq!(
            (page.item_count(), page.upper(), page.flags()),
            (4, 8192 - 48, PD_HAS_FREE_LINES)
        );
        assert!(page.as_bytes()[40..8192 - 48].iter().all(|byte| *byte == 0));
    }

    #[test]
    fn unused_pointers_at_the_end_are_cut_by_choice() {
        let mut page = page_of(4);
        for offset in 1..=4 {
            put_item(&mut page, offset, UNUSED).expect("exists");
        }
        let mut kept = page.clone();
        repair_fragmentation(&mut kept, false).expect("is sane");
        assert_eq!((kept.item_count(), kept.flags()), (4, PD_HAS_FREE_LINES));
        let mut truncated = page.clone();
        truncate_line_pointers(&mut truncated).expect("is sane");
        assert_eq!(
            (truncated.item_count(), truncated.flags()),
            (1, PD_HAS_FREE_LINES)
        );
        repair_fragmentation(&mut page, true).expect("is sane");
        assert_eq!((page.item_count(), page.upper(), page.flags()), (0, 8192, 0));
    }
}
