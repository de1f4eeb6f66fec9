//! Streams that real servers wrote (`fixtures/make.sh`), read record by record, against `pg_waldump` and `pg_control`.

use neon_postgres::control::ControlFile;
use neon_postgres::records::xlog::XlogRecord;
use neon_postgres::wal::{EndKind, RawRecord, Record, StreamParams, WalDecoder, WalError, rmgr};
use neon_postgres::{CheckpointState, PgVersion};
use neon_types::Lsn;

struct Fixture {
    version: PgVersion,
    before: ControlFile,
    after: ControlFile,
    stream: Vec<u8>,
    /// Lines of start, prev, xid, kind, where we have `pg_waldump` of the version.
    records: Option<String>,
}

fn fixture(version: PgVersion) -> Fixture {
    let path = |name: &str| {
        format!(
            "{}/tests/fixtures/wal-{version}/{name}.zst",
            env!("CARGO_MANIFEST_DIR")
        )
    };
    let read = |name: &str| zstd::decode_all(std::fs::File::open(path(name)).unwrap()).unwrap();
    let dumped = matches!(version, PgVersion::V15 | PgVersion::V17);
    Fixture {
        version,
        before: ControlFile::parse(&read("control-before")).unwrap(),
        after: ControlFile::parse(&read("control-after")).unwrap(),
        stream: read("stream"),
        records: dumped.then(|| String::from_utf8(read("records")).unwrap()),
    }
}

impl Fixture {
    fn all() -> [Fixture; 5] {
        PgVersion::ALL.map(fixture)
    }

    fn decoder(&self) -> WalDecoder {
        let params = StreamParams {
            version: self.version,
            system_id: self.before.system_id(),
            tli: 1,
            segment_size: self.before.segment_size(),
        };
        WalDecoder::new(params, self.before.checkpoint_lsn(), None)
    }

    /// Returns the records up to the last checkpoint, with what comes after it.
    fn decode(&self) -> (Vec<RawRecord>, WalError) {
        let mut decoder = self.decoder();
        decoder.feed(&self.stream);
        drain(&mut decoder)
    }
}

fn drain(decoder: &mut WalDecoder) -> (Vec<RawRecord>, WalError) {
    let mut records = Vec::new();
    loop {
        match decoder.next_record() {
            Ok(Some(record)) => records.push(record),
            Ok(None) => panic!("the stream ends in the middle of a record at {}", decoder.end()),
            Err(error) => return (records, error),
        }
    }
}

#[test]
fn records_are_those_that_pg_waldump_sees() {
    for fixture in Fixture::all() {
        let (records, end) = fixture.decode();
        let last = records.last().unwrap();
        assert_eq!(
            end,
            WalError::EndOfWal {
                kind: EndKind::ZeroLength,
                at: last.end
            }
        );
        let Some(lines) = &fixture.records else { continue };
        let mut lines = lines.lines();
        for raw in &records {
            let record = Record::decode(fixture.version, raw.bytes.clone()).unwrap();
            let lsn = |lsn: Lsn| format!("{:X}/{:08X}", lsn.0 >> 32, lsn.0 as u32);
            let kind = rmgr::describe(&record);
            let line = format!("{} {} {} {kind}", lsn(raw.start), lsn(record.prev), record.xid);
            assert_eq!(Some(line.as_str()), lines.next());
        }
        assert_eq!(lines.next(), None);
        assert_eq!(last.start, fixture.after.checkpoint_lsn());
    }
}

#[test]
fn a_stream_cut_anywhere_has_the_same_records() {
    for fixture in Fixture::all() {
        let (expected, _) = fixture.decode();
        for portion in [1, 7, 4096, 8192, 100_000] {
            let mut decoder = fixture.decoder();
            let mut records = Vec::new();
            for bytes in fixture.stream.chunks(portion) {
                decoder.feed(bytes);
                while let Ok(Some(record)) = decoder.next_record() {
                    assert!(record.end <= decoder.fed(), "a record before its last byte");
                    records.push(record);
                }
            }
            assert!(records == expected, "portions of {portion} bytes");
        }
    }
}

#[test]
fn decoding_goes_on_at_any_record_with_the_right_link_only() {
    for fixture in Fixture::all() {
        let (expected, _) = fixture.decode();
        let stream_start = fixture.before.checkpoint_lsn();
        for (number, pair) in expected.windows(2).enumerate().step_by(37) {
            let rest = &fixture.stream[pair[0].end.bytes_since(stream_start) as usize..];
            let mut decoder = fixture.decoder();
            let params = *decoder.params();
            decoder = WalDecoder::new(params, pair[0].end, Some(pair[0].start));
            decoder.feed(rest);
            assert_eq!(drain(&mut decoder).0, expected[number + 1..]);
            let mut wrong = WalDecoder::new(params, pair[0].end, Some(pair[0].start + 8));
            wrong.feed(rest);
            let at = pair[1].start;
            let kind = EndKind::BadPrev;
            assert_eq!(wrong.next_record(), Err(WalError::EndOfWal { kind, at }));
        }
    }
}

#[test]
fn images_unpack_to_pages_in_every_packing() {
    use neon_postgres::wal::Compression;
    for fixture in Fixture::all() {
        let mut packings = Vec::new();
        for raw in fixture.decode().0 {
            let record = Record::decode(fixture.version, raw.bytes).unwrap();
            for (index, block) in record.blocks.iter().enumerate() {
                let Some(page) = record.block_image(index) else {
                    continue;
                };
                let page = page.unwrap();
                assert!(
                    page.is_sane() && page.size_and_version() == 0x2004,
                    "{}",
                    raw.start
                );
                assert!(
                    page.lsn() < raw.start,
                    "the page at {} is from the future",
                    raw.start
                );
                let image = block.image.as_ref().unwrap();
                assert!(image.apply);
                packings.push(image.compression);
            }
        }
        // The servers of 14, 16 and 18 that made the fixtures know Postgres's own compression only.
        let known: &[_] = match fixture.records {
            Some(_) => &[
                Compression::None,
                Compression::Pglz,
                Compression::Lz4,
                Compression::Zstd,
            ],
            None => &[Compression::None, Compression::Pglz],
        };
        for packing in known {
            assert!(
                packings.contains(packing),
                "{}: no image is packed with {packing:?}",
                fixture.version
            );
        }
    }
}

#[test]
fn slices_keep_one_block_and_forget_the_others() {
    for fixture in Fixture::all() {
        for raw in fixture.decode().0 {
            let record = Record::decode(fixture.version, raw.bytes).unwrap();
            for index in 0..record.blocks.len() {
                let slice = Record::decode(fixture.version, record.slice_for_block(index)).unwrap();
                assert_eq!(slice.main_data(), record.main_data());
                assert_eq!(
                    (
                        slice.xid,
                        slice.info,
                        slice.rmid,
                        slice.prev,
                        slice.origin,
                        slice.toplevel_xid
                    ),
                    (
                        record.xid,
                        record.info,
                        record.rmid,
                        record.prev,
                        record.origin,
                        record.toplevel_xid
                    )
                );
                for (number, (new, old)) in slice.blocks.iter().zip(&record.blocks).enumerate() {
                    assert_eq!(
                        (new.id, new.rel, new.block, new.will_init),
                        (old.id, old.rel, old.block, old.will_init)
                    );
                    if number == index {
                        assert_eq!(slice.block_data(number), record.block_data(number));
                        assert_eq!(slice.block_image(number), record.block_image(number));
                    } else {
                        assert!(!new.has_data && new.image.is_none());
                    }
                }
                assert_eq!(slice.blocks.len(), record.blocks.len());
                assert!(slice.bytes().len() <= record.bytes().len());
                assert_eq!(
                    slice.slice_for_block(index),
                    slice.bytes(),
                    "slicing again changes something"
                );
            }
        }
    }
}

#[test]
fn the_tracked_state_is_what_the_server_says_at_each_shutdown() {
    for fixture in Fixture::all() {
        let (records, _) = fixture.decode();
        let mut state = CheckpointState::from_control(&fixture.before);
        let mut shutdowns = 0;
        for raw in &records {
            let record = Record::decode(fixture.version, raw.bytes.clone()).unwrap();
            let before = state.clone();
            let changed = state.apply(&record, raw.start).unwrap();
            assert_eq!(state.last_record, raw.start);
            let same = CheckpointState {
                last_record: raw.start,
                ..before.clone()
            };
            assert_eq!(changed, state != same, "{} says otherwise", raw.start);
            if record.rmid != rmgr::XLOG {
                continue;
            }
            let Ok(XlogRecord::CheckpointShutdown(point)) = XlogRecord::decode(&record) else {
                continue;
            };
            shutdowns += 1;
            let tracked = before.checkpoint;
            assert!(
                tracked.next_oid >= point.next_oid,
                "object ids that are in use were forgotten"
            );
            let expected = neon_postgres::CheckPoint {
                redo: tracked.redo,
                time: tracked.time,
                next_oid: tracked.next_oid,
                oldest_active_xid: tracked.oldest_active_xid,
                ..point
            };
            assert_eq!(tracked, expected, "at {}", raw.start);
        }
        assert_eq!(shutdowns, 3, "the first, after the crash, the last");
        assert_eq!(state.checkpoint, fixture.after.checkpoint());
        assert_eq!(
            state.control_file().unwrap().parameters(),
            fixture.after.parameters()
        );
        assert!(
            fixture.after.parameters().track_commit_timestamp
                && !fixture.before.parameters().track_commit_timestamp
        );
    }
}

#[test]
fn every_record_has_the_payload_of_its_kind() {
    use neon_postgres::records as r;
    for fixture in Fixture::all() {
        for raw in fixture.decode().0 {
            let record = Record::decode(fixture.version, raw.bytes).unwrap();
            let result = match record.rmid {
                rmgr::XLOG => XlogRecord::decode(&record).map(drop),
                rmgr::XACT => r::xact::XactRecord::decode(&record).map(drop),
                rmgr::SMGR => r::smgr::SmgrRecord::decode(&record).map(drop),
                rmgr::CLOG => r::clog::ClogRecord::decode(&record).map(drop),
                rmgr::DBASE => r::dbase::DbaseRecord::decode(&record).map(drop),
                rmgr::TBLSPC => r::tblspc::TblspcRecord::decode(&record).map(drop),
                rmgr::MULTIXACT => r::multixact::MultixactRecord::decode(&record).map(drop),
                rmgr::RELMAP => r::relmap::RelmapUpdate::decode(&record).map(drop),
                rmgr::STANDBY => r::standby::StandbyRecord::decode(&record).map(drop),
                rmgr::COMMIT_TS => r::commit_ts::CommitTsRecord::decode(&record).map(drop),
                rmgr::REPLORIGIN => r::replorigin::ReplOriginRecord::decode(&record).map(drop),
                rmgr::LOGICALMSG => r::logicalmsg::LogicalMessage::decode(&record).map(drop),
                _ => Ok(()),
            };
            assert_eq!(result, Ok(()), "{} {}", raw.start, rmgr::describe(&record));
        }
    }
}

#[test]
fn damage_ends_the_history_before_it() {
    for fixture in Fixture::all() {
        let (expected, _) = fixture.decode();
        let start = fixture.before.checkpoint_lsn();
        // Damage in zeros after a SWITCH, in padding, or in a record that a crash cut off may go unseen.
        for at in (0..fixture.stream.len()).step_by(4999) {
            let mut damaged = fixture.stream.clone();
            damaged[at] ^= 0x10;
            let mut decoder = fixture.decoder();
            decoder.feed(&damaged);
            let mut records = Vec::new();
            while let Ok(Some(record)) = decoder.next_record() {
                records.push(record);
            }
            let whole = records == expected;
            let lsn = start + at as u64;
            let untouched = expected.iter().take_while(|record| record.end <= lsn).count();
            assert!(
                whole || records == expected[..untouched],
                "damage at {lsn} changed what was read before"
            );
        }
    }
}

/// Block 7 of `pg_proc` of a cluster with checksums.
#[test]
fn a_page_has_the_checksum_that_the_server_gave_it() {
    let path = concat!(env!("CARGO_MANIFEST_DIR"), "/tests/fixtures/block-7.zst");
    let bytes = zstd::decode_all(std::fs::File::open(path).unwrap()).unwrap();
    let mut page = neon_postgres::Page::from_bytes(&bytes).unwrap();
    assert!(page.is_sane() && page.stored_checksum() != 0);
    assert_eq!(page.checksum(7), page.stored_checksum());
    assert_ne!(page.checksum(8), page.stored_checksum());
    let before = page.stored_checksum();
    page.set_stored_checksum(0);
    assert_eq!(page.checksum(7), before, "the stored checksum counts");
    page.as_bytes_mut()[8000] ^= 1;
    assert_ne!(page.checksum(7), before);
}
