//! What a server keeps of a password.

use std::fmt;

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use hmac::{Hmac, KeyInit, Mac};
use sha2::{Digest, Sha256};

/// Iterations that Postgres uses, and we.
pub const DEFAULT_ITERATIONS: u32 = 4096;
/// Fewer than this are refused by our client, as RFC 7677 advises: they would make a password cheap to guess from the proof that it sends.
pub const LEAST_ITERATIONS: u32 = 4096;
/// More than this is refused: clients would not do it either (the limit of postgres-protocol and of pgjdbc).
pub const MAX_ITERATIONS: u32 = 100_000;
/// Bytes of a salt that we make.
pub const SALT_SIZE: usize = 16;
/// Longest salt that is read, bytes.
const MAX_SALT: usize = 256;

const PREFIX: &str = "SCRAM-SHA-256$";

/// A verifier could not be made or read.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum VerifierError {
    /// No password.
    #[error("the password is empty")]
    EmptyPassword,
    /// Nothing that libpq could send.
    #[error("the password holds a NUL character")]
    Nul,
    /// No salt, or too much of it.
    #[error("the salt must have 1 to 256 bytes, not {0}")]
    Salt(usize),
    /// Too few or too many iterations.
    #[error("the number of iterations must be from 1 to 100000, not {0}")]
    Iterations(u32),
    /// Not of the form `SCRAM-SHA-256$4096:salt$StoredKey:ServerKey`.
    #[error("not a SCRAM-SHA-256 verifier")]
    Form,
    /// The operating system gives no randomness.
    #[error("no random bytes: {0}")]
    Random(String),
}

/// Returns the verifier of `password`. Use [`salt_of`] and [`DEFAULT_ITERATIONS`] unless a test needs to know better.
pub fn make_verifier(password: &str, salt: &[u8], iterations: u32) -> Result<String, VerifierError> {
    if password.is_empty() {
        return Err(VerifierError::EmptyPassword);
    }
    if password.contains('\0') {
        return Err(VerifierError::Nul);
    }
    if !(1..=MAX_SALT).contains(&salt.len()) {
        return Err(VerifierError::Salt(salt.len()));
    }
    if !(1..=MAX_ITERATIONS).contains(&iterations) {
        return Err(VerifierError::Iterations(iterations));
    }
    // As Postgres: a text that SASLprep forbids is used as it is.
    let prepared = stringprep::saslprep(password).unwrap_or(password.into());
    let salted = salted_password(prepared.as_bytes(), salt, iterations);
    let client_key = hmac(&salted, &[b"Client Key"]);
    let verifier = Verifier {
        iterations,
        salt: salt.to_vec(),
        stored_key: Sha256::digest(client_key).into(),
        server_key: hmac(&salted, &[b"Server Key"]),
    };
    Ok(verifier.to_string())
}

/// Returns the salt of `user` at a server with this `secret`: the same before the user exists, while it exists whatever its password, and after it is
/// gone. So nobody learns from a salt, which is told to everybody, whether there is such a user.
pub fn salt_of(user: &str, secret: &Secret) -> [u8; SALT_SIZE] {
    let mut salt = [0; SALT_SIZE];
    for (byte, derived) in salt.iter_mut().zip(hmac(&secret.0, &[b"salt ", user.as_bytes()])) {
        *byte = derived;
    }
    salt
}

/// What a server makes the salts of its users from. Kept, so that they survive its restart. `Debug` hides it.
#[derive(Clone, PartialEq, Eq)]
pub struct Secret([u8; 32]);

impl Secret {
    /// Draws one from the operating system's randomness.
    pub fn draw() -> Result<Secret, VerifierError> {
        random().map(Secret)
    }

    /// Reads one that was kept: 64 hexadecimal digits.
    pub fn from_hex(text: &str) -> Option<Secret> {
        let mut secret = [0; 32];
        if text.len() != 64 || !text.bytes().all(|byte| byte.is_ascii_hexdigit()) {
            return None;
        }
        for (byte, digits) in secret.iter_mut().zip(text.as_bytes().chunks(2)) {
            *byte = u8::from_str_radix(std::str::from_utf8(digits).ok()?, 16).ok()?;
        }
        Some(Secret(secret))
    }

    /// Returns it as it is kept.
    pub fn to_hex(&self) -> String {
        self.0.iter().map(|byte| format!("{byte:02x}")).collect()
    }
}

impl fmt::Debug for Secret {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Secret(hidden)")
    }
}

/// What the second half of a drawn salt is made with.
const DRAWN: &[u8; 32] = b"neon: a password that was drawn\0";

/// Returns a salt that says that its password was drawn by a program of ours, and is nobody's own: 8 random bytes and 8 that follow from them.
pub fn salt_of_drawn(random: [u8; 8]) -> [u8; SALT_SIZE] {
    let mut salt = [0; SALT_SIZE];
    let mark = hmac(DRAWN, &[&random]);
    for (place, byte) in salt.iter_mut().zip(random.into_iter().chain(mark)) {
        *place = byte;
    }
    salt
}

/// Returns true when `verifier` has a salt of [`salt_of_drawn`].
pub fn is_of_drawn(verifier: &str) -> bool {
    let Ok(verifier) = Verifier::parse(verifier) else {
        return false;
    };
    let random = verifier.salt.first_chunk::<8>();
    random.is_some_and(|random| verifier.salt == salt_of_drawn(*random))
}

/// Returns true when `verifier` is one of `password`.
pub fn is_of_password(verifier: &str, password: &str) -> bool {
    Verifier::parse(verifier).is_ok_and(|parts| {
        make_verifier(password, &parts.salt, parts.iterations).is_ok_and(|made| made == parts.to_string())
    })
}

/// Returns true for a text that [`crate::server::Users`] may return.
pub fn is_verifier(text: &str) -> bool {
    Verifier::parse(text).is_ok()
}

/// The parts of a verifier.
#[derive(Clone, PartialEq, Eq)]
pub(crate) struct Verifier {
    pub iterations: u32,
    pub salt: Vec<u8>,
    pub stored_key: [u8; 32],
    pub server_key: [u8; 32],
}

impl Verifier {
    pub fn parse(text: &str) -> Result<Verifier, VerifierError> {
        let bytes = |text: &str| STANDARD.decode(text).map_err(|_| VerifierError::Form);
        let key = |text: &str| bytes(text)?.try_into().map_err(|_| VerifierError::Form);
        let rest = text
            .strip_prefix(PREFIX)
            .filter(|rest| rest.len() <= 1024)
            .ok_or(VerifierError::Form)?;
        let (left, right) = rest.split_once('$').ok_or(VerifierError::Form)?;
        let (iterations, salt) = left.split_once(':').ok_or(VerifierError::Form)?;
        let (stored, server) = right.split_once(':').ok_or(VerifierError::Form)?;
        let iterations = iterations.parse().map_err(|_| VerifierError::Form)?;
        let salt = bytes(salt)?;
        if !(1..=MAX_ITERATIONS).contains(&iterations) {
            return Err(VerifierError::Iterations(iterations));
        }
        if !(1..=MAX_SALT).contains(&salt.len()) {
            return Err(VerifierError::Salt(salt.len()));
        }
        Ok(Verifier {
            iterations,
            salt,
            stored_key: key(stored)?,
            server_key: key(server)?,
        })
    }

    /// Returns a verifier that no password has, always the same for one user, with the salt that the user would have.
    pub fn fake(user: &str, secret: &Secret) -> Verifier {
        Verifier {
            iterations: DEFAULT_ITERATIONS,
            salt: salt_of(user, secret).to_vec(),
            stored_key: hmac(&secret.0, &[b"stored ", user.as_bytes()]),
            server_key: hmac(&secret.0, &[b"server ", user.as_bytes()]),
        }
    }
}

impl fmt::Display for Verifier {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(
            f,
            "{PREFIX}{}:{}${}:{}",
            self.iterations,
            STANDARD.encode(&self.salt),
            STANDARD.encode(self.stored_key),
            STANDARD.encode(self.server_key)
        )
    }
}

/// HMAC-SHA-256 of the pieces, one after the other.
pub(crate) fn hmac(key: &[u8], pieces: &[&[u8]]) -> [u8; 32] {
    #[expect(clippy::expect_used, reason = "HMAC takes a key of any length")]
    let mut mac = Hmac::<Sha256>::new_from_slice(key).expect("HMAC takes a key of any length");
    for piece in pieces {
        mac.update(piece);
    }
    mac.finalize().into_bytes().into()
}

/// `Hi()` of RFC 5802: PBKDF2 with one block.
fn salted_password(password: &[u8], salt: &[u8], iterations: u32) -> [u8; 32] {
    let mut previous = hmac(password, &[salt, &[0, 0, 0, 1]]);
    let mut result = previous;
    for _ in 1..iterations {
        previous = hmac(password, &[&previous]);
        for (sum, byte) in result.iter_mut().zip(previous) {
            *sum ^= byte;
        }
    }
    result
}

/// Random bytes of the operating system.
pub(crate) fn random<const N: usize>() -> Result<[u8; N], VerifierError> {
    let mut bytes = [0; N];
    getrandom::fill(&mut bytes).map_err(|error| VerifierError::Random(error.to_string()))?;
    Ok(bytes)
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn a_verifier_is_written_as_postgres_writes_it() {
        // The vector of postgres-protocol's own test.
        let salt: Vec<u8> = (1..=16).collect();
        let verifier = make_verifier("secret", &salt, 4096).unwrap();
        assert_eq!(
            verifier,
            "SCRAM-SHA-256$4096:AQIDBAUGBwgJCgsMDQ4PEA==$8rrDg00OqaiWXJ7p+sCgHEIaBSHY89ZJl3mfIsf32oY=:\
             05L1f+yZbiN8O0AnO40Og85NNRhvzTS57naKRWCcsIA="
        );
        assert_eq!(Verifier::parse(&verifier).unwrap().to_string(), verifier);
    }

    #[test]
    fn bad_input_is_refused() {
        assert_eq!(make_verifier("", b"salt", 1), Err(VerifierError::EmptyPassword));
        assert_eq!(make_verifier("a\0b", b"salt", 1), Err(VerifierError::Nul));
        assert_eq!(make_verifier("a", b"", 1), Err(VerifierError::Salt(0)));
        assert_eq!(make_verifier("a", b"salt", 0), Err(VerifierError::Iterations(0)));
        assert!(!is_verifier("md5e3c9c1d1c0bfa2d4b0f7"));
        assert!(!is_verifier("SCRAM-SHA-256$4096:AQID$AAAA:AAAA"));
    }

    #[test]
    fn a_drawn_password_is_known_by_its_salt() {
        let drawn = make_verifier("x", &salt_of_drawn(*b"12345678"), 4096).unwrap();
        assert!(is_of_drawn(&drawn) && is_of_password(&drawn, "x") && !is_of_password(&drawn, "y"));
        let own = make_verifier("x", b"1234567812345678", 4096).unwrap();
        assert!(!is_of_drawn(&own) && is_of_password(&own, "x"));
        let short = make_verifier("x", b"1234", 4096).unwrap();
        for other in [short.as_str(), "md5e3c9c1d1c0bfa2d4b0f7", ""] {
            assert!(!is_of_drawn(other) && !is_of_password(other, "y"));
        }
    }

    #[test]
    fn a_fake_is_stable_and_looks_like_the_user_that_it_stands_for() {
        let secret = Secret([7; 32]);
        let fake = Verifier::fake("a", &secret);
        assert!(fake == Verifier::fake("a", &secret));
        assert!(fake.salt != Verifier::fake("b", &secret).salt);
        assert!(fake.salt != Verifier::fake("a", &Secret([8; 32])).salt);
        let real = make_verifier("secret", &salt_of("a", &secret), DEFAULT_ITERATIONS).unwrap();
        let real = Verifier::parse(&real).unwrap();
        assert_eq!((&fake.salt, fake.iterations), (&real.salt, real.iterations));
        assert!(fake.stored_key != real.stored_key);
    }

    #[test]
    fn a_secret_is_kept_as_text_and_not_shown() {
        let secret = Secret::draw().unwrap();
        assert_eq!(Secret::from_hex(&secret.to_hex()), Some(secret.clone()));
        assert!(!format!("{secret:?}").contains(&secret.to_hex()));
        for bad in [
            "",
            "00",
            &"0".repeat(63),
            &"x".repeat(64),
            &"+1".repeat(32),
            &"é".repeat(32),
        ] {
            assert_eq!(Secret::from_hex(bad), None, "{bad}");
        }
    }

    proptest! {
        #[test]
        fn garbage_never_panics(text in "(SCRAM-SHA-256\\$)?[0-9a-zA-Z:$=+/]{0,120}") {
            let _ = Verifier::parse(&text);
        }
    }
}
