//! The client's half of a PostgreSQL connection: startup, authentication, simple queries. For our servers and for Postgres.

use std::collections::BTreeMap;

use bytes::{Buf, Bytes, BytesMut};
use fallible_iterator::FallibleIterator;
use postgres_protocol::message::{backend, frontend};

use crate::login::Login;
use crate::scram::{LEAST_ITERATIONS, MAX_ITERATIONS};
use crate::wire::{BoxRead, BoxWrite, Message, MessageReader, MessageWriter, WireError};
use crate::{Refusal, Rows};

/// Body limit of control messages, bytes. Postgres itself sends at most 30,000 in an error.
const SMALL: usize = 64 * 1024;
/// Body limit of one row, bytes.
const MAX_ROW: usize = 1 << 20;
/// Limit of all rows of an answer, bytes.
const MAX_ROWS: usize = 64 << 20;

/// A session with a server, between two commands.
#[derive(Debug)]
pub(crate) struct Link {
    pub reader: MessageReader,
    pub writer: MessageWriter,
    /// What the server said of itself.
    pub parameters: BTreeMap<String, String>,
}

/// A session could not be had, or a command failed.
#[derive(Debug, thiserror::Error)]
pub(crate) enum LinkError {
    #[error(transparent)]
    Wire(#[from] WireError),
    #[error("the server closed the connection")]
    Closed,
    #[error("{refusal}")]
    Refused { refusal: Refusal, ours: bool },
    #[error("the server asks for a password")]
    PasswordNeeded,
    #[error("the server asks for {0}, which is not supported")]
    Authentication(&'static str),
    #[error("the server could not prove that it knows the password")]
    NotGenuine,
    #[error("the server lets us in without asking for the password")]
    Unasked,
    #[error("the server asks for {} iterations of SCRAM-SHA-256, not {LEAST_ITERATIONS} to {MAX_ITERATIONS}",
        .0.map_or("no number of".to_owned(), |count| count.to_string()))]
    Iterations(Option<u32>),
    #[error("the server answered with {0}")]
    Unexpected(String),
}

/// What comes back from a command.
pub(crate) enum Answer {
    /// Rows, of the last result that had any.
    Rows(Rows),
    /// The connection is copy-both now.
    CopyBoth,
}

fn limits_of_start_up(tag: u8) -> Option<usize> {
    match tag {
        b'R' | b'E' | b'N' | b'S' | b'v' => Some(SMALL),
        b'K' => Some(260),
        b'Z' => Some(1),
        _ => None,
    }
}

fn limits_of_answers(tag: u8) -> Option<usize> {
    match tag {
        b'T' | b'E' | b'N' | b'S' | b'C' | b'A' | b'W' => Some(SMALL),
        b'D' => Some(MAX_ROW),
        b'Z' => Some(1),
        b'I' => Some(0),
        _ => None,
    }
}

fn limits_of_calls(tag: u8) -> Option<usize> {
    match tag {
        b'V' => Some(64),
        b'E' | b'N' | b'S' | b'A' => Some(SMALL),
        b'Z' => Some(1),
        _ => None,
    }
}

impl Link {
    /// Starts a session. Answers SCRAM-SHA-256 only: a password never leaves in clear text.
    pub async fn start(
        reader: BoxRead,
        writer: BoxWrite,
        parameters: &[(&str, &str)],
        login: Login<'_>,
    ) -> Result<Link, LinkError> {
        let mut link = Link {
            reader: MessageReader::new(reader),
            writer: MessageWriter::new(writer),
            parameters: BTreeMap::new(),
        };
        let mut out = BytesMut::new();
        frontend::startup_message(parameters.iter().copied(), &mut out).map_err(WireError::Io)?;
        link.writer.write(&out).await?;
        link.authenticate(login).await?;
        link.reader.expect_bulk();
        Ok(link)
    }

    async fn authenticate(&mut self, mut login: Login<'_>) -> Result<(), LinkError> {
        use backend::Message as M;
        let mut out = BytesMut::new();
        loop {
            match self.next_parsed(limits_of_start_up).await? {
                M::NoticeResponse(_) => {}
                M::ErrorResponse(body) => return Err(refused(&body)),
                M::ParameterStatus(body) if login.is_in() => self.remember(&body)?,
                M::BackendKeyData(_) if login.is_in() => {}
                M::ReadyForQuery(_) if login.is_in() => return Ok(()),
                message => {
                    out.clear();
                    login.hear(&message, &mut out)?;
                    if !out.is_empty() {
                        self.writer.write(&out).await?;
                    }
                }
            }
        }
    }

    /// Sends `command` as a simple query and reads up to the next ready, or up to copy-both.
    pub async fn command(&mut self, command: &str) -> Result<Answer, LinkError> {
        let mut out = BytesMut::new();
        frontend::query(command, &mut out).map_err(WireError::Io)?;
        self.writer.write(&out).await?;
        self.answer().await
    }

    /// Sends the message `call`, a FunctionCall, and returns the function's value.
    pub async fn call(&mut self, call: &[u8]) -> Result<Bytes, LinkError> {
        self.writer.write(call).await?;
        let mut value = Bytes::new();
        let mut error = None;
        loop {
            let message = self.next(limits_of_calls).await?;
            if message.tag == b'V' {
                // Its length, -1 for none, and the value.
                value = message.into_body();
                value.advance(value.len().min(4));
                continue;
            }
            match message.parse()? {
                backend::Message::ErrorResponse(body) => error = Some(refused(&body)),
                backend::Message::ParameterStatus(body) => self.remember(&body)?,
                backend::Message::ReadyForQuery(_) => return error.map_or(Ok(value), Err),
                _ => {}
            }
        }
    }

    /// Reads the rest of an answer.
    pub async fn answer(&mut self) -> Result<Answer, LinkError> {
        use backend::Message as M;
        let mut rows = Rows::default();
        let mut size = 0;
        let mut error = None;
        loop {
            let message = self.next(limits_of_answers).await?;
            if message.tag == b'W' {
                return Ok(Answer::CopyBoth);
            }
            match message.parse()? {
                M::RowDescription(body) => {
                    let names = body.fields().map(|field| Ok(field.name().to_owned()));
                    rows = Rows {
                        columns: names.collect().map_err(WireError::Io)?,
                        rows: Vec::new(),
                    };
                }
                M::DataRow(body) => {
                    size += body.buffer().len();
                    if size > MAX_ROWS {
                        return Err(LinkError::Unexpected(format!(
                            "more than {MAX_ROWS} bytes of rows"
                        )));
                    }
                    rows.rows.push(read_row(&body)?);
                }
                M::ErrorResponse(body) => error = Some(refused(&body)),
                M::ParameterStatus(body) => self.remember(&body)?,
                M::ReadyForQuery(_) => return error.map_or(Ok(Answer::Rows(rows)), Err),
                _ => {}
            }
        }
    }

    /// Returns the next message, which must come.
    pub async fn next(&mut self, limits: crate::wire::Limits) -> Result<Message, LinkError> {
        self.reader.next(limits).await?.ok_or(LinkError::Closed)
    }

    async fn next_parsed(&mut self, limits: crate::wire::Limits) -> Result<backend::Message, LinkError> {
        let message = self.next(limits).await?;
        if message.tag == b'v' {
            return Err(LinkError::Unexpected(
                "a demand for another protocol version".into(),
            ));
        }
        Ok(message.parse()?)
    }

    fn remember(&mut self, body: &backend::ParameterStatusBody) -> Result<(), LinkError> {
        let (name, value) = (
            body.name().map_err(WireError::Io)?,
            body.value().map_err(WireError::Io)?,
        );
        if self.parameters.len() < 100 {
            self.parameters.insert(name.to_owned(), value.to_owned());
        }
        Ok(())
    }
}

/// Reads an error response.
pub(crate) fn refused(body: &backend::ErrorResponseBody) -> LinkError {
    match Refusal::decode(body.fields()) {
        Ok((refusal, ours)) => LinkError::Refused { refusal, ours },
        Err(_) => LinkError::Wire(WireError::Malformed("error response")),
    }
}

fn read_row(body: &backend::DataRowBody) -> Result<Vec<Option<String>>, LinkError> {
    let bad = || LinkError::Wire(WireError::Malformed("row"));
    let mut values = Vec::new();
    let mut ranges = body.ranges();
    while let Some(range) = ranges.next().map_err(|_| bad())? {
        values.push(match range {
            None => None,
            Some(range) => {
                let bytes = body.buffer().get(range).ok_or_else(bad)?;
                Some(String::from_utf8(bytes.to_vec()).map_err(|_| bad())?)
            }
        });
    }
    Ok(values)
}
