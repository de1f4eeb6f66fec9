//! What can go wrong with a connection, by what a caller can do about it.

use std::io;

use neon_types::Lsn;

use crate::{AddressError, PasswordOrigin, Refusal, wire::WireError};

/// Why a connection could not be made, or did not last. No text of it ever holds a password.
#[derive(Debug, thiserror::Error)]
pub enum TransportError {
    /// The address is not one.
    #[error(transparent)]
    Address(#[from] AddressError),
    /// No TCP connection: unknown host, nobody listens, no route.
    #[error("cannot connect to {address}")]
    Unreachable {
        /// `host:port`
        address: String,
        /// What the operating system says.
        #[source]
        source: io::Error,
    },
    /// Somebody took the connection and then said nothing.
    #[error("{address} did not answer within {seconds} seconds")]
    NoAnswer {
        /// `host:port`
        address: String,
        /// How long we waited.
        seconds: u64,
    },
    /// The server asks for a password and none is known.
    #[error("no password is known for {address}")]
    PasswordMissing {
        /// The URI, without a password.
        address: String,
        /// Why the password file was not used, if it was there.
        passfile: Option<String>,
    },
    /// The server does not accept user and password.
    #[error("wrong user or password for {address}")]
    WrongPassword {
        /// The URI, without a password.
        address: String,
        /// Where the password came from.
        origin: PasswordOrigin,
    },
    /// Something else answers at that address.
    #[error("{address} is not a neon server: {found}")]
    NotANeonServer {
        /// `host:port`
        address: String,
        /// What it seems to be.
        found: String,
    },
    /// What answers at that address has not proved that it knows the password. Nothing was said to it.
    #[error("{address} is not a neon server that knows the password: {found}")]
    Unproven {
        /// `host:port`
        address: String,
        /// What it did instead.
        found: String,
    },
    /// The peer understood and said no. Also the end of a channel that the peer gave up with a reason.
    #[error("{0}")]
    Refused(Refusal),
    /// The connection ended before the peer said that it was done.
    #[error("the connection was cut")]
    Cut {
        /// What the operating system says, unless the peer just closed.
        #[source]
        source: Option<io::Error>,
    },
    /// The peer said something that the protocol does not allow here.
    #[error("protocol error: {what}")]
    Protocol {
        /// What was wrong.
        what: String,
    },
    /// A frame is larger than [`crate::MAX_FRAME`]; nothing of it was sent or stored.
    #[error("a frame of {size} bytes is over the limit of {limit}")]
    FrameTooLarge {
        /// Its size, bytes.
        size: usize,
        /// The limit, bytes.
        limit: usize,
    },
    /// The Postgres server starts up, shuts down or recovers: try again.
    #[error("the server does not take connections now: {0}")]
    NotReady(Refusal),
    /// The server wants another kind of password, or none of ours.
    #[error("{address} asks for {what}; only SCRAM-SHA-256 and trust are supported")]
    Authentication {
        /// Where the server is.
        address: String,
        /// What it asks for.
        what: &'static str,
    },
    /// A replication slot of that name exists already.
    #[error("replication slot '{slot}' exists already")]
    SlotExists {
        /// Its name.
        slot: String,
    },
    /// There is no replication slot of that name.
    #[error("replication slot '{slot}' does not exist")]
    SlotMissing {
        /// Its name.
        slot: String,
    },
    /// Somebody else streams from that slot.
    #[error("replication slot '{slot}' is in use ({detail})")]
    SlotInUse {
        /// Its name.
        slot: String,
        /// What the server says.
        detail: String,
    },
    /// The server does not have that WAL any more.
    #[error("the server has no WAL at {start} any more ({detail})")]
    WalRemoved {
        /// What was asked for.
        start: Lsn,
        /// What the server says.
        detail: String,
    },
    /// Something was to be sent after the end.
    #[error("the sending side of the connection is finished")]
    Finished,
}

impl TransportError {
    /// Returns what a user can do about it.
    pub fn hint(&self) -> Option<String> {
        match self {
            TransportError::Unreachable { address, .. } => Some(format!(
                "is `neon serve` running at {address}, and is the port right?"
            )),
            TransportError::NoAnswer { .. } => {
                Some("something listens there, but it may not be `neon serve`".into())
            }
            TransportError::PasswordMissing { passfile, .. } => Some(match passfile {
                Some(why) => format!("{why}; or set PGPASSWORD"),
                None => "put it into the URI, into PGPASSWORD or into ~/.pgpass".into(),
            }),
            TransportError::WrongPassword { origin, .. } => Some(format!(
                "the password {origin}; `neon user list` on the server shows who may connect"
            )),
            TransportError::NotANeonServer { .. } => Some("check host and port of the URI".into()),
            TransportError::Unproven { .. } => Some(
                "check host and port of the URI, and what listens there; '?require_auth=none' in the URI asks for no proof".into(),
            ),
            TransportError::Refused(refusal) | TransportError::NotReady(refusal) => refusal.hint.clone(),
            TransportError::Cut { .. } => Some("try again: what was transferred and verified is kept".into()),
            TransportError::Address(_)
            | TransportError::Protocol { .. }
            | TransportError::FrameTooLarge { .. }
            | TransportError::Authentication { .. }
            | TransportError::SlotExists { .. }
            | TransportError::SlotMissing { .. }
            | TransportError::SlotInUse { .. }
            | TransportError::WalRemoved { .. }
            | TransportError::Finished => None,
        }
    }

    pub(crate) fn protocol(what: impl Into<String>) -> TransportError {
        TransportError::Protocol { what: what.into() }
    }
}

impl From<WireError> for TransportError {
    fn from(error: WireError) -> TransportError {
        match error {
            WireError::Io(source) => TransportError::Cut { source: Some(source) },
            WireError::Ended | WireError::Broken => TransportError::Cut { source: None },
            WireError::TooLarge {
                tag: b'd',
                size,
                limit,
            } => TransportError::FrameTooLarge { size, limit },
            other => TransportError::protocol(other.to_string()),
        }
    }
}
