//! Names of objects (BLAKE3), timelines and repositories.

use std::fmt;
use std::str::FromStr;

use serde::{Deserialize, Serialize};

/// The BLAKE3 of an object's bytes: 32 bytes, printed as 64 hex digits.
///
/// On disk and on the wire always the 32 raw bytes; in memory gix's id type, whose abbreviation logic we use.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct ObjectId(gix_hash::ObjectId);

impl ObjectId {
    /// Wraps 32 raw bytes.
    pub fn from_bytes(bytes: [u8; 32]) -> ObjectId {
        ObjectId(gix_hash::ObjectId::from(bytes))
    }

    /// Returns the 32 raw bytes.
    pub fn to_bytes(self) -> [u8; 32] {
        let mut bytes = [0; 32];
        for (to, from) in bytes.iter_mut().zip(self.0.as_bytes()) {
            *to = *from;
        }
        bytes
    }

    /// Returns the first 12 hex digits, the form that people see.
    pub fn short(self) -> String {
        self.0.to_hex_with_len(12).to_string()
    }
}

impl fmt::Display for ObjectId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}", self.0)
    }
}

impl fmt::Debug for ObjectId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}", self.0)
    }
}

/// The text was not an id of the expected length in hex digits.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("'{text}' is not {what}")]
pub struct ParseIdError {
    text: String,
    what: &'static str,
}

impl FromStr for ObjectId {
    type Err = ParseIdError;
    fn from_str(text: &str) -> Result<ObjectId, ParseIdError> {
        let bytes = hex_bytes::<32>(text).ok_or_else(|| ParseIdError {
            text: text.to_owned(),
            what: "an object id (64 hex digits)",
        })?;
        Ok(ObjectId::from_bytes(bytes))
    }
}

/// An abbreviated object id of 4 to 64 hex digits.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Prefix(gix_hash::Prefix);

impl Prefix {
    /// Returns true when `id` begins with these digits.
    pub fn matches(&self, id: ObjectId) -> bool {
        self.0.cmp_oid(&id.0).is_eq()
    }
}

impl fmt::Display for Prefix {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}", self.0)
    }
}

impl FromStr for Prefix {
    type Err = ParseIdError;
    fn from_str(text: &str) -> Result<Prefix, ParseIdError> {
        gix_hash::Prefix::from_hex(text)
            .map(Prefix)
            .map_err(|_| ParseIdError {
                text: text.to_owned(),
                what: "an abbreviated id (4 to 64 hex digits)",
            })
    }
}

macro_rules! object_id_type {
    ($(#[$doc:meta])* $name:ident) => {
        $(#[$doc])*
        #[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
        pub struct $name(pub ObjectId);

        impl $name {
            /// Returns the first 12 hex digits, the form that people see.
            pub fn short(self) -> String {
                self.0.short()
            }
        }

        impl fmt::Display for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                self.0.fmt(f)
            }
        }

        impl FromStr for $name {
            type Err = ParseIdError;
            fn from_str(text: &str) -> Result<$name, ParseIdError> {
                text.parse().map($name)
            }
        }

        serde_as_text!($name);
    };
}

macro_rules! serde_as_text {
    ($name:ident) => {
        impl Serialize for $name {
            fn serialize<S: serde::Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
                serializer.collect_str(self)
            }
        }

        impl<'de> Deserialize<'de> for $name {
            fn deserialize<D: serde::Deserializer<'de>>(deserializer: D) -> Result<$name, D::Error> {
                String::deserialize(deserializer)?
                    .parse()
                    .map_err(serde::de::Error::custom)
            }
        }
    };
}

serde_as_text!(ObjectId);
object_id_type!(/** Names a commit. */ CommitId);
object_id_type!(/** Names a sealed layer. */ LayerId);
object_id_type!(/** Names a layer map: the layers that serve one timeline in one repository. */ LayerMapId);

macro_rules! random_id_type {
    ($(#[$doc:meta])* $name:ident, $what:literal) => {
        $(#[$doc])*
        #[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
        pub struct $name(pub [u8; 16]);

        impl $name {
            /// Returns the first 8 hex digits, the form that people see.
            pub fn short(self) -> String {
                self.to_string().chars().take(8).collect()
            }
        }

        impl fmt::Display for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                for byte in self.0 {
                    write!(f, "{byte:02x}")?;
                }
                Ok(())
            }
        }

        impl fmt::Debug for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                write!(f, "{self}")
            }
        }

        impl FromStr for $name {
            type Err = ParseIdError;
            fn from_str(text: &str) -> Result<$name, ParseIdError> {
                hex_bytes::<16>(text)
                    .map($name)
                    .ok_or_else(|| ParseIdError { text: text.to_owned(), what: $what })
            }
        }

        serde_as_text!($name);
    };
}

random_id_type!(
    /// Names a timeline: one linear WAL history with one writing repository for ever.
    TimelineId,
    "a timeline id (32 hex digits)"
);
random_id_type!(
    /// Names a repository; drawn when it is made.
    RepoId,
    "a repository id (32 hex digits)"
);

fn hex_bytes<const N: usize>(text: &str) -> Option<[u8; N]> {
    let digits = text.as_bytes();
    if digits.len() != N * 2 {
        return None;
    }
    let mut bytes = [0; N];
    for (byte, pair) in bytes.iter_mut().zip(digits.chunks_exact(2)) {
        let digit = |index: usize| pair.get(index).and_then(|d| char::from(*d).to_digit(16));
        *byte = u8::try_from(digit(0)? << 4 | digit(1)?).ok()?;
    }
    Some(bytes)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_object_id_round_trips_and_abbreviates() {
        let id = ObjectId::from_bytes([0xab; 32]);
        assert_eq!(id.to_string(), "ab".repeat(32));
        assert_eq!(id.to_string().parse(), Ok(id));
        assert_eq!(id.to_bytes(), [0xab; 32]);
        assert_eq!(id.short(), "abababababab");
        let prefix: Prefix = "ababa".parse().expect("five hex digits");
        assert!(prefix.matches(id));
        assert!(!prefix.matches(ObjectId::from_bytes([0xac; 32])));
        assert!("aba".parse::<Prefix>().is_err());
        assert!("zzzz".parse::<Prefix>().is_err());
        assert!("zz".repeat(32).parse::<ObjectId>().is_err());
    }

    #[test]
    fn ids_are_text_in_json_shaped_formats() {
        let id: TimelineId = "000102030405060708090a0b0c0d0e0f".parse().expect("32 digits");
        assert_eq!(id.0[15], 15);
        assert_eq!(id.short(), "00010203");
        assert!("0001".parse::<TimelineId>().is_err());
    }
}
