//! A stream of WAL from arbitrary bytes: lengths, links, CRCs and page headers are put right as the stream is laid out, but
//! where the fuzzer says so they stay as they are.
//!
//! ```text
//! u8 version | u8 segment size | u16 start, in units of 8 bytes | u8 number of controls, then those
//! | u8 number of cuts, then those: u16 each | the stream
//! ```
//! One control is used for each page header and each record, in the order of the stream; when they are used up, they are 0.

use neon_postgres::wal::segment::{self, PageHeader};
use neon_postgres::wal::{RawRecord, Record, StreamParams, WalDecoder, WalError, record_crc, rmgr};
use neon_postgres::{BLCKSZ, PgVersion};
use neon_types::Lsn;

/// Control: leave the bytes as they are.
const RAW: u8 = 0xFF;
/// Control of a page header: the record that should go on here was given up.
const GIVEN_UP: u8 = 0xFE;
/// Control of a record: the end of a segment.
const SWITCH: u8 = 0xFD;
/// Start of the record before the stream.
const PREV: Lsn = Lsn(8);

/// A stream, and the pieces in which it arrives.
pub struct Stream {
    params: StreamParams,
    start: Lsn,
    cuts: Vec<usize>,
    bytes: Vec<u8>,
}

/// A record that is being laid out: where its bytes are, and how many are missing.
struct Open {
    start: Lsn,
    parts: Vec<(usize, usize)>,
    missing: usize,
    control: u8,
}

/// Lays out records and pages.
struct Layout<'a> {
    params: StreamParams,
    bytes: &'a mut [u8],
    controls: std::slice::Iter<'a, u8>,
    place: usize,
    at: Lsn,
    open: Option<Open>,
    prev: Lsn,
    given_up: Option<Lsn>,
}

impl Layout<'_> {
    fn control(&mut self) -> u8 {
        self.controls.next().copied().unwrap_or(0)
    }

    fn skip(&mut self, count: usize) {
        self.place += count;
        self.at = self.at + count as u64;
    }

    fn left(&self) -> usize {
        self.bytes.len().saturating_sub(self.place)
    }

    fn run(&mut self) {
        while self.left() > 0 {
            if self.at.0.is_multiple_of(BLCKSZ as u64) {
                self.page_header();
            } else if self.open.is_none() {
                self.begin();
            } else {
                self.gather();
            }
        }
        // Of a record that is cut off, the header is looked at.
        if let Some(open) = self.open.take() {
            self.mend(&open);
        }
    }

    fn page_header(&mut self) {
        let control = self.control();
        let missing = self.open.as_ref().map_or(0, |open| open.missing);
        let mut header = PageHeader::new(&self.params, self.at, missing as u32);
        if control == GIVEN_UP
            && let Some(open) = self.open.take()
        {
            self.given_up = None;
            self.mend(&open);
            self.given_up = Some(open.start);
            header.info = header.info & segment::LONG_HEADER | segment::FIRST_IS_OVERWRITE_CONTRECORD;
        }
        let header = header.to_bytes();
        if control != RAW
            && let Some(place) = self.bytes.get_mut(self.place..self.place + header.len())
        {
            place.copy_from_slice(&header);
        }
        self.skip(header.len());
    }

    fn begin(&mut self) {
        let control = self.control();
        let Some(field) = self
            .bytes
            .get_mut(self.place..)
            .and_then(<[u8]>::first_chunk_mut::<4>)
        else {
            self.place = self.bytes.len();
            return;
        };
        let mut length = u32::from_le_bytes(*field);
        if control != RAW {
            let least = if self.given_up.is_some() { 42 } else { 24 };
            length = least + length % 20_000;
            *field = length.to_le_bytes();
        }
        self.open = Some(Open {
            start: self.at,
            parts: Vec::new(),
            missing: length as usize,
            control,
        });
    }

    fn gather(&mut self) {
        let on_page = BLCKSZ - (self.at.0 % BLCKSZ as u64) as usize;
        let left = self.left();
        let Some(open) = &mut self.open else { return };
        let taken = open.missing.min(on_page).min(left);
        open.parts.push((self.place, taken));
        open.missing -= taken;
        let whole = open.missing == 0;
        self.skip(taken);
        if whole && let Some(open) = self.open.take() {
            self.finish(&open);
        }
    }

    /// Goes on behind the padding of a whole record.
    fn finish(&mut self, open: &Open) {
        let switch = self.mend(open);
        self.prev = open.start;
        let mut end = self.at.align();
        if switch {
            end = Lsn(end.0.next_multiple_of(u64::from(self.params.segment_size)));
        }
        self.skip(end.bytes_since(self.at) as usize);
    }

    /// Puts link, resource manager and CRC right in what there is of a record; true if it is a SWITCH.
    fn mend(&mut self, open: &Open) -> bool {
        let mut record: Vec<u8> = Vec::new();
        for (at, length) in &open.parts {
            record.extend_from_slice(&self.bytes[*at..at + length]);
        }
        let mut switch = false;
        if open.control != RAW && record.len() >= 24 {
            record[8..16].copy_from_slice(&self.prev.0.to_le_bytes());
            record[17] %= rmgr::MAX_BUILTIN + 1;
            if let Some(start) = self.given_up.take() {
                record[16..18].copy_from_slice(&[rmgr::XLOG_OVERWRITE_CONTRECORD, rmgr::XLOG]);
                if let Some(named) = record.get_mut(26..34) {
                    named.copy_from_slice(&start.0.to_le_bytes());
                }
            } else if open.control == SWITCH {
                record[16..18].copy_from_slice(&[rmgr::XLOG_SWITCH, rmgr::XLOG]);
            }
            switch = record[16] & 0xF0 == rmgr::XLOG_SWITCH && record[17] == rmgr::XLOG;
            let crc = record_crc(&record).unwrap_or_default();
            record[20..24].copy_from_slice(&crc.to_le_bytes());
            let mut from = record.as_slice();
            for (at, length) in &open.parts {
                let (part, rest) = from.split_at(*length);
                self.bytes[*at..at + length].copy_from_slice(part);
                from = rest;
            }
        }
        switch
    }
}

impl Stream {
    /// Returns the stream of these bytes, `None` if there are too few for one.
    pub fn read(data: &[u8]) -> Option<Stream> {
        let (&[version, size, start_low, start_high, count], rest) = data.split_first_chunk()?;
        let (controls, rest) = rest.split_at_checked(count.into())?;
        let (&count, rest) = rest.split_first()?;
        let (cuts, rest) = rest.split_at_checked(2 * usize::from(count))?;
        let params = StreamParams {
            version: PgVersion::ALL[usize::from(version) % PgVersion::ALL.len()],
            system_id: 7,
            tli: 1,
            // Real ones are at least 1 MiB; with small ones, the rest of a segment after a SWITCH fits into an input.
            segment_size: 1 << (14 + size % 7),
        };
        let start = u64::from(u16::from_le_bytes([start_low, start_high])) * 8;
        let start = segment::skip_header(Lsn((1 << 24) + start), params.segment_size);
        let mut bytes = rest.to_vec();
        Layout {
            params,
            bytes: &mut bytes,
            controls: controls.iter(),
            place: 0,
            at: start,
            open: None,
            prev: PREV,
            given_up: None,
        }
        .run();
        let mut cuts: Vec<usize> = cuts
            .chunks_exact(2)
            .map(|cut| usize::from(u16::from_le_bytes([cut[0], cut[1]])) % (bytes.len() + 1))
            .chain([bytes.len()])
            .collect();
        cuts.sort_unstable();
        Some(Stream {
            params,
            start,
            cuts,
            bytes,
        })
    }

    /// Decodes the stream whole and in pieces.
    ///
    /// # Panics
    /// The pieces make a difference, or a record that came out is not one.
    pub fn check(&self) {
        let mut decoder = WalDecoder::new(self.params, self.start, Some(PREV));
        decoder.feed(&self.bytes);
        let (whole, error) = drain(&mut decoder);
        let mut last = self.start;
        for record in &whole {
            assert!(last <= record.start && record.start < record.end && record.end <= decoder.fed());
            let crc = record_crc(&record.bytes).map(u32::to_le_bytes);
            assert_eq!(record.bytes.get(20..24), crc.as_ref().map(|crc| crc.as_slice()));
            let _ = Record::decode(self.params.version, record.bytes.clone());
            last = record.end;
        }
        let mut decoder = WalDecoder::new(self.params, self.start, Some(PREV));
        let (mut pieces, mut from, mut found) = (Vec::new(), 0, None);
        for cut in &self.cuts {
            decoder.feed(&self.bytes[from..*cut]);
            from = *cut;
            let (records, error) = drain(&mut decoder);
            pieces.extend(records);
            found = error;
            if found.is_some() {
                break;
            }
        }
        assert_eq!((&pieces, &found), (&whole, &error), "pieces make a difference");
        decoder.rewind();
        assert_eq!(
            decoder.fed(),
            pieces.last().map_or(self.start, |record| record.end)
        );
        decoder.feed(&self.bytes);
        drain(&mut decoder);
    }
}

/// Returns every record that is there, and the error after them if there is one.
fn drain(decoder: &mut WalDecoder) -> (Vec<RawRecord>, Option<WalError>) {
    let mut records = Vec::new();
    loop {
        match decoder.next_record() {
            Ok(Some(record)) => records.push(record),
            Ok(None) => return (records, None),
            Err(error) => return (records, Some(error)),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn decoded(data: &[u8]) -> (Vec<RawRecord>, Option<WalError>) {
        let stream = Stream::read(data).expect("is a stream");
        stream.check();
        let mut decoder = WalDecoder::new(stream.params, stream.start, Some(PREV));
        decoder.feed(&stream.bytes);
        drain(&mut decoder)
    }

    #[test]
    fn arbitrary_bytes_become_records() {
        let mut data = vec![3, 0, 9, 0, 0, 2, 100, 0, 0, 80];
        data.extend((0..60_000_u32).map(|number| (number * 7 / 5) as u8));
        let (records, error) = decoded(&data);
        assert!(records.len() > 3, "{} records", records.len());
        assert_eq!(error, None);
    }

    #[test]
    fn a_record_can_be_given_up_and_a_segment_switched() {
        let mut data = vec![3, 0, 0, 1, 3, 0, GIVEN_UP, SWITCH, 0];
        data.extend(vec![0x40; 80_000]);
        let (records, error) = decoded(&data);
        assert_eq!(error, None);
        let kinds: Vec<[u8; 2]> = records
            .iter()
            .map(|record| [record.bytes[16], record.bytes[17]])
            .collect();
        assert_eq!(kinds[0], [rmgr::XLOG_OVERWRITE_CONTRECORD, rmgr::XLOG]);
        assert!(records[0].end.0.is_multiple_of(8));
    }
}
