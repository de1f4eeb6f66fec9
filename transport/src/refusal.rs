//! A clear no from the other side: SQLSTATE, message, detail, hint.

use std::fmt;

use bytes::{BufMut, BytesMut};
use fallible_iterator::FallibleIterator;
use postgres_protocol::message::backend::ErrorFields;

use crate::TransportError;

/// Longest text of one field that is sent; longer ones are cut.
const MAX_FIELD: usize = 8 * 1024;

/// What our servers put in the "routine" field, so that a client knows that it is not Postgres who refused.
const MARK: &str = "neon";

/// The SQLSTATE codes that this crate itself sends or looks at. A service may use any other.
pub mod sqlstate {
    /// The connection broke.
    pub const CONNECTION_FAILURE: &str = "08006";
    /// The peer said something that the protocol does not allow.
    pub const PROTOCOL_VIOLATION: &str = "08P01";
    /// The peer asks for something that is not built.
    pub const FEATURE_NOT_SUPPORTED: &str = "0A000";
    /// The user may not come in.
    pub const INVALID_AUTHORIZATION: &str = "28000";
    /// User or password is wrong; which of the two is not said.
    pub const INVALID_PASSWORD: &str = "28P01";
    /// No such repository.
    pub const UNKNOWN_DATABASE: &str = "3D000";
    /// The user may not do this.
    pub const INSUFFICIENT_PRIVILEGE: &str = "42501";
    /// The command line was not understood.
    pub const SYNTAX_ERROR: &str = "42601";
    /// A name that cannot be.
    pub const INVALID_NAME: &str = "42602";
    /// The named thing does not exist (in Postgres: a replication slot).
    pub const UNDEFINED_OBJECT: &str = "42704";
    /// The named thing exists already (in Postgres: a replication slot).
    pub const DUPLICATE_OBJECT: &str = "42710";
    /// A limit on what may be kept (in Postgres: a limit that was configured).
    pub const TOO_MANY_REPOSITORIES: &str = "53400";
    /// So many log in at one time that this login gave way: try again.
    pub const INSUFFICIENT_RESOURCES: &str = "53000";
    /// All connections are taken.
    pub const TOO_MANY_CONNECTIONS: &str = "53300";
    /// The thing is not in a state that allows this (here: the two histories have diverged, an endpoint runs).
    pub const OBJECT_NOT_IN_STATE: &str = "55000";
    /// Somebody else uses it.
    pub const OBJECT_IN_USE: &str = "55006";
    /// The peer gave up.
    pub const QUERY_CANCELED: &str = "57014";
    /// The server shuts down.
    pub const ADMIN_SHUTDOWN: &str = "57P01";
    /// The server starts up, shuts down or recovers: try again.
    pub const CANNOT_CONNECT_NOW: &str = "57P03";
    /// The session was idle for too long.
    pub const IDLE_SESSION_TIMEOUT: &str = "57P05";
    /// A file that is needed is gone (in Postgres: the requested WAL segment).
    pub const UNDEFINED_FILE: &str = "58P01";
    /// A bug.
    pub const INTERNAL_ERROR: &str = "XX000";
}

/// Why the other side did not do what it was asked, as an `ErrorResponse` carries it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Refusal {
    /// Five characters, see [`sqlstate`].
    pub code: String,
    /// One sentence.
    pub message: String,
    /// More about it.
    pub detail: Option<String>,
    /// What to do next.
    pub hint: Option<String>,
}

impl Refusal {
    /// Returns a refusal without detail and hint. A code that is not five ASCII letters or digits becomes `XX000`.
    pub fn new(code: &str, message: impl Into<String>) -> Refusal {
        Refusal {
            code: checked_code(code).to_owned(),
            message: message.into(),
            detail: None,
            hint: None,
        }
    }

    /// Returns the refusal with `hint`.
    pub fn with_hint(mut self, hint: impl Into<String>) -> Refusal {
        self.hint = Some(hint.into());
        self
    }

    /// Returns the refusal with `detail`.
    pub fn with_detail(mut self, detail: impl Into<String>) -> Refusal {
        self.detail = Some(detail.into());
        self
    }

    /// Appends an `ErrorResponse` of severity `ERROR` or, when the connection ends with it, `FATAL`.
    pub(crate) fn encode(&self, fatal: bool, out: &mut BytesMut) {
        let severity = if fatal { "FATAL" } else { "ERROR" };
        let start = out.len();
        out.put_slice(b"E\0\0\0\0");
        let mut field = |tag: u8, text: &str| {
            out.put_u8(tag);
            out.extend(clipped(text).bytes().filter(|&byte| byte != 0));
            out.put_u8(0);
        };
        field(b'S', severity);
        field(b'V', severity);
        field(b'C', &self.code);
        field(b'M', &self.message);
        if let Some(detail) = &self.detail {
            field(b'D', detail);
        }
        if let Some(hint) = &self.hint {
            field(b'H', hint);
        }
        field(b'R', MARK);
        out.put_u8(0);
        crate::wire::set_length(out, start);
    }

    /// Reads the fields of an `ErrorResponse`. Returns the refusal and whether a neon server made it.
    pub(crate) fn decode(fields: ErrorFields<'_>) -> std::io::Result<(Refusal, bool)> {
        let mut refusal = Refusal::new(sqlstate::INTERNAL_ERROR, "");
        let mut ours = false;
        let mut fields = fields;
        while let Some(field) = fields.next()? {
            let text = neon_types::on_lines(&String::from_utf8_lossy(field.value_bytes()));
            match field.type_() {
                b'C' => refusal.code = checked_code(&text).to_owned(),
                b'M' => refusal.message = text,
                b'D' => refusal.detail = Some(text),
                b'H' => refusal.hint = Some(text),
                b'R' => ours = text == MARK,
                _ => {}
            }
        }
        Ok((refusal, ours))
    }

    /// The text of a `CopyFail`: code, message, and the hint on a line of its own.
    pub(crate) fn to_copy_fail(&self) -> String {
        let mut text = format!("{} {}", self.code, clipped(&self.message));
        if let Some(hint) = &self.hint {
            text.push_str("\nHINT:  ");
            text.push_str(clipped(hint));
        }
        text.retain(|c| c != '\0');
        text
    }

    /// Reads what [`Refusal::to_copy_fail`] wrote, or takes any other text as the message.
    pub(crate) fn from_copy_fail(text: &str) -> Refusal {
        let text = neon_types::on_lines(text);
        let (code, text) = match text.split_once(' ') {
            Some((code, rest)) if is_code(code) => (code, rest),
            _ => (sqlstate::QUERY_CANCELED, text.as_str()),
        };
        match text.split_once("\nHINT:  ") {
            Some((message, hint)) => Refusal::new(code, message).with_hint(hint),
            None => Refusal::new(code, text),
        }
    }
}

fn is_code(code: &str) -> bool {
    code.len() == 5 && code.bytes().all(|b| b.is_ascii_uppercase() || b.is_ascii_digit())
}

fn checked_code(code: &str) -> &str {
    if is_code(code) {
        code
    } else {
        sqlstate::INTERNAL_ERROR
    }
}

/// At most [`MAX_FIELD`] bytes of `text`, whole characters.
fn clipped(text: &str) -> &str {
    let mut end = text.len().min(MAX_FIELD);
    while !text.is_char_boundary(end) {
        end -= 1;
    }
    text.get(..end).unwrap_or_default()
}

impl fmt::Display for Refusal {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.message)?;
        if let Some(detail) = &self.detail {
            write!(f, " ({detail})")?;
        }
        Ok(())
    }
}

impl std::error::Error for Refusal {}

/// So that a service may use `?` on its channel: the session ends anyway when the connection is gone.
impl From<TransportError> for Refusal {
    fn from(error: TransportError) -> Refusal {
        match error {
            TransportError::Refused(refusal) => refusal,
            TransportError::Cut { .. } => Refusal::new(sqlstate::CONNECTION_FAILURE, error.to_string()),
            TransportError::Protocol { .. } | TransportError::FrameTooLarge { .. } => {
                Refusal::new(sqlstate::PROTOCOL_VIOLATION, error.to_string())
            }
            other => Refusal::new(sqlstate::INTERNAL_ERROR, other.to_string()),
        }
    }
}

#[cfg(test)]
mod tests {
    use postgres_protocol::message::backend::Message;
    use proptest::prelude::*;

    use super::*;

    fn decoded(bytes: &mut BytesMut) -> (Refusal, bool) {
        match Message::parse(bytes).unwrap().unwrap() {
            Message::ErrorResponse(body) => Refusal::decode(body.fields()).unwrap(),
            _ => panic!("not an ErrorResponse"),
        }
    }

    #[test]
    fn an_error_response_keeps_everything_and_carries_our_mark() {
        let refusal = Refusal::new("55000", "branch 'main' has diverged")
            .with_detail("2 commits here, 1 there")
            .with_hint("neon fetch");
        let mut bytes = BytesMut::new();
        refusal.encode(false, &mut bytes);
        assert_eq!(decoded(&mut bytes), (refusal, true));
        assert!(bytes.is_empty());
    }

    #[test]
    fn control_characters_of_a_peer_are_not_passed_on() {
        let mut bytes = BytesMut::new();
        Refusal::new("55000", "a\u{1b}[31mb\0c\nd").encode(true, &mut bytes);
        assert_eq!(decoded(&mut bytes).0.message, "a\u{fffd}[31mbc\nd");
    }

    #[test]
    fn a_copy_fail_of_libpq_is_a_message() {
        let refusal = Refusal::from_copy_fail("aborted by user");
        assert_eq!(
            (refusal.code.as_str(), refusal.message.as_str()),
            ("57014", "aborted by user")
        );
    }

    proptest! {
        #[test]
        fn any_refusal_survives_the_wire(message in "\\PC{0,200}", hint in proptest::option::of("[a-z ]{1,50}")) {
            let message: String = message.chars().filter(|c| neon_types::is_printable(*c)).collect();
            let refusal = Refusal { hint, ..Refusal::new("55000", message) };
            let mut bytes = BytesMut::new();
            refusal.encode(true, &mut bytes);
            prop_assert_eq!(decoded(&mut bytes).0, refusal.clone());
            prop_assert_eq!(Refusal::from_copy_fail(&refusal.to_copy_fail()), refusal);
        }

        #[test]
        fn a_huge_message_is_clipped_at_a_character(text in "[ä€a]{0,9000}") {
            prop_assert!(clipped(&text).len() <= MAX_FIELD);
            prop_assert!(text.starts_with(clipped(&text)));
        }
    }
}
