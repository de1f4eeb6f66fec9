//! Messages that a user sends to logical decoding.

use super::unknown;
use crate::Cursor;
use crate::wal::{DecodeError, Record};

/// Opcode: a message.
pub const MESSAGE: u8 = 0x00;

/// A message.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct LogicalMessage {
    /// The database that it was sent from.
    pub db: u32,
    /// It counts only if its transaction commits.
    pub transactional: bool,
    /// Who it is for, without the zero at its end.
    pub prefix: Vec<u8>,
    /// What it says.
    pub message: Vec<u8>,
}

impl LogicalMessage {
    /// Reads the main data of a LogicalMessage record.
    pub fn decode(record: &Record) -> Result<LogicalMessage, DecodeError> {
        if record.opcode() != MESSAGE {
            return Err(unknown(record));
        }
        let bad = |what| DecodeError::Payload {
            record: "LogicalMessage/MESSAGE",
            what,
        };
        let mut cursor = Cursor::new(record.main_data());
        let db = cursor.u32()?;
        let transactional = cursor.bool()?;
        cursor.skip(3)?;
        let [prefix, message] = [cursor.u64()?, cursor.u64()?].map(usize::try_from);
        let (prefix, message) = prefix
            .ok()
            .zip(message.ok())
            .ok_or_else(|| bad("impossible length"))?;
        let prefix = cursor.take(prefix)?;
        let prefix = prefix
            .strip_suffix(&[0])
            .ok_or_else(|| bad("the prefix has no end"))?;
        Ok(LogicalMessage {
            db,
            transactional,
            prefix: prefix.to_vec(),
            message: cursor.take(message)?.to_vec(),
        })
    }
}

#[cfg(test)]
mod tests {
    use super::super::testing::{record, refuses_prefixes, words};
    use super::*;
    use crate::PgVersion::*;
    use crate::wal::rmgr::LOGICALMSG;

    #[test]
    fn prefix_and_message_come_apart() {
        let mut main = words(&[5, 1, 3, 0, 2, 0]);
        main.extend_from_slice(b"me\0hi");
        let message = record(V15, LOGICALMSG, MESSAGE, 0, &main);
        assert_eq!(
            LogicalMessage::decode(&message),
            Ok(LogicalMessage {
                db: 5,
                transactional: true,
                prefix: b"me".to_vec(),
                message: b"hi".to_vec()
            })
        );
        refuses_prefixes(&message, LogicalMessage::decode);
    }
}
