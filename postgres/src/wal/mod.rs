//! The write-ahead log: the byte stream, its records, and the blocks that they name.

mod block;
mod build;
mod decoder;
mod error;
mod image;
mod record;
pub mod rmgr;
pub mod segment;
mod slice;

pub use block::{BlockImage, BlockRef, Compression};
pub use build::{NewBlock, RecordBuilder, StreamWriter};
pub use decoder::{RawRecord, StreamParams, WalDecoder};
pub use error::{DecodeError, EndKind, WalError};
pub use record::{Record, XLR_CHECK_CONSISTENCY, XLR_SPECIAL_REL_UPDATE};

/// Bytes of the fixed header of a record, `SizeOfXLogRecord`.
pub const RECORD_HEADER_SIZE: usize = 24;

/// Returns the CRC-32C of a whole record: over what follows the fixed header first, then over the header up to the
/// CRC itself. `None` when there is no whole header.
pub fn record_crc(record: &[u8]) -> Option<u32> {
    let payload = record.get(RECORD_HEADER_SIZE..)?;
    let header = record.get(..RECORD_HEADER_SIZE - 4)?;
    Some(crc32c::crc32c_append(crc32c::crc32c(payload), header))
}

#[cfg(test)]
mod tests;
