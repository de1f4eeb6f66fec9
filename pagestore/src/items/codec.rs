//! Fields of items: a version byte, then little-endian integers and bytes.

/// Version of every item in this release.
const VERSION: u8 = 1;

/// The bytes are not an item of this format version.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum ItemError {
    /// Made by a later release, or not an item.
    #[error("{item} item of unknown version {version}")]
    Version {
        /// Which kind of item.
        item: &'static str,
        /// The version byte.
        version: u8,
    },
    /// Ends too early, or has bytes left over.
    #[error("{item} item of {length} bytes has the wrong length")]
    Length {
        /// Which kind of item.
        item: &'static str,
        /// Bytes that there are.
        length: usize,
    },
    /// A field is out of its range.
    #[error("{item} item with a bad {field}")]
    Field {
        /// Which kind of item.
        item: &'static str,
        /// Which field.
        field: &'static str,
    },
}

/// Reads the fields of one item.
pub(super) struct Reader<'a> {
    item: &'static str,
    all: usize,
    left: &'a [u8],
}

impl<'a> Reader<'a> {
    /// Begins behind the version byte.
    pub(super) fn new(item: &'static str, bytes: &'a [u8]) -> Result<Reader<'a>, ItemError> {
        let mut reader = Reader {
            item,
            all: bytes.len(),
            left: bytes,
        };
        match reader.u8()? {
            VERSION => Ok(reader),
            version => Err(ItemError::Version { item, version }),
        }
    }

    pub(super) fn array<const N: usize>(&mut self) -> Result<[u8; N], ItemError> {
        let (head, tail) = self.left.split_first_chunk::<N>().ok_or_else(|| self.length())?;
        self.left = tail;
        Ok(*head)
    }

    pub(super) fn u8(&mut self) -> Result<u8, ItemError> {
        self.array::<1>().map(|[byte]| byte)
    }

    pub(super) fn u16(&mut self) -> Result<u16, ItemError> {
        self.array().map(u16::from_le_bytes)
    }

    pub(super) fn u32(&mut self) -> Result<u32, ItemError> {
        self.array().map(u32::from_le_bytes)
    }

    pub(super) fn u64(&mut self) -> Result<u64, ItemError> {
        self.array().map(u64::from_le_bytes)
    }

    /// Returns `length` bytes.
    pub(super) fn bytes(&mut self, length: usize) -> Result<&'a [u8], ItemError> {
        let (head, tail) = self.left.split_at_checked(length).ok_or_else(|| self.length())?;
        self.left = tail;
        Ok(head)
    }

    /// Returns what is left.
    pub(super) fn rest(self) -> &'a [u8] {
        self.left
    }

    /// Checks that nothing is left.
    pub(super) fn end(self) -> Result<(), ItemError> {
        if self.left.is_empty() {
            Ok(())
        } else {
            Err(self.length())
        }
    }

    pub(super) fn length(&self) -> ItemError {
        ItemError::Length {
            item: self.item,
            length: self.all,
        }
    }

    pub(super) fn bad(&self, field: &'static str) -> ItemError {
        ItemError::Field {
            item: self.item,
            field,
        }
    }
}

/// Writes the fields of one item.
pub(super) struct Writer(Vec<u8>);

impl Writer {
    /// Begins with the version byte.
    pub(super) fn new() -> Writer {
        Writer(vec![VERSION])
    }

    pub(super) fn u8(self, value: u8) -> Writer {
        self.bytes(&[value])
    }

    pub(super) fn u16(self, value: u16) -> Writer {
        self.bytes(&value.to_le_bytes())
    }

    pub(super) fn u32(self, value: u32) -> Writer {
        self.bytes(&value.to_le_bytes())
    }

    pub(super) fn u64(self, value: u64) -> Writer {
        self.bytes(&value.to_le_bytes())
    }

    pub(super) fn bytes(mut self, bytes: &[u8]) -> Writer {
        self.0.extend_from_slice(bytes);
        self
    }

    pub(super) fn done(self) -> Vec<u8> {
        self.0
    }
}
