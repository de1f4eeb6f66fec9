//! Reading fixed-width little-endian fields from bytes that may be too short.

/// The bytes ended before the field that was to be read.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("the bytes end before a field of {wanted} bytes at offset {at}")]
pub struct Truncated {
    /// Offset of the field.
    pub at: usize,
    /// Width of the field, bytes.
    pub wanted: usize,
}

/// A position in a byte slice that moves over each field as it is read.
#[derive(Clone, Debug)]
pub struct Cursor<'a> {
    bytes: &'a [u8],
    at: usize,
}

impl<'a> Cursor<'a> {
    /// Returns a cursor at the first byte.
    pub fn new(bytes: &'a [u8]) -> Cursor<'a> {
        Cursor { bytes, at: 0 }
    }

    /// Returns the offset of the next byte.
    pub fn offset(&self) -> usize {
        self.at
    }

    /// Returns what is still unread.
    pub fn rest(&self) -> &'a [u8] {
        self.bytes.get(self.at..).unwrap_or_default()
    }

    /// Returns the number of unread bytes.
    pub fn remaining(&self) -> usize {
        self.bytes.len().saturating_sub(self.at)
    }

    /// Returns the next `count` bytes.
    pub fn take(&mut self, count: usize) -> Result<&'a [u8], Truncated> {
        let end = self.at.checked_add(count);
        let taken = end.and_then(|end| self.bytes.get(self.at..end));
        let taken = taken.ok_or(Truncated {
            at: self.at,
            wanted: count,
        })?;
        self.at += count;
        Ok(taken)
    }

    /// Moves over `count` bytes.
    pub fn skip(&mut self, count: usize) -> Result<(), Truncated> {
        self.take(count).map(|_| ())
    }

    /// Returns the next `N` bytes.
    pub fn array<const N: usize>(&mut self) -> Result<[u8; N], Truncated> {
        let mut array = [0; N];
        array.copy_from_slice(self.take(N)?);
        Ok(array)
    }

    /// Returns the next byte.
    pub fn u8(&mut self) -> Result<u8, Truncated> {
        self.array().map(u8::from_le_bytes)
    }

    /// Returns the next byte as a C `bool`: anything but zero is true.
    pub fn bool(&mut self) -> Result<bool, Truncated> {
        self.u8().map(|byte| byte != 0)
    }

    /// Returns the next 2 bytes as an integer.
    pub fn u16(&mut self) -> Result<u16, Truncated> {
        self.array().map(u16::from_le_bytes)
    }

    /// Returns the next 4 bytes as an integer.
    pub fn u32(&mut self) -> Result<u32, Truncated> {
        self.array().map(u32::from_le_bytes)
    }

    /// Returns the next 4 bytes as a signed integer.
    pub fn i32(&mut self) -> Result<i32, Truncated> {
        self.array().map(i32::from_le_bytes)
    }

    /// Returns the next 8 bytes as an integer.
    pub fn u64(&mut self) -> Result<u64, Truncated> {
        self.array().map(u64::from_le_bytes)
    }

    /// Returns the next 8 bytes as a signed integer.
    pub fn i64(&mut self) -> Result<i64, Truncated> {
        self.array().map(i64::from_le_bytes)
    }

    /// Returns the next 4 bytes as the length of an array of items of `width` bytes that must all be there. A negative
    /// number is an error, so that nothing is ever allocated for more than the bytes hold.
    pub fn count(&mut self, width: usize) -> Result<usize, Truncated> {
        let at = self.at;
        let count = usize::try_from(self.i32()?).map_err(|_| Truncated { at, wanted: 4 })?;
        let bytes = count
            .checked_mul(width)
            .filter(|bytes| *bytes <= self.remaining());
        bytes.map(|_| count).ok_or(Truncated { at, wanted: 4 })
    }

    /// Returns the bytes up to the next zero byte, and moves over both.
    pub fn c_string(&mut self) -> Result<&'a [u8], Truncated> {
        let length = self.rest().iter().position(|byte| *byte == 0);
        let length = length.ok_or(Truncated {
            at: self.at,
            wanted: self.remaining() + 1,
        })?;
        let text = self.take(length)?;
        self.skip(1)?;
        Ok(text)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn fields_come_in_order_and_the_end_is_an_error() {
        let mut cursor = Cursor::new(&[1, 2, 0, 3, 0, 0, 0, b'a', 0, 9]);
        assert_eq!(cursor.u8(), Ok(1));
        assert_eq!(cursor.u16(), Ok(2));
        assert_eq!(cursor.u32(), Ok(3));
        assert_eq!(cursor.c_string(), Ok(&b"a"[..]));
        assert_eq!(cursor.u16(), Err(Truncated { at: 9, wanted: 2 }));
        assert_eq!(cursor.u8(), Ok(9), "a failed read moved the cursor");
    }

    #[test]
    fn a_count_beyond_the_bytes_is_refused() {
        assert!(Cursor::new(&[255, 255, 255, 255]).count(1).is_err());
        assert!(Cursor::new(&[2, 0, 0, 0, 1, 2, 3]).count(2).is_err());
        assert_eq!(Cursor::new(&[1, 0, 0, 0, 1, 2, 3]).count(2), Ok(1));
    }
}
