//! Little-endian bytes with limits: what is longer than allowed is refused before anything is allocated.

/// Appends fields to bytes.
#[derive(Debug, Default)]
pub(crate) struct Encoder {
    pub(crate) bytes: Vec<u8>,
}

impl Encoder {
    pub(crate) fn raw(&mut self, bytes: &[u8]) {
        self.bytes.extend_from_slice(bytes);
    }

    pub(crate) fn u8(&mut self, value: u8) {
        self.raw(&value.to_le_bytes());
    }

    pub(crate) fn u32(&mut self, value: u32) {
        self.raw(&value.to_le_bytes());
    }

    pub(crate) fn u64(&mut self, value: u64) {
        self.raw(&value.to_le_bytes());
    }

    pub(crate) fn i64(&mut self, value: i64) {
        self.raw(&value.to_le_bytes());
    }

    /// A count or length. One that does not fit becomes one that no reader takes.
    pub(crate) fn count(&mut self, count: usize) {
        self.u32(u32::try_from(count).unwrap_or(u32::MAX));
    }

    pub(crate) fn block(&mut self, bytes: &[u8]) {
        self.count(bytes.len());
        self.raw(bytes);
    }
}

/// Takes fields from bytes; the error says which field is wrong.
#[derive(Debug)]
pub(crate) struct Decoder<'a> {
    rest: &'a [u8],
}

impl<'a> Decoder<'a> {
    pub(crate) fn new(bytes: &'a [u8]) -> Decoder<'a> {
        Decoder { rest: bytes }
    }

    pub(crate) fn raw(&mut self, len: usize, field: &str) -> Result<&'a [u8], String> {
        let (taken, rest) = self
            .rest
            .split_at_checked(len)
            .ok_or_else(|| format!("cut off in {field}"))?;
        self.rest = rest;
        Ok(taken)
    }

    pub(crate) fn array<const N: usize>(&mut self, field: &str) -> Result<[u8; N], String> {
        let mut array = [0; N];
        array.copy_from_slice(self.raw(N, field)?);
        Ok(array)
    }

    pub(crate) fn u8(&mut self, field: &str) -> Result<u8, String> {
        self.array(field).map(u8::from_le_bytes)
    }

    pub(crate) fn u32(&mut self, field: &str) -> Result<u32, String> {
        self.array(field).map(u32::from_le_bytes)
    }

    pub(crate) fn u64(&mut self, field: &str) -> Result<u64, String> {
        self.array(field).map(u64::from_le_bytes)
    }

    pub(crate) fn i64(&mut self, field: &str) -> Result<i64, String> {
        self.array(field).map(i64::from_le_bytes)
    }

    /// Returns a count of items of at least `item` bytes each, at most `limit`, that the rest can hold.
    pub(crate) fn count(&mut self, limit: usize, item: usize, field: &str) -> Result<usize, String> {
        let count = self.u32(field)? as usize;
        if count > limit {
            return Err(format!("{field}: {count} is more than the limit of {limit}"));
        }
        if count.saturating_mul(item) > self.rest.len() {
            return Err(format!("cut off in {field}"));
        }
        Ok(count)
    }

    pub(crate) fn block(&mut self, limit: usize, field: &str) -> Result<&'a [u8], String> {
        let len = self.count(limit, 1, field)?;
        self.raw(len, field)
    }

    pub(crate) fn text(&mut self, limit: usize, field: &str) -> Result<String, String> {
        let bytes = self.block(limit, field)?;
        std::str::from_utf8(bytes)
            .map(str::to_owned)
            .map_err(|_| format!("{field} is not UTF-8"))
    }

    pub(crate) fn end(self) -> Result<(), String> {
        if self.rest.is_empty() {
            Ok(())
        } else {
            Err(format!("{} bytes too many", self.rest.len()))
        }
    }
}
