//! The messages inside a replication stream.
//!
//! ```text
//! XLogData   'w' | start: u64 | end of WAL on the server: u64 | time: i64 | WAL bytes
//! keepalive  'k' | end of WAL on the server: u64 | time: i64 | reply wanted: u8
//! status     'r' | written: u64 | flushed: u64 | applied: u64 | time: i64 | reply wanted: u8
//! ```
//! All big endian. Times are microseconds since 2000-01-01 00:00 UTC.

use std::time::SystemTime;

use bytes::{Buf, BufMut, Bytes, BytesMut};
use neon_types::Lsn;
use postgres_protocol::message::frontend::CopyData;

use crate::wire::WireError;

/// Seconds from 1970 to 2000.
const EPOCH: i64 = 946_684_800;

/// A message of the server.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Message {
    Wal {
        start: Lsn,
        server_end: Lsn,
        bytes: Bytes,
    },
    Keepalive {
        server_end: Lsn,
        reply: bool,
    },
    /// A kind that later versions may add.
    Unknown,
}

/// Reads the body of one `CopyData`.
pub(super) fn parse(mut body: Bytes) -> Result<Message, WireError> {
    let bad = WireError::Malformed("replication message");
    match body.try_get_u8() {
        Err(_) => Err(bad),
        Ok(b'w') if body.len() >= 24 => {
            let (start, server_end) = (Lsn(body.get_u64()), Lsn(body.get_u64()));
            body.advance(8);
            match start.0.checked_add(body.len() as u64) {
                Some(_) => Ok(Message::Wal {
                    start,
                    server_end,
                    bytes: body,
                }),
                None => Err(bad),
            }
        }
        Ok(b'k') if body.len() == 17 => {
            let server_end = Lsn(body.get_u64());
            body.advance(8);
            Ok(Message::Keepalive {
                server_end,
                reply: body.get_u8() != 0,
            })
        }
        Ok(b'w' | b'k') => Err(bad),
        Ok(_) => Ok(Message::Unknown),
    }
}

/// Returns true when the body of one `CopyData` can be read.
#[cfg(feature = "testing")]
pub(crate) fn reads_message(body: Bytes) -> bool {
    parse(body).is_ok()
}

/// Returns a whole standby status update.
pub(super) fn status(
    write: Lsn,
    flush: Lsn,
    apply: Lsn,
    reply: bool,
    now: SystemTime,
) -> Result<BytesMut, WireError> {
    let mut body = BytesMut::with_capacity(34);
    body.put_u8(b'r');
    body.put_u64(write.0);
    body.put_u64(flush.0);
    body.put_u64(apply.0);
    body.put_i64(postgres_micros(now));
    body.put_u8(u8::from(reply));
    let mut out = BytesMut::with_capacity(39);
    CopyData::new(body.freeze())
        .map_err(WireError::Io)?
        .write(&mut out);
    Ok(out)
}

/// Microseconds since 2000-01-01; 0 for a clock that is far off.
fn postgres_micros(time: SystemTime) -> i64 {
    time.duration_since(SystemTime::UNIX_EPOCH)
        .ok()
        .and_then(|since| i64::try_from(since.as_micros()).ok())
        .map_or(0, |micros| micros.saturating_sub(EPOCH * 1_000_000))
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use proptest::prelude::*;

    use super::*;

    #[test]
    fn wal_and_keepalives_are_read() {
        let mut wal = vec![b'w'];
        wal.extend(0x16_0000_0008u64.to_be_bytes());
        wal.extend(0x16_0000_1000u64.to_be_bytes());
        wal.extend(5u64.to_be_bytes());
        wal.extend(b"abc");
        let (start, server_end) = (Lsn(0x16_0000_0008), Lsn(0x16_0000_1000));
        let bytes = Bytes::from_static(b"abc");
        assert_eq!(
            parse(Bytes::from(wal.clone())).unwrap(),
            Message::Wal {
                start,
                server_end,
                bytes
            }
        );
        assert!(parse(Bytes::from(wal[..24].to_vec())).is_err());
        wal[1..9].fill(0xff);
        assert!(
            parse(Bytes::from(wal)).is_err(),
            "WAL beyond the end of all positions"
        );
        let mut keepalive = vec![b'k'];
        keepalive.extend(9u64.to_be_bytes());
        keepalive.extend([0; 8]);
        keepalive.push(1);
        assert_eq!(
            parse(Bytes::from(keepalive.clone())).unwrap(),
            Message::Keepalive {
                server_end: Lsn(9),
                reply: true
            }
        );
        keepalive.push(0);
        assert!(parse(Bytes::from(keepalive)).is_err());
        assert!(parse(Bytes::new()).is_err());
    }

    #[test]
    fn a_status_update_has_the_layout_of_the_manual() {
        let now = SystemTime::UNIX_EPOCH + Duration::from_secs(946_684_801);
        let bytes = status(Lsn(1), Lsn(2), Lsn(3), true, now).unwrap();
        let expected: Vec<u8> = [
            &b"d\0\0\0\x26r"[..],
            &1u64.to_be_bytes(),
            &2u64.to_be_bytes(),
            &3u64.to_be_bytes(),
            &1_000_000u64.to_be_bytes(),
            &[1],
        ]
        .concat();
        assert_eq!(bytes, expected);
    }

    proptest! {
        #[test]
        fn garbage_never_panics(tag in prop_oneof![Just(b'w'), Just(b'k'), any::<u8>()], rest in proptest::collection::vec(any::<u8>(), 0..60)) {
            let mut bytes = vec![tag];
            bytes.extend(rest);
            let _ = parse(Bytes::from(bytes));
        }
    }
}
