//! The one answer that a command may get.

use bytes::BytesMut;
use tokio::sync::oneshot;

use crate::channel::{Lent, Receiving, Role, Sending};
use crate::wire::{self, MessageReader, MessageWriter, WireError};
use crate::{Channel, RecvHalf, Refusal, Rows, SendHalf, TransportError, sqlstate};

/// The place where a command's answer goes: rows, or a channel.
#[derive(Debug)]
pub struct Opening {
    lent: Lent<Untouched>,
    homes: Option<(oneshot::Sender<Sending>, oneshot::Sender<Receiving>)>,
    neon: bool,
}

/// A connection that is not in copy-both.
#[derive(Debug)]
pub(super) struct Untouched {
    pub reader: MessageReader,
    pub writer: MessageWriter,
    /// Rows were sent.
    pub answered: bool,
}

/// Where the connection comes back to when the command is done with it. If `untouched` never comes, the connection went
/// copy-both (or broke), and its directions come one by one.
#[derive(Debug)]
pub(super) struct Homes {
    pub untouched: oneshot::Receiver<Untouched>,
    pub sending: oneshot::Receiver<Sending>,
    pub receiving: oneshot::Receiver<Receiving>,
}

impl Opening {
    pub(super) fn new(reader: MessageReader, writer: MessageWriter, neon: bool) -> (Opening, Homes) {
        let (untouched_home, untouched) = oneshot::channel();
        let (sending_home, sending) = oneshot::channel();
        let (receiving_home, receiving) = oneshot::channel();
        let lent = Lent::new(
            Untouched {
                reader,
                writer,
                answered: false,
            },
            Some(untouched_home),
        );
        let opening = Opening {
            lent,
            homes: Some((sending_home, receiving_home)),
            neon,
        };
        (
            opening,
            Homes {
                untouched,
                sending,
                receiving,
            },
        )
    }

    /// Turns the connection copy-both and returns the channel.
    ///
    /// Errors: `Refused` if the client does not speak neon's protocol (a service passes that on as its own error), `Cut`.
    pub async fn accept(mut self) -> Result<Channel, TransportError> {
        if !self.neon {
            let refusal = Refusal::new(
                sqlstate::FEATURE_NOT_SUPPORTED,
                "this command needs a neon client",
            )
            .with_hint("use neon push, pull, fetch or clone; from psql, try help");
            return Err(TransportError::Refused(refusal));
        }
        let Some(mut connection) = self.lent.keep() else {
            return Err(WireError::Broken.into());
        };
        let mut out = BytesMut::new();
        wire::copy_both_response(&mut out);
        connection.writer.write(&out).await?;
        let (sending, receiving) = self.homes.take().unzip();
        Ok(Channel::new(
            SendHalf::new(connection.writer, Role::Server, sending),
            RecvHalf::new(connection.reader, Role::Server, receiving),
        ))
    }

    /// Answers with rows.
    ///
    /// Errors: `Cut`.
    pub async fn rows(mut self, rows: &Rows) -> Result<(), TransportError> {
        let Some(connection) = self.lent.get() else {
            return Err(WireError::Broken.into());
        };
        let mut out = BytesMut::new();
        wire::rows(&mut out, rows);
        wire::command_complete(&mut out, &format!("SELECT {}", rows.rows.len()));
        connection.writer.write(&out).await?;
        connection.answered = true;
        Ok(())
    }
}
