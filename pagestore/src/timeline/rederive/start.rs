//! Where WAL that is kept can be taken in: at the end of a record, which in the first segment that was left is not its first byte.

use neon_postgres::BLCKSZ;
use neon_postgres::wal::WalDecoder;
use neon_postgres::wal::segment::{self, PageHeader};
use neon_types::Lsn;

use super::super::Timeline;
use crate::gc::Span;
use crate::{PageStoreError, Result};

const CHUNK: usize = 256 << 10;

impl Timeline {
    /// Returns the first position of `span` from which on the WAL is kept whole, none when there is none below its end.
    pub(super) fn first_record_end(&self, span: Span) -> Result<Option<Lsn>> {
        let wanted = span.from.max(self.wal_start());
        if wanted >= span.to {
            return Ok(None);
        }
        if wanted == self.start {
            return Ok(Some(wanted));
        }
        let size = u64::from(self.segment_size);
        let segment = Lsn(wanted.segment(size) * size);
        // Kept WAL that does not begin with a segment begins at the end of a record.
        let begin = if segment < self.wal_start() {
            self.wal_start()
        } else {
            let first = self.first_in_page(segment, span.to)?;
            if self.is_unwritten(first, span.to)? {
                // The record that goes on into the segment switched to the next one.
                Lsn(segment.0 + size)
            } else {
                first
            }
        };
        let mut decoder = WalDecoder::new(self.stream_params(), begin, None);
        let mut at = begin;
        let mut bytes = vec![0; CHUNK];
        while decoder.end() < wanted {
            let len = CHUNK.min(usize::try_from(span.to.bytes_since(at)).unwrap_or(CHUNK));
            if len == 0 {
                return Ok(None);
            }
            let bytes = bytes.get_mut(..len).unwrap_or_default();
            self.wal.read(at, bytes)?;
            decoder.feed(bytes);
            at = at + len as u64;
            while decoder.end() < wanted {
                let end = decoder.end();
                match decoder.next_record() {
                    Ok(Some(_)) => {}
                    Ok(None) => break,
                    Err(error) => return Err(self.breaks_off(end, error.to_string())),
                }
            }
        }
        Ok(Some(decoder.end()).filter(|end| *end < span.to))
    }

    /// Returns where the first record ends, or begins, that does not begin before `page`; not searched for beyond `limit`.
    fn first_in_page(&self, page: Lsn, limit: Lsn) -> Result<Lsn> {
        let mut page = page;
        while page < limit {
            let size = segment::header_size(page, self.segment_size);
            let mut bytes = vec![0; size];
            self.wal.read(page, &mut bytes)?;
            let bad = || self.breaks_off(page, "no page begins here".to_owned());
            let header = PageHeader::read(&bytes).map_err(|_| bad())?;
            if header.address != page {
                return Err(bad());
            }
            let data = page + size as u64;
            let room = (BLCKSZ - size) as u64;
            let rest = u64::from(header.remaining);
            if header.info & segment::FIRST_IS_CONTRECORD == 0 {
                return Ok(page);
            }
            if rest <= room {
                return Ok((data + rest).align());
            }
            page = page + BLCKSZ as u64;
        }
        Ok(limit)
    }

    /// Returns true when no record begins at `at`, the end of what is known to be one, though more follow below `limit`.
    fn is_unwritten(&self, at: Lsn, limit: Lsn) -> Result<bool> {
        let data = segment::skip_header(at, self.segment_size);
        let mut length = [0; 4];
        if data + length.len() as u64 > limit {
            return Ok(false);
        }
        self.wal.read(data, &mut length)?;
        Ok(length == [0; 4])
    }

    pub(super) fn breaks_off(&self, lsn: Lsn, reason: String) -> PageStoreError {
        PageStoreError::BrokenWal {
            timeline: self.id,
            lsn,
            reason,
        }
    }
}
