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

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn limits(tag: u8) -> Option<usize> {
        match tag {
            b'd' => Some(100),
            b'c' => Some(0),
            _ => None,
        }
    }

    fn message(tag: u8, body: &[u8]) -> Vec<u8> {
        let mut bytes = vec![tag];
        bytes.extend((body.len() as u32 + 4).to_be_bytes());
        bytes.extend(body);
        bytes
    }

    #[test]
    fn limits_are_checked_before_the_body_is_there() {
        let all = |bytes: &[u8]| decode(&mut BytesMut::from(bytes), limits);
        assert!(matches!(all(b"x"), Err(WireError::Unexpected(b'x'))));
        assert!(matches!(
            all(b"d\0\0\0\x69"),
            Err(WireError::TooLarge {
                tag: b'd',
                size: 101,
                limit: 100
            })
        ));
        assert!(matches!(
            all(b"d\xff\xff\xff\xff"),
            Err(WireError::TooLarge { .. })
        ));
        assert!(matches!(all(b"d\0\0\0\x03"), Err(WireError::Malformed(_))));
        assert!(matches!(all(b"c\0\0\0\x05"), Err(WireError::TooLarge { .. })));
        assert!(matches!(all(b"d\0\0\0\x68"), Ok(None)));
        assert!(matches!(all(b""), Ok(None)));
    }

    /// Reads everything, `piece` bytes at a time.
    fn read_all(bytes: &[u8], piece: usize) -> Result<Vec<(u8, Bytes)>, String> {
        let runtime = tokio::runtime::Builder::new_current_thread().build().unwrap();
        runtime.block_on(async {
            let (near, mut far) = tokio::io::duplex(piece);
            let bytes = bytes.to_vec();
            tokio::spawn(async move {
                // The reader may hang up first.
                let _ = tokio::io::AsyncWriteExt::write_all(&mut far, &bytes).await;
            });
            let mut reader = MessageReader::new(Box::new(near));
            let mut messages = Vec::new();
            loop {
                match reader.next(limits).await {
                    Ok(Some(message)) => messages.push((message.tag, message.into_body())),
                    Ok(None) => return Ok(messages),
                    Err(error) => return Err(format!("{error} after {}", messages.len())),
                }
            }
        })
    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(64))]

        #[test]
        fn messages_are_the_same_however_the_stream_is_cut_up(
            bodies in proptest::collection::vec(proptest::collection::vec(any::<u8>(), 0..100), 0..8),
            piece in 1usize..64,
            lost in 0usize..4,
        ) {
            let mut bytes: Vec<u8> = bodies.iter().flat_map(|body| message(b'd', body)).collect();
            let expected: Vec<_> = bodies.iter().map(|body| (b'd', Bytes::from(body.clone()))).collect();
            prop_assert_eq!(read_all(&bytes, piece), Ok(expected));
            if lost > 0 && !bytes.is_empty() {
                bytes.truncate(bytes.len() - lost);
                let error = read_all(&bytes, piece).unwrap_err();
                prop_assert!(error.starts_with("the connection ended in the middle"), "{}", error);
            }
        }

        #[test]
        fn garbage_never_panics_and_never_depends_on_its_pieces(
            bytes in proptest::collection::vec(prop_oneof![Just(0u8), Just(b'd'), Just(b'c'), 0u8..9, any::<u8>()], 0..300),
            piece in 1usize..64,
        ) {
            prop_assert_eq!(read_all(&bytes, piece), read_all(&bytes, 4096));
        }

        #[test]
        fn garbage_of_a_server_never_panics(tag in any::<u8>(), body in proptest::collection::vec(any::<u8>(), 0..80)) {
            let bytes = message(tag, &body);
            if let Ok(Some(message)) = decode(&mut BytesMut::from(bytes.as_slice()), |_| Some(100)) {
                use fallible_iterator::FallibleIterator;
                match message.parse() {
                    Ok(backend::Message::ErrorResponse(body)) => drop(crate::Refusal::decode(body.fields())),
                    Ok(backend::Message::RowDescription(body)) => drop(body.fields().map(|f| Ok(f.name().len())).collect::<Vec<_>>()),
                    Ok(backend::Message::AuthenticationSasl(body)) => drop(body.mechanisms().map(|m| Ok(m.len())).collect::<Vec<_>>()),
                    _ => {}
                }
            }
        }
    }
}
