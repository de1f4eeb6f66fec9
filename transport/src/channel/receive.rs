//! The receiving direction of a channel.

use std::time::Duration;

use bytes::Bytes;
use postgres_protocol::message::backend;
use tokio::sync::oneshot;

use super::{Lent, MAX_FRAME, Role};
use crate::wire::{Limits, Message, MessageReader, WireError, text};
use crate::{Refusal, TransportError};

/// How long to look for the peer's reason after a write failed: it has been sent by then, or never.
const REASON_WAIT: Duration = Duration::from_secs(2);
/// Body limit of everything but frames, bytes.
const SMALL: usize = 64 * 1024;

/// How the receiving direction stands.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Progress {
    /// More may come.
    Open,
    /// The peer's `CopyDone` came.
    Done,
    /// The peer gave up with a reason.
    Failed(Refusal),
    /// The stream is of no use any more.
    Lost,
}

/// The state of the receiving direction that outlives the half.
#[derive(Debug)]
pub(crate) struct Receiving {
    pub reader: MessageReader,
    pub progress: Progress,
    received: u64,
}

/// The receiving direction of a [`crate::Channel`].
#[derive(Debug)]
pub struct RecvHalf {
    lent: Lent<Receiving>,
    role: Role,
}

/// What a message means in the middle of a conversation.
enum Step {
    Frame(Bytes),
    Done,
    Failed(Refusal),
    Ignored,
}

fn limits_of_client(tag: u8) -> Option<usize> {
    match tag {
        b'd' => Some(MAX_FRAME),
        b'c' => Some(0),
        b'E' | b'N' | b'S' => Some(SMALL),
        _ => None,
    }
}

fn limits_of_server(tag: u8) -> Option<usize> {
    match tag {
        b'd' => Some(MAX_FRAME),
        b'c' | b'H' | b'S' | b'X' => Some(0),
        b'f' => Some(SMALL),
        _ => None,
    }
}

fn limits_of_peer(tag: u8) -> Option<usize> {
    match tag {
        b'd' => Some(MAX_FRAME),
        b'c' => Some(0),
        b'E' => Some(SMALL),
        _ => None,
    }
}

fn limits_after_the_end(tag: u8) -> Option<usize> {
    match tag {
        b'C' | b'E' | b'N' | b'S' => Some(SMALL),
        b'Z' => Some(1),
        _ => None,
    }
}

impl RecvHalf {
    pub(crate) fn new(
        reader: MessageReader,
        role: Role,
        home: Option<oneshot::Sender<Receiving>>,
    ) -> RecvHalf {
        RecvHalf {
            lent: Lent::new(
                Receiving {
                    reader,
                    progress: Progress::Open,
                    received: 0,
                },
                home,
            ),
            role,
        }
    }

    /// As [`crate::Channel::recv`]: the next frame, `None` after the peer's clean end (and again when asked again).
    /// Cancel-safe.
    pub async fn recv(&mut self) -> Result<Option<Bytes>, TransportError> {
        let role = self.role;
        let Some(receiving) = self.lent.get() else {
            return Ok(None);
        };
        receiving.recv(role).await
    }

    /// Returns the bytes of frames received so far.
    pub fn received(&self) -> u64 {
        self.lent.thing.as_ref().map_or(0, |receiving| receiving.received)
    }

    /// Looks for the reason that the peer gave for going away, behind frames that nobody will read any more.
    pub(super) async fn reason(&mut self) -> Option<TransportError> {
        let look = async {
            loop {
                match self.recv().await {
                    Ok(Some(_)) => {}
                    Err(error @ TransportError::Refused(_)) => return Some(error),
                    Ok(None) | Err(_) => return None,
                }
            }
        };
        tokio::time::timeout(REASON_WAIT, look).await.unwrap_or(None)
    }

    /// After the server's `CopyDone`: waits until it says that the command is complete.
    pub(super) async fn confirmed(&mut self) -> Result<(), TransportError> {
        if self.role != Role::Client {
            return Ok(());
        }
        let Some(receiving) = self.lent.get() else {
            return Ok(());
        };
        loop {
            let message = match receiving.reader.next(limits_after_the_end).await? {
                Some(message) => message,
                None => return Err(TransportError::Cut { source: None }),
            };
            match message.tag {
                b'Z' => return Ok(()),
                b'E' => return Err(TransportError::Refused(refusal(message)?)),
                _ => {}
            }
        }
    }
}

impl Receiving {
    pub(crate) async fn recv(&mut self, role: Role) -> Result<Option<Bytes>, TransportError> {
        loop {
            match &self.progress {
                Progress::Open => {}
                Progress::Done => return Ok(None),
                Progress::Failed(refusal) => return Err(TransportError::Refused(refusal.clone())),
                Progress::Lost => return Err(TransportError::Cut { source: None }),
            }
            match self.step(role).await {
                Ok(Step::Frame(frame)) => {
                    self.received += frame.len() as u64;
                    return Ok(Some(frame));
                }
                Ok(Step::Done) => self.progress = Progress::Done,
                Ok(Step::Failed(refusal)) => self.progress = Progress::Failed(refusal),
                Ok(Step::Ignored) => {}
                Err(error) => {
                    self.progress = Progress::Lost;
                    return Err(error.into());
                }
            }
        }
    }

    async fn step(&mut self, role: Role) -> Result<Step, WireError> {
        let limits: Limits = match role {
            Role::Client => limits_of_client,
            Role::Server => limits_of_server,
            Role::Peer => limits_of_peer,
        };
        let Some(message) = self.reader.next(limits).await? else {
            return Err(WireError::Ended);
        };
        Ok(match message.tag {
            b'd' => Step::Frame(message.into_body()),
            b'c' => Step::Done,
            b'E' => Step::Failed(refusal(message)?),
            b'f' => Step::Failed(Refusal::from_copy_fail(text(&message.into_body())?)),
            b'X' => return Err(WireError::Ended),
            _ => Step::Ignored,
        })
    }
}

/// Reads an `ErrorResponse`.
fn refusal(message: Message) -> Result<Refusal, WireError> {
    match message.parse()? {
        backend::Message::ErrorResponse(body) => Ok(Refusal::decode(body.fields())?.0),
        _ => Err(WireError::Malformed("error response")),
    }
}
