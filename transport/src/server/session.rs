//! One connection: authentication, then command after command.

use std::net::SocketAddr;
use std::time::Duration;

use bytes::BytesMut;
use tokio::net::TcpStream;
use tokio::time::timeout;

use super::ending::{Ending, Why};
use super::entry::{Entered, NoEntry, enter};
use super::network::Network;
use super::opening::{Homes, Opening, Untouched};
use super::room::Seat;
use super::seats::Hold;
use super::socket::Socket;
use super::{Caller, Service, Shared, Users};
use crate::channel::{Progress, Receiving, Role};
use crate::wire::{self, MessageReader, MessageWriter, WireError};
use crate::{MAX_FRAME, Refusal, sqlstate};

/// Body limit of a command, bytes.
const MAX_COMMAND: usize = 64 * 1024;
/// How long a connection stays open after our last word, so that the peer can read it.
const LINGER: Duration = Duration::from_secs(2);
/// How long our last word may take to be handed to the operating system when there is no place to linger.
const LAST_WORD: Duration = Duration::from_millis(100);
/// How long the end of a conversation may take once the service is done: halves still held by its tasks, frames on the way.
const WIND_UP: Duration = Duration::from_secs(30);

/// A session between two commands has nothing to lose.
pub(super) const IDLE: Hold = Hold::GivesWay(0);

/// A connection between two commands.
pub(super) struct Connection {
    pub reader: MessageReader,
    pub writer: MessageWriter,
}

/// Why a session ends.
enum End {
    /// Without a word: the client went, or the connection is of no use.
    Silent,
    /// With a fatal error.
    Refused(Connection, Refusal),
}

impl Connection {
    fn new(socket: &Socket) -> Connection {
        Connection {
            reader: MessageReader::new(Box::new(socket.clone())),
            writer: MessageWriter::new(Box::new(socket.clone())),
        }
    }

    /// Says a last word and closes, in such a way that the word is not lost to a TCP reset.
    async fn end_with(mut self, refusal: &Refusal) {
        // If the time is up, the word is lost, and nothing else.
        let _ = timeout(LINGER, async {
            self.say_last(refusal).await;
            self.reader.discard().await;
        })
        .await;
    }

    async fn say_last(&mut self, refusal: &Refusal) {
        let mut out = BytesMut::new();
        refusal.encode(true, &mut out);
        // Who does not hear it is gone.
        let _ = self.writer.write(&out).await;
        self.writer.shutdown().await;
    }
}

/// Serves a connection to its end.
pub(super) async fn run<S: Service, U: Users>(
    stream: TcpStream,
    peer: SocketAddr,
    place: Seat<Network>,
    shared: &Shared<S, U>,
) {
    let socket = Socket::new(stream);
    let mut connection = Connection::new(&socket);
    let entered = match enter(&mut connection, peer, place, shared).await {
        Ok(entered) => entered,
        Err(NoEntry::Silent) => return,
        Err(NoEntry::Refused(refusal)) => {
            tracing::debug!(%peer, reason = ?refusal.message, "connection refused");
            return turn_away(connection, &refusal, shared).await;
        }
    };
    connection.reader.expect_bulk();
    let Entered { caller, seat, stored } = entered;
    tracing::debug!(%peer, user = ?caller.user, database = ?caller.database, session = caller.session, "session");
    let ending = Ending::default();
    let users = shared.users.as_ref();
    let watching = ending.watch(users, &caller, &stored, &socket, &seat, shared.options.vigil);
    tokio::select! {
        () = serve(connection, &caller, shared, &seat, &ending) => {}
        never = watching => match never {},
    }
    if let Some(why) = ending.why() {
        tracing::info!(%peer, user = ?caller.user, session = caller.session, ?why, "session ended");
    }
}

/// Tells a client why it does not get in. Some get time to read it; the words of the rest wait in their own buffers.
async fn turn_away<S, U>(mut connection: Connection, refusal: &Refusal, shared: &Shared<S, U>) {
    match shared.places.doorstep.try_acquire() {
        Ok(_step) => connection.end_with(refusal).await,
        Err(_) => {
            let _ = timeout(LAST_WORD, connection.say_last(refusal)).await;
        }
    }
}

/// Carries out command after command.
async fn serve<S: Service, U: Users>(
    mut connection: Connection,
    caller: &Caller,
    shared: &Shared<S, U>,
    seat: &Seat<String>,
    ending: &Ending,
) {
    loop {
        match turn(connection, caller, shared, seat, ending).await {
            Ok(again) => connection = again,
            Err(End::Silent) => return,
            Err(End::Refused(connection, refusal)) => return connection.end_with(&refusal).await,
        }
    }
}

/// Waits for one command and carries it out.
async fn turn<S: Service, U: Users>(
    mut connection: Connection,
    caller: &Caller,
    shared: &Shared<S, U>,
    seat: &Seat<String>,
    ending: &Ending,
) -> Result<Connection, End> {
    seat.hold(IDLE);
    let next = tokio::select! {
        biased;
        () = shared.shutdown.cancelled() => {
            let refusal = Refusal::new(sqlstate::ADMIN_SHUTDOWN, "the server is shutting down");
            return Err(End::Refused(connection, refusal));
        }
        why = ending.ended() => return Err(over(connection, why)),
        next = timeout(shared.options.idle, next_command(&mut connection)) => next,
    };
    let command = match next {
        Ok(Ok(Some(command))) => command,
        Ok(Ok(None)) | Ok(Err(WireError::Io(_) | WireError::Ended | WireError::Broken)) => {
            return Err(End::Silent);
        }
        Ok(Err(error)) => {
            return Err(End::Refused(
                connection,
                Refusal::new(sqlstate::PROTOCOL_VIOLATION, error.to_string()),
            ));
        }
        Err(_) => {
            let refusal = Refusal::new(
                sqlstate::IDLE_SESSION_TIMEOUT,
                "the session was idle for too long",
            );
            return Err(End::Refused(connection, refusal));
        }
    };
    seat.hold(Hold::Stays);
    let (opening, homes) = Opening::new(connection.reader, connection.writer, caller.neon);
    // Dropping the service's future is how it learns that nobody waits for it any more.
    let result = tokio::select! {
        biased;
        why = ending.ended() => match why.refusal() {
            Some(refusal) => Err(refusal),
            None => return Err(End::Silent),
        },
        result = shared.service.open(caller, &command, opening) => result,
    };
    let patience = if ending.why().is_some() { LINGER } else { WIND_UP };
    timeout(patience, wind_up(homes, result))
        .await
        .unwrap_or(Err(End::Silent))
}

fn over(connection: Connection, why: Why) -> End {
    match why.refusal() {
        Some(refusal) => End::Refused(connection, refusal),
        None => End::Silent,
    }
}

/// Takes the connection back from a command and says how the command ended.
async fn wind_up(homes: Homes, result: Result<(), Refusal>) -> Result<Connection, End> {
    let mut out = BytesMut::new();
    let mut connection = match homes.untouched.await {
        Ok(Untouched {
            reader,
            writer,
            answered,
        }) => {
            match result {
                Ok(()) if answered => {}
                Ok(()) => Refusal::new(sqlstate::INTERNAL_ERROR, "the command has no answer")
                    .encode(false, &mut out),
                Err(refusal) => refusal.encode(false, &mut out),
            }
            Connection { reader, writer }
        }
        Err(_) => {
            let (Ok(sending), Ok(mut receiving)) = (homes.sending.await, homes.receiving.await) else {
                return Err(End::Silent);
            };
            let mut writer = sending.writer;
            match result {
                Ok(()) => {
                    if !sending.finished {
                        wire::copy_done(&mut out);
                        writer.write(&out).await.map_err(|_| End::Silent)?;
                        out.clear();
                    }
                    drain(&mut receiving).await?;
                    wire::command_complete(&mut out, "NEON");
                }
                Err(refusal) => {
                    refusal.encode(false, &mut out);
                    if receiving.progress == Progress::Lost {
                        return Err(End::Refused(
                            Connection {
                                reader: receiving.reader,
                                writer,
                            },
                            refusal,
                        ));
                    }
                }
            }
            Connection {
                reader: receiving.reader,
                writer,
            }
        }
    };
    wire::ready_for_query(&mut out);
    connection.writer.write(&out).await.map_err(|_| End::Silent)?;
    Ok(connection)
}

/// Reads on to the client's end. The service is done, so frames that still come are not looked at.
async fn drain(receiving: &mut Receiving) -> Result<(), End> {
    loop {
        match receiving.recv(Role::Server).await {
            Ok(Some(_)) => {}
            Ok(None) => return Ok(()),
            Err(_) if matches!(receiving.progress, Progress::Failed(_)) => return Ok(()),
            Err(_) => return Err(End::Silent),
        }
    }
}

fn limits_between_commands(tag: u8) -> Option<usize> {
    match tag {
        b'Q' => Some(MAX_COMMAND),
        b'X' | b'S' | b'H' | b'c' => Some(0),
        // Extended queries and function calls, to be refused politely.
        b'P' | b'B' | b'D' | b'E' | b'C' | b'F' => Some(MAX_COMMAND),
        // Rests of a channel that we ended with an error.
        b'd' => Some(MAX_FRAME),
        b'f' => Some(MAX_COMMAND),
        _ => None,
    }
}

/// Returns the next command that is not empty, `None` when the client goes.
async fn next_command(connection: &mut Connection) -> Result<Option<String>, WireError> {
    // After an error in an extended query everything up to Sync is skipped.
    let mut skipping = false;
    loop {
        let Some(message) = connection.reader.next(limits_between_commands).await? else {
            return Ok(None);
        };
        let mut out = BytesMut::new();
        match message.tag {
            b'X' => return Ok(None),
            b'd' | b'c' | b'f' | b'H' => {}
            b'S' => {
                skipping = false;
                wire::ready_for_query(&mut out);
            }
            b'Q' => {
                let body = message.into_body();
                match wire::text(&body).map(command_line) {
                    Ok("") => wire::empty_query(&mut out),
                    Ok(command) => return Ok(Some(command.to_owned())),
                    Err(_) => Refusal::new(sqlstate::SYNTAX_ERROR, "the command is not UTF-8")
                        .encode(false, &mut out),
                }
                wire::ready_for_query(&mut out);
            }
            _ if skipping => {}
            tag => {
                Refusal::new(
                    sqlstate::FEATURE_NOT_SUPPORTED,
                    "only simple queries are supported",
                )
                .with_hint("this is a neon server; it takes command lines such as: help")
                .encode(false, &mut out);
                // A function call has no Sync.
                if tag == b'F' {
                    wire::ready_for_query(&mut out);
                } else {
                    skipping = true;
                }
            }
        }
        if !out.is_empty() {
            connection.writer.write(&out).await?;
        }
    }
}

/// What is left of a command as a person types it into psql.
fn command_line(text: &str) -> &str {
    text.trim_matches(|c: char| c.is_whitespace() || c == ';')
}
