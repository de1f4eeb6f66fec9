//! What no recorded log of a hash index holds, or what masks hide: a second bitmap, a freed page inside a chain, LSNs of pages
//! that are only locked, a split without its image.

use neon_postgres::wal::{NewBlock, Record, RecordBuilder, rmgr};
use neon_postgres::{Page, PgVersion};
use neon_redo::{Cluster, RedoError, redo};
use neon_types::Lsn;

use crate::rules::REL;

const END: Lsn = Lsn(0x12_3456_7890);
const BEFORE: Lsn = Lsn(0x11_0000_0000);
const NONE: u32 = u32::MAX;
const ADD_OVERFLOW_PAGE: u8 = 0x30;
const SPLIT_PAGE: u8 = 0x50;
const SQUEEZE: u8 = 0x80;

/// Returns an empty page of that kind: previous block, next block, bucket, flags.
fn page(prev: u32, next: u32, bucket: u32, flags: u16) -> Page {
    let mut page = Page::zeroed();
    page.init(16);
    page.set_lsn(BEFORE);
    page.as_bytes_mut()[8176..].copy_from_slice(&special(prev, next, bucket, flags));
    page
}

fn special(prev: u32, next: u32, bucket: u32, flags: u16) -> Vec<u8> {
    let words = [prev, next, bucket].map(u32::to_le_bytes);
    [words.as_flattened(), &flags.to_le_bytes(), &[0x80, 0xff]].concat()
}

fn replay(
    version: PgVersion,
    info: u8,
    main: &[u8],
    blocks: Vec<NewBlock>,
    index: usize,
    page: &Page,
) -> Result<Page, RedoError> {
    let builder = RecordBuilder::new(version, rmgr::HASH, info).main(main);
    let builder = blocks.into_iter().fold(builder, RecordBuilder::block);
    let record = Record::decode(version, builder.build()).expect("the builder makes whole records");
    let record = Record::decode(version, record.slice_for_block(index)).expect("a slice is whole");
    let cluster = Cluster {
        version,
        hints_logged: true,
    };
    let mut page = page.clone();
    redo(&cluster, &record, END, index, &mut page)?;
    Ok(page)
}

fn word(page: &Page, at: usize) -> u32 {
    let bytes = page.as_bytes()[24 + at..].first_chunk();
    u32::from_le_bytes(*bytes.expect("is on the page"))
}

#[test]
fn an_overflow_page_may_bring_a_bitmap_with_it() {
    let blocks = || {
        vec![
            NewBlock::new(0, REL, 40).will_init().data(&7u32.to_le_bytes()),
            NewBlock::new(1, REL, 9),
            NewBlock::new(3, REL, 39).will_init(),
            NewBlock::new(4, REL, 0).data(&32768u32.to_le_bytes()),
        ]
    };
    let main = [0, 16, 0];
    let replay = |index, page: &Page| replay(PgVersion::V17, ADD_OVERFLOW_PAGE, &main, blocks(), index, page);

    let added = replay(0, &Page::zeroed()).expect("is made anew");
    assert_eq!(added.as_bytes()[8176..], special(9, NONE, 7, 1));
    let left = replay(1, &page(3, NONE, 7, 2)).expect("is a bucket's page");
    assert_eq!(left.as_bytes()[8176..], special(3, 40, 7, 2));
    let bitmap = replay(2, &Page::zeroed()).expect("is made anew");
    assert_eq!(bitmap.as_bytes()[8176..], special(NONE, NONE, NONE, 4));
    assert!(bitmap.as_bytes()[24..24 + 4096].iter().all(|byte| *byte == 0xff));
    assert_eq!((bitmap.lower(), word(&bitmap, 4096)), (24 + 4096, 0));

    let mut meta = page(NONE, NONE, NONE, 8);
    // Split point 5 with 2 overflow pages, one bitmap at block 3.
    for (at, value) in [(36, 5u32), (44, 1), (52 + 4 * 5, 2), (444, 3)] {
        meta.as_bytes_mut()[24 + at..28 + at].copy_from_slice(&value.to_le_bytes());
    }
    let meta = replay(3, &meta).expect("is the meta page");
    let words = [40, 44, 52 + 4 * 5, 444, 448].map(|at| word(&meta, at));
    assert_eq!(words, [32768, 2, 4, 3, 39]);
}

#[test]
fn the_neighbours_of_a_freed_page_meet() {
    let main = [[5, 0, 0, 0], [8, 0, 0, 0], [0, 0, 0, 0]].concat();
    let blocks = || {
        let unused = [1, 3, 4].map(|id| NewBlock::new(id, REL, 10 + u32::from(id)));
        unused.to_vec()
    };
    let front = replay(PgVersion::V17, SQUEEZE, &main, blocks(), 1, &page(1, 6, 2, 1)).expect("a page");
    assert_eq!(front.as_bytes()[8176..], special(1, 8, 2, 1));
    let behind = replay(PgVersion::V17, SQUEEZE, &main, blocks(), 2, &page(6, 9, 2, 1)).expect("a page");
    assert_eq!(behind.as_bytes()[8176..], special(5, 9, 2, 1));
    assert_eq!((front.lsn(), behind.lsn()), (END, END));
}

#[test]
fn a_page_that_gets_no_tuples_keeps_its_lsn_from_17_on() {
    let base = page(1, 6, 2, 1);
    for version in PgVersion::ALL {
        for to_prev in [false, true] {
            let main = [&[5, 0, 0, 0, 8, 0, 0, 0, 0, 0, 1][..], &[to_prev.into()]].concat();
            let blocks = vec![NewBlock::new(1, REL, 4)];
            let after = replay(version, SQUEEZE, &main, blocks, 0, &base).expect("a bucket's page");
            let moves = to_prev || version < PgVersion::V17;
            assert_eq!(
                after.lsn() == END,
                moves,
                "{version}, next to the freed page: {to_prev}"
            );
        }
    }
}

#[test]
fn a_split_page_without_its_image_is_refused() {
    let blocks = vec![NewBlock::new(0, REL, 4)];
    assert!(replay(PgVersion::V17, SPLIT_PAGE, &[], blocks, 0, &page(1, 6, 2, 2)).is_err());
}
