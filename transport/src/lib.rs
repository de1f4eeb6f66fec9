//! Framed, authenticated, ordered connections between peers, and the replication client of a running Postgres.
//!
//! * [`dial`] connects to a neon server, names a command, and returns a [`Channel`].
//! * [`server::serve`] is the other side: startup, SCRAM-SHA-256, command, copy-both, as `docs/format/wire-framing.md` says.
//! * [`Channel`] moves whole frames both ways at once, and tells a clean end from a cut.
//! * [`replication`] reads the WAL of a stock Postgres.
//! * [`guarded`] asks a Postgres whose database others wrote.
//! * [`scram`] makes the password verifiers that a server stores.
//!
//! What is said over a channel is not known here. There is no TLS in this release: a caller must refuse to listen beyond
//! loopback.
#![cfg_attr(not(test), deny(clippy::unwrap_used, clippy::indexing_slicing))]

mod address;
mod channel;
mod dial;
#[cfg(feature = "testing")]
pub mod dissect;
mod error;
pub mod guarded;
mod keepalive;
mod link;
mod login;
mod passfile;
mod password;
mod refusal;
pub mod replication;
mod rows;
pub mod scram;
pub mod server;
#[cfg(feature = "testing")]
pub mod testing;
mod wire;

pub use address::{Address, AddressError, DEFAULT_PORT, is_repository_name, is_user_name, percent_encoded};
pub use channel::{Channel, MAX_FRAME, RecvHalf, SendHalf};
pub use dial::{DialOptions, ask, dial_with};
pub use error::TransportError;
pub use login::RequireAuth;
pub use password::{Password, PasswordOrigin, PasswordSources};
pub use refusal::{Refusal, sqlstate};
pub use rows::Rows;

/// Version of the conversation that this build speaks. Sent by the client as startup parameter [`PROTOCOL_PARAMETER`],
/// confirmed by the server as a parameter status of the same name.
pub const PROTOCOL_VERSION: u32 = 1;

/// Name of the startup parameter and parameter status that tell neon's programs from Postgres's.
pub const PROTOCOL_PARAMETER: &str = "neon.protocol";
