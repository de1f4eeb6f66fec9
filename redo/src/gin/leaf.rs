//! Leaves of posting trees: the largest TID that may be on the page, then segments from byte 32 to `pd_lower`.

use neon_postgres::page::PAGE_HEADER_SIZE;
use neon_postgres::records::gin::{SegmentAction, SegmentChange, TID_SIZE, take_segment};
use neon_postgres::{BLCKSZ, Cursor, Page};

use super::opaque::{self, COMPRESSED, DATA, LEAF, Opaque, make_page};
use super::posting::{self, Tid};
use crate::Damage;
use crate::page::{bytes_at, copy_to, layout, zero};

/// Where segments or items begin: behind the header and 8 bytes for the page's largest TID.
pub(super) const START: usize = PAGE_HEADER_SIZE + 8;
/// Bytes from there to the special space (`GinDataPageMaxDataSize`).
pub(super) const MAX_CONTENT: usize = BLCKSZ - START - opaque::SIZE;

/// Makes a leaf that is the root of its tree.
pub(super) fn make_root(page: &mut Page, segments: &[u8]) -> Result<(), Damage> {
    make_page(page, DATA | LEAF | COMPRESSED)?;
    let mut content = Content::default();
    content.push(segments)?;
    content.write(page)
}

/// Carries out the changes of segments, in order (`ginRedoRecompress`). A page from before 9.4, a list of plain TIDs, becomes
/// one of segments first.
pub(super) fn recompress(page: &mut Page, actions: &[SegmentAction<'_>]) -> Result<(), Damage> {
    let mut opaque = Opaque::read(page)?;
    opaque.expect(DATA | LEAF)?;
    let before = if opaque.flags & COMPRESSED == 0 {
        let segments = compress(page, opaque.count)?;
        opaque.flags |= COMPRESSED;
        opaque.count = 0;
        opaque.write(page)?;
        segments
    } else {
        bytes_at(page, START..layout(page)?.lower)?.to_vec()
    };
    let mut after = Content::default();
    let mut old = Segments::new(&before);
    for action in actions {
        while old.number < action.segment.into() {
            after.push(old.take()?)?;
        }
        if old.number > action.segment.into() {
            return Err(Damage::Value {
                what: "actions on segments that are out of order",
            });
        }
        match action.change {
            SegmentChange::Delete => {
                old.take()?;
            }
            SegmentChange::Insert(new) => after.push(new)?,
            SegmentChange::Replace(new) => {
                old.take()?;
                after.push(new)?;
            }
            SegmentChange::AddItems(items) => after.push(&posting::merge(old.take()?, items)?)?,
        }
    }
    after.push(old.rest())?;
    after.write(page)
}

/// Returns the one segment of an uncompressed page with `count` TIDs, nothing if there are none.
fn compress(page: &Page, count: u16) -> Result<Vec<u8>, Damage> {
    let end = START + TID_SIZE * usize::from(count);
    if end > START + MAX_CONTENT {
        return Err(Damage::Value {
            what: "more heap TIDs than a page can hold",
        });
    }
    let (plain, _) = bytes_at(page, START..end)?.as_chunks();
    let tids: Result<Vec<Tid>, Damage> = plain.iter().map(|tid| Tid::read(*tid)).collect();
    let tids = tids?;
    if tids.is_empty() {
        return Ok(Vec::new());
    }
    posting::encode(&tids)
}

/// The segments that a page had.
struct Segments<'a> {
    left: Cursor<'a>,
    /// How many were taken.
    number: usize,
}

impl<'a> Segments<'a> {
    fn new(segments: &'a [u8]) -> Segments<'a> {
        Segments {
            left: Cursor::new(segments),
            number: 0,
        }
    }

    fn take(&mut self) -> Result<&'a [u8], Damage> {
        self.number += 1;
        Ok(take_segment(&mut self.left)?)
    }

    fn rest(&self) -> &'a [u8] {
        self.left.rest()
    }
}

/// The segments that a page will have: no more than fit.
#[derive(Default)]
struct Content(Vec<u8>);

impl Content {
    fn push(&mut self, segments: &[u8]) -> Result<(), Damage> {
        let free = MAX_CONTENT - self.0.len();
        if segments.len() > free {
            let len = segments.len();
            return Err(Damage::NoSpace { len, free });
        }
        self.0.extend_from_slice(segments);
        Ok(())
    }

    fn write(self, page: &mut Page) -> Result<(), Damage> {
        let end = START + self.0.len();
        copy_to(page, START, &self.0)?;
        zero(page, end..START + MAX_CONTENT)?;
        page.set_lower(end as u16);
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Returns the segment of block `block`, offsets 1 and `last`.
    fn segment(block: u8, last: u8) -> Vec<u8> {
        vec![0, 0, block, 0, 1, 0, 1, 0, last - 1, 0]
    }

    fn leaf(segments: &[Vec<u8>]) -> Page {
        let mut page = Page::zeroed();
        make_root(&mut page, &segments.concat()).expect("fits");
        page
    }

    fn content(page: &Page) -> &[u8] {
        &page.as_bytes()[START..page.lower().into()]
    }

    fn action(segment: u8, change: SegmentChange<'_>) -> SegmentAction<'_> {
        SegmentAction { segment, change }
    }

    #[test]
    fn segments_are_counted_as_they_were_before() {
        let mut page = leaf(&[segment(1, 9), segment(2, 9), segment(3, 9), segment(4, 9)]);
        let [first, second, other] = [segment(0, 5), segment(0, 6), segment(3, 7)];
        let actions = [
            action(1, SegmentChange::Insert(&first)),
            action(1, SegmentChange::Insert(&second)),
            action(1, SegmentChange::Delete),
            action(2, SegmentChange::Replace(&other)),
            action(3, SegmentChange::AddItems(&[[0, 0, 4, 0, 3, 0]])),
            action(4, SegmentChange::Insert(&first)),
        ];
        recompress(&mut page, &actions).expect("is sane");
        let merged = vec![0, 0, 4, 0, 1, 0, 2, 0, 2, 6];
        assert_eq!(
            content(&page),
            [segment(1, 9), first.clone(), second, other, merged, first].concat()
        );
        assert!(
            page.as_bytes()[page.lower().into()..8184]
                .iter()
                .all(|byte| *byte == 0)
        );
    }

    #[test]
    fn actions_must_be_in_order_on_segments_that_exist() {
        let page = leaf(&[segment(1, 9), segment(2, 9)]);
        let new = segment(3, 9);
        for actions in [
            &[action(1, SegmentChange::Delete), action(0, SegmentChange::Delete)][..],
            &[action(0, SegmentChange::Delete), action(0, SegmentChange::Delete)],
            &[action(2, SegmentChange::Delete)],
            &[action(2, SegmentChange::Replace(&new))],
            &[action(2, SegmentChange::AddItems(&[]))],
            &[action(3, SegmentChange::Insert(&new))],
        ] {
            assert!(recompress(&mut page.clone(), actions).is_err(), "{actions:?}");
        }
    }

    #[test]
    fn a_page_takes_no_more_than_it_holds() {
        let full = vec![segment(1, 9); MAX_CONTENT / 10];
        let mut page = leaf(&full);
        let new = segment(2, 9);
        let insert = action(0, SegmentChange::Insert(&new));
        assert!(recompress(&mut page.clone(), &[insert]).is_err());
        recompress(
            &mut page,
            &[
                action(0, SegmentChange::Delete),
                action(1, SegmentChange::Insert(&new)),
            ],
        )
        .expect("one goes before the other comes");
        assert!(make_root(&mut page, &[0; MAX_CONTENT + 2]).is_err());
    }

    /// Makes a leaf as before 9.4: plain TIDs of block 7, their number in the special space, and `pd_lower` of an empty page.
    fn uncompressed(offsets: std::ops::Range<u16>) -> Page {
        let mut page = Page::zeroed();
        make_page(&mut page, DATA | LEAF).expect("is made anew");
        for (place, offset) in (START..).step_by(TID_SIZE).zip(offsets.clone()) {
            copy_to(&mut page, place, &[0, 0, 7, 0, offset as u8, (offset >> 8) as u8]).expect("fits");
        }
        let mut opaque = Opaque::read(&page).expect("was just made");
        opaque.count = offsets.len() as u16;
        opaque.write(&mut page).expect("was just made");
        page
    }

    #[test]
    fn plain_tids_become_a_segment_first() {
        let mut page = uncompressed(1..4);
        let add = action(0, SegmentChange::AddItems(&[[0, 0, 8, 0, 1, 0]]));
        recompress(&mut page, &[add]).expect("is sane");
        assert_eq!(content(&page), [0, 0, 7, 0, 1, 0, 4, 0, 1, 1, 0xfe, 0x0f]);
        let opaque = Opaque::read(&page).expect("is sane");
        assert_eq!((opaque.count, opaque.flags), (0, DATA | LEAF | COMPRESSED));

        let mut empty = uncompressed(1..1);
        let new = segment(1, 9);
        recompress(&mut empty, &[action(0, SegmentChange::Insert(&new))]).expect("is sane");
        assert_eq!(content(&empty), new);

        let most = (MAX_CONTENT / TID_SIZE) as u16;
        recompress(&mut uncompressed(1..most + 1), &[]).expect("is a full page");
        let mut page = uncompressed(1..2);
        let mut opaque = Opaque::read(&page).expect("was just made");
        opaque.count = most + 1;
        opaque.write(&mut page).expect("was just made");
        assert!(recompress(&mut page, &[]).is_err());
    }

    #[test]
    fn only_leaves_of_posting_trees_are_taken() {
        for flags in [LEAF, DATA, 0] {
            let mut page = Page::zeroed();
            make_page(&mut page, flags).expect("is made anew");
            assert!(recompress(&mut page, &[]).is_err(), "{flags}");
        }
    }
}
