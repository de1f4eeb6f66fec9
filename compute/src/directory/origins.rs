//! `pg_logical/replorigin_checkpoint`: how far each replication origin was replayed.
//!
//! ```text
//! u32 magic 0x1257DADE | per origin: u16 id, 6 bytes padding, u64 remote LSN | u32 CRC-32C of all before
//! ```

use std::path::Path;

use neon_types::Lsn;

use super::contents::Contents;
use super::skeleton;
use crate::error::Result;

/// Its path in a data directory.
pub(crate) const PATH: &str = "pg_logical/replorigin_checkpoint";
/// Bytes of one origin.
pub(crate) const ENTRY: u64 = 16;
const MAGIC: u32 = 0x1257_DADE;

/// Writes the file; without origins there need be none.
pub(super) fn write(root: &Path, contents: &Contents) -> Result<()> {
    if contents.origins.is_empty() {
        return Ok(());
    }
    skeleton::file(
        &root.join(PATH),
        &encode(contents.origins.iter().map(|(id, lsn)| (*id, *lsn))),
        0o600,
    )
}

fn encode(origins: impl Iterator<Item = (u16, Lsn)>) -> Vec<u8> {
    let mut bytes = MAGIC.to_le_bytes().to_vec();
    for (id, remote) in origins {
        bytes.extend_from_slice(&u64::from(id).to_le_bytes());
        bytes.extend_from_slice(&remote.0.to_le_bytes());
    }
    let crc = crc32c::crc32c(&bytes);
    bytes.extend_from_slice(&crc.to_le_bytes());
    bytes
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_file_is_what_postgres_writes() {
        // Written by 15.18 and 17.11 for an origin advanced to 0/1234.
        let expected = [
            0xde, 0xda, 0x57, 0x12, 1, 0, 0, 0, 0, 0, 0, 0, 0x34, 0x12, 0, 0, 0, 0, 0, 0, 0x27, 0x92, 0xee,
            0xe9,
        ];
        assert_eq!(encode([(1, Lsn(0x1234))].into_iter()), expected);
    }
}
