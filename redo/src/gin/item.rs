//! Items of a posting tree's inner page: blocks of children with their largest TIDs, from byte 32 on, behind the page's own
//! largest TID. Their number is in the special space: `pd_lower` may be that of an empty page if it was written before 9.4.

use neon_postgres::Page;
use neon_postgres::records::gin::{POSTING_ITEM_SIZE, PostingItemInsert};

use super::leaf::{MAX_CONTENT, START};
use super::opaque::{DATA, Opaque};
use crate::Damage;
use crate::page::{copy_to, put_u16, zero};

/// Returns where item `offset` (from 1) begins.
fn place(offset: u16) -> usize {
    START + POSTING_ITEM_SIZE * usize::from(offset.saturating_sub(1))
}

/// Reads the special space after checking that item `offset` exists.
fn with_item(page: &Page, offset: u16) -> Result<Opaque, Damage> {
    let opaque = Opaque::read(page)?;
    opaque.expect(DATA)?;
    let fits = POSTING_ITEM_SIZE * usize::from(opaque.count) <= MAX_CONTENT;
    if fits && (1..=opaque.count).contains(&offset) {
        return Ok(opaque);
    }
    let count = opaque.count;
    Err(Damage::NoSuchItem { offset, count })
}

/// Sets the number of items, and `pd_lower` to where they end.
fn finish(page: &mut Page, mut opaque: Opaque, count: u16) -> Result<(), Damage> {
    page.set_lower(place(count + 1) as u16);
    opaque.count = count;
    opaque.write(page)
}

/// Adds the item of a left half in front of item `offset` of the child that was split, which leads to `right_child` from now
/// on.
pub(super) fn insert(page: &mut Page, right_child: u32, data: &[u8]) -> Result<(), Damage> {
    let new = PostingItemInsert::decode(data)?;
    let opaque = with_item(page, new.offset)?;
    let (at, end) = (place(new.offset), place(opaque.count + 1));
    let free = START + MAX_CONTENT - end;
    if free < POSTING_ITEM_SIZE {
        let len = POSTING_ITEM_SIZE;
        return Err(Damage::NoSpace { len, free });
    }
    put_u16(page, at, (right_child >> 16) as u16)?;
    put_u16(page, at + 2, right_child as u16)?;
    // In bounds: one more item fits in front of the special space.
    page.as_bytes_mut().copy_within(at..end, at + POSTING_ITEM_SIZE);
    copy_to(page, at, &new.item)?;
    finish(page, opaque, opaque.count + 1)
}

/// Removes item `offset`.
pub(super) fn delete(page: &mut Page, offset: u16) -> Result<(), Damage> {
    let opaque = with_item(page, offset)?;
    let (at, end) = (place(offset), place(opaque.count + 1));
    // In bounds: with_item saw that the last item ends in front of the special space.
    page.as_bytes_mut().copy_within(at + POSTING_ITEM_SIZE..end, at);
    zero(page, end - POSTING_ITEM_SIZE..end)?;
    finish(page, opaque, opaque.count - 1)
}

#[cfg(test)]
mod tests {
    use super::super::opaque::{LEAF, make_page};
    use super::*;

    fn inner(children: &[u8]) -> Page {
        let mut page = Page::zeroed();
        make_page(&mut page, DATA).expect("is made anew");
        let mut opaque = Opaque::read(&page).expect("was just made");
        for (child, at) in children.iter().zip((START..).step_by(POSTING_ITEM_SIZE)) {
            copy_to(&mut page, at, &[0, 0, *child, 0, 0, 0, *child, 0, 1, 0]).expect("fits");
        }
        opaque.count = children.len() as u16;
        opaque.write(&mut page).expect("was just made");
        page
    }

    /// Returns of every item the child and the block of its largest TID.
    fn items(page: &Page) -> Vec<(u8, u8)> {
        let end = usize::from(page.lower());
        let items = page.as_bytes()[START..end].chunks_exact(POSTING_ITEM_SIZE);
        items.map(|item| (item[2], item[6])).collect()
    }

    #[test]
    fn the_left_half_comes_in_front_of_the_right_one() {
        let mut page = inner(&[10, 20, 30]);
        insert(&mut page, 21, &[2, 0, 0, 0, 20, 0, 0, 0, 15, 0, 1, 0]).expect("there is room");
        assert_eq!(items(&page), [(10, 10), (20, 15), (21, 20), (30, 30)]);
        delete(&mut page, 1).expect("exists");
        delete(&mut page, 3).expect("exists");
        assert_eq!(items(&page), [(20, 15), (21, 20)]);
        assert_eq!(Opaque::read(&page).expect("is sane").count, 2);
        assert!(
            page.as_bytes()[page.lower().into()..8184]
                .iter()
                .all(|byte| *byte == 0)
        );
    }

    #[test]
    fn items_that_do_not_exist_or_fit_are_refused() {
        let new = |offset: u8| [offset, 0, 0, 0, 20, 0, 0, 0, 15, 0, 1, 0];
        for offset in [0, 3] {
            assert!(insert(&mut inner(&[1, 2]), 9, &new(offset)).is_err());
            assert!(delete(&mut inner(&[1, 2]), offset.into()).is_err());
        }
        let mut full = inner(&[1; MAX_CONTENT / POSTING_ITEM_SIZE]);
        assert!(insert(&mut full, 9, &new(1)).is_err());
        let mut opaque = Opaque::read(&full).expect("is sane");
        opaque.count += 1;
        opaque.write(&mut full).expect("is sane");
        assert!(delete(&mut full, 1).is_err(), "more items than fit");
        opaque.flags |= LEAF;
        opaque.count = 1;
        opaque.write(&mut full).expect("is sane");
        assert!(delete(&mut full, 1).is_err(), "not an inner page");
    }
}
