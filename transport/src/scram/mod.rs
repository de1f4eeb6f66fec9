//! SCRAM-SHA-256 (RFC 5802, RFC 7677): the verifiers that a server stores, and the server's half of the exchange.
//!
//! A verifier is written as Postgres does in `pg_authid.rolpassword`:
//! `SCRAM-SHA-256$<iterations>:<salt>$<StoredKey>:<ServerKey>`, the last three in base64.

mod exchange;
mod verifier;

pub(crate) use exchange::{Exchange, ExchangeError};
pub use verifier::{
    DEFAULT_ITERATIONS, LEAST_ITERATIONS, MAX_ITERATIONS, SALT_SIZE, Secret, VerifierError, is_of_drawn,
    is_of_password, is_verifier, make_verifier, salt_of, salt_of_drawn,
};
pub(crate) use verifier::{Verifier, hmac, random};
