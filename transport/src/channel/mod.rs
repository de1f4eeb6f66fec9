//! Whole frames, both ways at once, over any byte stream.
//!
//! A frame is the body of one `CopyData` message. The end of a direction is `CopyDone`; a stream that ends without it was
//! cut. What else may come depends on the [`Role`].

mod receive;
mod send;

use bytes::{Bytes, BytesMut};
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::sync::oneshot;

use crate::wire::{MessageReader, MessageWriter};
use crate::{Refusal, TransportError};

pub use receive::RecvHalf;
pub(crate) use receive::{Progress, Receiving};
pub use send::SendHalf;
pub(crate) use send::Sending;

/// Largest frame, bytes: 16 MiB.
pub const MAX_FRAME: usize = 16 << 20;

/// Bytes that each direction of [`Channel::pair`] holds before the sender waits.
const PAIR_BUFFER: usize = 256 * 1024;

/// Who speaks, which decides how an end with a reason is written and what follows the end.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Role {
    /// The dialling side of a libpq connection.
    Client,
    /// The listening side of a libpq connection.
    Server,
    /// Either side of a stream that carries nothing but one channel.
    Peer,
}

/// A connection that moves whole frames, in order, in both directions at once.
///
/// TCP's flow control is the flow control: `send` waits while the peer does not read. Two sides that both send much and
/// read nothing wait for each other for ever, so use [`Channel::split`] and two tasks for that.
///
/// A channel that is dropped before [`Channel::finish`] is a cut for the peer.
#[derive(Debug)]
pub struct Channel {
    send: SendHalf,
    recv: RecvHalf,
}

impl Channel {
    pub(crate) fn new(send: SendHalf, recv: RecvHalf) -> Channel {
        Channel { send, recv }
    }

    /// Returns a channel over a byte stream that carries nothing else: a pipe, an SSH channel. The other end must do the
    /// same.
    pub fn over<R, W>(reader: R, writer: W) -> Channel
    where
        R: AsyncRead + Send + Unpin + 'static,
        W: AsyncWrite + Send + Unpin + 'static,
    {
        let mut reader = MessageReader::new(Box::new(reader));
        reader.expect_bulk();
        Channel {
            send: SendHalf::new(MessageWriter::new(Box::new(writer)), Role::Peer, None),
            recv: RecvHalf::new(reader, Role::Peer, None),
        }
    }

    /// Returns two channels in memory that are each other's peer. The same framing and the same limits as on a network.
    pub fn pair() -> (Channel, Channel) {
        // Two streams, so that dropping one half is seen by its counterpart as it is on a socket.
        let (left_reader, right_writer) = tokio::io::duplex(PAIR_BUFFER);
        let (right_reader, left_writer) = tokio::io::duplex(PAIR_BUFFER);
        (
            Channel::over(left_reader, left_writer),
            Channel::over(right_reader, right_writer),
        )
    }

    /// Sends one frame of at most [`MAX_FRAME`] bytes; an empty one is a frame too. When it returns, the frame is with the
    /// operating system, not with the peer.
    ///
    /// Not cancel-safe: a send that was begun and dropped makes every later one fail with [`TransportError::Cut`].
    ///
    /// Errors: `FrameTooLarge`, `Finished`, `Cut`, and the peer's own reason if it gave up first.
    pub async fn send(&mut self, frame: Bytes) -> Result<(), TransportError> {
        match self.send.send(frame).await {
            Err(error @ TransportError::Cut { .. }) => Err(self.recv.reason().await.unwrap_or(error)),
            other => other,
        }
    }

    /// Returns the next frame, `None` after the peer's clean end. Cancel-safe.
    ///
    /// Errors: `Refused` (the peer gave up with a reason), `Cut`, `Protocol`, `FrameTooLarge`.
    pub async fn recv(&mut self) -> Result<Option<Bytes>, TransportError> {
        self.recv.recv().await
    }

    /// Ends this direction and waits for the peer's end, and on a dialled connection for the server's word that its command
    /// succeeded. So `Ok` means that both sides reached the end of the conversation.
    ///
    /// Errors: as [`Channel::recv`]; `Protocol` if the peer sends another frame.
    pub async fn finish(mut self) -> Result<(), TransportError> {
        if let Err(error) = self.send.end().await {
            return Err(self.recv.reason().await.unwrap_or(error));
        }
        if self.recv.recv().await?.is_some() {
            return Err(TransportError::protocol(
                "a frame came where the end was expected",
            ));
        }
        self.recv.confirmed().await?;
        self.send.hang_up().await;
        Ok(())
    }

    /// Ends the conversation with a reason, which the peer gets as [`TransportError::Refused`].
    ///
    /// Errors: `Finished` or `Cut` if it could not be sent.
    pub async fn fail(mut self, reason: &Refusal) -> Result<(), TransportError> {
        self.send.give_up(reason).await
    }

    /// Returns the two directions, for two tasks.
    pub fn split(self) -> (SendHalf, RecvHalf) {
        (self.send, self.recv)
    }

    /// Puts two directions together again. They should be of one channel; nothing checks it.
    pub fn join(send: SendHalf, recv: RecvHalf) -> Channel {
        Channel { send, recv }
    }

    /// Returns the bytes of frames sent so far.
    pub fn sent(&self) -> u64 {
        self.send.sent()
    }

    /// Returns the bytes of frames received so far.
    pub fn received(&self) -> u64 {
        self.recv.received()
    }
}

/// Something that goes home when its borrower is dropped. Without a home it is dropped with the borrower.
#[derive(Debug)]
pub(crate) struct Lent<T> {
    thing: Option<T>,
    home: Option<oneshot::Sender<T>>,
}

impl<T> Lent<T> {
    pub fn new(thing: T, home: Option<oneshot::Sender<T>>) -> Lent<T> {
        Lent {
            thing: Some(thing),
            home,
        }
    }

    /// `None` only after [`Lent::keep`].
    pub fn get(&mut self) -> Option<&mut T> {
        self.thing.as_mut()
    }

    /// Takes the thing for good: it never goes home, and who waits there is told.
    pub fn keep(&mut self) -> Option<T> {
        self.home = None;
        self.thing.take()
    }
}

impl<T> Drop for Lent<T> {
    fn drop(&mut self) {
        if let (Some(thing), Some(home)) = (self.thing.take(), self.home.take()) {
            // Nobody at home: the connection closes here.
            let _ = home.send(thing);
        }
    }
}

/// An empty buffer for one small message.
fn small() -> BytesMut {
    BytesMut::with_capacity(64)
}
