//! What the masks of the oracle's corpora cannot show: images, LSNs, refusals.

use neon_postgres::page::PD_ALL_VISIBLE;
use neon_postgres::wal::{Compression, NewBlock, Record, RecordBuilder, rmgr};
use neon_postgres::{Page, PgVersion};
use neon_redo::visibility::{self, MapBits, unnamed_clears};
use neon_redo::{Cluster, RedoError, is_supported, needs_base, redo};
use neon_types::{Fork, Lsn, RelTag};

pub const REL: RelTag = RelTag {
    spc: 1663,
    db: 5,
    rel: 16384,
    fork: Fork::Main,
};
const MAP: RelTag = RelTag {
    fork: Fork::VisibilityMap,
    ..REL
};
const VERSION: PgVersion = PgVersion::V17;
const END: Lsn = Lsn(0x5000);

pub fn heap_page() -> Page {
    let mut page = Page::zeroed();
    page.init(0);
    page.set_lsn(Lsn(0x1000));
    page
}

fn record(rmid: u8, info: u8, main: &[u8], blocks: Vec<NewBlock>) -> Record {
    let builder = RecordBuilder::new(VERSION, rmid, info).xid(700).main(main);
    let builder = blocks.into_iter().fold(builder, RecordBuilder::block);
    Record::decode(VERSION, builder.build()).expect("the builder makes whole records")
}

fn replay(record: &Record, index: usize, hints_logged: bool, page: &Page) -> Result<Page, RedoError> {
    let mut page = page.clone();
    redo(
        &Cluster {
            version: VERSION,
            hints_logged,
        },
        record,
        END,
        index,
        &mut page,
    )?;
    Ok(page)
}

#[test]
fn an_image_is_restored_whatever_wrote_it() {
    let mut image = heap_page();
    image.set_stored_checksum(77);
    for rmid in [rmgr::XLOG, rmgr::GIN, rmgr::HASH, 130] {
        let block = NewBlock::new(0, REL, 3).image(&image, true, Compression::None);
        let record = record(rmid, 0xB0, &[], vec![block]);
        assert!(!needs_base(&record, 0));
        let page = replay(&record, 0, true, &Page::zeroed()).expect("has an image");
        assert_eq!((page.lsn(), page.stored_checksum(), page.upper()), (END, 0, 8192));
    }
}

#[test]
fn a_page_of_zeros_has_no_lsn() {
    let block = NewBlock::new(0, REL, 3).image(&Page::zeroed(), true, Compression::None);
    let record = record(rmgr::XLOG, 0xB0, &[], vec![block]);
    assert!(
        replay(&record, 0, true, &heap_page())
            .expect("has an image")
            .is_all_zero()
    );
}

#[test]
fn a_hint_without_an_image_changes_nothing_and_a_full_image_needs_one() {
    let hint = record(rmgr::XLOG, 0xA0, &[], vec![NewBlock::new(0, REL, 3)]);
    assert!(needs_base(&hint, 0));
    assert!(replay(&hint, 0, true, &heap_page()).expect("nothing to do") == heap_page());
    let image = record(rmgr::XLOG, 0xB0, &[], vec![NewBlock::new(0, REL, 3)]);
    assert!(matches!(
        replay(&image, 0, true, &heap_page()),
        Err(RedoError::Corrupt { .. })
    ));
}

#[test]
fn what_is_not_supported_is_named() {
    for (rmid, name) in [(128, "custom128"), (131, "custom131")] {
        assert!(!is_supported(rmid, 0x20));
        let record = record(rmid, 0x20, &[], vec![NewBlock::new(0, REL, 3).will_init()]);
        match replay(&record, 0, true, &heap_page()) {
            Err(RedoError::Unsupported {
                rmid: found,
                name: described,
                ..
            }) => {
                assert_eq!(found, rmid);
                assert!(
                    described.starts_with(name.split('/').next().unwrap_or_default()),
                    "{described}"
                );
            }
            other => panic!("{name}: {:?}", other.map(|page| page.lsn())),
        }
    }
}

#[test]
fn an_index_without_a_reference_is_an_error() {
    let record = record(rmgr::HEAP, 0x00, &[1, 0, 0], vec![NewBlock::new(0, REL, 3)]);
    assert!(matches!(
        replay(&record, 1, true, &heap_page()),
        Err(RedoError::NoSuchBlock { index: 1, .. })
    ));
}

fn visible(flags: u8) -> Record {
    let blocks = vec![NewBlock::new(0, MAP, 0), NewBlock::new(1, REL, 5)];
    record(rmgr::HEAP2, 0x40, &[9, 0, 0, 0, flags], blocks)
}

#[test]
fn visible_moves_the_heap_lsn_only_where_hints_are_logged() {
    for hints_logged in [false, true] {
        let page = replay(&visible(3), 1, hints_logged, &heap_page()).expect("is a heap page");
        assert_eq!(page.flags(), PD_ALL_VISIBLE);
        assert_eq!(page.lsn(), if hints_logged { END } else { Lsn(0x1000) });
    }
}

#[test]
fn a_map_page_moves_its_lsn_only_when_a_bit_changes() {
    let made = replay(&visible(7), 0, true, &Page::zeroed()).expect("a new map page is made");
    assert_eq!((made.lsn(), made.lower(), made.upper()), (END, 24, 8192));
    assert_eq!(
        made.as_bytes()[25],
        3 << 2,
        "block 5 is the second of byte 1; 4 is no bit of the map"
    );
    let mut old = made.clone();
    old.set_lsn(Lsn(0x2000));
    let same = replay(&visible(3), 0, true, &old).expect("is a map page");
    assert_eq!(same.lsn(), Lsn(0x2000));

    let delete = |heap_block| {
        let blocks = vec![NewBlock::new(0, REL, heap_block), NewBlock::new(1, MAP, 0)];
        record(rmgr::HEAP, 0x10, &[9, 0, 0, 0, 1, 0, 0, 1], blocks)
    };
    let cleared = replay(&delete(5), 1, true, &old).expect("is a map page");
    assert_eq!((cleared.lsn(), cleared.as_bytes()[25]), (END, 0));
    let untouched = replay(&delete(6), 1, true, &old).expect("is a map page");
    assert!(untouched == old);
    let elsewhere = visibility::HEAP_BLOCKS_PER_PAGE;
    assert!(
        replay(&delete(elsewhere), 1, true, &old).is_err(),
        "the block belongs to the next map page"
    );
}

#[test]
fn an_update_clears_both_blocks_in_a_map_page_that_covers_both() {
    let mut map = Page::zeroed();
    map.init(0);
    map.as_bytes_mut()[24..].fill(0xff);
    let main = [9, 0, 0, 0, 1, 0, 0, 3, 0, 0, 0, 0, 1, 0];
    let update = |old_block: u32, old_map: bool| {
        let mut blocks = vec![
            NewBlock::new(0, REL, 1),
            NewBlock::new(1, REL, old_block),
            NewBlock::new(2, MAP, 0),
        ];
        if old_map {
            blocks.push(NewBlock::new(3, MAP, visibility::map_block(old_block)));
        }
        record(rmgr::HEAP, 0x20, &main, blocks)
    };
    let both = replay(&update(2, false), 2, true, &map).expect("is a map page");
    assert_eq!(both.as_bytes()[24], 0b1100_0011);
    let far = visibility::HEAP_BLOCKS_PER_PAGE + 2;
    let new_only = replay(&update(far, true), 2, true, &map).expect("is a map page");
    assert_eq!(new_only.as_bytes()[24], 0b1111_0011);
    let old_only = replay(&update(far, true), 3, true, &map).expect("is a map page");
    assert_eq!(old_only.as_bytes()[24], 0b1100_1111);
}

#[test]
fn clears_that_the_record_does_not_name_are_told() {
    let all = visibility::VALID_BITS;
    let heap = |blocks: &[u32]| -> Vec<NewBlock> {
        blocks
            .iter()
            .zip(0..)
            .map(|(block, id)| NewBlock::new(id, REL, *block))
            .collect()
    };
    let clears = |record: &Record| unnamed_clears(record).expect("can be decoded");
    let insert = record(rmgr::HEAP, 0x00, &[1, 0, 1], heap(&[8]));
    assert_eq!(
        clears(&insert),
        [MapBits {
            heap_block: 8,
            bits: all
        }]
    );
    let lock = record(rmgr::HEAP, 0x60, &[9, 0, 0, 0, 1, 0, 0, 1], heap(&[8]));
    assert_eq!(
        clears(&lock),
        [MapBits {
            heap_block: 8,
            bits: visibility::ALL_FROZEN
        }]
    );
    let update = record(
        rmgr::HEAP,
        0x20,
        &[9, 0, 0, 0, 1, 0, 0, 3, 0, 0, 0, 0, 1, 0],
        heap(&[8, 9]),
    );
    let expected = [
        MapBits {
            heap_block: 9,
            bits: all,
        },
        MapBits {
            heap_block: 8,
            bits: all,
        },
    ];
    assert_eq!(clears(&update), expected);
    let plain = record(rmgr::HEAP, 0x00, &[1, 0, 0], heap(&[8]));
    assert_eq!(clears(&plain), []);
    let named = vec![NewBlock::new(0, REL, 8), NewBlock::new(1, MAP, 0)];
    assert_eq!(clears(&record(rmgr::HEAP, 0x00, &[1, 0, 1], named)), []);
}
