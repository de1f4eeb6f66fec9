//! From the first byte of a connection to the first ready: start-up packet, SCRAM, parameters.

use std::net::SocketAddr;

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use bytes::BytesMut;

use super::{Caller, Users};
use crate::scram::{Exchange, ExchangeError, Verifier, random};
use crate::wire::{self, FirstPacket, MessageReader, MessageWriter, Startup, WireError};
use crate::{PROTOCOL_PARAMETER, PROTOCOL_VERSION, Refusal, is_repository_name, sqlstate};

/// The limit of Postgres for a start-up packet, bytes.
const MAX_START_UP: usize = 10_000;
/// Body limit of a SASL message, bytes.
const MAX_SASL: usize = 4096;
/// Longest user name, bytes.
const MAX_USER: usize = 63;
/// Bytes of randomness in a nonce, as in Postgres.
const NONCE: usize = 18;

/// Why there is no session.
#[derive(Debug, thiserror::Error)]
pub(super) enum StartError {
    #[error(transparent)]
    Wire(#[from] WireError),
    #[error("the client closed the connection")]
    Closed,
    #[error("{0}")]
    Refused(Refusal),
}

impl StartError {
    fn refuse(code: &str, message: impl Into<String>) -> StartError {
        StartError::Refused(Refusal::new(code, message))
    }
}

fn limits_of_sasl(tag: u8) -> Option<usize> {
    (tag == b'p').then_some(MAX_SASL)
}

/// Reads start-up packets up to the one that asks for a session. TLS and GSSAPI are declined.
pub(super) async fn start_up(
    reader: &mut MessageReader,
    writer: &mut MessageWriter,
) -> Result<Startup, StartError> {
    // One request for each kind of encryption, then the session.
    for _ in 0..3 {
        let packet = reader.start_up(MAX_START_UP).await?.ok_or(StartError::Closed)?;
        match FirstPacket::parse(&packet)? {
            FirstPacket::Ssl | FirstPacket::Gss => writer.write(b"N").await?,
            // Nothing can be cancelled, and Postgres does not answer either.
            FirstPacket::Cancel => return Err(StartError::Closed),
            FirstPacket::Startup(startup) => return Ok(startup),
            FirstPacket::Version(version) => {
                return Err(StartError::refuse(
                    sqlstate::FEATURE_NOT_SUPPORTED,
                    format!(
                        "protocol version {}.{} is not supported, only 3.0",
                        version >> 16,
                        version & 0xffff
                    ),
                ));
            }
        }
    }
    Err(StartError::refuse(
        sqlstate::PROTOCOL_VIOLATION,
        "too many requests for encryption",
    ))
}

/// Does everything up to the first ready.
pub(super) async fn authenticate<U: Users>(
    reader: &mut MessageReader,
    writer: &mut MessageWriter,
    users: &U,
    mock_secret: &[u8; 32],
    peer: SocketAddr,
) -> Result<Caller, StartError> {
    let startup = start_up(reader, writer).await?;
    let mut parameters = startup.parameters;
    let user = parameters
        .remove("user")
        .filter(|user| (1..=MAX_USER).contains(&user.len()));
    let Some(user) = user else {
        return Err(StartError::refuse(
            sqlstate::INVALID_AUTHORIZATION,
            "the start-up packet names no valid user",
        ));
    };
    let database = parameters
        .remove("database")
        .filter(|name| !name.is_empty())
        .unwrap_or_else(|| user.clone());
    let mut out = BytesMut::new();
    if startup.minor > 0 || !startup.options.is_empty() {
        wire::negotiate_protocol_version(&mut out, &startup.options);
    }
    wire::authentication_sasl(&mut out);
    writer.write(&out).await?;
    // What is not a repository's name has no users, and must not reach code that makes paths of it.
    let stored = if is_repository_name(&database) {
        users.verifier(&user, &database)
    } else {
        None
    };
    check_password(reader, writer, &user, stored, mock_secret).await?;

    if parameters
        .get("replication")
        .is_some_and(|value| !matches!(value.as_str(), "false" | "off" | "no" | "0"))
    {
        return Err(StartError::refuse(
            sqlstate::FEATURE_NOT_SUPPORTED,
            "this is a neon server, not a PostgreSQL server: it does not stream replication",
        ));
    }
    let version = PROTOCOL_VERSION.to_string();
    let neon = parameters
        .remove(PROTOCOL_PARAMETER)
        .is_some_and(|spoken| spoken == version);
    out.clear();
    wire::authentication_ok(&mut out);
    for (name, value) in [
        (PROTOCOL_PARAMETER, version.as_str()),
        ("neon.version", env!("CARGO_PKG_VERSION")),
        ("server_encoding", "UTF8"),
        ("client_encoding", "UTF8"),
        ("standard_conforming_strings", "on"),
        ("integer_datetimes", "on"),
        ("DateStyle", "ISO, MDY"),
    ] {
        wire::parameter_status(&mut out, name, value);
    }
    wire::backend_key_data(&mut out);
    wire::ready_for_query(&mut out);
    writer.write(&out).await?;
    Ok(Caller {
        user,
        database,
        peer,
        neon,
        parameters,
    })
}

/// The SCRAM exchange. `stored` is `None` for somebody who may not come in, whatever the password.
async fn check_password(
    reader: &mut MessageReader,
    writer: &mut MessageWriter,
    user: &str,
    stored: Option<String>,
    mock_secret: &[u8; 32],
) -> Result<(), StartError> {
    let parsed = stored.as_deref().map(Verifier::parse);
    if let Some(Err(error)) = &parsed {
        tracing::error!(user, %error, "the stored verifier of a user cannot be used");
    }
    let known = parsed.and_then(Result::ok);
    let welcome = known.is_some();
    let verifier = known.unwrap_or_else(|| Verifier::fake(user, mock_secret));
    let wrong = || {
        StartError::refuse(
            sqlstate::INVALID_PASSWORD,
            format!("password authentication failed for user \"{user}\""),
        )
    };
    let failed = |error| match error {
        ExchangeError::WrongProof => wrong(),
        other => StartError::refuse(sqlstate::PROTOCOL_VIOLATION, other.to_string()),
    };

    let first = reader
        .next(limits_of_sasl)
        .await?
        .ok_or(StartError::Closed)?
        .into_body();
    let (mechanism, client_first) = wire::sasl_initial(&first)?;
    if mechanism != "SCRAM-SHA-256" {
        return Err(StartError::refuse(
            sqlstate::PROTOCOL_VIOLATION,
            "the client selected an authentication mechanism that was not offered",
        ));
    }
    let nonce = random::<NONCE>().map_err(|e| StartError::refuse(sqlstate::INTERNAL_ERROR, e.to_string()))?;
    let exchange = Exchange::begin(client_first, &STANDARD.encode(nonce), &verifier).map_err(failed)?;
    let mut out = BytesMut::new();
    wire::authentication_sasl_continue(&mut out, exchange.server_first());
    writer.write(&out).await?;

    let last = reader
        .next(limits_of_sasl)
        .await?
        .ok_or(StartError::Closed)?
        .into_body();
    let server_final = exchange.finish(&last, &verifier).map_err(failed)?;
    if !welcome {
        // Out of reach: nobody knows a preimage of a fake's stored key.
        return Err(wrong());
    }
    out.clear();
    wire::authentication_sasl_final(&mut out, &server_final);
    writer.write(&out).await?;
    Ok(())
}
