//! Messages that tell caches to forget something. We carry them and look at none.

use crate::Cursor;
use crate::wal::DecodeError;

/// Bytes of one message.
pub const MESSAGE_SIZE: usize = 16;

/// One `SharedInvalidationMessage`, as it was written.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Invalidation(pub [u8; MESSAGE_SIZE]);

/// Reads a number and that many messages.
pub(crate) fn counted(cursor: &mut Cursor<'_>) -> Result<Vec<Invalidation>, DecodeError> {
    let count = cursor.count(MESSAGE_SIZE)?;
    (0..count).map(|_| Ok(Invalidation(cursor.array()?))).collect()
}
