//! The sending direction of a channel.

use bytes::Bytes;
use postgres_protocol::message::frontend;
use tokio::sync::oneshot;

use super::{Lent, MAX_FRAME, Role, small};
use crate::wire::{MessageWriter, bare};
use crate::{Refusal, TransportError};

/// The state of the sending direction that outlives the half.
#[derive(Debug)]
pub(crate) struct Sending {
    pub writer: MessageWriter,
    /// `CopyDone`, or the reason for giving up, was sent.
    pub finished: bool,
}

/// The sending direction of a [`crate::Channel`].
#[derive(Debug)]
pub struct SendHalf {
    lent: Lent<Sending>,
    role: Role,
}

impl SendHalf {
    pub(crate) fn new(writer: MessageWriter, role: Role, home: Option<oneshot::Sender<Sending>>) -> SendHalf {
        SendHalf {
            lent: Lent::new(
                Sending {
                    writer,
                    finished: false,
                },
                home,
            ),
            role,
        }
    }

    /// As [`crate::Channel::send`]. On `Cut` the reason, if the peer gave one, waits at the receiving half.
    pub async fn send(&mut self, frame: Bytes) -> Result<(), TransportError> {
        if frame.len() > MAX_FRAME {
            return Err(TransportError::FrameTooLarge {
                size: frame.len(),
                limit: MAX_FRAME,
            });
        }
        Ok(self.open()?.writer.copy_data(frame).await?)
    }

    /// Says that no more frames will come. The other direction goes on.
    ///
    /// On a dialled connection this does not yet close it: drop both halves afterwards, or put them together with
    /// [`crate::Channel::join`] and call [`crate::Channel::finish`] to hear that the server is content too.
    ///
    /// Errors: `Cut`. A second call does nothing.
    pub async fn end(&mut self) -> Result<(), TransportError> {
        match self.open() {
            Err(_) => Ok(()),
            Ok(sending) => {
                sending.writer.write(&bare(b'c')).await?;
                sending.finished = true;
                Ok(())
            }
        }
    }

    /// As [`crate::Channel::fail`], for one half.
    pub async fn fail(mut self, reason: &Refusal) -> Result<(), TransportError> {
        self.give_up(reason).await
    }

    /// Returns the bytes of frames sent so far.
    pub fn sent(&self) -> u64 {
        self.lent
            .thing
            .as_ref()
            .map_or(0, |sending| sending.writer.copied)
    }

    pub(super) async fn give_up(&mut self, reason: &Refusal) -> Result<(), TransportError> {
        let role = self.role;
        let sending = self.open()?;
        let mut message = small();
        match role {
            Role::Client => {
                let text = reason.to_copy_fail();
                frontend::copy_fail(&text, &mut message)
                    .map_err(|e| TransportError::protocol(e.to_string()))?;
            }
            Role::Server | Role::Peer => reason.encode(false, &mut message),
        }
        sending.writer.write(&message).await?;
        sending.finished = true;
        Ok(())
    }

    /// The polite last word of a client.
    pub(super) async fn hang_up(&mut self) {
        if let (Role::Client, Some(sending)) = (self.role, self.lent.get()) {
            // The conversation is over; if the peer went first, so be it.
            let _ = sending.writer.write(&bare(b'X')).await;
        }
        if let (Role::Client | Role::Peer, Some(sending)) = (self.role, self.lent.get()) {
            sending.writer.shutdown().await;
        }
    }

    fn open(&mut self) -> Result<&mut Sending, TransportError> {
        match self.lent.get() {
            Some(sending) if !sending.finished => Ok(sending),
            _ => Err(TransportError::Finished),
        }
    }
}
