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
    /// A frame shares a buffer of 256 KiB or more with its neighbours: copy small ones that are kept for long.
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

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use tokio::io::AsyncWriteExt;
    use tokio::time::timeout;

    use super::*;

    fn frame(text: &str) -> Bytes {
        Bytes::copy_from_slice(text.as_bytes())
    }

    fn is_cut<T: std::fmt::Debug>(result: Result<T, TransportError>) -> bool {
        matches!(result, Err(TransportError::Cut { .. }))
    }

    #[tokio::test]
    async fn both_sides_talk_and_end_cleanly() {
        let (mut left, mut right) = Channel::pair();
        left.send(frame("a")).await.unwrap();
        right.send(frame("")).await.unwrap();
        right.send(frame("b")).await.unwrap();
        assert_eq!(right.recv().await.unwrap().unwrap(), "a");
        assert_eq!(left.recv().await.unwrap().unwrap(), "");
        assert_eq!(left.recv().await.unwrap().unwrap(), "b");
        assert_eq!((left.sent(), left.received()), (1, 1));
        let (left, right) = tokio::join!(left.finish(), right.finish());
        left.unwrap();
        right.unwrap();
    }

    #[tokio::test]
    async fn one_direction_may_end_long_before_the_other() {
        let (left, mut right) = Channel::pair();
        let (mut send, mut recv) = left.split();
        send.end().await.unwrap();
        send.end().await.unwrap();
        assert!(matches!(
            send.send(frame("x")).await,
            Err(TransportError::Finished)
        ));
        assert!(right.recv().await.unwrap().is_none());
        right.send(frame("late")).await.unwrap();
        assert_eq!(recv.recv().await.unwrap().unwrap(), "late");
        let (ended, confirmed) = tokio::join!(right.finish(), Channel::join(send, recv).finish());
        ended.unwrap();
        confirmed.unwrap();
    }

    #[tokio::test]
    async fn a_dropped_channel_is_a_cut_not_an_end() {
        let (mut left, mut right) = Channel::pair();
        left.send(frame("last words")).await.unwrap();
        drop(left);
        assert_eq!(right.recv().await.unwrap().unwrap(), "last words");
        assert!(is_cut(right.recv().await));
        assert!(is_cut(right.recv().await), "and it stays one");
        assert!(is_cut(right.send(frame("anybody?")).await));
    }

    #[tokio::test]
    async fn dropping_only_the_sending_half_is_a_cut_too() {
        let (left, mut right) = Channel::pair();
        let (send, _recv) = left.split();
        drop(send);
        assert!(is_cut(right.recv().await));
    }

    #[tokio::test]
    async fn a_reason_comes_instead_of_the_end_even_to_one_who_sends() {
        let (left, mut right) = Channel::pair();
        let reason = Refusal::new("55006", "an endpoint runs").with_hint("stop it");
        left.fail(&reason).await.unwrap();
        // Some frames may still fit into the connection.
        let error = loop {
            if let Err(error) = right.send(frame("more")).await {
                break error;
            }
        };
        let TransportError::Refused(seen) = error else {
            panic!("{error:?}")
        };
        assert_eq!(seen, reason);
        assert!(matches!(right.recv().await, Err(TransportError::Refused(_))));
    }

    #[tokio::test]
    async fn a_frame_in_place_of_the_end_is_an_error_of_finish() {
        let (left, mut right) = Channel::pair();
        right.send(frame("unexpected")).await.unwrap();
        assert!(matches!(
            left.finish().await,
            Err(TransportError::Protocol { .. })
        ));
    }

    #[tokio::test]
    async fn an_abandoned_receive_loses_nothing_and_an_abandoned_send_ends_it() {
        let (mut left, mut right) = Channel::pair();
        let big = Bytes::from(vec![5; 3 * PAIR_BUFFER]);
        let sent = timeout(Duration::from_millis(20), left.send(big.clone())).await;
        assert!(sent.is_err(), "more than the connection holds");
        let received = timeout(Duration::from_millis(20), right.recv()).await;
        assert!(received.is_err(), "half a frame");
        assert!(is_cut(left.send(frame("x")).await));

        let (mut left, mut right) = Channel::pair();
        let sender = tokio::spawn(async move {
            left.send(big).await.unwrap();
            left
        });
        let mut tries = 0;
        let got = loop {
            tries += 1;
            if let Ok(got) = timeout(Duration::from_micros(1), right.recv()).await {
                break got.unwrap().unwrap();
            }
        };
        assert_eq!((got.len(), got[0], tries > 0), (3 * PAIR_BUFFER, 5, true));
        drop(sender.await.unwrap());
    }

    #[tokio::test]
    async fn what_a_peer_may_not_say_is_a_protocol_error() {
        for (bytes, too_large) in [
            (&b"Q\0\0\0\x04"[..], false),
            (b"d\0\0\0\0", false),
            (b"d\x01\0\0\x05", true),
            (b"c\0\0\0\x05x", false),
            (b"\0\0\0\0\0", false),
        ] {
            let (near, mut far) = tokio::io::duplex(64);
            let (reader, writer) = tokio::io::split(near);
            let mut channel = Channel::over(reader, writer);
            far.write_all(bytes).await.unwrap();
            match channel.recv().await {
                Err(TransportError::FrameTooLarge { size, limit }) => {
                    assert!(too_large && size == MAX_FRAME + 1 && limit == MAX_FRAME);
                }
                Err(TransportError::Protocol { .. }) => assert!(!too_large),
                other => panic!("{bytes:?}: {other:?}"),
            }
            assert!(is_cut(channel.recv().await));
        }
    }

    #[cfg(feature = "testing")]
    #[tokio::test]
    async fn a_pair_that_is_cut_anywhere_is_cut_for_both() {
        for bytes in 0..60 {
            let (mut left, mut right) = crate::testing::pair_cut_after(bytes);
            let talk = async move {
                for _ in 0..5 {
                    left.send(frame("12345")).await?;
                    left.recv().await?;
                }
                left.finish().await
            };
            let echo = async move {
                while let Some(frame) = right.recv().await? {
                    right.send(frame).await?;
                }
                right.finish().await
            };
            // The whole conversation has 110 bytes.
            let (talk, echo) = tokio::join!(talk, echo);
            assert!(is_cut(talk) && is_cut(echo), "{bytes}");
        }
    }
}
