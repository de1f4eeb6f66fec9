//! Where records begin and end: the item of `Key::Boundaries`, for rounding LSNs, prev-links and times of commits.
//!
//! A version holds the records that one seal saw beginning in its mebibyte, under the LSN of the first one's end. So the
//! newest version at or below X always holds the last record that ends at or below X and begins in that mebibyte; a reader
//! drops what ends above X. A version is never merged with an older one.
//!
//! ```text
//! version u8 = 1 | records u32 | commits u32 | start of the first record u64 | records | commits        (little-endian)
//! record: varint (start - end of the one before) / 8, of the first 0 | varint (end - start) / 8
//! commit: varint (ordinal of the record - that of the commit before) | varint zigzag (time - time before), from 0, 0
//! ```

use neon_types::{Lsn, LsnRange};

use crate::layer::Fields;
use crate::{PageStoreError, Result};

const VERSION: u8 = 1;
/// No more than these 24-byte records begin in a mebibyte.
const MAX_RECORDS: u32 = (1 << 20) / 24 + 1;

/// Start and end of a whole record.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct RecordSpan {
    /// First byte of its header: the prev-link of the record after it.
    pub start: Lsn,
    /// MAXALIGNed end; of a SWITCH the end of the segment.
    pub end: Lsn,
}

/// The records that begin in one mebibyte, growing.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct Run {
    first: Option<RecordSpan>,
    last: Option<RecordSpan>,
    records: u32,
    spans: Vec<u8>,
    commits: u32,
    times: Vec<u8>,
    last_commit: (u32, i64),
}

impl Run {
    /// Adds the next record; `commit_time` is a `TimestampTz`.
    pub(crate) fn push(&mut self, span: RecordSpan, commit_time: Option<i64>) {
        let before = self.last.map_or(span.start, |last| last.end);
        put_varint(&mut self.spans, span.start.bytes_since(before) / 8);
        put_varint(&mut self.spans, span.end.bytes_since(span.start) / 8);
        if let Some(time) = commit_time {
            let (ordinal, last_time) = self.last_commit;
            put_varint(&mut self.times, u64::from(self.records - ordinal));
            put_varint(&mut self.times, zigzag(time.wrapping_sub(last_time)));
            self.last_commit = (self.records, time);
            self.commits += 1;
        }
        self.records += 1;
        self.first.get_or_insert(span);
        self.last = Some(span);
    }

    /// Returns the LSN of the version that holds these records.
    pub(crate) fn version(&self) -> Option<Lsn> {
        self.first.map(|span| span.end)
    }

    /// Returns the bytes of the item.
    pub(crate) fn encode(&self) -> Vec<u8> {
        let mut out = vec![VERSION];
        out.extend_from_slice(&self.records.to_le_bytes());
        out.extend_from_slice(&self.commits.to_le_bytes());
        out.extend_from_slice(&self.first.map_or(0, |span| span.start.0).to_le_bytes());
        out.extend_from_slice(&self.spans);
        out.extend_from_slice(&self.times);
        out
    }
}

/// The decoded item.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct Boundaries {
    /// In WAL order.
    pub spans: Vec<RecordSpan>,
    /// End and time of each commit record, in WAL order.
    pub commits: Vec<(Lsn, i64)>,
}

impl Boundaries {
    pub(crate) fn decode(bytes: &[u8]) -> Result<Boundaries> {
        let bad = |reason: &str| PageStoreError::damaged("an index of record boundaries", reason);
        let cut = || bad("it is cut");
        let mut fields = Fields(bytes);
        if fields.u8().ok_or_else(cut)? != VERSION {
            return Err(bad("its version is unknown"));
        }
        let records = fields.u32().ok_or_else(cut)?;
        let commits = fields.u32().ok_or_else(cut)?;
        let mut at = fields.lsn().ok_or_else(cut)?;
        if records == 0 || records > MAX_RECORDS || commits > records || !at.0.is_multiple_of(8) {
            return Err(bad("its counts make no sense"));
        }
        let mut found = Boundaries::default();
        for _ in 0..records {
            let gap = varint(&mut fields).ok_or_else(cut)?;
            let len = varint(&mut fields).ok_or_else(cut)?;
            let start = gap.checked_mul(8).and_then(|gap| at.0.checked_add(gap));
            let end = start.and_then(|start| start.checked_add(len.checked_mul(8)?));
            let (Some(start), Some(end)) = (start, end) else {
                return Err(bad("an LSN overflows"));
            };
            if end <= start {
                return Err(bad("a record is empty"));
            }
            at = Lsn(end);
            found.spans.push(RecordSpan {
                start: Lsn(start),
                end: at,
            });
        }
        let (mut ordinal, mut time) = (0_u64, 0_i64);
        for _ in 0..commits {
            ordinal = ordinal.saturating_add(varint(&mut fields).ok_or_else(cut)?);
            time = time.wrapping_add(unzigzag(varint(&mut fields).ok_or_else(cut)?));
            let span = usize::try_from(ordinal)
                .ok()
                .and_then(|ordinal| found.spans.get(ordinal));
            found
                .commits
                .push((span.ok_or_else(|| bad("a commit is no record"))?.end, time));
        }
        if fields.0.is_empty() {
            Ok(found)
        } else {
            Err(bad("bytes follow it"))
        }
    }

    /// Returns the records whose end is in `range` as a new version, none if there is no such record.
    pub(crate) fn within(&self, range: LsnRange) -> Option<(Lsn, Vec<u8>)> {
        let mut run = Run::default();
        let mut commits = self.commits.iter().peekable();
        for span in &self.spans {
            let commit = commits
                .next_if(|(end, _)| *end == span.end)
                .map(|(_, time)| *time);
            if range.contains(span.end) {
                run.push(*span, commit);
            }
        }
        run.version().map(|lsn| (lsn, run.encode()))
    }

    /// Returns the last record that ends at or below `lsn`.
    pub(crate) fn at_or_before(&self, lsn: Lsn) -> Option<RecordSpan> {
        let index = self
            .spans
            .partition_point(|span| span.end <= lsn)
            .checked_sub(1)?;
        self.spans.get(index).copied()
    }
}

fn put_varint(out: &mut Vec<u8>, mut value: u64) {
    while value >= 0x80 {
        out.push((value & 0x7f) as u8 | 0x80);
        value >>= 7;
    }
    out.push((value & 0x7f) as u8);
}

fn varint(fields: &mut Fields<'_>) -> Option<u64> {
    let mut value = 0_u64;
    for shift in (0..64).step_by(7) {
        let byte = fields.u8()?;
        let bits = u64::from(byte & 0x7f);
        if shift == 63 && bits > 1 {
            return None;
        }
        value |= bits << shift;
        if byte & 0x80 == 0 {
            return Some(value);
        }
    }
    None
}

fn zigzag(value: i64) -> u64 {
    ((value << 1) ^ (value >> 63)).cast_unsigned()
}

fn unzigzag(value: u64) -> i64 {
    (value >> 1).cast_signed() ^ -(value & 1).cast_signed()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn run() -> (Run, Vec<RecordSpan>) {
        let spans: Vec<RecordSpan> = [
            (0x100028, 0x100050),
            (0x100050, 0x102000),
            (0x102018, 0x300000),
            (0x300028, 0x300040),
        ]
        .map(|(start, end)| RecordSpan {
            start: Lsn(start),
            end: Lsn(end),
        })
        .to_vec();
        let mut run = Run::default();
        for (index, span) in spans.iter().enumerate() {
            let time = match index {
                1 => Some(i64::MAX),
                3 => Some(-5),
                _ => None,
            };
            run.push(*span, time);
        }
        (run, spans)
    }

    #[test]
    fn an_item_round_trips() {
        let (run, spans) = run();
        assert_eq!(run.version(), Some(Lsn(0x100050)));
        let decoded = Boundaries::decode(&run.encode()).unwrap();
        assert_eq!(decoded.spans, spans);
        assert_eq!(decoded.commits, [(Lsn(0x102000), i64::MAX), (Lsn(0x300040), -5)]);
        assert_eq!(decoded.at_or_before(Lsn(0x10004f)), None);
        assert_eq!(decoded.at_or_before(Lsn(0x102001)), Some(spans[1]));
        assert_eq!(decoded.at_or_before(Lsn::MAX), Some(spans[3]));
    }

    #[test]
    fn a_slice_holds_the_records_that_end_inside() {
        let (run, spans) = run();
        let decoded = Boundaries::decode(&run.encode()).unwrap();
        let range = LsnRange {
            start: Lsn(0x100050),
            end: Lsn(0x300000),
        };
        let (lsn, bytes) = decoded.within(range).unwrap();
        assert_eq!(lsn, Lsn(0x102000));
        let slice = Boundaries::decode(&bytes).unwrap();
        assert_eq!(slice.spans, spans[1..3]);
        assert_eq!(slice.commits, [(Lsn(0x102000), i64::MAX)]);
        assert_eq!(
            decoded.within(LsnRange {
                start: Lsn(0x300040),
                end: Lsn::MAX
            }),
            None
        );
    }

    #[test]
    fn damage_is_an_error() {
        let bytes = run().0.encode();
        for len in 0..bytes.len() {
            assert!(
                Boundaries::decode(&bytes[..len]).is_err(),
                "{len} bytes were taken"
            );
        }
        let mut long = bytes.clone();
        long.push(0);
        assert!(Boundaries::decode(&long).is_err());
        let mut huge = bytes;
        huge[1..5].copy_from_slice(&u32::MAX.to_le_bytes());
        assert!(Boundaries::decode(&huge).is_err());
    }
}
