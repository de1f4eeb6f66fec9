//! The server's half of one SCRAM exchange, without I/O.

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use sha2::{Digest, Sha256};
use subtle::ConstantTimeEq;

use super::{Verifier, hmac};

/// Longest nonce of a client, bytes.
const MAX_NONCE: usize = 256;

/// The exchange failed.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub(crate) enum ExchangeError {
    #[error("malformed SCRAM message: {0}")]
    Malformed(&'static str),
    #[error("the client asks for channel binding, which needs TLS")]
    ChannelBinding,
    #[error("the proof is wrong")]
    WrongProof,
}

/// An exchange after the client's first message.
#[derive(Debug)]
pub(crate) struct Exchange {
    /// `n,,` or `y,,` as the client sent it.
    gs2_header: String,
    client_first_bare: String,
    /// What goes to the client.
    server_first: String,
    nonce: String,
}

impl Exchange {
    /// Reads the client's first message. `server_nonce` is random, printable, without comma.
    pub fn begin(
        client_first: &[u8],
        server_nonce: &str,
        verifier: &Verifier,
    ) -> Result<Exchange, ExchangeError> {
        let text = std::str::from_utf8(client_first).map_err(|_| ExchangeError::Malformed("not UTF-8"))?;
        let (binding, rest) = text
            .split_once(',')
            .ok_or(ExchangeError::Malformed("no header"))?;
        match binding {
            "n" | "y" => {}
            _ if binding.starts_with("p=") => return Err(ExchangeError::ChannelBinding),
            _ => return Err(ExchangeError::Malformed("bad channel-binding flag")),
        }
        // Empty: acting for somebody else is not offered.
        let bare = rest
            .strip_prefix(',')
            .ok_or(ExchangeError::Malformed("an authorization identity"))?;
        let mut attributes = bare.split(',');
        // The user name here is ignored, as Postgres does: the start-up packet has it.
        if !attributes.next().is_some_and(|user| user.starts_with("n=")) {
            return Err(ExchangeError::Malformed("no user, or a mandatory extension"));
        }
        let nonce = attributes
            .next()
            .and_then(|attribute| attribute.strip_prefix("r="))
            .filter(|nonce| (1..=MAX_NONCE).contains(&nonce.len()))
            .filter(|nonce| nonce.bytes().all(|b| b.is_ascii_graphic()))
            .ok_or(ExchangeError::Malformed("bad nonce"))?;
        let nonce = format!("{nonce}{server_nonce}");
        let server_first = format!(
            "r={nonce},s={},i={}",
            STANDARD.encode(&verifier.salt),
            verifier.iterations
        );
        Ok(Exchange {
            gs2_header: format!("{binding},,"),
            client_first_bare: bare.to_owned(),
            server_first,
            nonce,
        })
    }

    /// What the server says to the client's first message.
    pub fn server_first(&self) -> &str {
        &self.server_first
    }

    /// Checks the client's last message and returns what the server says to it.
    pub fn finish(&self, client_final: &[u8], verifier: &Verifier) -> Result<String, ExchangeError> {
        let text = std::str::from_utf8(client_final).map_err(|_| ExchangeError::Malformed("not UTF-8"))?;
        let (without_proof, proof) = text
            .rsplit_once(",p=")
            .ok_or(ExchangeError::Malformed("no proof"))?;
        let proof: [u8; 32] = STANDARD
            .decode(proof)
            .ok()
            .and_then(|bytes| bytes.try_into().ok())
            .ok_or(ExchangeError::Malformed("bad proof"))?;
        let mut attributes = without_proof.split(',');
        let binding = attributes
            .next()
            .and_then(|a| a.strip_prefix("c="))
            .ok_or(ExchangeError::Malformed("no binding"))?;
        if binding != STANDARD.encode(&self.gs2_header) {
            return Err(ExchangeError::Malformed("another channel binding than at first"));
        }
        if attributes.next().and_then(|a| a.strip_prefix("r=")) != Some(self.nonce.as_str()) {
            return Err(ExchangeError::Malformed("another nonce"));
        }
        let message: [&[u8]; 5] = [
            self.client_first_bare.as_bytes(),
            b",",
            self.server_first.as_bytes(),
            b",",
            without_proof.as_bytes(),
        ];
        let signature = hmac(&verifier.stored_key, &message);
        let mut client_key = proof;
        for (byte, mask) in client_key.iter_mut().zip(signature) {
            *byte ^= mask;
        }
        let stored_key: [u8; 32] = Sha256::digest(client_key).into();
        if !bool::from(stored_key.ct_eq(&verifier.stored_key)) {
            return Err(ExchangeError::WrongProof);
        }
        Ok(format!(
            "v={}",
            STANDARD.encode(hmac(&verifier.server_key, &message))
        ))
    }
}

#[cfg(test)]
mod tests {
    use postgres_protocol::authentication::sasl::{ChannelBinding, ScramSha256};
    use proptest::prelude::*;

    use super::super::{Secret, make_verifier};
    use super::*;

    fn verifier(password: &str) -> Verifier {
        Verifier::parse(&make_verifier(password, b"0123456789abcdef", 64).unwrap()).unwrap()
    }

    fn run(password: &str, verifier: &Verifier) -> Result<(), ExchangeError> {
        let mut client = ScramSha256::new(password.as_bytes(), ChannelBinding::unsupported());
        let exchange = Exchange::begin(client.message(), "abcdef", verifier)?;
        client.update(exchange.server_first().as_bytes()).unwrap();
        let last = exchange.finish(client.message(), verifier)?;
        client
            .finish(last.as_bytes())
            .expect("the client must believe the server");
        Ok(())
    }

    #[test]
    fn the_vectors_of_rfc_7677() {
        let salt = STANDARD.decode("W22ZaJ0SNY7soEsUEjb6gQ==").unwrap();
        let verifier = Verifier::parse(&make_verifier("pencil", &salt, 4096).unwrap()).unwrap();
        let exchange = Exchange::begin(
            b"n,,n=user,r=rOprNGfwEbeRWgbNEkqO",
            "%hvYDpWUa2RaTCAfuxFIlj)hNlF$k0",
            &verifier,
        )
        .unwrap();
        assert_eq!(
            exchange.server_first(),
            "r=rOprNGfwEbeRWgbNEkqO%hvYDpWUa2RaTCAfuxFIlj)hNlF$k0,s=W22ZaJ0SNY7soEsUEjb6gQ==,i=4096"
        );
        let last = exchange.finish(
            b"c=biws,r=rOprNGfwEbeRWgbNEkqO%hvYDpWUa2RaTCAfuxFIlj)hNlF$k0,p=dHzbZapWIk4jUhN+Ute9ytag9zjfMHgsqmmiz7AndVQ=",
            &verifier,
        );
        assert_eq!(last.unwrap(), "v=6rriTRBi23WpRR/wtup+mMhUZUn/dB5nLTJRsjl95G4=");
    }

    #[test]
    fn the_client_of_postgres_protocol_gets_in_with_the_right_password_only() {
        let right = verifier("correct horse");
        assert_eq!(run("correct horse", &right), Ok(()));
        assert_eq!(run("wrong", &right), Err(ExchangeError::WrongProof));
        assert_eq!(
            run("correct horse", &Verifier::fake("x", &Secret::draw().unwrap())),
            Err(ExchangeError::WrongProof)
        );
    }

    #[test]
    fn passwords_are_normalized_as_the_client_does() {
        for password in ["Grüße", "ﬁ", "\u{ad}soft", "a b\u{a0}c", "\u{7}bell"] {
            assert_eq!(run(password, &verifier(password)), Ok(()), "{password:?}");
        }
    }

    #[test]
    fn tampered_messages_are_refused() {
        let right = verifier("pw");
        assert_eq!(
            Exchange::begin(b"p=tls-server-end-point,,n=,r=abc", "x", &right).unwrap_err(),
            ExchangeError::ChannelBinding
        );
        for bad in [
            &b""[..],
            b"n",
            b"n,,",
            b"n,a=root,n=,r=abc",
            b"n,,m=1,n=,r=abc",
            b"n,,n=,r=",
            b"n,,n=,r=a b",
        ] {
            assert!(
                matches!(
                    Exchange::begin(bad, "x", &right),
                    Err(ExchangeError::Malformed(_))
                ),
                "{bad:?}"
            );
        }
        let mut client = ScramSha256::new(b"pw", ChannelBinding::unsupported());
        let exchange = Exchange::begin(client.message(), "x", &right).unwrap();
        client.update(exchange.server_first().as_bytes()).unwrap();
        let good = String::from_utf8(client.message().to_vec()).unwrap();
        assert!(exchange.finish(good.as_bytes(), &right).is_ok());
        for bad in [
            good.replace("c=biws", "c=eSws"),
            good.replace("r=", "r=z"),
            good.replace(",p=", ",q="),
        ] {
            assert!(exchange.finish(bad.as_bytes(), &right).is_err(), "{bad}");
        }
    }

    proptest! {
        #[test]
        fn garbage_never_panics(first in proptest::collection::vec(any::<u8>(), 0..80), last in "c=[a-z]{0,4},r=[a-z]{0,9},p=[a-zA-Z=]{0,50}") {
            let right = verifier("pw");
            let _ = Exchange::begin(&first, "x", &right);
            let exchange = Exchange::begin(b"n,,n=,r=abc", "x", &right).unwrap();
            prop_assert!(exchange.finish(last.as_bytes(), &right).is_err());
            prop_assert!(exchange.finish(&first, &right).is_err());
        }
    }
}
