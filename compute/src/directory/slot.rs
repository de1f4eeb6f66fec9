//! The state file of a physical replication slot, so that the WAL from the position on is kept from the first moment.
//!
//! ```text
//! u32 magic 0x01051CA1 | u32 CRC-32C of all that follows | u32 version | u32 length 184 |
//! name 64 | database u32 | persistency u32 (0: persistent) | xmin u32 | catalog_xmin u32 | restart_lsn u64 | zeros to 184
//! ```
//! The fields behind `restart_lsn` differ between versions, and are zero for a new physical slot in all of them.

use std::path::Path;

use neon_postgres::PgVersion;
use neon_types::Lsn;

use super::skeleton;
use crate::error::{ComputeError, Result};

const MAGIC: u32 = 0x0105_1CA1;
/// Bytes behind the length field.
const LENGTH: usize = 184;
/// Bytes of a name with its final zero (`NAMEDATALEN`).
const NAME: usize = 64;

/// Writes the slot `name` whose WAL begins at `restart`.
pub(super) fn write(root: &Path, version: PgVersion, name: &str, restart: Lsn) -> Result<()> {
    let valid = !name.is_empty()
        && name.len() < NAME
        && name
            .bytes()
            .all(|b| b.is_ascii_lowercase() || b.is_ascii_digit() || b == b'_');
    if !valid {
        return Err(ComputeError::Damaged(format!("'{name}' is not a slot name")));
    }
    let directory = root.join("pg_replslot").join(name);
    skeleton::directory(&directory)?;
    skeleton::file(&directory.join("state"), &encode(version, name, restart), 0o600)
}

fn encode(version: PgVersion, name: &str, restart: Lsn) -> Vec<u8> {
    let format: u32 = match version {
        PgVersion::V14 | PgVersion::V15 => 2,
        PgVersion::V16 => 3,
        PgVersion::V17 | PgVersion::V18 => 5,
    };
    let mut body = format.to_le_bytes().to_vec();
    body.extend_from_slice(&184_u32.to_le_bytes());
    let mut slot = name.as_bytes().to_vec();
    slot.resize(NAME + 16, 0);
    slot.extend_from_slice(&restart.0.to_le_bytes());
    slot.resize(LENGTH, 0);
    body.extend_from_slice(&slot);
    let mut bytes = MAGIC.to_le_bytes().to_vec();
    bytes.extend_from_slice(&crc32c::crc32c(&body).to_le_bytes());
    bytes.extend_from_slice(&body);
    bytes
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_file_is_what_postgres_writes() {
        // Version, LSN and CRC of slots named "neon" that 15.18 and 17.11 made.
        for (version, restart, format, crc) in [
            (PgVersion::V15, 0x17414F8, 2, 0xc52f_72c9_u32),
            (PgVersion::V17, 0x16C5830, 5, 0x5f8e_3641),
        ] {
            let bytes = encode(version, "neon", Lsn(restart));
            assert_eq!(bytes.len(), 200);
            assert_eq!(bytes[..4], [0xa1, 0x1c, 0x05, 0x01]);
            assert_eq!(bytes[4..8], crc.to_le_bytes());
            assert_eq!(bytes[8], format);
        }
    }

    #[test]
    fn a_name_cannot_be_a_path() {
        let directory = tempfile::tempdir().expect("temporary directory");
        for bad in ["", "..", "a/b", "UPPER", &"a".repeat(64)] {
            assert!(
                write(directory.path(), PgVersion::V15, bad, Lsn(8)).is_err(),
                "{bad:?} was taken"
            );
        }
    }
}
