//! From the first byte of a connection to the first ready: start-up packet, SCRAM, parameters.
//!
//! In three steps, because somebody may have to wait between the first two: [`claim`] hears who somebody says to be and how that is proved,
//! [`Claim::check`] looks at the proof, [`welcome`] lets in.

use std::collections::BTreeMap;

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use bytes::{Bytes, BytesMut};

use super::seats::Hold;
use super::{Users, UsersError};
use crate::scram::{Exchange, ExchangeError, Secret, Verifier, random};
use crate::wire::{self, FirstPacket, MessageReader, MessageWriter, Startup, WireError};
use crate::{PROTOCOL_PARAMETER, PROTOCOL_VERSION, Refusal, is_repository_name, is_user_name, sqlstate};

/// The limit of Postgres for a start-up packet, bytes.
const MAX_START_UP: usize = 10_000;
/// Body limit of a SASL message, bytes.
const MAX_SASL: usize = 4096;
/// Bytes of randomness in a nonce, as in Postgres.
const NONCE: usize = 18;

/// Somebody who has said nothing yet gives way before somebody who has.
pub(super) const SILENT: Hold = Hold::GivesWay(0);
const SPOKE: Hold = Hold::GivesWay(1);

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

/// Who somebody says to be.
#[derive(Clone, Debug)]
pub(super) struct Name {
    pub user: String,
    pub database: String,
    /// Everything else in the start-up packet.
    pub parameters: BTreeMap<String, String>,
}

impl Name {
    /// Takes the names out of a start-up packet. One that nobody can have is refused here, so that it gets into no log and no path.
    fn of(mut parameters: BTreeMap<String, String>) -> Result<Name, StartError> {
        let user = parameters.remove("user").filter(|user| is_user_name(user));
        let Some(user) = user else {
            let refusal = Refusal::new(
                sqlstate::INVALID_AUTHORIZATION,
                "the start-up packet names no valid user",
            );
            return Err(StartError::Refused(
                refusal.with_hint("a name is 1 to 63 letters, digits, '.', '_', '-' and '@'"),
            ));
        };
        let database = parameters
            .remove("database")
            .filter(|name| !name.is_empty())
            .unwrap_or_else(|| user.clone());
        Ok(Name {
            user,
            database,
            parameters,
        })
    }
}

/// Somebody's name, and how it is proved.
pub(super) struct Claim {
    pub name: Name,
    /// What is stored of the user, as it was when the exchange began; nothing for somebody who may not come in, whatever the password.
    pub stored: Option<String>,
    verifier: Verifier,
    exchange: Exchange,
    proof: Bytes,
}

/// Hears somebody up to the proof of who he is. `progress` is told how much he has said.
pub(super) async fn claim<U: Users>(
    reader: &mut MessageReader,
    writer: &mut MessageWriter,
    users: &U,
    secret: &Secret,
    progress: impl Fn(Hold, Option<&Name>),
) -> Result<Claim, StartError> {
    let startup = start_up(reader, writer).await?;
    let name = Name::of(startup.parameters)?;
    progress(SPOKE, Some(&name));
    let mut out = BytesMut::new();
    if startup.minor > 0 || !startup.options.is_empty() {
        wire::negotiate_protocol_version(&mut out, &startup.options);
    }
    wire::authentication_sasl(&mut out);
    writer.write(&out).await?;
    let (verifier, stored) = look_up(users, &name, secret)?;

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
    progress(SPOKE, None);
    let nonce = random::<NONCE>().map_err(|e| StartError::refuse(sqlstate::INTERNAL_ERROR, e.to_string()))?;
    let exchange = Exchange::begin(client_first, &STANDARD.encode(nonce), &verifier)
        .map_err(|error| StartError::refuse(sqlstate::PROTOCOL_VIOLATION, error.to_string()))?;
    out.clear();
    wire::authentication_sasl_continue(&mut out, exchange.server_first());
    writer.write(&out).await?;
    let proof = reader
        .next(limits_of_sasl)
        .await?
        .ok_or(StartError::Closed)?
        .into_body();
    Ok(Claim {
        name,
        stored,
        verifier,
        exchange,
        proof,
    })
}

/// Returns the verifier to lead the exchange with, and what is stored of the user. The same work is done for users that there are and for
/// others: the clock tells nothing either.
fn look_up<U: Users>(
    users: &U,
    name: &Name,
    secret: &Secret,
) -> Result<(Verifier, Option<String>), StartError> {
    let stored = users
        .verifier(&name.user, &name.database)
        .map_err(|UsersError(why)| {
            tracing::error!(why, "the users cannot be read");
            let refusal = Refusal::new(
                sqlstate::CANNOT_CONNECT_NOW,
                "this server cannot look up its users now",
            );
            StartError::Refused(refusal.with_hint("try again; its log says why"))
        })?
        // What is not a repository's name has no users, and must not reach code that makes paths of it.
        .filter(|_| is_repository_name(&name.database));
    let fake = Verifier::fake(&name.user, secret);
    let text = stored.clone().unwrap_or_else(|| fake.to_string());
    match Verifier::parse(&text) {
        Ok(verifier) => Ok((verifier, stored)),
        Err(error) => {
            tracing::error!(user = ?name.user, %error, "the stored verifier of a user cannot be used");
            Ok((fake, None))
        }
    }
}

impl Claim {
    /// Looks at the proof; returns how the server proves itself. `Err` is the answer to the client.
    pub fn check(&self) -> Result<String, WrongProof> {
        let refused = |error: ExchangeError| match error {
            ExchangeError::WrongProof => WrongProof::Password(wrong_password(&self.name.user)),
            other => WrongProof::Message(Refusal::new(sqlstate::PROTOCOL_VIOLATION, other.to_string())),
        };
        let server_final = self
            .exchange
            .finish(&self.proof, &self.verifier)
            .map_err(refused)?;
        match self.stored {
            Some(_) => Ok(server_final),
            // Out of reach: nobody knows a preimage of a fake's stored key.
            None => Err(WrongProof::Password(wrong_password(&self.name.user))),
        }
    }
}

/// Why a proof is none.
#[derive(Debug)]
pub(super) enum WrongProof {
    /// It is of another password, or there is no such user here.
    Password(Refusal),
    /// It is not one at all.
    Message(Refusal),
}

fn wrong_password(user: &str) -> Refusal {
    Refusal::new(
        sqlstate::INVALID_PASSWORD,
        format!("password authentication failed for user \"{user}\""),
    )
}

/// Refuses what cannot be done for this client; returns whether it speaks neon's protocol.
pub(super) fn spoken(name: &mut Name) -> Result<bool, Refusal> {
    if name
        .parameters
        .get("replication")
        .is_some_and(|value| !matches!(value.as_str(), "false" | "off" | "no" | "0"))
    {
        return Err(Refusal::new(
            sqlstate::FEATURE_NOT_SUPPORTED,
            "this is a neon server, not a PostgreSQL server: it does not stream replication",
        ));
    }
    let version = PROTOCOL_VERSION.to_string();
    Ok(name
        .parameters
        .remove(PROTOCOL_PARAMETER)
        .is_some_and(|spoken| spoken == version))
}

/// Lets somebody in: proves ourselves and says what there is to know, up to the first ready.
pub(super) async fn welcome(writer: &mut MessageWriter, server_final: &str) -> Result<(), WireError> {
    let mut out = BytesMut::new();
    wire::authentication_sasl_final(&mut out, server_final);
    wire::authentication_ok(&mut out);
    let version = PROTOCOL_VERSION.to_string();
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
    writer.write(&out).await
}
