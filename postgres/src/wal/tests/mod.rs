//! Streams and records that are made here: the rare shapes, and what nobody would write.

use neon_types::{Fork, Lsn, RelTag};

mod properties;

use super::segment::FIRST_IS_OVERWRITE_CONTRECORD;
use super::*;
use crate::{BLCKSZ, Page, PgVersion};

const SEGMENT: u32 = 1 << 20;
const PARAMS: StreamParams = StreamParams {
    version: PgVersion::V15,
    system_id: 77,
    tli: 3,
    segment_size: SEGMENT,
};
const START: Lsn = Lsn(0x10_0000);

fn rel(fork: Fork) -> RelTag {
    RelTag {
        spc: 1663,
        db: 5,
        rel: 16384,
        fork,
    }
}

fn message(length: usize) -> RecordBuilder {
    let main: Vec<u8> = (0..length).map(|at| at as u8).collect();
    RecordBuilder::new(PARAMS.version, rmgr::LOGICALMSG, 0)
        .xid(9)
        .main(&main)
}

/// Returns a stream of records of those lengths from [`START`] on, with the start and end of each.
fn stream(lengths: &[usize]) -> (Vec<u8>, Vec<(Lsn, Lsn)>) {
    let mut writer = StreamWriter::new(PARAMS, START, Lsn(8));
    let places = lengths
        .iter()
        .map(|length| writer.push(message(*length)))
        .collect();
    (writer.into_bytes(), places)
}

fn decode(start: Lsn, bytes: &[u8]) -> (Vec<RawRecord>, Option<WalError>) {
    let mut decoder = WalDecoder::new(PARAMS, start, None);
    decoder.feed(bytes);
    drain(&mut decoder)
}

fn drain(decoder: &mut WalDecoder) -> (Vec<RawRecord>, Option<WalError>) {
    let mut records = Vec::new();
    loop {
        match decoder.next_record() {
            Ok(Some(record)) => records.push(record),
            Ok(None) => return (records, None),
            Err(error) => {
                assert_eq!(
                    decoder.next_record(),
                    Err(error.clone()),
                    "the error did not stay"
                );
                return (records, Some(error));
            }
        }
    }
}

fn ended(kind: EndKind, at: u64) -> Option<WalError> {
    Some(WalError::EndOfWal { kind, at: Lsn(at) })
}

#[test]
fn records_cross_pages_and_segments() {
    // The first ends 8 bytes before the end of its page: the next has only its length there.
    let first = BLCKSZ - 40 - 24 - 5 - 8;
    let (bytes, places) = stream(&[first, 3, 100_000, 2_000_000, 1]);
    assert_eq!(places[0], (START + 40, START + 8184));
    assert_eq!(places[1].0, START + 8184);
    let (records, error) = decode(START, &bytes);
    assert_eq!(error, None);
    let found: Vec<_> = records.iter().map(|record| (record.start, record.end)).collect();
    assert_eq!(found, places);
    let long = Record::decode(PARAMS.version, records[3].bytes.clone()).unwrap();
    assert_eq!(long.main_data().len(), 2_000_000);
    assert_eq!(long.prev, places[2].0);
}

#[test]
fn after_a_switch_comes_the_next_segment() {
    let mut writer = StreamWriter::new(PARAMS, START + 0x1_0000, Lsn(8));
    let switch = writer.push(RecordBuilder::new(PARAMS.version, rmgr::XLOG, rmgr::XLOG_SWITCH));
    let next = writer.push(message(5));
    assert_eq!((switch.1, next.0), (START + 0x10_0000, START + 0x10_0028));
    let bytes = writer.into_bytes();
    let (records, error) = decode(START + 0x1_0000, &bytes);
    assert_eq!((records.len(), error), (2, None));
    assert_eq!(records[0].end, START + 0x10_0000);
    // The rest of the segment belongs to the record.
    let (records, error) = decode(START + 0x1_0000, &bytes[..0x8_0000]);
    assert_eq!((records.len(), error), (0, None));
}

/// Returns a stream in which the second record is cut off at the end of its first page, and the next page says so with a
/// record that names `named`.
fn abandoned(named: impl Fn(Lsn) -> u64, info: u8) -> (Vec<u8>, Lsn) {
    let (mut bytes, places) = stream(&[100, 20_000]);
    bytes.truncate(BLCKSZ);
    let mut writer = StreamWriter::new(PARAMS, START + BLCKSZ as u64, places[0].0);
    let mut main = named(places[1].0).to_le_bytes().to_vec();
    main.extend_from_slice(&5u64.to_le_bytes());
    writer.push(RecordBuilder::new(PARAMS.version, rmgr::XLOG, info).main(&main));
    writer.push(message(7));
    let mut rest = writer.into_bytes();
    rest[2] |= FIRST_IS_OVERWRITE_CONTRECORD as u8;
    bytes.extend(rest);
    (bytes, places[1].0)
}

#[test]
fn an_abandoned_record_is_dropped_if_the_next_one_names_it() {
    let (bytes, start) = abandoned(|lsn| lsn.0, rmgr::XLOG_OVERWRITE_CONTRECORD);
    let (records, error) = decode(START, &bytes);
    assert_eq!((records.len(), error), (3, None));
    assert_eq!(records[1].start, START + BLCKSZ as u64 + 24);
    let at = records[1].start;
    for (bytes, abandoned) in [
        abandoned(|lsn| lsn.0 + 8, rmgr::XLOG_OVERWRITE_CONTRECORD),
        abandoned(|lsn| lsn.0, 0x20),
    ] {
        let (records, error) = decode(START, &bytes);
        assert_eq!(
            (records.len(), error),
            (1, Some(WalError::NotOverwritten { at, abandoned }))
        );
    }
    assert!(start < at);
}

#[test]
fn every_kind_of_end_is_told() {
    let (bytes, places) = stream(&[100, 20_000, 50]);
    let page = BLCKSZ;
    let second = places[1].0.bytes_since(START) as usize;
    let at = places[1].0.0;
    let page_lsn = START.0 + page as u64;
    let damaged = |change: &dyn Fn(&mut [u8])| {
        let mut bytes = bytes.clone();
        change(&mut bytes);
        let (records, error) = decode(START, &bytes);
        assert_eq!(records.len(), 1);
        error
    };
    type Change<'a> = &'a dyn Fn(&mut [u8]);
    let cases: [(Change<'_>, Option<WalError>); 10] = [
        (&|b| b[second..second + 4].fill(0), ended(EndKind::ZeroLength, at)),
        (&|b| b[second] = 23, ended(EndKind::BadContinuation, page_lsn)),
        (
            &|b| b[second..second + 4].fill(255),
            ended(EndKind::BadLength, at),
        ),
        (
            &|b| b[second..second + 4].copy_from_slice(&[23, 0, 0, 0]),
            ended(EndKind::BadLength, at),
        ),
        (&|b| b[second + 15] ^= 1, ended(EndKind::BadPrev, at)),
        (&|b| b[second + 17] = 22, ended(EndKind::BadRmgr, at)),
        (&|b| b[second + 100] ^= 1, ended(EndKind::BadCrc, at)),
        (&|b| b[page] ^= 1, ended(EndKind::BadPage, page_lsn)),
        (&|b| b[page + 10] ^= 1, ended(EndKind::BadPageAddress, page_lsn)),
        (&|b| b[page + 2] &= !1, ended(EndKind::BadContinuation, page_lsn)),
    ];
    for (number, (change, expected)) in cases.into_iter().enumerate() {
        assert_eq!(damaged(change), expected, "case {number}");
    }
    let expected = WalError::OtherTimeline {
        at: Lsn(page_lsn),
        found: 4,
        expected: 3,
    };
    assert_eq!(damaged(&|b| b[page + 4] = 4), Some(expected));
}

#[test]
fn a_segment_of_another_cluster_is_refused() {
    let (mut bytes, _) = stream(&[100]);
    bytes[24] = 78;
    let expected = WalError::OtherCluster {
        at: START,
        found: 78,
        expected: 77,
    };
    assert_eq!(decode(START, &bytes).1, Some(expected));
    bytes[24] = 77;
    bytes[34] = 0x20;
    assert!(matches!(
        decode(START, &bytes).1,
        Some(WalError::OtherSizes { .. })
    ));
}

#[test]
fn a_stream_goes_on_from_its_last_whole_record() {
    let (bytes, places) = stream(&[100, 20_000]);
    let mut decoder = WalDecoder::new(PARAMS, START, Some(Lsn(8)));
    decoder.feed(&bytes[..10_000]);
    assert_eq!(drain(&mut decoder).0.len(), 1);
    assert_eq!((decoder.end(), decoder.fed()), (places[0].1, START + 10_000));
    decoder.feed(&[0xFF; 9000]);
    assert!(drain(&mut decoder).1.is_some());
    decoder.rewind();
    assert_eq!(
        (decoder.end(), decoder.fed(), decoder.last_start()),
        (places[0].1, places[0].1, Some(places[0].0))
    );
    let mut writer = StreamWriter::new(PARAMS, decoder.end(), places[0].0);
    writer.push(message(1));
    decoder.feed(&writer.into_bytes());
    let (records, error) = drain(&mut decoder);
    assert_eq!((records.len(), error), (1, None));
}

/// Returns a page as a table has it, with free space and rather random contents.
fn page(seed: u8) -> Page {
    let mut page = Page::zeroed();
    page.init(0);
    page.set_lower(60);
    page.set_upper(7000);
    page.set_lsn(Lsn(1));
    for (at, byte) in page.as_bytes_mut()[7000..].iter_mut().enumerate() {
        *byte = if at % 3 == 0 { seed } else { (at / 64) as u8 };
    }
    page
}

#[test]
fn images_come_back_from_every_packing_of_every_version() {
    use Compression::*;
    for version in PgVersion::ALL {
        for (compression, apply) in [(None, true), (Pglz, true), (Lz4, false), (Zstd, true)] {
            if version == PgVersion::V14 && !matches!(compression, None | Pglz) {
                continue;
            }
            let mut full = page(3);
            full.set_lower(0); // no hole
            for page in [page(200), full, Page::zeroed()] {
                let block = NewBlock::new(2, rel(Fork::Main), 7).image(&page, apply, compression);
                let bytes = RecordBuilder::new(version, rmgr::XLOG, 0xB0).block(block).build();
                let record = Record::decode(version, bytes).unwrap();
                let image = record.blocks[0].image.clone().unwrap();
                assert_eq!((image.apply, image.compression), (apply, compression));
                assert_eq!(image.hole_length > 0, page.upper() == 7000 && page.lower() == 60);
                assert_eq!(record.block_image(0), Some(Ok(page)));
            }
        }
    }
}

#[test]
fn a_damaged_image_is_an_error() {
    for compression in [Compression::Pglz, Compression::Lz4, Compression::Zstd] {
        let block = NewBlock::new(0, rel(Fork::Main), 7).image(&page(3), true, compression);
        let bytes = RecordBuilder::new(PgVersion::V17, rmgr::XLOG, 0xB0)
            .block(block)
            .build();
        let good = Record::decode(PgVersion::V17, bytes.clone()).unwrap();
        let mut refused = 0;
        for at in bytes.len() - good.blocks[0].image.as_ref().unwrap().bytes.len()..bytes.len() {
            let mut damaged = bytes.clone();
            damaged[at] ^= 0xFF;
            let record = Record::decode(PgVersion::V17, damaged).unwrap();
            refused += usize::from(record.block_image(0).unwrap().is_err());
        }
        assert!(refused > 0, "{compression:?}");
    }
}

#[test]
fn references_that_postgres_does_not_write_are_refused() {
    let build = |blocks: &[NewBlock]| {
        let record = RecordBuilder::new(PARAMS.version, rmgr::HEAP, 0).main(b"main");
        blocks
            .iter()
            .fold(record, |record, block| record.block(block.clone()))
            .build()
    };
    let block = |id| NewBlock::new(id, rel(Fork::Main), 1).data(b"data");
    let good = build(&[block(0), block(1)]);
    assert!(Record::decode(PARAMS.version, good.clone()).is_ok());
    for blocks in [[block(1), block(1)], [block(1), block(0)], [block(0), block(33)]] {
        assert!(matches!(
            Record::decode(PARAMS.version, build(&blocks)),
            Err(DecodeError::Block { .. })
        ));
    }
    for (at, value) in [
        (25, 0x20 | 4), // a fifth fork
        (25, 0x00),     // data without its flag
        (25, 0xA0),     // the relation of the reference before the first
        (26, 5),        // more data than there is
        (26, 3),        // less
        (0, 200),       // another length
    ] {
        let mut bad = good.clone();
        bad[at] = value;
        assert!(
            Record::decode(PARAMS.version, bad).is_err(),
            "byte {at} as {value}"
        );
    }
    // Cut where the headers so far announce exactly what is left, it is a record again; nowhere else.
    let taken = (0..good.len()).filter(|length| {
        let mut short = good[..*length].to_vec();
        if let Some(field) = short.first_chunk_mut() {
            *field = (*length as u32).to_le_bytes();
        }
        Record::decode(PARAMS.version, short).is_ok()
    });
    assert_eq!(taken.collect::<Vec<_>>(), [24, 48, 72]);
}

#[test]
fn a_slice_drops_an_image_that_is_only_a_check() {
    let block = NewBlock::new(0, rel(Fork::Main), 7).data(b"d");
    let bytes = RecordBuilder::new(PARAMS.version, rmgr::HEAP, 0x02)
        .block(block.image(&page(1), false, Compression::None))
        .build();
    let record = Record::decode(PARAMS.version, bytes).unwrap();
    let slice = Record::decode(PARAMS.version, record.slice_for_block(0)).unwrap();
    assert_eq!(
        (slice.blocks[0].image.is_none(), slice.block_data(0)),
        (true, &b"d"[..])
    );
    assert!(slice.bytes().len() < 100);
}
