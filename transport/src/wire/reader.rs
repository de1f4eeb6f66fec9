//! Whole messages out of a byte stream.

use bytes::{Buf, Bytes, BytesMut};
use postgres_protocol::message::backend;
use tokio::io::AsyncReadExt;

use super::{BoxRead, HEADER, WireError};

/// What a message with this tag may weigh in this situation (bytes of its body), `None` if it may not come at all.
pub(crate) type Limits = fn(tag: u8) -> Option<usize>;

/// Bytes asked of the operating system at once before a peer is known.
const SMALL_READ: usize = 8 * 1024;
/// Bytes asked of the operating system at once in bulk transfer.
const LARGE_READ: usize = 256 * 1024;

/// One message, not yet understood.
#[derive(Debug)]
pub(crate) struct Message {
    pub tag: u8,
    whole: BytesMut,
}

impl Message {
    /// Returns the bytes after tag and length, without a copy.
    pub fn into_body(mut self) -> Bytes {
        self.whole.advance(HEADER);
        self.whole.freeze()
    }

    /// Returns what a Postgres server means by it. `CopyBothResponse` is not known to the parser: look at the tag first.
    pub fn parse(mut self) -> Result<backend::Message, WireError> {
        match backend::Message::parse(&mut self.whole) {
            Ok(Some(message)) => Ok(message),
            Ok(None) | Err(_) => Err(WireError::Malformed("message of the server")),
        }
    }
}

/// Cuts one whole message off the front of `buffer`. `Ok(None)`: more bytes are needed.
pub(crate) fn decode(buffer: &mut BytesMut, limits: Limits) -> Result<Option<Message>, WireError> {
    let Some(total) = announced(buffer, limits)? else {
        return Ok(None);
    };
    if buffer.len() < total {
        return Ok(None);
    }
    let whole = buffer.split_to(total);
    Ok(whole.first().copied().map(|tag| Message { tag, whole }))
}

/// The whole size of the message at the front of `buffer`, header included, once its length is there.
fn announced(buffer: &[u8], limits: Limits) -> Result<Option<usize>, WireError> {
    let Some(&tag) = buffer.first() else {
        return Ok(None);
    };
    // The tag alone is enough to hang up on something that does not speak the protocol.
    let limit = limits(tag).ok_or(WireError::Unexpected(tag))?;
    let Some(length) = buffer
        .get(1..HEADER)
        .and_then(|b| b.try_into().ok())
        .map(u32::from_be_bytes)
    else {
        return Ok(None);
    };
    let size = usize::try_from(length)
        .ok()
        .and_then(|length| length.checked_sub(4))
        .ok_or(WireError::Malformed("message length"))?;
    if size > limit {
        return Err(WireError::TooLarge { tag, size, limit });
    }
    Ok(Some(HEADER + size))
}

/// Reads messages. Every method is cancel-safe: what was read stays in the buffer.
pub(crate) struct MessageReader {
    io: BoxRead,
    buffer: BytesMut,
    read: usize,
}

impl MessageReader {
    pub fn new(io: BoxRead) -> MessageReader {
        MessageReader {
            io,
            buffer: BytesMut::new(),
            read: SMALL_READ,
        }
    }

    /// From now on reads in large pieces: the peer is known.
    pub fn expect_bulk(&mut self) {
        self.read = LARGE_READ;
    }

    /// Returns the next message, `None` when the stream ends between two messages.
    pub async fn next(&mut self, limits: Limits) -> Result<Option<Message>, WireError> {
        loop {
            if let Some(message) = decode(&mut self.buffer, limits)? {
                return Ok(Some(message));
            }
            let wanted = announced(&self.buffer, limits)?
                .unwrap_or(HEADER)
                .saturating_sub(self.buffer.len());
            if !self.fill(wanted).await? {
                return if self.buffer.is_empty() {
                    Ok(None)
                } else {
                    Err(WireError::Ended)
                };
            }
        }
    }

    /// Returns the body of a start-up packet: `length: i32 | body`. `None`: closed without a word.
    pub async fn start_up(&mut self, limit: usize) -> Result<Option<Bytes>, WireError> {
        loop {
            let mut wanted = HEADER;
            if let Some(length) = self
                .buffer
                .get(..4)
                .and_then(|b| b.try_into().ok())
                .map(u32::from_be_bytes)
            {
                let total = usize::try_from(length).unwrap_or(usize::MAX);
                if total < 8 {
                    return Err(WireError::Malformed("start-up packet"));
                }
                if total > limit {
                    return Err(WireError::TooLarge {
                        tag: 0,
                        size: total,
                        limit,
                    });
                }
                if self.buffer.len() >= total {
                    let mut packet = self.buffer.split_to(total);
                    packet.advance(4);
                    return Ok(Some(packet.freeze()));
                }
                wanted = total - self.buffer.len();
            }
            if !self.fill(wanted).await? {
                return if self.buffer.is_empty() {
                    Ok(None)
                } else {
                    Err(WireError::Ended)
                };
            }
        }
    }

    /// Reads and throws away, to let a peer see our last words before the connection closes under it.
    pub async fn discard(&mut self) {
        loop {
            self.buffer.clear();
            if !matches!(self.fill(SMALL_READ).await, Ok(true)) {
                return;
            }
        }
    }

    /// Reads once; `wanted` more bytes are known to be coming. False at the end of the stream.
    async fn fill(&mut self, wanted: usize) -> Result<bool, WireError> {
        let spare = self.buffer.capacity() - self.buffer.len();
        if spare < wanted || spare < self.read / 4 {
            self.buffer.reserve(wanted.max(self.read));
        }
        Ok(self.io.read_buf(&mut self.buffer).await? > 0)
    }
}

impl std::fmt::Debug for MessageReader {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("MessageReader").finish_non_exhaustive()
    }
}
