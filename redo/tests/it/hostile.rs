//! Records and pages from disk and network may be anything: replay and masks answer with an error, never with a panic.

use neon_postgres::wal::Record;
use neon_postgres::{BLCKSZ, Page, PgVersion};
use neon_redo::{Cluster, mask, redo};
use neon_types::Lsn;
use proptest::prelude::*;
use proptest::test_runner::{Config, RngAlgorithm, TestRng, TestRunner};

use crate::fixtures;

fn runner(cases: u32) -> TestRunner {
    let config = Config {
        cases,
        failure_persistence: None,
        ..Config::default()
    };
    TestRunner::new_with_rng(config, TestRng::deterministic_rng(RngAlgorithm::ChaCha))
}

/// Replays onto every reference, then masks as every resource manager.
fn survive(version: PgVersion, bytes: Vec<u8>, page: &Page) {
    let Ok(record) = Record::decode(version, bytes) else {
        return;
    };
    for hints_logged in [false, true] {
        for index in 0..=record.blocks.len() {
            let mut page = page.clone();
            let _ = redo(
                &Cluster {
                    version,
                    hints_logged,
                },
                &record,
                Lsn(0x1234_5678),
                index,
                &mut page,
            );
            let _ = mask::mask(record.rmid, &mut page, 7);
        }
    }
}

/// Bytes to overwrite: where (modulo the length) and with what.
fn changes(most: usize) -> impl Strategy<Value = Vec<(usize, u8)>> {
    let value = prop_oneof![any::<u8>(), Just(0), Just(1), Just(255)];
    proptest::collection::vec((any::<usize>(), value), 0..most)
}

fn change(bytes: &mut [u8], changes: &[(usize, u8)], from: usize) {
    let length = bytes.len() - from;
    for (at, value) in changes {
        bytes[from + at % length.max(1)] = *value;
    }
}

#[test]
fn damaged_records_and_pages_never_panic() {
    let fixtures = fixtures();
    let version = prop_oneof![3 => Just(None), 1 => (14u16..=18).prop_map(PgVersion::from_major)];
    let strategy = (
        any::<prop::sample::Index>(),
        changes(6),
        changes(12),
        changes(4),
        version,
    );
    let result = runner(3_000).run(&strategy, |(which, in_record, in_page, in_header, version)| {
        let fixture = which.get(&fixtures);
        let mut bytes = fixture.record.bytes().to_vec();
        // What follows the fixed header: references, data, main data. Then the kind of record, sometimes.
        change(&mut bytes, &in_record, 24);
        if in_record.len() == 5 {
            bytes[16] = in_record[0].1;
        }
        let mut page = fixture.base.clone().unwrap_or_else(|| fixture.after.clone());
        change(page.as_bytes_mut(), &in_page, 0);
        change(&mut page.as_bytes_mut()[..64], &in_header, 8);
        survive(version.unwrap_or(fixture.cluster.version), bytes, &page);
        Ok(())
    });
    result.expect("no damage made replay panic");
}

#[test]
fn arbitrary_bytes_never_panic() {
    let bytes = |length: std::ops::Range<usize>| proptest::collection::vec(any::<u8>(), length);
    let strategy = (
        bytes(1..300),
        0u8..22,
        any::<u8>(),
        any::<u8>(),
        bytes(BLCKSZ..BLCKSZ + 1),
        14u16..=18,
    );
    let result = runner(1_000).run(&strategy, |(payload, rmid, info, id, page, major)| {
        // A valid frame around arbitrary main and block data, else nearly nothing would get past the decoder.
        let (data, main) = payload.split_at(payload.len() / 2);
        let mut record = vec![0; 16];
        record.extend_from_slice(&[info, rmid, 0, 0, 0, 0, 0, 0]);
        let has_data = if data.is_empty() { 0 } else { 0x20 };
        record.extend_from_slice(&[id % 5, has_data | (id & 0x40) | ((id >> 7) * 2)]);
        record.extend_from_slice(&(data.len() as u16).to_le_bytes());
        record.extend_from_slice(&[1; 16]);
        record.extend_from_slice(&[255, main.len() as u8]);
        record.extend_from_slice(data);
        record.extend_from_slice(main);
        let length = record.len() as u32;
        record[..4].copy_from_slice(&length.to_le_bytes());
        let version = PgVersion::from_major(major).expect("14 to 18");
        prop_assert!(Record::decode(version, record.clone()).is_ok());
        let mut page = Page::from_bytes(&page).expect("has the size of a page");
        survive(version, record.clone(), &page);
        page.init(usize::from(id % 3) * 8);
        survive(version, record, &page);
        Ok(())
    });
    result.expect("no bytes made replay panic");
}
