//! Messages that a client sends, as a server reads them.

use std::collections::BTreeMap;

use super::{WireError, take_cstr};

/// Parameters in one start-up packet.
const MAX_PARAMETERS: usize = 100;

/// What the first packet of a connection wants.
#[derive(Debug, PartialEq, Eq)]
pub(crate) enum FirstPacket {
    /// TLS, please.
    Ssl,
    /// GSSAPI encryption, please.
    Gss,
    /// Cancel what another connection does.
    Cancel,
    /// A session.
    Startup(Startup),
    /// A protocol version other than 3.
    Version(u32),
}

/// The parameters of a session.
#[derive(Debug, Default, PartialEq, Eq)]
pub(crate) struct Startup {
    /// Minor version of protocol 3 that the client would like.
    pub minor: u16,
    /// Parameters by name.
    pub parameters: BTreeMap<String, String>,
    /// Names of the protocol options (`_pq_.`), none of which is known here.
    pub options: Vec<String>,
}

impl FirstPacket {
    /// Reads the bytes after the length.
    pub fn parse(body: &[u8]) -> Result<FirstPacket, WireError> {
        let bad = WireError::Malformed("start-up packet");
        let Some((code, mut rest)) = body.split_first_chunk::<4>() else {
            return Err(bad);
        };
        let code = u32::from_be_bytes(*code);
        match (code >> 16, code & 0xffff) {
            (1234, 5678) => return Ok(FirstPacket::Cancel),
            (1234, 5679) => return Ok(FirstPacket::Ssl),
            (1234, 5680) => return Ok(FirstPacket::Gss),
            (3, _) => {}
            _ => return Ok(FirstPacket::Version(code)),
        }
        let mut startup = Startup {
            minor: (code & 0xffff) as u16,
            ..Startup::default()
        };
        loop {
            let Some(name) = take_cstr(&mut rest) else {
                return Err(bad);
            };
            if name.is_empty() {
                break;
            }
            let Some(value) = take_cstr(&mut rest) else {
                return Err(bad);
            };
            if startup.parameters.len() + startup.options.len() >= MAX_PARAMETERS {
                return Err(bad);
            }
            if name.starts_with("_pq_.") {
                startup.options.push(name.to_owned());
            } else {
                startup.parameters.insert(name.to_owned(), value.to_owned());
            }
        }
        if rest.is_empty() {
            Ok(FirstPacket::Startup(startup))
        } else {
            Err(bad)
        }
    }
}

/// Reads a `SASLInitialResponse`: mechanism and data.
pub(crate) fn sasl_initial(mut body: &[u8]) -> Result<(&str, &[u8]), WireError> {
    let bad = WireError::Malformed("SASL initial response");
    let Some(mechanism) = take_cstr(&mut body) else {
        return Err(bad);
    };
    let Some((length, data)) = body.split_first_chunk::<4>() else {
        return Err(bad);
    };
    if usize::try_from(u32::from_be_bytes(*length)) == Ok(data.len()) {
        Ok((mechanism, data))
    } else {
        Err(bad)
    }
}

/// Reads the text of a message whose body is one zero-terminated text (`Query`, `CopyFail`).
pub(crate) fn text(mut body: &[u8]) -> Result<&str, WireError> {
    match take_cstr(&mut body) {
        Some(text) if body.is_empty() => Ok(text),
        _ => Err(WireError::Malformed("text")),
    }
}

#[cfg(test)]
mod tests {
    use bytes::BytesMut;
    use postgres_protocol::message::frontend;
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn a_start_up_packet_of_postgres_protocol_is_read() {
        let mut packet = BytesMut::new();
        frontend::startup_message(
            [("user", "alice"), ("database", "shop"), ("_pq_.x", "1")],
            &mut packet,
        )
        .unwrap();
        let Ok(FirstPacket::Startup(startup)) = FirstPacket::parse(&packet[4..]) else {
            panic!()
        };
        assert_eq!(startup.minor, 0);
        assert_eq!(startup.parameters["user"], "alice");
        assert_eq!(startup.parameters["database"], "shop");
        assert_eq!(startup.options, ["_pq_.x"]);
        packet.clear();
        frontend::ssl_request(&mut packet);
        assert_eq!(FirstPacket::parse(&packet[4..]).unwrap(), FirstPacket::Ssl);
    }

    #[test]
    fn damaged_start_up_packets_are_refused() {
        let good = b"\0\x03\0\0user\0alice\0\0";
        assert!(FirstPacket::parse(good).is_ok());
        for cut in 0..good.len() {
            assert!(FirstPacket::parse(&good[..cut]).is_err(), "{cut}");
        }
        assert!(FirstPacket::parse(b"\0\x03\0\0user\0alice\0\0x").is_err());
        let many: Vec<u8> = b"\0\x03\0\0"
            .iter()
            .copied()
            .chain((0..200).flat_map(|i| format!("p{i}\0v\0").into_bytes()))
            .chain([0])
            .collect();
        assert!(FirstPacket::parse(&many).is_err());
    }

    proptest! {
        #[test]
        fn garbage_never_panics(bytes in proptest::collection::vec(any::<u8>(), 0..300)) {
            let _ = FirstPacket::parse(&bytes);
            let _ = sasl_initial(&bytes);
            let _ = text(&bytes);
        }
    }
}
