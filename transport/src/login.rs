//! The client's half of authentication, without I/O: who must prove what, and in which order.
//!
//! ```text
//! Begin --SASL--> First --SASLContinue--> Final --SASLFinal, verified--> Proven --Ok--> In
//! Begin --Ok--> In                        only where no proof is asked for
//! ```
//! Everything else ends the connection: a server that skips a step is not the one that knows the password.

use bytes::BytesMut;
use fallible_iterator::FallibleIterator;
use postgres_protocol::authentication::sasl::{ChannelBinding, SCRAM_SHA_256, ScramSha256};
use postgres_protocol::message::backend::{AuthenticationSaslBody, Message};
use postgres_protocol::message::frontend;

use crate::Password;
use crate::link::LinkError;
use crate::scram::{LEAST_ITERATIONS, MAX_ITERATIONS};
use crate::wire::WireError;

/// What the other side has to show before anything is said to it.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum RequireAuth {
    /// That it knows the password, by a completed SCRAM-SHA-256 exchange.
    #[default]
    Scram,
    /// Nothing: whoever answers is believed. An exchange that it begins must be completed all the same.
    Nothing,
}

enum Stage {
    Begin,
    /// The client's first message is sent.
    First(ScramSha256),
    /// The client's proof is sent.
    Final(ScramSha256),
    /// The server's proof is verified.
    Proven,
    In,
}

/// A login that is under way.
pub(crate) struct Login<'a> {
    password: Option<&'a Password>,
    require: RequireAuth,
    stage: Stage,
}

impl<'a> Login<'a> {
    pub fn new(password: Option<&'a Password>, require: RequireAuth) -> Login<'a> {
        Login {
            password: password.filter(|password| !password.reveal().is_empty()),
            require,
            stage: Stage::Begin,
        }
    }

    /// Returns true when both sides are content.
    pub fn is_in(&self) -> bool {
        matches!(self.stage, Stage::In)
    }

    /// Takes a message about authentication and writes the answer, if there is one, to `out`.
    pub fn hear(&mut self, message: &Message, out: &mut BytesMut) -> Result<(), LinkError> {
        use Message as M;
        let stage = std::mem::replace(&mut self.stage, Stage::Begin);
        self.stage = match (stage, message) {
            (Stage::Begin, M::AuthenticationSasl(body)) => self.begin(body, out)?,
            (Stage::First(scram), M::AuthenticationSaslContinue(body)) => prove(scram, body.data(), out)?,
            (Stage::Final(scram), M::AuthenticationSaslFinal(body)) => verify(scram, body.data())?,
            (Stage::Proven, M::AuthenticationOk) => Stage::In,
            (Stage::Begin, M::AuthenticationOk) if self.require == RequireAuth::Nothing => Stage::In,
            (Stage::Begin, M::AuthenticationOk) => return Err(LinkError::Unasked),
            (_, M::AuthenticationOk) => return Err(LinkError::NotGenuine),
            (_, message) => return Err(not_offered(message)),
        };
        Ok(())
    }

    fn begin(&self, body: &AuthenticationSaslBody, out: &mut BytesMut) -> Result<Stage, LinkError> {
        let offered = body.mechanisms().any(|mechanism| Ok(mechanism == SCRAM_SHA_256));
        if !offered.map_err(WireError::Io)? {
            return Err(LinkError::Authentication("an unknown SASL mechanism"));
        }
        let password = self.password.ok_or(LinkError::PasswordNeeded)?;
        let scram = ScramSha256::new(password.reveal().as_bytes(), ChannelBinding::unsupported());
        frontend::sasl_initial_response(SCRAM_SHA_256, scram.message(), out).map_err(WireError::Io)?;
        Ok(Stage::First(scram))
    }
}

fn prove(mut scram: ScramSha256, server_first: &[u8], out: &mut BytesMut) -> Result<Stage, LinkError> {
    // Before a single one is done: many cost us time, few make the password cheap to guess from our proof.
    let iterations = iterations(server_first);
    if !iterations.is_some_and(|count| (LEAST_ITERATIONS..=MAX_ITERATIONS).contains(&count)) {
        return Err(LinkError::Iterations(iterations));
    }
    scram
        .update(server_first)
        .map_err(|error| LinkError::Unexpected(error.to_string()))?;
    frontend::sasl_response(scram.message(), out).map_err(WireError::Io)?;
    Ok(Stage::Final(scram))
}

fn verify(mut scram: ScramSha256, server_final: &[u8]) -> Result<Stage, LinkError> {
    scram.finish(server_final).map_err(|_| LinkError::NotGenuine)?;
    Ok(Stage::Proven)
}

/// Returns the number of iterations that a server's first message asks for.
fn iterations(server_first: &[u8]) -> Option<u32> {
    let text = std::str::from_utf8(server_first).ok()?;
    text.split(',')
        .find_map(|attribute| attribute.strip_prefix("i="))?
        .parse()
        .ok()
}

fn not_offered(message: &Message) -> LinkError {
    match message {
        Message::AuthenticationMd5Password(_) => LinkError::Authentication("an MD5 password"),
        Message::AuthenticationCleartextPassword => LinkError::Authentication("a clear-text password"),
        Message::AuthenticationGss | Message::AuthenticationSspi | Message::AuthenticationKerberosV5 => {
            LinkError::Authentication("GSSAPI")
        }
        _ => LinkError::Unexpected("a message out of order while logging in".into()),
    }
}

#[cfg(test)]
mod tests {
    use bytes::BufMut;

    use super::*;
    use crate::scram::{Exchange, Verifier, make_verifier};
    use crate::wire;

    const SALT: &[u8] = b"0123456789abcdef";

    fn parsed(mut bytes: BytesMut) -> Message {
        Message::parse(&mut bytes).unwrap().unwrap()
    }

    fn made(write: impl FnOnce(&mut BytesMut)) -> Message {
        let mut bytes = BytesMut::new();
        write(&mut bytes);
        parsed(bytes)
    }

    fn sasl() -> Message {
        made(wire::authentication_sasl)
    }

    fn ok() -> Message {
        made(wire::authentication_ok)
    }

    fn going_on(text: &str) -> Message {
        made(|out| wire::authentication_sasl_continue(out, text))
    }

    fn last(text: &str) -> Message {
        made(|out| wire::authentication_sasl_final(out, text))
    }

    /// A server that knows a password, and a client in the middle of its login.
    struct Pair<'a> {
        login: Login<'a>,
        verifier: Verifier,
        exchange: Option<Exchange>,
        said: BytesMut,
    }

    impl<'a> Pair<'a> {
        fn new(password: &'a Password, theirs: &str, require: RequireAuth) -> Pair<'a> {
            Pair {
                login: Login::new(Some(password), require),
                verifier: Verifier::parse(&make_verifier(theirs, SALT, 4096).unwrap()).unwrap(),
                exchange: None,
                said: BytesMut::new(),
            }
        }

        fn hear(&mut self, message: &Message) -> Result<(), LinkError> {
            self.said.clear();
            self.login.hear(message, &mut self.said)
        }

        /// Up to the server's first message, which is returned and not heard yet.
        fn first(&mut self) -> Message {
            self.hear(&sasl()).unwrap();
            let (_, data) = wire::sasl_initial(&self.said[5..]).unwrap();
            let exchange = Exchange::begin(data, "server", &self.verifier).unwrap();
            let message = going_on(exchange.server_first());
            self.exchange = Some(exchange);
            message
        }

        /// The server's last message; what it says of a wrong proof is its own affair.
        fn last(&mut self) -> Message {
            let exchange = self.exchange.as_ref().unwrap();
            last(&exchange.finish(&self.said[5..], &self.verifier).unwrap())
        }
    }

    #[test]
    fn both_sides_prove_themselves() {
        let password = Password::new("secret");
        for require in [RequireAuth::Scram, RequireAuth::Nothing] {
            let mut pair = Pair::new(&password, "secret", require);
            let first = pair.first();
            pair.hear(&first).unwrap();
            let last = pair.last();
            pair.hear(&last).unwrap();
            assert!(!pair.login.is_in(), "it has not let us in yet");
            pair.hear(&ok()).unwrap();
            assert!(pair.login.is_in());
            assert!(pair.hear(&ok()).is_err(), "once is enough");
        }
    }

    #[test]
    fn a_server_that_skips_its_proof_is_refused_wherever_it_skips() {
        let password = Password::new("secret");
        let pair = || Pair::new(&password, "secret", RequireAuth::Scram);
        assert!(matches!(pair().hear(&ok()), Err(LinkError::Unasked)));

        // Also where none is required: an exchange that was begun ends with a proof.
        for require in [RequireAuth::Scram, RequireAuth::Nothing] {
            let mut begun = Pair::new(&password, "secret", require);
            let _ = begun.first();
            assert!(matches!(begun.hear(&ok()), Err(LinkError::NotGenuine)));

            let mut proved = Pair::new(&password, "secret", require);
            let first = proved.first();
            proved.hear(&first).unwrap();
            assert!(matches!(proved.hear(&ok()), Err(LinkError::NotGenuine)));
        }
        let mut early = pair();
        let _ = early.first();
        assert!(early.hear(&last("v=AAAA")).is_err());
        let mut without_a_beginning = pair();
        assert!(without_a_beginning.hear(&going_on("r=x,s=AAAA,i=4096")).is_err());
        let mut again = pair();
        let _ = again.first();
        assert!(again.hear(&sasl()).is_err());
    }

    #[test]
    fn a_wrong_proof_is_refused() {
        let password = Password::new("secret");
        for bad in ["v=AAAA", "v=", "e=invalid-proof", ""] {
            let mut pair = Pair::new(&password, "secret", RequireAuth::Scram);
            let first = pair.first();
            pair.hear(&first).unwrap();
            assert!(
                matches!(pair.hear(&last(bad)), Err(LinkError::NotGenuine)),
                "{bad}"
            );
        }
        let mut pair = Pair::new(&password, "secret", RequireAuth::Scram);
        let first = pair.first();
        pair.hear(&first).unwrap();
        let other = Verifier::parse(&make_verifier("other", SALT, 4096).unwrap()).unwrap();
        let theirs = std::mem::replace(&mut pair.verifier, other);
        let stored = std::mem::replace(&mut pair.verifier.stored_key, theirs.stored_key);
        assert_ne!(stored, theirs.stored_key);
        let last = pair.last();
        assert!(
            matches!(pair.hear(&last), Err(LinkError::NotGenuine)),
            "another server key"
        );
    }

    #[test]
    fn absurd_numbers_of_iterations_are_refused_before_they_are_done() {
        let password = Password::new("secret");
        let attempt = |count: &str| {
            let mut pair = Pair::new(&password, "secret", RequireAuth::Scram);
            let _ = pair.first();
            let exchange = pair.exchange.take().unwrap();
            let text = exchange.server_first().replace("i=4096", &format!("i={count}"));
            pair.hear(&going_on(&text))
        };
        for count in ["4096", "100000"] {
            assert!(attempt(count).is_ok(), "{count}");
        }
        for count in [
            "0",
            "1",
            "4095",
            "100001",
            "4294967295",
            "99999999999999999999",
            "-1",
            "",
        ] {
            assert!(matches!(attempt(count), Err(LinkError::Iterations(_))), "{count}");
        }
    }

    #[test]
    fn a_nonce_that_is_not_ours_is_refused() {
        let password = Password::new("secret");
        let mut pair = Pair::new(&password, "secret", RequireAuth::Scram);
        let _ = pair.first();
        let foreign = going_on("r=somebodyelse,s=MDEyMzQ1Njc4OWFiY2RlZg==,i=4096");
        assert!(pair.hear(&foreign).is_err());
    }

    #[test]
    fn nothing_but_scram_is_answered() {
        let password = Password::new("secret");
        let request = |code: u32| {
            made(|out| {
                out.put_slice(b"R\0\0\0\x08");
                out.put_u32(code);
            })
        };
        for code in [2, 3, 7, 9] {
            for require in [RequireAuth::Scram, RequireAuth::Nothing] {
                let mut pair = Pair::new(&password, "secret", require);
                let result = pair.hear(&request(code));
                assert!(matches!(result, Err(LinkError::Authentication(_))), "{code}");
                assert!(pair.said.is_empty());
            }
        }
        let md5 = made(|out| out.put_slice(b"R\0\0\0\x0c\0\0\0\x05salt"));
        let mut pair = Pair::new(&password, "secret", RequireAuth::Scram);
        assert!(matches!(pair.hear(&md5), Err(LinkError::Authentication(_))));
        let plus = made(|out| {
            out.put_slice(b"R\0\0\0\x1c\0\0\0\x0aSCRAM-SHA-256-PLUS\0\0");
        });
        let mut pair = Pair::new(&password, "secret", RequireAuth::Scram);
        assert!(matches!(pair.hear(&plus), Err(LinkError::Authentication(_))));
    }

    #[test]
    fn without_a_password_nothing_is_answered() {
        let empty = Password::new("");
        for password in [None, Some(&empty)] {
            let mut out = BytesMut::new();
            let mut login = Login::new(password, RequireAuth::Scram);
            assert!(matches!(
                login.hear(&sasl(), &mut out),
                Err(LinkError::PasswordNeeded)
            ));
            assert!(out.is_empty());
            let mut login = Login::new(password, RequireAuth::Scram);
            assert!(matches!(login.hear(&ok(), &mut out), Err(LinkError::Unasked)));
            let mut login = Login::new(password, RequireAuth::Nothing);
            login.hear(&ok(), &mut out).unwrap();
            assert!(login.is_in());
        }
    }
}
