//! Little-endian fields with limits; every length is checked against what is there before anything is allocated.

use neon_types::{CommitId, Lsn, LsnRange, ObjectId, Position, RepoId, TimelineId};

/// The bytes are not a message.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{what} at byte {at} of a '{message}' message")]
pub struct DecodeError {
    /// What is wrong.
    pub what: String,
    /// Offset in the message.
    pub at: usize,
    /// Which message.
    pub message: &'static str,
}

/// Appends fields to a message.
#[derive(Debug, Default)]
pub(crate) struct Encoder(pub(crate) Vec<u8>);

impl Encoder {
    pub(crate) fn u8(&mut self, value: u8) {
        self.0.push(value);
    }
    pub(crate) fn bool(&mut self, value: bool) {
        self.0.push(u8::from(value));
    }
    pub(crate) fn u16(&mut self, value: u16) {
        self.0.extend_from_slice(&value.to_le_bytes());
    }
    pub(crate) fn u32(&mut self, value: u32) {
        self.0.extend_from_slice(&value.to_le_bytes());
    }
    pub(crate) fn u64(&mut self, value: u64) {
        self.0.extend_from_slice(&value.to_le_bytes());
    }
    pub(crate) fn bytes(&mut self, value: &[u8]) {
        self.0.extend_from_slice(value);
    }
    /// A length above `u32::MAX` cannot be: messages are far below.
    pub(crate) fn blob(&mut self, value: &[u8]) {
        self.u32(u32::try_from(value.len()).unwrap_or(u32::MAX));
        self.bytes(value);
    }
    pub(crate) fn text(&mut self, value: &str) {
        self.blob(value.as_bytes());
    }
    pub(crate) fn object(&mut self, id: ObjectId) {
        self.bytes(&id.to_bytes());
    }
    pub(crate) fn commit(&mut self, id: CommitId) {
        self.object(id.0);
    }
    pub(crate) fn timeline(&mut self, id: TimelineId) {
        self.bytes(&id.0);
    }
    pub(crate) fn repository(&mut self, id: RepoId) {
        self.bytes(&id.0);
    }
    pub(crate) fn lsn(&mut self, lsn: Lsn) {
        self.u64(lsn.0);
    }
    pub(crate) fn range(&mut self, range: LsnRange) {
        self.lsn(range.start);
        self.lsn(range.end);
    }
    pub(crate) fn position(&mut self, position: Position) {
        self.timeline(position.timeline);
        self.lsn(position.lsn);
    }
    pub(crate) fn option<T>(&mut self, value: Option<T>, write: impl FnOnce(&mut Encoder, T)) {
        self.bool(value.is_some());
        if let Some(value) = value {
            write(self, value);
        }
    }
    pub(crate) fn list<T>(&mut self, values: &[T], mut write: impl FnMut(&mut Encoder, &T)) {
        self.u32(u32::try_from(values.len()).unwrap_or(u32::MAX));
        for value in values {
            write(self, value);
        }
    }
}

/// Takes fields from a message.
#[derive(Debug)]
pub(crate) struct Decoder<'a> {
    rest: &'a [u8],
    len: usize,
    message: &'static str,
}

pub(crate) type Decoded<T> = Result<T, DecodeError>;

impl<'a> Decoder<'a> {
    pub(crate) fn new(bytes: &'a [u8], message: &'static str) -> Decoder<'a> {
        Decoder {
            rest: bytes,
            len: bytes.len(),
            message,
        }
    }

    pub(crate) fn error(&self, what: impl Into<String>) -> DecodeError {
        DecodeError {
            what: what.into(),
            // The tag in front is a byte too.
            at: self.len - self.rest.len() + 1,
            message: self.message,
        }
    }

    /// Returns all that is left.
    pub(crate) fn rest(&mut self) -> &'a [u8] {
        std::mem::take(&mut self.rest)
    }

    pub(crate) fn end(&self) -> Decoded<()> {
        if self.rest.is_empty() {
            Ok(())
        } else {
            Err(self.error(format!("{} bytes too many", self.rest.len())))
        }
    }

    pub(crate) fn bytes(&mut self, len: usize) -> Decoded<&'a [u8]> {
        let Some((taken, rest)) = self.rest.split_at_checked(len) else {
            return Err(self.error(format!("{len} bytes wanted, {} left", self.rest.len())));
        };
        self.rest = rest;
        Ok(taken)
    }

    pub(crate) fn array<const N: usize>(&mut self) -> Decoded<[u8; N]> {
        let Some((taken, rest)) = self.rest.split_first_chunk::<N>() else {
            return Err(self.error(format!("{N} bytes wanted, {} left", self.rest.len())));
        };
        self.rest = rest;
        Ok(*taken)
    }

    pub(crate) fn u8(&mut self) -> Decoded<u8> {
        self.array::<1>().map(|[byte]| byte)
    }
    pub(crate) fn bool(&mut self) -> Decoded<bool> {
        match self.u8()? {
            0 => Ok(false),
            1 => Ok(true),
            other => Err(self.error(format!("{other} is not 0 or 1"))),
        }
    }
    pub(crate) fn u16(&mut self) -> Decoded<u16> {
        self.array().map(u16::from_le_bytes)
    }
    pub(crate) fn u32(&mut self) -> Decoded<u32> {
        self.array().map(u32::from_le_bytes)
    }
    pub(crate) fn u64(&mut self) -> Decoded<u64> {
        self.array().map(u64::from_le_bytes)
    }
    pub(crate) fn blob(&mut self, limit: usize) -> Decoded<&'a [u8]> {
        let len = self.u32()? as usize;
        if len > limit {
            return Err(self.error(format!("{len} bytes where at most {limit} are allowed")));
        }
        self.bytes(len)
    }
    pub(crate) fn text(&mut self, limit: usize) -> Decoded<String> {
        let bytes = self.blob(limit)?;
        match std::str::from_utf8(bytes) {
            Ok(text) => Ok(text.to_owned()),
            Err(_) => Err(self.error("text that is not UTF-8")),
        }
    }
    /// A name of a branch: checked, because it becomes a path.
    pub(crate) fn branch(&mut self) -> Decoded<String> {
        let name = self.text(256)?;
        if neon_types::is_safe_name(&name) {
            Ok(name)
        } else {
            Err(self.error("a name that a branch cannot have"))
        }
    }
    /// A name that the other side has: whoever makes something of it here checks it.
    pub(crate) fn their_name(&mut self) -> Decoded<String> {
        self.text(4 << 10)
    }
    pub(crate) fn object(&mut self) -> Decoded<ObjectId> {
        self.array().map(ObjectId::from_bytes)
    }
    pub(crate) fn commit(&mut self) -> Decoded<CommitId> {
        self.object().map(CommitId)
    }
    pub(crate) fn timeline(&mut self) -> Decoded<TimelineId> {
        self.array().map(TimelineId)
    }
    pub(crate) fn repository(&mut self) -> Decoded<RepoId> {
        self.array().map(RepoId)
    }
    pub(crate) fn lsn(&mut self) -> Decoded<Lsn> {
        self.u64().map(Lsn)
    }
    /// A range whose end is not before its start.
    pub(crate) fn range(&mut self) -> Decoded<LsnRange> {
        let (start, end) = (self.lsn()?, self.lsn()?);
        if start <= end {
            Ok(LsnRange { start, end })
        } else {
            Err(self.error(format!("range {start}..{end} runs backwards")))
        }
    }
    pub(crate) fn position(&mut self) -> Decoded<Position> {
        Ok(Position {
            timeline: self.timeline()?,
            lsn: self.lsn()?,
        })
    }
    pub(crate) fn option<T>(
        &mut self,
        read: impl FnOnce(&mut Decoder<'a>) -> Decoded<T>,
    ) -> Decoded<Option<T>> {
        if self.bool()? {
            read(self).map(Some)
        } else {
            Ok(None)
        }
    }
    /// A list of at most `limit` items, each of at least `least` bytes.
    pub(crate) fn list<T>(
        &mut self,
        limit: usize,
        least: usize,
        mut read: impl FnMut(&mut Decoder<'a>) -> Decoded<T>,
    ) -> Decoded<Vec<T>> {
        let count = self.u32()? as usize;
        if count > limit {
            return Err(self.error(format!("a list of {count} where at most {limit} are allowed")));
        }
        if count > self.rest.len() / least.max(1) {
            return Err(self.error(format!("a list of {count} in {} bytes", self.rest.len())));
        }
        let mut items = Vec::with_capacity(count);
        for _ in 0..count {
            items.push(read(self)?);
        }
        Ok(items)
    }
}
