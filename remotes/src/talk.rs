//! One side of a conversation: messages over a channel, with patience, beats, and a proper farewell.

use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use neon_transport::{Channel, RecvHalf, SendHalf, TransportError};
use neon_types::with_causes;
use tokio::task::spawn_blocking;
use tokio::time::timeout;

use crate::meter::{Meter, Waiting};
use crate::wire::{Beat, FailKind, Failure, MAX_MESSAGE, Message, Phase};
use crate::{LocalError, Options, Progress, Refusal, RemoteError};

/// How long we look for a reason after the connection broke, or let the other side read ours.
const FAREWELL: Duration = Duration::from_secs(2);

/// How often our own listener hears of blocking work.
const REPORT: Duration = Duration::from_millis(200);

/// A channel that speaks messages.
#[derive(Debug)]
pub(crate) struct Talk {
    send: SendHalf,
    recv: RecvHalf,
    pub(crate) options: Options,
    phase: Phase,
    /// The last word was theirs: they know already why the conversation ends.
    theirs_was_last: bool,
}

impl Talk {
    pub(crate) fn new(channel: Channel, options: Options) -> Talk {
        let (send, recv) = channel.split();
        Talk {
            send,
            recv,
            options,
            phase: Phase::Negotiating,
            theirs_was_last: false,
        }
    }

    /// Names what goes on, for progress and for the error if the connection breaks.
    pub(crate) fn enter(&mut self, phase: Phase) {
        self.phase = phase;
    }

    fn doing(&self) -> &'static str {
        match self.phase {
            Phase::Negotiating => "comparing heads",
            Phase::Planning => "planning",
            Phase::Transferring => "transferring",
            Phase::Accepting => "taking in what arrived",
        }
    }

    /// Returns the bytes of messages sent and received so far.
    pub(crate) fn traffic(&self) -> (u64, u64) {
        (self.send.sent(), self.recv.received())
    }

    /// Sends a message.
    pub(crate) async fn say(&mut self, message: &Message) -> Result<(), RemoteError> {
        let bytes = message.encode();
        if bytes.len() > MAX_MESSAGE {
            return Err(Refusal::Limit {
                what: format!(
                    "a '{}' message of {} bytes is over the limit of {MAX_MESSAGE}",
                    message.name(),
                    bytes.len()
                ),
            }
            .into());
        }
        self.say_bytes(bytes.into()).await
    }

    /// Sends an encoded message.
    pub(crate) async fn say_bytes(&mut self, bytes: Bytes) -> Result<(), RemoteError> {
        match timeout(self.options.idle, self.send.send(bytes)).await {
            Err(_) => Err(self.silent()),
            Ok(Ok(())) => Ok(()),
            Ok(Err(TransportError::Cut { .. })) => Err(self.last_words().await),
            Ok(Err(error)) => Err(self.broken(error)),
        }
    }

    /// Sends an encoded message and listens meanwhile: as long as the other side beats, its disk may be as slow as it likes.
    /// Returns what else it said.
    pub(crate) async fn say_listening(&mut self, bytes: Bytes) -> Result<Option<Message>, RemoteError> {
        let idle = self.options.idle;
        let mut heard = None;
        let sent = {
            let sending = self.send.send(bytes);
            tokio::pin!(sending);
            loop {
                tokio::select! {
                    biased;
                    sent = &mut sending => break Some(sent),
                    frame = self.recv.recv(), if heard.is_none() => {
                        let is_beat = matches!(&frame, Ok(Some(bytes)) if Beat::is(bytes));
                        if !is_beat {
                            heard = Some(frame);
                        }
                    }
                    () = tokio::time::sleep(idle) => break None,
                }
            }
        };
        // A reason that came is worth more than the broken connection behind it.
        let heard = match heard {
            Some(frame) => self.interpret(frame)?,
            None => None,
        };
        match sent {
            None => Err(self.silent()),
            Some(Ok(())) => Ok(heard),
            Some(Err(TransportError::Cut { .. })) => Err(self.last_words().await),
            Some(Err(error)) => Err(self.broken(error)),
        }
    }

    /// After a cut while sending: the other side may have said why.
    async fn last_words(&mut self) -> RemoteError {
        let cut = RemoteError::Cut { phase: self.doing() };
        let look = async {
            loop {
                match self.hear_now().await {
                    Ok(Some(_)) => {}
                    Err(RemoteError::Cut { .. }) | Ok(None) => return None,
                    Err(error) => return Some(error),
                }
            }
        };
        timeout(FAREWELL, look).await.ok().flatten().unwrap_or(cut)
    }

    /// Returns the next message that is not a beat; none after the other side's clean end. Refusals and failures of the other side
    /// come as errors. Cancel-safe.
    pub(crate) async fn hear(&mut self) -> Result<Option<Message>, RemoteError> {
        loop {
            match timeout(self.options.idle, self.hear_now()).await {
                Err(_) => return Err(self.silent()),
                Ok(Ok(Some(Message::Beat(beat)))) => self.report(beat),
                Ok(other) => return other,
            }
        }
    }

    /// Tells the listener about work that is not counted in bytes, here or there.
    fn report(&self, beat: Beat) {
        if beat.total > 0 {
            self.options.report(Progress {
                phase: beat.phase,
                bytes_done: 0,
                bytes_total: 0,
                objects_done: beat.done,
                objects_total: beat.total,
            });
        }
    }

    /// As [`Talk::hear`] where the other side may not end.
    pub(crate) async fn expect(&mut self) -> Result<Message, RemoteError> {
        self.hear().await?.ok_or(RemoteError::Cut { phase: self.doing() })
    }

    /// Returns the next message, beats too, however long it takes. Cancel-safe.
    pub(crate) async fn hear_now(&mut self) -> Result<Option<Message>, RemoteError> {
        let frame = self.recv.recv().await;
        self.interpret(frame)
    }

    fn interpret(
        &mut self,
        frame: Result<Option<Bytes>, TransportError>,
    ) -> Result<Option<Message>, RemoteError> {
        let frame = match frame {
            Ok(Some(frame)) => frame,
            Ok(None) => {
                self.theirs_was_last = true;
                return Ok(None);
            }
            Err(error) => return Err(self.broken(error)),
        };
        match Message::decode(&frame)? {
            Message::Refused(refusal) => {
                self.theirs_was_last = true;
                Err(RemoteError::Refused(refusal))
            }
            Message::Failed(failure) => {
                self.theirs_was_last = true;
                Err(RemoteError::Peer {
                    part: match failure.kind {
                        FailKind::Damaged(part) => Some(part),
                        FailKind::Other | FailKind::Protocol => None,
                    },
                    message: failure.message,
                    hint: failure.hint,
                })
            }
            message => Ok(Some(message)),
        }
    }

    /// Does blocking work on its own thread and tells the other side now and then that we are alive. When this future is dropped, the work
    /// is told so by its meter, and its result is lost.
    pub(crate) async fn work<T, F>(&mut self, work: F) -> Result<T, RemoteError>
    where
        T: Send + 'static,
        F: FnOnce(&Meter) -> Result<T, RemoteError> + Send + 'static,
    {
        let meter = Arc::new(Meter::default());
        let theirs = Arc::clone(&meter);
        let _waiting = Waiting(Arc::clone(&meter));
        let mut work = spawn_blocking(move || work(&theirs));
        let mut quiet = Duration::ZERO;
        let tick = REPORT.min(self.options.beat);
        loop {
            match timeout(tick, &mut work).await {
                Ok(Ok(result)) => return result,
                Ok(Err(panicked)) => return Err(LocalError::other(panicked).into()),
                Err(_) => {
                    let (done, total) = meter.get();
                    let beat = Beat {
                        phase: self.phase,
                        done,
                        total,
                    };
                    self.report(beat);
                    quiet += tick;
                    if quiet >= self.options.beat {
                        quiet = Duration::ZERO;
                        self.say(&Message::Beat(beat)).await?;
                    }
                }
            }
        }
    }

    /// As [`Talk::work`] for work that can only fail locally.
    pub(crate) async fn ask<T, F>(&mut self, work: F) -> Result<T, RemoteError>
    where
        T: Send + 'static,
        F: FnOnce() -> Result<T, LocalError> + Send + 'static,
    {
        self.work(move |_| work().map_err(RemoteError::from)).await
    }

    /// Returns the error for a message that does not belong here.
    pub(crate) fn unexpected(&self, message: &Message) -> RemoteError {
        RemoteError::Protocol(format!("'{}' came while {}", message.name(), self.doing()))
    }

    /// Ends the conversation: says why, if the other side does not know, and lets it read that.
    pub(crate) async fn conclude<T>(mut self, result: Result<T, RemoteError>) -> Result<T, RemoteError> {
        let words = match &result {
            Ok(_) => None,
            Err(_) if self.theirs_was_last => None,
            Err(error) => farewell(error),
        };
        let told = words.is_some();
        let goodbye = async {
            if let Some(words) = words {
                self.send.send(words.encode().into()).await?;
            }
            self.send.end().await?;
            // Closing with unread bytes would make the operating system throw our last words away.
            while told && self.recv.recv().await?.is_some() {}
            Ok::<(), TransportError>(())
        };
        // That the farewell did not arrive changes nothing: the result stands.
        let _ = timeout(FAREWELL, goodbye).await;
        result
    }

    fn silent(&self) -> RemoteError {
        RemoteError::Silent {
            phase: self.doing(),
            seconds: self.options.idle.as_secs(),
        }
    }

    fn broken(&mut self, error: TransportError) -> RemoteError {
        self.theirs_was_last = true;
        match error {
            TransportError::Cut { .. } => RemoteError::Cut { phase: self.doing() },
            TransportError::Protocol { what } => RemoteError::Protocol(what),
            other => RemoteError::Transport(other),
        }
    }
}

/// Returns what the other side is told about an error of ours.
fn farewell(error: &RemoteError) -> Option<Message> {
    let kind = match error {
        RemoteError::Refused(refusal) => return Some(Message::Refused(refusal.clone())),
        RemoteError::Cut { .. } | RemoteError::Silent { .. } | RemoteError::Transport(_) => return None,
        RemoteError::Damaged { index, .. } => FailKind::Damaged(*index),
        RemoteError::Protocol(_)
        | RemoteError::Version { .. }
        | RemoteError::Command(_)
        | RemoteError::Name(_) => FailKind::Protocol,
        RemoteError::Local(_) | RemoteError::Peer { .. } => FailKind::Other,
    };
    Some(Message::Failed(Failure {
        kind,
        message: with_causes(error),
        hint: error.hint(),
    }))
}
