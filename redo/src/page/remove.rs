//! Removing and replacing items of index pages.

use neon_postgres::Page;
use neon_postgres::page::{ItemId, PAGE_HEADER_SIZE};

use super::bytes::{align, copy_to, u32_at, zero};
use super::compact::compact;
use super::header::{Layout, layout};
use super::item::{UNUSED, item, misplaced, put_item};
use crate::Damage;

/// Returns line pointer `offset` after checking that its storage lies where items of an index page lie.
fn index_item(page: &Page, layout: Layout, offset: u16) -> Result<ItemId, Damage> {
    let found = item(page, offset)?;
    let (at, len) = (usize::from(found.offset()), align(found.length().into()));
    if at < layout.upper || at + len > layout.special || at % 8 != 0 {
        return Err(misplaced(offset, found));
    }
    Ok(found)
}

/// Removes one item, closing the gap: items in front of it keep their order (`PageIndexTupleDelete`).
pub(crate) fn remove_item(page: &mut Page, offset: u16) -> Result<(), Damage> {
    let old = layout(page)?.aligned()?;
    let found = index_item(page, old, offset)?;
    let (at, size) = (usize::from(found.offset()), align(found.length().into()));
    let slot = PAGE_HEADER_SIZE + 4 * (usize::from(offset) - 1);
    let upper = old.upper + size;
    let bytes = page.as_bytes_mut();
    // In bounds: offset <= items, so slot + 4 <= lower; upper <= at + size <= special.
    bytes.copy_within(slot + 4..old.lower, slot);
    bytes.copy_within(old.upper..at, upper);
    page.set_upper(upper as u16);
    page.set_lower(old.lower as u16 - 4);
    zero(page, old.lower - 4..old.lower)?;
    zero(page, old.upper..upper)?;
    shift_items(page, old.items() - 1, at, size, 0)
}

/// Removes one item, closing the gap but leaving the numbers of the others (`PageIndexTupleDeleteNoCompact`): its line pointer
/// becomes free, or goes if it is the last one.
pub(crate) fn vacate_item(page: &mut Page, offset: u16) -> Result<(), Damage> {
    let old = layout(page)?.aligned()?;
    let found = index_item(page, old, offset)?;
    let (at, size) = (usize::from(found.offset()), align(found.length().into()));
    let mut count = old.items();
    put_item(page, offset, UNUSED)?;
    if offset == count {
        page.set_lower(old.lower as u16 - 4);
        count -= 1;
    }
    let upper = old.upper + size;
    // In bounds: upper <= at + size <= special.
    page.as_bytes_mut().copy_within(old.upper..at, upper);
    page.set_upper(upper as u16);
    zero(page, old.upper..upper)?;
    shift_items(page, count, at, size, 0)
}

/// Adds `up` and subtracts `down` from the place of every item that begins at or before `limit`.
fn shift_items(page: &mut Page, count: u16, limit: usize, up: usize, down: usize) -> Result<(), Damage> {
    for offset in 1..=count {
        let found = item(page, offset)?;
        let at = usize::from(found.offset());
        if found.has_storage() && at <= limit {
            let moved = (at + up).checked_sub(down).ok_or(misplaced(offset, found))?;
            put_item(
                page,
                offset,
                ItemId::new(moved as u16, found.flags(), found.length()),
            )?;
        }
    }
    Ok(())
}

/// Removes items by ascending offset number (`PageIndexMultiDelete`): up to two one by one, from the last, more by
/// compacting the page. The two ways order items differently.
pub(crate) fn delete_items(
    page: &mut Page,
    doomed: impl DoubleEndedIterator<Item = u16> + ExactSizeIterator,
) -> Result<(), Damage> {
    if doomed.len() <= 2 {
        return doomed.rev().try_for_each(|offset| remove_item(page, offset));
    }
    let old = layout(page)?.aligned()?;
    let mut doomed = doomed.peekable();
    let (mut kept, mut total) = (0, 0);
    for offset in 1..=old.items() {
        let found = index_item(page, old, offset)?;
        if doomed.next_if_eq(&offset).is_some() {
            continue;
        }
        total += align(found.length().into());
        kept += 1;
        let word = u32_at(page, PAGE_HEADER_SIZE + 4 * (usize::from(offset) - 1))?;
        // kept <= offset, so what is overwritten was read.
        put_item(page, kept, ItemId(word))?;
    }
    if doomed.next().is_some() {
        return Err(Damage::OffsetList);
    }
    let space = old.special - old.lower;
    if total > space {
        return Err(Damage::ItemLengths { total, space });
    }
    let lower = PAGE_HEADER_SIZE + 4 * usize::from(kept);
    page.set_lower(lower as u16);
    zero(page, lower..old.lower)?;
    compact(page, Layout { lower, ..old })
}

/// Replaces an item's bytes, moving the items in front of it when the aligned size changes; its state stays
/// (`PageIndexTupleOverwrite`).
pub(crate) fn overwrite_item(page: &mut Page, offset: u16, bytes: &[u8]) -> Result<(), Damage> {
    let old = layout(page)?.aligned()?;
    let found = index_item(page, old, offset)?;
    let (at, old_size, new_size) = (
        usize::from(found.offset()),
        align(found.length().into()),
        align(bytes.len()),
    );
    let free = old.upper - old.lower;
    if new_size > old_size + free || !found.has_storage() {
        return Err(Damage::NoSpace {
            len: bytes.len(),
            free,
        });
    }
    // The item's end stays where it is, at most special, and the space below it suffices: nothing can underflow.
    let place = at + old_size - new_size;
    if new_size != old_size {
        let upper = old.upper + old_size - new_size;
        page.as_bytes_mut().copy_within(old.upper..at, upper);
        page.set_upper(upper as u16);
        zero(page, old.upper..upper)?;
        shift_items(page, old.items(), at, old_size, new_size)?;
    }
    put_item(
        page,
        offset,
        ItemId::new(place as u16, found.flags(), bytes.len() as u16),
    )?;
    copy_to(page, place, bytes)?;
    zero(page, place + bytes.len()..place + new_size)
}

#[cfg(test)]
mod tests {
    use super::super::{Slot, add_item};
    use super::*;

    fn page_of(count: u8) -> Page {
        let mut page = Page::zeroed();
        page.init(16);
        for number in 1..=count {
            add_item(&mut page, &[number; 16], number.into(), Slot::Index).expect("there is room");
        }
        page
    }

    fn firsts(page: &Page) -> Vec<(u8, u16)> {
        (1..=page.item_count())
            .filter_map(|number| page.item(number))
            .map(|item| (page.tuple(item).expect("on the page")[0], item.offset()))
            .collect()
    }

    #[test]
    fn one_and_many_removals_close_the_gap() {
        let mut page = page_of(5);
        delete_items(&mut page, [2].into_iter()).expect("exists");
        assert_eq!(firsts(&page), [(1, 8160), (3, 8144), (4, 8128), (5, 8112)]);
        let mut page = page_of(5);
        delete_items(&mut page, [1, 2, 4].into_iter()).expect("exist");
        assert_eq!(firsts(&page), [(3, 8160), (5, 8144)]);
        assert!(
            delete_items(&mut page, [1, 2, 3].into_iter()).is_err(),
            "item 3 does not exist"
        );
    }

    #[test]
    fn a_vacated_item_leaves_its_number_free() {
        let mut page = page_of(4);
        vacate_item(&mut page, 2).expect("exists");
        assert_eq!(page.item(2), Some(UNUSED));
        assert!(vacate_item(&mut page, 2).is_err(), "it is free already");
        vacate_item(&mut page, 4).expect("exists");
        assert_eq!((page.item_count(), page.upper()), (3, 8144));
        let third = page.item(3).map(|item| item.offset());
        assert_eq!((third, page.as_bytes()[8144]), (Some(8144), 3));
    }

    #[test]
    fn an_overwritten_item_keeps_its_end() {
        let mut page = page_of(3);
        overwrite_item(&mut page, 2, &[9; 32]).expect("fits");
        assert_eq!(firsts(&page), [(1, 8160), (9, 8128), (3, 8112)]);
        overwrite_item(&mut page, 2, &[8; 8]).expect("fits");
        assert_eq!(firsts(&page), [(1, 8160), (8, 8152), (3, 8136)]);
        assert_eq!(page.upper(), 8136);
        assert!(overwrite_item(&mut page, 2, &[8; 8192]).is_err());
    }
}
