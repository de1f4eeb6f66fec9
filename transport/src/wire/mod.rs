//! Messages of the PostgreSQL protocol, version 3, as bytes.
//!
//! ```text
//! tag: u8 | length: i32, big endian, counts itself and the body, not the tag | body
//! ```
//! A start-up packet has no tag. Every length is checked against a limit that depends on tag and situation before
//! anything is allocated for it.

mod backend;
mod frontend;
mod reader;
mod writer;

pub(crate) use backend::*;
pub(crate) use frontend::*;
#[cfg(feature = "testing")]
pub(crate) use reader::decode;
pub(crate) use reader::{Limits, Message, MessageReader};
pub(crate) use writer::{MessageWriter, bare};

use std::io;

use bytes::BytesMut;
use tokio::io::{AsyncRead, AsyncWrite};

/// The reading half of a byte stream of any kind.
pub(crate) type BoxRead = Box<dyn AsyncRead + Send + Unpin>;
/// The writing half of a byte stream of any kind.
pub(crate) type BoxWrite = Box<dyn AsyncWrite + Send + Unpin>;

/// Bytes before the body of a message: tag and length.
pub(crate) const HEADER: usize = 5;

/// A message could not be read or written.
#[derive(Debug, thiserror::Error)]
pub(crate) enum WireError {
    #[error("the connection failed: {0}")]
    Io(#[from] io::Error),
    #[error("the connection ended in the middle of a message")]
    Ended,
    #[error("an earlier message was not written to its end")]
    Broken,
    #[error("message '{}' is not allowed here", .0.escape_ascii())]
    Unexpected(u8),
    #[error("message '{}' of {size} bytes is over the limit of {limit}", .tag.escape_ascii())]
    TooLarge { tag: u8, size: usize, limit: usize },
    #[error("malformed {0}")]
    Malformed(&'static str),
}

/// Writes the length of the message that begins at `start` of `out` and ends where `out` ends.
pub(crate) fn set_length(out: &mut BytesMut, start: usize) {
    let length = u32::try_from(out.len().saturating_sub(start + 1)).unwrap_or(u32::MAX);
    if let Some(place) = out.get_mut(start + 1..start + HEADER) {
        place.copy_from_slice(&length.to_be_bytes());
    }
}

/// Cuts the zero-terminated text off the front of `bytes`.
pub(crate) fn take_cstr<'a>(bytes: &mut &'a [u8]) -> Option<&'a str> {
    let end = bytes.iter().position(|&b| b == 0)?;
    let (text, rest) = bytes.split_at_checked(end)?;
    *bytes = rest.get(1..)?;
    std::str::from_utf8(text).ok()
}
