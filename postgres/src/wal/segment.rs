//! Segment files of the WAL and the headers of their pages.
//!
//! A segment is a power of two from 1 MiB to 1 GiB long, 16 MiB if nothing else was said at initdb, and consists of pages
//! of 8192 bytes:
//!
//! ```text
//! 0 u16 magic | 2 u16 info | 4 u32 timeline | 8 u64 address of the page | 16 u32 bytes still to come of the record that
//! goes on here | 20 4 pad = 24; in the first page of a segment also: 24 u64 system identifier | 32 u32 bytes in a
//! segment | 36 u32 bytes in a page = 40
//! ```

use neon_types::Lsn;

use super::StreamParams;
use crate::{BLCKSZ, Cursor, Truncated};

/// Bytes of the header of most pages.
pub const SHORT_HEADER_SIZE: usize = 24;
/// Bytes of the header of the first page of a segment.
pub const LONG_HEADER_SIZE: usize = 40;
/// Bytes in a segment unless initdb was told otherwise.
pub const DEFAULT_SEGMENT_SIZE: u32 = 16 << 20;

/// The page begins with the rest of a record.
pub const FIRST_IS_CONTRECORD: u16 = 0x0001;
/// The page is the first of its segment.
pub const LONG_HEADER: u16 = 0x0002;
/// Full-page images before the page are not needed any more by backups.
pub const BKP_REMOVABLE: u16 = 0x0004;
/// The page would have begun with the rest of a record that a crash cut off; the record that says so comes first.
pub const FIRST_IS_OVERWRITE_CONTRECORD: u16 = 0x0008;
/// Every flag that a page can have.
pub const ALL_FLAGS: u16 = 0x000F;

/// Returns true for a size that segments may have.
pub fn is_valid_size(segment_size: u32) -> bool {
    segment_size.is_power_of_two() && (1 << 20..=1 << 30).contains(&segment_size)
}

/// Returns the bytes of the header of the page at `page`.
pub fn header_size(page: Lsn, segment_size: u32) -> usize {
    if page.segment_offset(u64::from(segment_size)) == 0 {
        LONG_HEADER_SIZE
    } else {
        SHORT_HEADER_SIZE
    }
}

/// Returns `lsn`, or where the page's first byte of record data is if `lsn` is the start of a page.
pub fn skip_header(lsn: Lsn, segment_size: u32) -> Lsn {
    if lsn.0.is_multiple_of(BLCKSZ as u64) {
        lsn + header_size(lsn, segment_size) as u64
    } else {
        lsn
    }
}

/// A page header. Says nothing about whether it fits where it stands.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct PageHeader {
    /// `xlp_magic`
    pub magic: u16,
    /// `xlp_info`: the flags of this module.
    pub info: u16,
    /// `xlp_tli`
    pub tli: u32,
    /// `xlp_pageaddr`
    pub address: Lsn,
    /// `xlp_rem_len`: bytes of the record that goes on here that are still to come, these pages' headers not counted.
    pub remaining: u32,
    /// What the first page of a segment has besides, present iff `info` has [`LONG_HEADER`].
    pub long: Option<LongHeader>,
}

/// What the first page of a segment says about the cluster.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct LongHeader {
    /// `xlp_sysid`
    pub system_id: u64,
    /// `xlp_seg_size`
    pub segment_size: u32,
    /// `xlp_xlog_blcksz`
    pub page_size: u32,
}

impl PageHeader {
    /// Returns the header of the page at `page` of a stream, with `remaining` bytes of a record to come.
    pub fn new(params: &StreamParams, page: Lsn, remaining: u32) -> PageHeader {
        let long = page.segment_offset(u64::from(params.segment_size)) == 0;
        let continues = if remaining > 0 { FIRST_IS_CONTRECORD } else { 0 };
        PageHeader {
            magic: params.version.page_magic(),
            info: continues | if long { LONG_HEADER } else { 0 },
            tli: params.tli,
            address: page,
            remaining,
            long: long.then_some(LongHeader {
                system_id: params.system_id,
                segment_size: params.segment_size,
                page_size: BLCKSZ as u32,
            }),
        }
    }

    /// Reads a header: 24 bytes, or 40 if its flags say that it is a long one.
    pub fn read(bytes: &[u8]) -> Result<PageHeader, Truncated> {
        let mut cursor = Cursor::new(bytes);
        let magic = cursor.u16()?;
        let info = cursor.u16()?;
        let tli = cursor.u32()?;
        let address = Lsn(cursor.u64()?);
        let remaining = cursor.u32()?;
        cursor.skip(4)?;
        let long = if info & LONG_HEADER != 0 {
            Some(LongHeader {
                system_id: cursor.u64()?,
                segment_size: cursor.u32()?,
                page_size: cursor.u32()?,
            })
        } else {
            None
        };
        Ok(PageHeader {
            magic,
            info,
            tli,
            address,
            remaining,
            long,
        })
    }

    /// Returns the 24 or 40 bytes.
    pub fn to_bytes(&self) -> Vec<u8> {
        let mut bytes = Vec::with_capacity(LONG_HEADER_SIZE);
        bytes.extend_from_slice(&self.magic.to_le_bytes());
        bytes.extend_from_slice(&self.info.to_le_bytes());
        bytes.extend_from_slice(&self.tli.to_le_bytes());
        bytes.extend_from_slice(&self.address.0.to_le_bytes());
        bytes.extend_from_slice(&self.remaining.to_le_bytes());
        bytes.extend_from_slice(&[0; 4]);
        if let Some(long) = &self.long {
            bytes.extend_from_slice(&long.system_id.to_le_bytes());
            bytes.extend_from_slice(&long.segment_size.to_le_bytes());
            bytes.extend_from_slice(&long.page_size.to_le_bytes());
        }
        bytes
    }
}

/// Returns the name of segment `number` of timeline `tli`: 24 hex digits.
pub fn file_name(tli: u32, number: u64, segment_size: u32) -> String {
    let per_file_id = segments_per_id(segment_size);
    format!(
        "{tli:08X}{:08X}{:08X}",
        number / per_file_id,
        number % per_file_id
    )
}

/// Returns the timeline and number of the segment with that file name; `None` for any other name, such as those of
/// history, backup and partial files.
pub fn parse_file_name(name: &str, segment_size: u32) -> Option<(u32, u64)> {
    let digits = name.bytes().all(|b| matches!(b, b'0'..=b'9' | b'A'..=b'F'));
    if name.len() != 24 || !digits {
        return None;
    }
    let part = |at: usize| u32::from_str_radix(name.get(at..at + 8)?, 16).ok();
    let [tli, high, low] = [part(0)?, part(8)?, part(16)?];
    let per_file_id = segments_per_id(segment_size);
    (u64::from(low) < per_file_id).then(|| (tli, u64::from(high) * per_file_id + u64::from(low)))
}

fn segments_per_id(segment_size: u32) -> u64 {
    (1 << 32) / u64::from(segment_size.max(1))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::PgVersion;

    #[test]
    fn file_names_are_those_of_postgres() {
        let size = DEFAULT_SEGMENT_SIZE;
        assert_eq!(file_name(1, 1, size), "000000010000000000000001");
        assert_eq!(file_name(0x5A1B_2C3D, 0x1FF, size), "5A1B2C3D00000001000000FF");
        for number in [0, 1, 255, 256, 70_000] {
            assert_eq!(
                parse_file_name(&file_name(7, number, size), size),
                Some((7, number))
            );
        }
        for bad in [
            "000000010000000000000100",
            "00000001000000000000000g",
            "00000002.history",
            "000000010000000000000001.partial",
            "+00000010000000000000001",
        ] {
            assert_eq!(parse_file_name(bad, size), None, "{bad}");
        }
        assert_eq!(
            parse_file_name("000000010000000100000FFF", 1 << 20),
            Some((1, 0x1FFF))
        );
    }

    #[test]
    fn headers_round_trip_and_are_long_at_the_start_of_a_segment() {
        let params = StreamParams {
            version: PgVersion::V15,
            system_id: 0x1122_3344_5566_7788,
            tli: 3,
            segment_size: 1 << 20,
        };
        for (page, remaining, size, info) in [
            (Lsn(0x10_0000), 0, 40, LONG_HEADER),
            (Lsn(0x10_2000), 99, 24, FIRST_IS_CONTRECORD),
        ] {
            let header = PageHeader::new(&params, page, remaining);
            let bytes = header.to_bytes();
            assert_eq!((bytes.len(), header.info), (size, info));
            assert_eq!(header_size(page, params.segment_size), size);
            assert_eq!(PageHeader::read(&bytes), Ok(header));
            assert!(PageHeader::read(&bytes[..size - 1]).is_err());
        }
    }
}
