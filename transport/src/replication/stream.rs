//! WAL as it is written.

use std::time::SystemTime;

use bytes::Bytes;
use neon_types::Lsn;
use postgres_protocol::message::backend;

use super::message::{self, Message, parse};
use super::{Phase, Replication, about_slot, check_slot_name, refined};
use crate::link::{Answer, refused};
use crate::wire::{WireError, bare};
use crate::{Rows, TransportError, sqlstate};

/// Body limit of one piece of WAL, bytes. Postgres sends at most 128 KiB at once.
const MAX_PIECE: usize = 16 << 20;
/// Body limit of everything else, bytes.
const SMALL: usize = 64 * 1024;

/// What comes out of a WAL stream.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Event {
    /// The next bytes of the WAL. They begin where the last ones ended; that is checked.
    Wal {
        /// Position of the first byte.
        start: Lsn,
        /// The bytes, never empty.
        bytes: Bytes,
    },
    /// The server is alive.
    Keepalive {
        /// The end of the WAL that it has sent.
        end: Lsn,
        /// It wants a status update at once.
        reply: bool,
    },
    /// Nothing more comes: the server shut down cleanly after it had sent everything and heard that it was flushed, or its
    /// timeline ended. [`Replication::end`] says which.
    Done,
}

/// Why a stream is over.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum End {
    /// The server was shut down; everything that it wrote was sent and confirmed by us. It has closed the connection.
    Shutdown,
    /// The server went over to another timeline; [`Replication::finish`] says which.
    Timeline,
}

/// The timeline that follows the one that was streamed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct NextTimeline {
    /// Its number.
    pub tli: u32,
    /// Where it begins.
    pub start: Lsn,
}

fn limits_of_stream(tag: u8) -> Option<usize> {
    match tag {
        b'd' => Some(MAX_PIECE),
        b'c' => Some(0),
        b'C' | b'E' | b'N' | b'S' => Some(SMALL),
        _ => None,
    }
}

impl Replication {
    /// Begins to stream the WAL of timeline `tli` from `start` on, which any byte position may be.
    ///
    /// Errors: `SlotMissing`, `SlotInUse`, `WalRemoved`, `Refused`: the connection stays usable. `Cut`, `Protocol`.
    pub async fn start_physical(
        &mut self,
        slot: Option<&str>,
        start: Lsn,
        tli: u32,
    ) -> Result<(), TransportError> {
        if !matches!(self.phase, Phase::Idle) {
            return Err(TransportError::protocol("the stream was started twice"));
        }
        let mut command = String::from("START_REPLICATION ");
        if let Some(name) = slot {
            check_slot_name(name)?;
            command.push_str(&format!("SLOT \"{name}\" "));
        }
        command.push_str(&format!("PHYSICAL {start} TIMELINE {tli}"));
        let answer = self.link.command(&command).await;
        match answer
            .map_err(|error| about_stream(about_slot(refined(error), slot.unwrap_or_default()), start))?
        {
            Answer::CopyBoth => {
                self.phase = Phase::Streaming {
                    expected: start,
                    server_end: start,
                };
                Ok(())
            }
            Answer::Rows(rows) => match next_timeline(&rows) {
                // The timeline ended just at `start`: there is nothing to stream.
                Some(_) => Err(TransportError::protocol(format!(
                    "timeline {tli} ended at or before {start}"
                ))),
                None => Err(TransportError::protocol("the server does not stream")),
            },
        }
    }

    /// Returns what comes next; after [`Event::Done`] that again. Cancel-safe: use it with a timeout, or in `select!` beside
    /// a timer for status updates.
    ///
    /// Errors: `WalRemoved`, `Refused` (an administrator ended the connection), `Cut` (the server crashed or was killed),
    /// `Protocol` (also: a gap in the WAL).
    pub async fn next(&mut self) -> Result<Event, TransportError> {
        loop {
            let Phase::Streaming { expected, server_end } = &mut self.phase else {
                return match self.phase {
                    Phase::Ended(_) => Ok(Event::Done),
                    _ => Err(TransportError::protocol("no stream was started")),
                };
            };
            let message = self.link.next(limits_of_stream).await.map_err(refined)?;
            match message.tag {
                b'd' => match parse(message.into_body())? {
                    Message::Wal {
                        start,
                        server_end: end,
                        bytes,
                    } => {
                        *server_end = end;
                        if start != *expected {
                            return Err(TransportError::protocol(format!(
                                "the server sent WAL at {start} where {expected} was expected"
                            )));
                        }
                        *expected = start + bytes.len() as u64;
                        if !bytes.is_empty() {
                            return Ok(Event::Wal { start, bytes });
                        }
                    }
                    Message::Keepalive {
                        server_end: end,
                        reply,
                    } => {
                        *server_end = end;
                        return Ok(Event::Keepalive { end, reply });
                    }
                    Message::Unknown => {}
                },
                b'c' => self.phase = Phase::Ended(End::Timeline),
                b'C' => self.phase = Phase::Ended(End::Shutdown),
                b'E' => match message.parse()? {
                    backend::Message::ErrorResponse(body) => {
                        return Err(about_stream(refined(refused(&body)), *expected));
                    }
                    _ => return Err(TransportError::protocol("malformed error response")),
                },
                _ => {}
            }
        }
    }

    /// Tells the server how far we are: received, flushed to disk, applied. The server keeps WAL from `flush` on (in the slot),
    /// and its clean shutdown waits for `flush`. Not cancel-safe.
    ///
    /// A server that has just gone is no error here: why it went, cleanly or not, is what [`Replication::next`] says.
    ///
    /// Errors: `Finished` after [`Event::Done`]; `Cut` when an earlier call was dropped before it was through.
    pub async fn status(&mut self, write: Lsn, flush: Lsn, apply: Lsn) -> Result<(), TransportError> {
        if !matches!(self.phase, Phase::Streaming { .. }) {
            return Err(TransportError::Finished);
        }
        // The time is for the server's statistics alone.
        let update = message::status(write, flush, apply, false, SystemTime::now())?;
        self.write(&update).await
    }

    /// Writes, unless the server has gone: its last words wait in the receive buffer, and they count.
    async fn write(&mut self, message: &[u8]) -> Result<(), TransportError> {
        match self.link.writer.write(message).await {
            Ok(()) | Err(WireError::Io(_)) => Ok(()),
            Err(error) => Err(error.into()),
        }
    }

    /// Returns the end of the server's WAL as it last said, and of what was received here.
    pub fn positions(&self) -> Option<(Lsn, Lsn)> {
        match self.phase {
            Phase::Streaming { expected, server_end } => Some((server_end, expected)),
            _ => None,
        }
    }

    /// Returns why the stream is over, `None` while it is not.
    pub fn end(&self) -> Option<End> {
        match self.phase {
            Phase::Ended(end) => Some(end),
            _ => None,
        }
    }

    /// Ends the stream from our side, or takes leave after [`Event::Done`]; WAL that is still on its way is thrown away.
    /// Returns the timeline that follows, if this one ended on the server. Afterwards the connection takes commands again,
    /// unless the server was shut down.
    ///
    /// Errors: as [`Replication::next`].
    pub async fn finish(&mut self) -> Result<Option<NextTimeline>, TransportError> {
        match self.phase {
            Phase::Idle | Phase::Ended(End::Shutdown) => return Ok(None),
            Phase::Streaming { .. } => {
                self.write(&bare(b'c')).await?;
                while self.next().await? != Event::Done {}
                if self.end() == Some(End::Shutdown) {
                    return Ok(None);
                }
            }
            Phase::Ended(End::Timeline) => self.link.writer.write(&bare(b'c')).await?,
        }
        match self.link.answer().await.map_err(refined)? {
            Answer::Rows(rows) => {
                self.phase = Phase::Idle;
                Ok(next_timeline(&rows))
            }
            Answer::CopyBoth => Err(TransportError::protocol("the stream began again at its end")),
        }
    }
}

fn next_timeline(rows: &Rows) -> Option<NextTimeline> {
    let tli = rows.get(0, "next_tli")?.parse().ok()?;
    let start = rows.get(0, "next_tli_startpos")?.parse().ok()?;
    Some(NextTimeline { tli, start })
}

/// WAL that is gone is its own variant.
fn about_stream(error: TransportError, start: Lsn) -> TransportError {
    match error {
        TransportError::Refused(refusal) if refusal.code == sqlstate::UNDEFINED_FILE => {
            TransportError::WalRemoved {
                start,
                detail: refusal.message,
            }
        }
        other => other,
    }
}
