//! What holds for any record and any bytes.

use neon_types::Fork;
use proptest::prelude::*;

use super::super::segment::PageHeader;
use super::*;

prop_compose! {
    fn any_block(id: u8)(
        fork in 0u8..4, same_rel in any::<bool>(), number in any::<u32>(), init in any::<bool>(),
        data in prop::collection::vec(any::<u8>(), 0..100), image in prop::option::of(any::<(u8, bool, u8)>()),
    ) -> NewBlock {
        let mut tag = rel(Fork::from_number(fork).unwrap());
        tag.rel += u32::from(!same_rel) * u32::from(id);
        let mut block = NewBlock::new(id, tag, number).data(&data);
        block.will_init = init;
        match image {
            Some((seed, apply, method)) => {
                let methods = [Compression::None, Compression::Pglz, Compression::Lz4, Compression::Zstd];
                block.image(&page(seed), apply, methods[usize::from(method % 4)])
            }
            None => block,
        }
    }
}

prop_compose! {
    fn any_record()(
        blocks in prop::collection::btree_set(0u8..=32, 0..5).prop_flat_map(|ids| {
            ids.into_iter().map(any_block).collect::<Vec<_>>()
        }),
        main in prop::collection::vec(any::<u8>(), 0..400),
        xid in any::<u32>(), origin in prop::option::of(any::<u16>()), top in prop::option::of(any::<u32>()),
    ) -> RecordBuilder {
        let mut record = RecordBuilder::new(PARAMS.version, rmgr::HEAP, 0).xid(xid).main(&main);
        if let Some(origin) = origin {
            record = record.origin(origin);
        }
        if let Some(top) = top {
            record = record.toplevel_xid(top);
        }
        blocks.into_iter().fold(record, RecordBuilder::block)
    }
}

proptest! {
    #![proptest_config(ProptestConfig { failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn any_portions_make_the_same_records(
        records in prop::collection::vec(any_record(), 1..6),
        offset in 0u64..3000, cuts in prop::collection::vec(any::<prop::sample::Index>(), 0..20),
    ) {
        let start = START + 0xF_0000 + offset * 8;
        prop_assume!(start.0.is_multiple_of(8192) || start.0 % 8192 >= 40);
        let mut writer = StreamWriter::new(PARAMS, start, Lsn(8));
        let places: Vec<_> = records.iter().map(|record| writer.push(record.clone())).collect();
        let bytes = writer.into_bytes();
        let (whole, error) = decode(start, &bytes);
        prop_assert_eq!(error, None);
        prop_assert_eq!(whole.iter().map(|record| (record.start, record.end)).collect::<Vec<_>>(), places);

        let mut decoder = WalDecoder::new(PARAMS, start, Some(Lsn(8)));
        let mut found = Vec::new();
        let mut cuts: Vec<usize> = cuts.iter().map(|cut| cut.index(bytes.len())).chain([bytes.len()]).collect();
        cuts.sort_unstable();
        for pair in [0].iter().chain(&cuts).copied().collect::<Vec<_>>().windows(2) {
            decoder.feed(&bytes[pair[0]..pair[1]]);
            let (records, error) = drain(&mut decoder);
            prop_assert_eq!(error, None);
            found.extend(records);
        }
        prop_assert_eq!(found, whole);
    }

    #[test]
    fn a_slice_is_the_record_without_the_other_blocks(record in any_record()) {
        let record = Record::decode(PARAMS.version, record.build()).unwrap();
        for index in 0..record.blocks.len() {
            let slice = Record::decode(PARAMS.version, record.slice_for_block(index)).unwrap();
            prop_assert_eq!(slice.main_data(), record.main_data());
            prop_assert_eq!((slice.origin, slice.toplevel_xid), (record.origin, record.toplevel_xid));
            prop_assert_eq!(slice.block_data(index), record.block_data(index));
            let apply = record.blocks[index].image.as_ref().is_some_and(|image| image.apply);
            prop_assert_eq!(slice.block_image(index), record.block_image(index).filter(|_| apply));
            for (new, old) in slice.blocks.iter().zip(&record.blocks) {
                prop_assert_eq!((new.id, new.rel, new.block, new.will_init), (old.id, old.rel, old.block, old.will_init));
            }
        }
    }

    #[test]
    fn arbitrary_bytes_do_no_harm(bytes in prop::collection::vec(any::<u8>(), 0..5000), start in any::<u64>()) {
        let start = Lsn(start & 0xFFFF_FFFF_FFF8);
        decode(start, &bytes);
        for version in PgVersion::ALL {
            if let Ok(record) = Record::decode(version, bytes.clone()) {
                for index in 0..record.blocks.len() {
                    let _ = record.block_image(index);
                    let _ = record.slice_for_block(index);
                }
            }
        }
    }

    #[test]
    fn a_changed_record_is_refused_or_read_without_harm(
        record in any_record(), changes in prop::collection::vec((any::<prop::sample::Index>(), any::<u8>()), 1..4),
    ) {
        let mut bytes = record.build();
        for (at, value) in changes {
            let at = at.index(bytes.len());
            bytes[at] = value;
        }
        for version in PgVersion::ALL {
            if let Ok(record) = Record::decode(version, bytes.clone()) {
                for index in 0..record.blocks.len() {
                    let image = record.block_image(index);
                    let slice = Record::decode(version, record.slice_for_block(index)).unwrap();
                    prop_assert_eq!(slice.block_data(index), record.block_data(index));
                    if record.blocks[index].image.as_ref().is_some_and(|image| image.apply) {
                        prop_assert_eq!(slice.block_image(index), image);
                    }
                }
            }
        }
    }

    #[test]
    fn page_headers_are_read_without_harm(bytes in prop::collection::vec(any::<u8>(), 0..50)) {
        if let Ok(header) = PageHeader::read(&bytes) {
            prop_assert_eq!(PageHeader::read(&header.to_bytes()), Ok(header));
        }
    }
}
