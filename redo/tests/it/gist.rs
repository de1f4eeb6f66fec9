//! What the mask of GiST pages hides: NSNs and the flag that leads searches to the right.

use neon_postgres::wal::{Compression, NewBlock, Record, RecordBuilder, rmgr};
use neon_postgres::{Page, PgVersion};
use neon_redo::{Cluster, redo};
use neon_types::Lsn;

use crate::rules::REL;

const VERSION: PgVersion = PgVersion::V17;
const END: Lsn = Lsn(0x12_3456_7890);
const LEAF: u16 = 1;
const FOLLOW_RIGHT: u16 = 8;
const NO_BLOCK: u32 = u32::MAX;
/// NSN of the page before a split.
const OLD_NSN: u64 = 0x7_0000_0009;

/// Special space: NSN as two halves, the high one first; right sibling; flags; the kind of page.
fn special(nsn: u64, right: u32, flags: u16) -> Vec<u8> {
    let halves = [(nsn >> 32) as u32, nsn as u32, right].map(u32::to_le_bytes);
    [halves.as_flattened(), &flags.to_le_bytes(), &[0x81, 0xff]].concat()
}

fn page(nsn: u64, right: u32, flags: u16) -> Page {
    let mut page = Page::zeroed();
    page.init(16);
    page.as_bytes_mut()[8176..].copy_from_slice(&special(nsn, right, flags));
    page
}

fn replay(info: u8, main: &[u8], blocks: Vec<NewBlock>, index: usize, page: &Page) -> Page {
    let builder = RecordBuilder::new(VERSION, rmgr::GIST, info).main(main);
    let builder = blocks.into_iter().fold(builder, RecordBuilder::block);
    let record = Record::decode(VERSION, builder.build()).expect("the builder makes whole records");
    let record = Record::decode(VERSION, record.slice_for_block(index)).expect("a slice is whole");
    let cluster = Cluster {
        version: VERSION,
        hints_logged: true,
    };
    let mut page = page.clone();
    redo(&cluster, &record, END, index, &mut page).expect("page and record fit");
    page
}

/// Main data of PAGE_SPLIT.
fn split(right: u32, leaf: bool, pages: u16, follow_right: bool) -> Vec<u8> {
    let [low, high] = pages.to_le_bytes();
    let mut main = right.to_le_bytes().to_vec();
    main.extend_from_slice(&[0; 4]);
    main.extend_from_slice(&OLD_NSN.to_le_bytes());
    main.extend_from_slice(&[leaf.into(), 0, low, high, follow_right.into(), 0, 0, 0]);
    main
}

/// A reference to a page of a split, with one tuple without a key.
fn half(id: u8, block: u32) -> NewBlock {
    let tuple = [1, 0, 0, 0, 0, 0, 1, 0, 1, 0, 8, 0];
    NewBlock::new(id, REL, block).will_init().data(&tuple)
}

#[test]
fn a_finished_split_gives_the_left_page_the_records_lsn() {
    let before = page(5, 9, LEAF | FOLLOW_RIGHT);
    let update = [0; 4];
    let root = split(NO_BLOCK, false, 1, true);
    for apply in [false, true] {
        let left = |id| {
            let reference = NewBlock::new(id, REL, 4);
            if apply {
                reference.image(&before, true, Compression::None)
            } else {
                reference
            }
        };
        let base = if apply { Page::zeroed() } else { before.clone() };
        let parent = NewBlock::new(0, REL, 0);
        let updated = replay(0x00, &update, vec![parent, left(1)], 1, &base);
        let split = replay(0x30, &root, vec![left(0), half(1, 7)], 0, &base);
        for after in [updated, split] {
            assert_eq!(
                after.as_bytes()[8176..],
                special(END.0, 9, LEAF),
                "image: {apply}"
            );
            assert_eq!(after.lsn(), END);
        }
    }
}

#[test]
fn an_image_of_another_page_keeps_its_nsn() {
    let image = page(5, 9, FOLLOW_RIGHT);
    let parent = NewBlock::new(0, REL, 3).image(&image, true, Compression::None);
    let after = replay(0x00, &[0; 4], vec![parent], 0, &Page::zeroed());
    assert_eq!(after.as_bytes()[8176..], special(5, 9, FOLLOW_RIGHT));
}

#[test]
fn the_pages_of_a_split_are_chained_and_wait_for_their_parent() {
    let blocks = || vec![half(1, 4), half(2, 8), half(3, 6)];
    for (follow_right, flag) in [(true, FOLLOW_RIGHT), (false, 0)] {
        let main = split(77, true, 3, follow_right);
        let chain = [(8, LEAF | flag), (6, LEAF | flag), (77, LEAF)];
        for (index, (right, flags)) in chain.into_iter().enumerate() {
            let after = replay(0x30, &main, blocks(), index, &Page::zeroed());
            assert_eq!(after.as_bytes()[8176..], special(OLD_NSN, right, flags));
            assert_eq!((after.item_count(), after.lsn()), (1, END));
        }
    }
}

#[test]
fn the_pages_of_a_split_root_have_their_parent() {
    let main = split(NO_BLOCK, true, 3, true);
    let chain = [(NO_BLOCK, 0), (5, LEAF), (NO_BLOCK, LEAF)];
    for (index, (right, flags)) in chain.into_iter().enumerate() {
        let blocks = vec![half(1, 0), half(2, 4), half(3, 5)];
        let after = replay(0x30, &main, blocks, index, &Page::zeroed());
        assert_eq!(after.as_bytes()[8176..], special(OLD_NSN, right, flags));
    }
}
