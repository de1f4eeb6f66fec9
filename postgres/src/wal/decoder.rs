//! From a stream of bytes, cut anywhere, to whole records.

use neon_types::Lsn;

use super::error::{EndKind, WalError};
use super::segment::{self, PageHeader};
use super::{RECORD_HEADER_SIZE, record_crc, rmgr};
use crate::{BLCKSZ, Cursor, PgVersion};

/// Longest record of 14 and 15 (`MaxAllocSize`), bytes.
const MAX_RECORD_OLD: u32 = 0x3FFF_FFFF;
/// Longest record since 16 (`XLogRecordMaxSize`), bytes.
const MAX_RECORD: u32 = 1020 << 20;
/// Consumed bytes that are kept at the front of the buffer before it is moved.
const SLACK: usize = 256 * 1024;

/// What every page header of a stream must say.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct StreamParams {
    /// Version of the server that wrote it.
    pub version: PgVersion,
    /// System identifier of the cluster.
    pub system_id: u64,
    /// Timeline that wrote it.
    pub tli: u32,
    /// Bytes in a segment.
    pub segment_size: u32,
}

/// A whole record with a good CRC.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct RawRecord {
    /// Its first byte, page headers skipped.
    pub start: Lsn,
    /// Where the next record begins, page headers not skipped: the last byte rounded up to 8, the end of the segment for
    /// a SWITCH. This is the LSN of the versions that the record makes.
    pub end: Lsn,
    /// The record without page headers, to be given to [`super::Record::decode`].
    pub bytes: Vec<u8>,
}

/// A record that is not complete yet.
#[derive(Clone, Debug)]
struct Partial {
    start: Lsn,
    total: u32,
    bytes: Vec<u8>,
    checked: bool,
}

impl Partial {
    fn missing(&self) -> usize {
        (self.total as usize).saturating_sub(self.bytes.len())
    }
}

/// Cuts a stream of WAL into records.
///
/// Bytes come in by [`feed`](WalDecoder::feed), in any portions, and records out by
/// [`next_record`](WalDecoder::next_record). A record is given out when every byte up to its end was fed, the padding after
/// it included. Memory is bounded by the bytes that were fed since the last whole record.
#[derive(Clone, Debug)]
pub struct WalDecoder {
    params: StreamParams,
    buffer: Vec<u8>,
    /// Bytes of the buffer that are consumed.
    head: usize,
    /// LSN of the first byte that is not.
    at: Lsn,
    partial: Option<Partial>,
    /// A record whose padding is not consumed yet.
    complete: Option<RawRecord>,
    /// Start of a record that the stream itself gave up, and which the next record must name.
    abandoned: Option<Lsn>,
    end: Lsn,
    last_start: Option<Lsn>,
    failed: Option<WalError>,
}

impl WalDecoder {
    /// Returns a decoder of the stream whose first byte is at `start`, which must be the end of a record (or the start of
    /// one). `prev` is the start of the record that ended there: if given, the first record must link to it.
    pub fn new(params: StreamParams, start: Lsn, prev: Option<Lsn>) -> WalDecoder {
        WalDecoder {
            params,
            buffer: Vec::new(),
            head: 0,
            at: start,
            partial: None,
            complete: None,
            abandoned: None,
            end: start,
            last_start: prev,
            failed: None,
        }
    }

    /// Takes the next bytes of the stream.
    pub fn feed(&mut self, bytes: &[u8]) {
        if self.head == self.buffer.len() {
            self.buffer.clear();
            self.head = 0;
        } else if self.head > SLACK {
            self.buffer.drain(..self.head);
            self.head = 0;
        }
        self.buffer.extend_from_slice(bytes);
    }

    /// Returns what the page headers of the stream must say.
    pub fn params(&self) -> &StreamParams {
        &self.params
    }

    /// Returns where the next byte to feed belongs.
    pub fn fed(&self) -> Lsn {
        self.at + self.available() as u64
    }

    /// Returns the end of the last whole record, at first where the stream began.
    pub fn end(&self) -> Lsn {
        self.end
    }

    /// Returns the start of the last whole record, at first what the decoder was told.
    pub fn last_start(&self) -> Option<Lsn> {
        self.last_start
    }

    /// Forgets every byte after [`end`](WalDecoder::end), and any error: the stream goes on there with other bytes.
    pub fn rewind(&mut self) {
        *self = WalDecoder::new(self.params, self.end, self.last_start);
    }

    /// Returns the next record; `None` when more bytes are needed. After an error, the same error again until
    /// [`rewind`](WalDecoder::rewind).
    pub fn next_record(&mut self) -> Result<Option<RawRecord>, WalError> {
        if let Some(error) = &self.failed {
            return Err(error.clone());
        }
        let result = self.advance();
        if let Err(error) = &result {
            self.failed = Some(error.clone());
        }
        result
    }

    fn advance(&mut self) -> Result<Option<RawRecord>, WalError> {
        loop {
            if let Some(end) = self.complete.as_ref().map(|record| record.end) {
                self.skip(self.available().min(bytes_between(self.at, end)));
                if self.at < end {
                    return Ok(None);
                }
                let record = self.complete.take();
                self.end = end;
                self.last_start = record.as_ref().map(|record| record.start);
                return Ok(record);
            }
            if self.at.0.is_multiple_of(BLCKSZ as u64) {
                if !self.read_page_header()? {
                    return Ok(None);
                }
                continue;
            }
            if self.partial.is_none()
                && let Some(record) = self.next_on_page()?
            {
                return Ok(Some(record));
            }
            let Some(partial) = self
                .partial
                .take()
                .map_or_else(|| self.begin_record(), |p| Ok(Some(p)))?
            else {
                return Ok(None);
            };
            if !self.gather(partial)? {
                return Ok(None);
            }
        }
    }

    /// Consumes a page header; false when it is not all there.
    fn read_page_header(&mut self) -> Result<bool, WalError> {
        let size = segment::header_size(self.at, self.params.segment_size);
        let unread = self.buffer.get(self.head..).unwrap_or_default();
        let Some(header) = unread.get(..size) else {
            return Ok(false);
        };
        let header = PageHeader::read(header).map_err(|_| self.ended(EndKind::BadPage, self.at))?;
        self.check_page(&header)?;
        if let Some(partial) = &self.partial {
            if header.info & segment::FIRST_IS_OVERWRITE_CONTRECORD != 0 {
                self.abandoned = Some(partial.start);
                self.partial = None;
            } else if header.info & segment::FIRST_IS_CONTRECORD == 0
                || header.remaining as usize != partial.missing()
            {
                return Err(self.ended(EndKind::BadContinuation, self.at));
            }
        } else if header.info & segment::FIRST_IS_CONTRECORD != 0 {
            return Err(self.ended(EndKind::BadContinuation, self.at));
        }
        self.skip(size);
        Ok(true)
    }

    fn check_page(&self, header: &PageHeader) -> Result<(), WalError> {
        let at = self.at;
        let long = segment::header_size(at, self.params.segment_size) == segment::LONG_HEADER_SIZE;
        if header.magic != self.params.version.page_magic()
            || header.info & !segment::ALL_FLAGS != 0
            || header.long.is_some() != long
        {
            return Err(self.ended(EndKind::BadPage, at));
        }
        if header.address != at {
            return Err(self.ended(EndKind::BadPageAddress, at));
        }
        if let Some(long) = header.long {
            if long.system_id != self.params.system_id {
                return Err(WalError::OtherCluster {
                    at,
                    found: long.system_id,
                    expected: self.params.system_id,
                });
            }
            if long.segment_size != self.params.segment_size || long.page_size != BLCKSZ as u32 {
                return Err(WalError::OtherSizes {
                    at,
                    segment_size: long.segment_size,
                    page_size: long.page_size,
                });
            }
        }
        if header.tli != self.params.tli {
            return Err(WalError::OtherTimeline {
                at,
                found: header.tli,
                expected: self.params.tli,
            });
        }
        Ok(())
    }

    /// Returns the next record where all of it and its padding is here and on this page, as most are: without a detour through
    /// [`Partial`]. `None` says nothing about the record.
    fn next_on_page(&mut self) -> Result<Option<RawRecord>, WalError> {
        let start = self.at;
        let unread = self.buffer.get(self.head..).unwrap_or_default();
        let Some(length) = unread.first_chunk().map(|length| u32::from_le_bytes(*length)) else {
            return Ok(None);
        };
        let end = (start + u64::from(length)).align();
        let padded = bytes_between(start, end);
        let on_page = BLCKSZ - (start.0 % BLCKSZ as u64) as usize;
        let Some(bytes) = unread.get(..length as usize) else {
            return Ok(None);
        };
        let Some((_, info, rmid)) = header_fields(bytes).filter(|_| bytes.len() >= RECORD_HEADER_SIZE) else {
            return Ok(None);
        };
        let switches = rmid == rmgr::XLOG && info & 0xF0 == rmgr::XLOG_SWITCH;
        if padded > on_page.min(unread.len()) || switches || self.abandoned.is_some() {
            return Ok(None);
        }
        self.check_header(start, bytes)?;
        self.check_crc(start, bytes)?;
        let bytes = bytes.to_vec();
        self.skip(padded);
        self.end = end;
        self.last_start = Some(start);
        Ok(Some(RawRecord { start, end, bytes }))
    }

    /// Reads the length of the next record, which is never cut by a page; `None` when it is not all there.
    fn begin_record(&mut self) -> Result<Option<Partial>, WalError> {
        let start = self.at;
        let unread = self.buffer.get(self.head..).unwrap_or_default();
        let Some(length) = unread.first_chunk().map(|length| u32::from_le_bytes(*length)) else {
            return Ok(None);
        };
        let longest = if self.params.version >= PgVersion::V16 {
            MAX_RECORD
        } else {
            MAX_RECORD_OLD
        };
        match length {
            0 => Err(self.ended(EndKind::ZeroLength, start)),
            _ if (length as usize) < RECORD_HEADER_SIZE || length > longest => {
                Err(self.ended(EndKind::BadLength, start))
            }
            _ => Ok(Some(Partial {
                start,
                total: length,
                bytes: Vec::with_capacity((length as usize).min(unread.len())),
                checked: false,
            })),
        }
    }

    /// Adds what there is of the record on this page; false when more bytes must be fed.
    fn gather(&mut self, mut partial: Partial) -> Result<bool, WalError> {
        let on_page = BLCKSZ - (self.at.0 % BLCKSZ as u64) as usize;
        let wanted = partial.missing().min(on_page);
        let taken = wanted.min(self.available());
        let bytes = self.buffer.get(self.head..self.head + taken).unwrap_or_default();
        partial.bytes.extend_from_slice(bytes);
        self.skip(taken);
        if !partial.checked && partial.bytes.len() >= RECORD_HEADER_SIZE {
            self.check_header(partial.start, &partial.bytes)?;
            partial.checked = true;
        }
        if partial.missing() == 0 {
            self.complete = Some(self.finish(partial)?);
            return Ok(true);
        }
        self.partial = Some(partial);
        Ok(taken == wanted)
    }

    fn check_header(&self, start: Lsn, bytes: &[u8]) -> Result<(), WalError> {
        let (prev, _, rmid) = header_fields(bytes).unwrap_or_default();
        let linked = match self.last_start {
            Some(last) => prev == last,
            None => prev < start,
        };
        if !linked {
            return Err(self.ended(EndKind::BadPrev, start));
        }
        if !rmgr::is_valid(self.params.version, rmid) {
            return Err(self.ended(EndKind::BadRmgr, start));
        }
        Ok(())
    }

    fn check_crc(&self, start: Lsn, bytes: &[u8]) -> Result<(), WalError> {
        let stored = bytes.get(20..24).and_then(|crc| crc.first_chunk().copied());
        if record_crc(bytes) == stored.map(u32::from_le_bytes) {
            Ok(())
        } else {
            Err(self.ended(EndKind::BadCrc, start))
        }
    }

    fn finish(&mut self, partial: Partial) -> Result<RawRecord, WalError> {
        let Partial { start, bytes, .. } = partial;
        self.check_crc(start, &bytes)?;
        let (_, info, rmid) = header_fields(&bytes).unwrap_or_default();
        let opcode = (rmid == rmgr::XLOG).then_some(info & 0xF0);
        if let Some(abandoned) = self.abandoned.take() {
            let named = Cursor::new(bytes.get(RECORD_HEADER_SIZE + 2..).unwrap_or_default()).u64();
            if opcode != Some(rmgr::XLOG_OVERWRITE_CONTRECORD) || named != Ok(abandoned.0) {
                return Err(WalError::NotOverwritten { at: start, abandoned });
            }
        }
        let mut end = self.at.align();
        if opcode == Some(rmgr::XLOG_SWITCH) {
            end = Lsn(end.0.next_multiple_of(u64::from(self.params.segment_size)));
        }
        Ok(RawRecord { start, end, bytes })
    }

    fn available(&self) -> usize {
        self.buffer.len().saturating_sub(self.head)
    }

    fn skip(&mut self, bytes: usize) {
        self.head += bytes;
        self.at = self.at + bytes as u64;
    }

    fn ended(&self, kind: EndKind, at: Lsn) -> WalError {
        WalError::EndOfWal { kind, at }
    }
}

fn bytes_between(from: Lsn, to: Lsn) -> usize {
    usize::try_from(to.bytes_since(from)).unwrap_or(usize::MAX)
}

/// Returns `xl_prev`, `xl_info` and `xl_rmid` of a record.
fn header_fields(record: &[u8]) -> Option<(Lsn, u8, u8)> {
    let mut cursor = Cursor::new(record);
    cursor.skip(8).ok()?;
    let prev = Lsn(cursor.u64().ok()?);
    Some((prev, cursor.u8().ok()?, cursor.u8().ok()?))
}
