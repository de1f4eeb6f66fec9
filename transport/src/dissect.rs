//! Each thing that a peer can send, read from bytes without a connection. Feature `testing`.

use bytes::{Bytes, BytesMut};
use fallible_iterator::FallibleIterator;
use postgres_protocol::message::backend;

use crate::Refusal;
use crate::replication::reads_message;
use crate::scram::{Exchange, Verifier, make_verifier};
use crate::wire::{FirstPacket, decode, sasl_initial, text};

/// Body limit that is asked for, bytes.
const LIMIT: usize = 64 * 1024;

/// What bytes are to be read as.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Piece {
    /// The body of the first packet of a connection.
    StartUp,
    /// The body of a `SASLInitialResponse`.
    SaslInitial,
    /// The body of a message of one text.
    Text,
    /// A whole message of a server.
    ServerMessage,
    /// The body of one `CopyData` of a replication stream.
    Replication,
    /// A stored SCRAM verifier.
    Verifier,
    /// A client's first and last SCRAM message, with a newline between them.
    Scram,
}

impl Piece {
    /// Every one.
    pub const ALL: [Piece; 7] = [
        Piece::StartUp,
        Piece::SaslInitial,
        Piece::Text,
        Piece::ServerMessage,
        Piece::Replication,
        Piece::Verifier,
        Piece::Scram,
    ];

    /// Returns true when the bytes are one.
    pub fn reads(self, bytes: &[u8]) -> bool {
        match self {
            Piece::StartUp => FirstPacket::parse(bytes).is_ok(),
            Piece::SaslInitial => sasl_initial(bytes).is_ok(),
            Piece::Text => text(bytes).is_ok(),
            Piece::ServerMessage => server_message(bytes),
            Piece::Replication => reads_message(Bytes::copy_from_slice(bytes)),
            Piece::Verifier => std::str::from_utf8(bytes).is_ok_and(|text| Verifier::parse(text).is_ok()),
            Piece::Scram => scram(bytes).is_some(),
        }
    }
}

fn server_message(bytes: &[u8]) -> bool {
    let Ok(Some(message)) = decode(&mut BytesMut::from(bytes), |_| Some(LIMIT)) else {
        return false;
    };
    match message.parse() {
        Ok(backend::Message::ErrorResponse(body)) => Refusal::decode(body.fields()).is_ok(),
        Ok(backend::Message::RowDescription(body)) => body.fields().count().is_ok(),
        Ok(backend::Message::DataRow(body)) => body.ranges().count().is_ok(),
        Ok(backend::Message::AuthenticationSasl(body)) => body.mechanisms().count().is_ok(),
        Ok(_) => true,
        Err(_) => false,
    }
}

/// Goes through an exchange with the verifier of a known password; `None` when it breaks off.
fn scram(bytes: &[u8]) -> Option<()> {
    let (first, last) = bytes.split_at_checked(bytes.iter().position(|byte| *byte == b'\n')?)?;
    let verifier = Verifier::parse(&make_verifier("secret", b"0123456789abcdef", 1).ok()?).ok()?;
    let exchange = Exchange::begin(first, "nonce", &verifier).ok()?;
    exchange.finish(last.get(1..)?, &verifier).ok().map(|_| ())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn good_pieces_are_read_and_others_are_not() {
        let good: [(Piece, &[u8]); 6] = [
            (Piece::StartUp, b"\0\x03\0\0user\0alice\0\0"),
            (Piece::SaslInitial, b"SCRAM-SHA-256\0\0\0\0\x02n,"),
            (Piece::Text, b"help\0"),
            (Piece::ServerMessage, b"Z\0\0\0\x05I"),
            (Piece::Replication, b"k\0\0\0\0\0\0\0\x10\0\0\0\0\0\0\0\0\x01"),
            (Piece::ServerMessage, b"D\0\0\0\x0b\0\x01\0\0\0\x01x"),
        ];
        for (piece, bytes) in good {
            assert!(piece.reads(bytes), "{piece:?}");
            let cut = bytes.get(..bytes.len() - 1).unwrap();
            assert!(!piece.reads(cut), "{piece:?} cut");
        }
        let verifier = make_verifier("secret", b"0123456789abcdef", 4096).unwrap();
        assert!(Piece::Verifier.reads(verifier.as_bytes()));
        assert!(!Piece::Scram.reads(b"n,,n=,r=abc\nc=biws,r=abcnonce,p=AAAA"));
    }
}
