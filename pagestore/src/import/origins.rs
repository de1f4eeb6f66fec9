//! `pg_logical/replorigin_checkpoint`: how far each replication origin was replayed.
//!
//! ```text
//! u32 magic 0x1257DADE | per origin: u16 id, 6 bytes padding, u64 remote LSN | u32 CRC-32C of all before
//! ```

use neon_types::Lsn;

/// `REPLICATION_STATE_MAGIC`
const MAGIC: u32 = 0x1257_DADE;

/// Returns id and remote LSN of each origin; None when the bytes are damaged.
pub(super) fn parse(file: &[u8]) -> Option<Vec<(u16, Lsn)>> {
    let (covered, crc) = file.split_last_chunk::<4>()?;
    let (magic, states) = covered.split_first_chunk::<4>()?;
    if u32::from_le_bytes(*magic) != MAGIC || u32::from_le_bytes(*crc) != crc32c::crc32c(covered) {
        return None;
    }
    let (states, rest) = states.as_chunks::<16>();
    if !rest.is_empty() {
        return None;
    }
    let mut origins: Vec<(u16, Lsn)> = states
        .iter()
        .map(|[low, high, _, _, _, _, _, _, remote @ ..]| {
            (
                u16::from_le_bytes([*low, *high]),
                Lsn(u64::from_le_bytes(*remote)),
            )
        })
        .collect();
    origins.sort_unstable();
    Some(origins)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn file(states: &[(u16, u64)]) -> Vec<u8> {
        let mut bytes = MAGIC.to_le_bytes().to_vec();
        for (id, remote) in states {
            bytes.extend_from_slice(&id.to_le_bytes());
            bytes.extend_from_slice(&[0xaa; 6]);
            bytes.extend_from_slice(&remote.to_le_bytes());
        }
        let crc = crc32c::crc32c(&bytes);
        bytes.extend_from_slice(&crc.to_le_bytes());
        bytes
    }

    #[test]
    fn origins_are_read_and_damage_is_noticed() {
        assert_eq!(parse(&file(&[])), Some(vec![]));
        assert_eq!(
            parse(&file(&[(2, 9), (1, 7)])),
            Some(vec![(1, Lsn(7)), (2, Lsn(9))])
        );
        let mut bytes = file(&[(1, 7)]);
        bytes[5] ^= 1;
        assert_eq!(parse(&bytes), None);
        assert_eq!(parse(&[]), None);
    }
}
