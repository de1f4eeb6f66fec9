//! Blocks, sizes, visibility maps, databases.

use neon_postgres::PgVersion;
use neon_postgres::wal::NewBlock;
use neon_redo::change::{Change, VmBits};
use neon_types::{Fork, Key, Lsn};

use super::{History, absent, changes, rel, words};
use crate::items::{Copied, Cut, Database, RelMap, RelSize};

const HEAP: u8 = 10;
const HEAP2: u8 = 9;
const SMGR: u8 = 2;
const DBASE: u8 = 4;
const STANDBY: u8 = 8;
const VM: Fork = Fork::VisibilityMap;

fn create(history: &mut History, rel: neon_types::RelTag) {
    let main = words(&[rel.spc, rel.db, rel.rel, rel.fork as u32]);
    let record = history.record(SMGR, 0x10).main(&main);
    history.take(&record);
}

fn truncate(
    history: &mut History,
    rel: neon_types::RelTag,
    blocks: u32,
    flags: u32,
) -> Vec<(Key, super::Effect)> {
    let main = words(&[blocks, rel.spc, rel.db, rel.rel, flags]);
    let record = history.record(SMGR, 0x20).main(&main);
    history.take(&record)
}

fn touch(history: &mut History, rel: neon_types::RelTag, block: u32) -> Vec<(Key, super::Effect)> {
    // A B-tree record: it touches nothing but its blocks.
    let record = history.record(11, 0).block(NewBlock::new(0, rel, block));
    history.take(&record)
}

#[test]
fn a_block_reference_extends_its_relation() {
    let mut history = History::new(PgVersion::V15, 0);
    create(&mut history, rel(1));
    assert_eq!(
        history.size(rel(1)),
        Some(RelSize {
            creator: Some(0),
            ..RelSize::created(Lsn(0x1100))
        })
    );
    assert_eq!(touch(&mut history, rel(1), 7).len(), 2);
    assert_eq!(
        touch(&mut history, rel(1), 3).len(),
        1,
        "a block below the size changes no size"
    );
    let size = history.size(rel(1)).expect("a size");
    assert_eq!((size.size, size.floor(3)), (8, Lsn(0x1100)));
    // A relation that nobody created: floored at the start of the record.
    let start = history.end;
    touch(&mut history, rel(2), 0);
    assert_eq!(
        history.size(rel(2)),
        Some(RelSize {
            size: 1,
            ..RelSize::created(start)
        })
    );
    assert!(
        history
            .ingest
            .effects(
                &neon_postgres::wal::Record::decode(
                    PgVersion::V15,
                    history
                        .record(11, 0)
                        .block(NewBlock::new(0, rel(1), u32::MAX))
                        .build()
                )
                .expect("a record"),
                Lsn(1),
                Lsn(2),
                &history.items
            )
            .is_err(),
        "there is no block 4294967295"
    );
}

#[test]
fn a_record_that_changes_one_thing_twice_is_refused() {
    let mut history = History::new(PgVersion::V14, 0);
    let block = |id, number| NewBlock::new(id, rel(1), number);
    let twice = history.record(11, 0).block(block(0, 4)).block(block(1, 4));
    let error = history.try_take(&twice).expect_err("two versions at one LSN");
    assert!(error.to_string().contains("Btree/INSERT_LEAF"), "{error}");
    let both = history.record(11, 0).block(block(0, 4)).block(block(1, 5));
    assert_eq!(history.take(&both).len(), 3);

    // XLOG_DBASE_DROP: database, number of tablespaces, these.
    let drop = |history: &History, spcs: &[u32]| {
        let main = words(&[&[9, spcs.len() as u32], spcs].concat());
        history.record(DBASE, 0x10).main(&main)
    };
    let many: Vec<u32> = (1..20).chain([7]).collect();
    for spcs in [[5, 6, 5].as_slice(), &many] {
        let record = drop(&history, spcs);
        assert!(history.try_take(&record).is_err(), "{spcs:?}");
    }
    let record = drop(&history, &[5, 6]);
    assert_eq!(absent(&history.take(&record)).len(), 4);
}

#[test]
fn free_space_maps_leave_no_trace() {
    let mut history = History::new(PgVersion::V15, 0);
    let fsm = rel(1).with_fork(Fork::FreeSpaceMap);
    create(&mut history, fsm);
    assert_eq!(touch(&mut history, fsm, 0), []);
    assert_eq!(history.size(fsm), None);
}

#[test]
fn a_hint_without_image_is_no_version() {
    let mut history = History::new(PgVersion::V15, 0);
    let record = history.record(0, 0xA0).block(NewBlock::new(0, rel(1), 0));
    assert_eq!(history.take(&record), []);
}

#[test]
fn truncation_cuts_relation_and_map() {
    let mut history = History::new(PgVersion::V15, 0);
    let vm = rel(1).with_fork(VM);
    for (rel, block) in [(rel(1), 70_000), (vm, 2)] {
        create(&mut history, rel);
        touch(&mut history, rel, block);
    }
    let effects = truncate(&mut history, rel(1), 40_000, 7);
    let end = history.end;
    let size = history.size(rel(1)).expect("a size");
    assert_eq!(size.size, 40_000);
    assert_eq!(
        size.cuts.last(),
        Some(&Cut {
            keep: 40_000,
            lsn: end
        })
    );
    assert_eq!(history.size(vm).expect("a map").size, 2);
    assert_eq!(
        changes(&effects),
        [(
            Key::Block(vm, 1),
            Change::TruncateVmTail {
                keep: 40_000 - 32_672
            }
        )]
    );
    // At the border of a map page there is no tail.
    let effects = truncate(&mut history, rel(1), 32_672, 7);
    assert_eq!(changes(&effects), []);
    assert_eq!(history.size(vm).expect("a map").size, 1);
    // Not longer than that already: nothing happens but to the map, whose page may have bits beyond.
    let effects = truncate(&mut history, rel(1), 32_672, 7);
    assert_eq!(effects, []);
    // Only what the flags say.
    truncate(&mut history, rel(1), 0, 2);
    assert_eq!(history.size(rel(1)).expect("a size").size, 32_672);
    assert_eq!(history.size(vm).expect("a map").size, 0);
}

/// Main data of heap records whose flags are byte 7.
fn flags(flags: u8) -> Vec<u8> {
    let mut main = vec![0; 14];
    main[7] = flags;
    main
}

#[test]
fn heap_records_clear_map_bits_of_maps_that_exist() {
    let mut history = History::new(PgVersion::V15, 0);
    let vm = rel(1).with_fork(VM);
    let block = |id, number| NewBlock::new(id, rel(1), number);
    let slot = |slot, bits| VmBits { slot, bits };
    // DELETE with the flag, but no map.
    let delete = history.record(HEAP, 0x10).block(block(0, 5)).main(&flags(1));
    assert_eq!(changes(&history.take(&delete)), []);
    touch(&mut history, vm, 1);
    assert_eq!(
        changes(&history.take(&delete)),
        [(Key::Block(vm, 0), Change::ClearVm(vec![slot(5, 3)]))]
    );
    let silent = history.record(HEAP, 0x10).block(block(0, 5)).main(&flags(0));
    assert_eq!(changes(&history.take(&silent)), []);

    let insert = history
        .record(HEAP, 0x80)
        .block(block(0, 32_672))
        .main(&[1, 0, 1]);
    assert_eq!(
        changes(&history.take(&insert)),
        [(Key::Block(vm, 1), Change::ClearVm(vec![slot(0, 3)]))]
    );
    let many = history.record(HEAP2, 0x50).block(block(0, 6)).main(&[1, 0, 2, 0]);
    assert_eq!(
        changes(&history.take(&many)),
        [(Key::Block(vm, 0), Change::ClearVm(vec![slot(6, 3)]))]
    );
    for (rmid, info) in [(HEAP, 0x60), (HEAP2, 0x60)] {
        let lock = history.record(rmid, info).block(block(0, 7)).main(&flags(1));
        assert_eq!(
            changes(&history.take(&lock)),
            [(Key::Block(vm, 0), Change::ClearVm(vec![slot(7, 2)]))]
        );
    }
    // Beyond the map.
    let beyond = history
        .record(HEAP, 0x10)
        .block(block(0, 2 * 32_672))
        .main(&flags(1));
    assert_eq!(changes(&history.take(&beyond)), []);
    // PRUNE has a flags byte elsewhere.
    let prune = history.record(HEAP2, 0x10).block(block(0, 5)).main(&flags(1));
    assert_eq!(changes(&history.take(&prune)), []);
}

#[test]
fn an_update_clears_the_bits_of_both_pages() {
    let mut history = History::new(PgVersion::V15, 0);
    let vm = rel(1).with_fork(VM);
    touch(&mut history, vm, 1);
    let update = |history: &mut History, new: u32, old: Option<u32>, cleared: u8| {
        let mut record = history.record(HEAP, 0x20).block(NewBlock::new(0, rel(1), new));
        if let Some(old) = old {
            record = record.block(NewBlock::new(1, rel(1), old));
        }
        let record = record.main(&flags(cleared));
        changes(&history.take(&record))
    };
    let slots =
        |slots: &[u16]| Change::ClearVm(slots.iter().map(|slot| VmBits { slot: *slot, bits: 3 }).collect());
    assert_eq!(
        update(&mut history, 10, Some(20), 3),
        [(Key::Block(vm, 0), slots(&[20, 10]))]
    );
    assert_eq!(
        update(&mut history, 32_673, Some(20), 3),
        [
            (Key::Block(vm, 0), slots(&[20])),
            (Key::Block(vm, 1), slots(&[1]))
        ]
    );
    assert_eq!(
        update(&mut history, 10, Some(20), 1),
        [(Key::Block(vm, 0), slots(&[20]))],
        "old only"
    );
    assert_eq!(
        update(&mut history, 10, Some(20), 2),
        [(Key::Block(vm, 0), slots(&[10]))],
        "new only"
    );
    assert_eq!(
        update(&mut history, 10, None, 3),
        [(Key::Block(vm, 0), slots(&[10]))],
        "within a page"
    );
}

#[test]
fn a_map_that_the_record_names_is_left_to_redo() {
    let mut history = History::new(PgVersion::V17, 0);
    let vm = rel(1).with_fork(VM);
    touch(&mut history, vm, 0);
    let delete = history
        .record(HEAP, 0x10)
        .block(NewBlock::new(0, rel(1), 5))
        .block(NewBlock::new(1, vm, 0))
        .main(&flags(1));
    let effects = history.take(&delete);
    assert_eq!(changes(&effects), []);
    assert!(
        effects
            .iter()
            .any(|(key, effect)| *key == Key::Block(vm, 0) && *effect == super::Effect::Block { index: 1 })
    );
}

#[test]
fn a_copied_database_points_to_its_source() {
    let mut history = History::new(PgVersion::V15, 0);
    create(&mut history, rel(1));
    touch(&mut history, rel(1), 9);
    create(&mut history, rel(2).with_fork(Fork::Init));
    let map = RelMap { file: vec![7; 512] };
    history.set(Key::RelMap { spc: 1663, db: 5 }, &map.encode());
    let copy = history.record(DBASE, 0).main(&words(&[6, 1663, 5, 1663]));
    let effects = history.take(&copy);
    let end = history.end;
    let target = neon_types::RelTag { db: 6, ..rel(1) };
    let size = history.size(target).expect("a copy");
    assert_eq!(size.size, 10);
    assert_eq!(
        size.copied_from,
        Some(Copied {
            from: rel(1),
            lsn: end,
            blocks: 10
        })
    );
    assert_eq!((size.floor(0), size.source(9)), (end, Some((rel(1), end))));
    assert_eq!(effects.len(), 4, "two forks, the map, the database");
    let key = Key::Database { spc: 1663, db: 6 };
    assert_eq!(
        Database::decode(&history.items[&key.pack()]),
        Ok(Database::of_version(15))
    );
    assert_eq!(
        RelMap::decode(&history.items[&Key::RelMap { spc: 1663, db: 6 }.pack()]),
        Ok(map)
    );

    // The source goes on by itself; the copy can be dropped.
    touch(&mut history, rel(1), 20);
    assert_eq!(history.size(target).expect("a copy").size, 10);
    touch(&mut history, target, 12);
    let drop = history.record(DBASE, 0x20).main(&words(&[6, 1, 1663]));
    let gone = absent(&history.take(&drop));
    assert_eq!(gone.len(), 4);
    assert!(gone.contains(&key) && gone.contains(&Key::RelSize(target)));
    assert_eq!(history.size(target), None);
    assert!(history.size(rel(1)).is_some());
    // The same name begins anew.
    touch(&mut history, target, 0);
    assert_eq!(history.size(target).expect("a relation").copied_from, None);
}

#[test]
fn postgres_14_numbers_its_database_records_differently() {
    let mut history = History::new(PgVersion::V14, 0);
    touch(&mut history, rel(1), 0);
    let drop = history.record(DBASE, 0x10).main(&words(&[5, 1, 1663]));
    history.take(&drop);
    assert_eq!(history.size(rel(1)), None);
    let mut history = History::new(PgVersion::V15, 0);
    let create = history.record(DBASE, 0x10).main(&words(&[9, 1663]));
    assert_eq!(history.take(&create).len(), 1, "the directory, and nothing in it");
}

#[test]
fn tablespaces_and_relation_maps_are_items() {
    let mut history = History::new(PgVersion::V15, 0);
    let mut main = words(&[17_000]);
    main.extend_from_slice(b"/srv/fast\0");
    let create = history.record(5, 0).main(&main);
    history.take(&create);
    let key = Key::Tablespace { spc: 17_000 };
    assert_eq!(
        crate::items::Tablespace::decode(&history.items[&key.pack()])
            .expect("a tablespace")
            .location,
        b"/srv/fast"
    );
    let drop = history.record(5, 0x10).main(&words(&[17_000]));
    assert_eq!(absent(&history.take(&drop)), [key]);

    let mut main = words(&[0, 1664, 512]);
    main.extend_from_slice(&[9; 512]);
    let update = history.record(7, 0).main(&main);
    history.take(&update);
    let key = Key::RelMap { spc: 1664, db: 0 };
    assert_eq!(
        RelMap::decode(&history.items[&key.pack()]).expect("a map").file,
        [9; 512]
    );
}

#[test]
fn a_relation_knows_who_created_it() {
    let mut history = History::new(PgVersion::V15, 0);
    let create_by = |history: &mut History, xid, rel: neon_types::RelTag| {
        let main = words(&[rel.spc, rel.db, rel.rel, rel.fork as u32]);
        let record = history.record(SMGR, 0x10).xid(xid).main(&main);
        history.take(&record);
    };
    let lock = |history: &mut History, xid, rel: neon_types::RelTag| {
        let main = words(&[1, xid, rel.db, rel.rel]);
        let record = history.record(STANDBY, 0x00).xid(xid).main(&main);
        history.take(&record);
    };
    let creator = |history: &History, rel| history.size(rel).expect("a size").creator;
    let (named, locked, filled, late) = (rel(1), rel(2), rel(3), rel(4));
    create_by(&mut history, 700, named);
    lock(&mut history, 701, named);
    assert_eq!(
        creator(&history, named),
        Some(700),
        "the record of the creation counts"
    );

    // A first record of a transaction names none; its lock does.
    create_by(&mut history, 0, locked);
    assert_eq!(creator(&history, locked), Some(0));
    lock(&mut history, 702, locked);
    lock(&mut history, 703, locked);
    assert_eq!(creator(&history, locked), Some(702), "only the first lock counts");

    // Who locks a relation that holds something, or long after, may be anybody.
    create_by(&mut history, 0, filled);
    let record = history.record(11, 0).block(NewBlock::new(0, filled, 0));
    history.take(&record);
    lock(&mut history, 704, filled);
    assert_eq!(creator(&history, filled), Some(0));
    create_by(&mut history, 0, late);
    history.end = history.end + (1 << 20);
    lock(&mut history, 705, late);
    assert_eq!(creator(&history, late), Some(0));
    // What a transaction that never ended left behind is not part of a relation that gets its number.
    for block in [0, 5] {
        touch(&mut history, named, block);
    }
    create_by(&mut history, 700, named);
    assert_eq!(
        history.size(named).expect("a size").size,
        6,
        "creating it again changes nothing, as in Postgres"
    );
    create_by(&mut history, 900, named);
    let end = history.end;
    let size = history.size(named).expect("a size");
    assert_eq!((size.size, size.floor(0), size.creator), (0, end, Some(900)));
}
