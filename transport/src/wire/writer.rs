//! Whole messages into a byte stream.

use bytes::{Buf, Bytes, BytesMut};
use tokio::io::AsyncWriteExt;

use super::{BoxWrite, HEADER, WireError};

#[derive(Clone, Copy, PartialEq, Eq)]
enum State {
    Ready,
    /// A message was begun; whoever finds this was preceded by a write that was dropped.
    Writing,
    /// The stream does not take any more.
    Failed,
}

/// Writes messages. Not cancel-safe: when a write is abandoned, every later one fails with [`WireError::Broken`].
pub(crate) struct MessageWriter {
    io: BoxWrite,
    state: State,
    /// Bytes of message bodies written in [`MessageWriter::copy_data`].
    pub copied: u64,
}

impl MessageWriter {
    pub fn new(io: BoxWrite) -> MessageWriter {
        MessageWriter {
            io,
            state: State::Ready,
            copied: 0,
        }
    }

    /// Writes messages that are ready made.
    pub async fn write(&mut self, messages: &[u8]) -> Result<(), WireError> {
        self.write_all(messages).await
    }

    /// Writes one `CopyData` without copying its body. The caller has checked the size.
    pub async fn copy_data(&mut self, body: Bytes) -> Result<(), WireError> {
        let length = u32::try_from(body.len() + 4).map_err(|_| WireError::Malformed("frame length"))?;
        self.copied += body.len() as u64;
        let mut header = [b'd'; HEADER];
        if let Some(place) = header.last_chunk_mut::<4>() {
            *place = length.to_be_bytes();
        }
        self.write_all((&header[..]).chain(body)).await
    }

    async fn write_all(&mut self, mut bytes: impl Buf) -> Result<(), WireError> {
        match self.state {
            State::Ready => {}
            State::Writing => return Err(WireError::Broken),
            State::Failed => return Err(WireError::Io(std::io::ErrorKind::BrokenPipe.into())),
        }
        self.state = State::Writing;
        let written = async {
            self.io.write_all_buf(&mut bytes).await?;
            self.io.flush().await
        };
        let written = written.await;
        self.state = if written.is_ok() {
            State::Ready
        } else {
            State::Failed
        };
        Ok(written?)
    }

    /// Says that no more will be written.
    pub async fn shutdown(&mut self) {
        self.state = State::Failed;
        // Nothing can be done about a failure: the connection goes away either way.
        let _ = self.io.shutdown().await;
    }
}

/// Returns a message without body.
pub(crate) fn bare(tag: u8) -> BytesMut {
    let mut out = BytesMut::with_capacity(HEADER);
    out.extend_from_slice(&[tag, 0, 0, 0, 4]);
    out
}

impl std::fmt::Debug for MessageWriter {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("MessageWriter").finish_non_exhaustive()
    }
}
