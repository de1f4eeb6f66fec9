//! A full-page image whose header and packed bytes are the fuzzer's, in a record whose lengths are right.
//!
//! ```text
//! u8 version | u8 resource manager | u8 image bits | u16 hole offset | u16 hole length | packed bytes
//! ```

use neon_postgres::wal::{Record, rmgr};
use neon_postgres::{Page, PgVersion};
use neon_redo::Cluster;

/// Bytes before the packed ones.
pub const HEADER: usize = 7;

/// Returns the record of such bytes, with one block reference, `None` if there are not even the header's.
pub fn record(data: &[u8]) -> Option<(PgVersion, Vec<u8>)> {
    let (
        &[
            version,
            rmid,
            bits,
            offset_low,
            offset_high,
            length_low,
            length_high,
        ],
        packed,
    ) = data.split_first_chunk()?;
    let version = PgVersion::ALL[usize::from(version) % PgVersion::ALL.len()];
    let packed = &packed[..packed.len().min(usize::from(u16::MAX))];
    let compressed = if version == PgVersion::V14 { 0x02 } else { 0x1C };
    let mut record = vec![0; 16];
    record.extend_from_slice(&[0xB0, rmid % (rmgr::MAX_BUILTIN + 1), 0, 0, 0, 0, 0, 0]);
    record.extend_from_slice(&[0, 0x10, 0, 0]);
    record.extend_from_slice(&(packed.len() as u16).to_le_bytes());
    record.extend_from_slice(&[offset_low, offset_high, bits]);
    if bits & compressed != 0 && bits & 1 != 0 {
        record.extend_from_slice(&[length_low, length_high]);
    }
    record.extend_from_slice(&[1; 16]);
    record.extend_from_slice(packed);
    let length = record.len() as u32;
    record[..4].copy_from_slice(&length.to_le_bytes());
    Some((version, record))
}

/// Restores the image.
pub fn run(data: &[u8]) {
    let Some((version, bytes)) = record(data) else {
        return;
    };
    let Ok(record) = Record::decode(version, bytes) else {
        return;
    };
    for hints_logged in [false, true] {
        let cluster = Cluster {
            version,
            hints_logged,
        };
        crate::redo::check(&cluster, &record, 0, &Page::zeroed());
    }
}
