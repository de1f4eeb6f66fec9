//! Adding an item to a page (`PageAddItemExtended`).

use neon_postgres::Page;
use neon_postgres::page::{ItemFlags, ItemId, PAGE_HEADER_SIZE};

use super::bytes::{align, copy_to};
use super::header::layout;
use super::item::{item, put_item};
use crate::Damage;

/// Most line pointers of a heap page (`MaxHeapTuplesPerPage`).
const MAX_HEAP_ITEMS: u16 = 291;

/// How an item takes its place among the line pointers.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Slot {
    /// Into a free line pointer or behind the last one, as heap pages do.
    Heap,
    /// The same on a page that may have more line pointers than a heap page.
    Free,
    /// At a place in order: line pointers from there on move back by one, as index pages do.
    Index,
}

/// Stores `bytes` as item `offset` (from 1, at most one more than the page has).
pub(crate) fn add_item(page: &mut Page, bytes: &[u8], offset: u16, slot: Slot) -> Result<(), Damage> {
    let old = layout(page)?;
    let count = old.items();
    if offset == 0 || offset > count + 1 || (slot == Slot::Heap && offset > MAX_HEAP_ITEMS) {
        return Err(Damage::NoSuchItem { offset, count });
    }
    let inside = offset <= count;
    let reused = inside && slot != Slot::Index;
    if reused {
        let found = item(page, offset)?;
        if found.flags() != ItemFlags::Unused || found.has_storage() {
            return Err(Damage::ItemState {
                offset,
                expected: "unused",
            });
        }
    }
    let lower = old.lower + if reused { 0 } else { 4 };
    let room = old.upper.checked_sub(align(bytes.len()));
    let (Some(upper), Ok(len)) = (room.filter(|upper| lower <= *upper), u16::try_from(bytes.len())) else {
        return Err(Damage::NoSpace {
            len: bytes.len(),
            free: old.upper - old.lower,
        });
    };
    if slot == Slot::Index && inside {
        let from = PAGE_HEADER_SIZE + 4 * (usize::from(offset) - 1);
        let to = PAGE_HEADER_SIZE + 4 * usize::from(count);
        // In bounds: to + 4 <= lower <= upper <= 8192.
        page.as_bytes_mut().copy_within(from..to, from + 4);
    }
    page.set_lower(lower as u16);
    page.set_upper(upper as u16);
    put_item(page, offset, ItemId::new(upper as u16, ItemFlags::Normal, len))?;
    copy_to(page, upper, bytes)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn page_of(items: &[&[u8]], slot: Slot) -> Page {
        let mut page = Page::zeroed();
        page.init(16);
        for (number, bytes) in items.iter().enumerate() {
            add_item(&mut page, bytes, number as u16 + 1, slot).expect("there is room");
        }
        page
    }

    fn texts(page: &Page) -> Vec<&[u8]> {
        (1..=page.item_count())
            .map(|number| {
                page.tuple(page.item(number).expect("exists"))
                    .expect("is on the page")
            })
            .collect()
    }

    #[test]
    fn an_index_item_moves_its_successors() {
        let mut page = page_of(&[b"one", b"three"], Slot::Index);
        add_item(&mut page, b"two", 2, Slot::Index).expect("there is room");
        assert_eq!(texts(&page), [&b"one"[..], b"two", b"three"]);
        assert_eq!(page.upper(), 8176 - 24);
    }

    #[test]
    fn a_heap_item_takes_only_a_free_line_pointer() {
        let mut page = page_of(&[b"one", b"two"], Slot::Heap);
        assert!(add_item(&mut page, b"x", 1, Slot::Heap).is_err());
        assert!(add_item(&mut page, b"x", 4, Slot::Heap).is_err());
        put_item(&mut page, 1, super::super::UNUSED).expect("exists");
        add_item(&mut page, b"again", 1, Slot::Heap).expect("the pointer is free");
        assert_eq!(texts(&page), [&b"again"[..], b"two"]);
    }

    #[test]
    fn a_page_of_another_kind_holds_more_items_than_a_heap_page() {
        let mut page = page_of(&[&[7; 8][..]; 291], Slot::Heap);
        assert!(add_item(&mut page, b"x", 292, Slot::Heap).is_err());
        add_item(&mut page, b"x", 292, Slot::Free).expect("there is room");
        assert!(
            add_item(&mut page, b"x", 292, Slot::Free).is_err(),
            "the pointer is taken"
        );
    }

    #[test]
    fn an_item_that_does_not_fit_changes_nothing() {
        let mut page = page_of(&[&[1; 8100]], Slot::Heap);
        let before = page.clone();
        assert!(add_item(&mut page, &[2; 64], 2, Slot::Heap).is_err());
        assert!(page == before);
        assert!(add_item(&mut page, &[2; 80_000], 2, Slot::Heap).is_err());
    }
}
