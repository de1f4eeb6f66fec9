//! What the writer of a timeline has signed of it, kept so that it can be handed on.
//!
//! File `attested`: 152 bytes an attestation, by the end of its range: start u64 | end u64 | BLAKE3 32 | key 32 | signature 64 | CRC-32C of
//! these u32 | 0 u32. Replaced as a whole; what cannot be read of it is passed over, and has to be signed again.

use std::fs;
use std::path::Path;

use neon_objects::{Attestation, durable};
use neon_types::{Lsn, LsnRange};

use super::{Timeline, lock};
use crate::layer::Fields;
use crate::{PageStoreError, Result};

const ENTRY: usize = 152;
/// Most attestations that are kept of one timeline: the newest.
const MOST: usize = 16 << 10;
pub(crate) const ATTESTED_FILE: &str = "attested";

/// Reads the attestations in a timeline's directory.
pub(crate) fn read(directory: &Path) -> Result<Vec<Attestation>> {
    let path = directory.join(ATTESTED_FILE);
    let bytes = match fs::read(&path) {
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => return Ok(Vec::new()),
        result => result.map_err(PageStoreError::io("read", &path))?,
    };
    Ok(bytes.chunks_exact(ENTRY).filter_map(decode).collect())
}

/// Adds attestations to those in a timeline's directory, durably.
pub(crate) fn add(directory: &Path, new: &[Attestation]) -> Result<()> {
    let mut all = read(directory)?;
    let before = all.len();
    all.extend(
        new.iter()
            .filter(|new| !all.contains(new))
            .copied()
            .collect::<Vec<_>>(),
    );
    if all.len() == before {
        return Ok(());
    }
    all.sort_by_key(|attestation| (attestation.range.end, attestation.range.start));
    all.drain(..all.len().saturating_sub(MOST));
    let bytes: Vec<u8> = all.iter().flat_map(encode).collect();
    Ok(durable::replace(&directory.join(ATTESTED_FILE), &bytes, 0o600)?)
}

/// Returns true when not all of the file can be read.
pub(crate) fn is_damaged(directory: &Path) -> bool {
    fs::read(directory.join(ATTESTED_FILE)).is_ok_and(|bytes| {
        bytes.len() % ENTRY != 0 || bytes.chunks_exact(ENTRY).any(|entry| decode(entry).is_none())
    })
}

impl Timeline {
    /// Keeps what its writer signed of this timeline.
    pub fn keep_attestations(&self, new: &[Attestation]) -> Result<()> {
        // One writer at a time.
        let _state = lock(&self.state);
        add(&self.directory, new)
    }

    /// Returns what was signed of the WAL that leads from `from` to `to`: whole parts in between, and the first that reaches `to`; at most
    /// `most`, the newest.
    pub fn attestations(&self, from: Lsn, to: Lsn, most: usize) -> Result<Vec<Attestation>> {
        let mut all = read(&self.directory)?;
        let reaches = all.iter().position(|attestation| attestation.range.end >= to);
        all.truncate(reaches.map_or(all.len(), |reaches| reaches + 1));
        all.retain(|attestation| attestation.range.end > from);
        all.drain(..all.len().saturating_sub(most));
        Ok(all)
    }
}

fn encode(attestation: &Attestation) -> Vec<u8> {
    let mut out = Vec::with_capacity(ENTRY);
    out.extend_from_slice(&attestation.range.start.0.to_le_bytes());
    out.extend_from_slice(&attestation.range.end.0.to_le_bytes());
    out.extend_from_slice(&attestation.blake3);
    out.extend_from_slice(&attestation.key);
    out.extend_from_slice(&attestation.signature);
    out.extend_from_slice(&crc32c::crc32c(&out).to_le_bytes());
    out.extend_from_slice(&[0; 4]);
    out
}

fn decode(bytes: &[u8]) -> Option<Attestation> {
    let mut fields = Fields(bytes);
    let attestation = Attestation {
        range: LsnRange {
            start: fields.lsn()?,
            end: fields.lsn()?,
        },
        blake3: fields.array()?,
        key: fields.array()?,
        signature: fields.array()?,
    };
    let covered = bytes.len() - fields.0.len();
    let crc = fields.u32()?;
    let sound =
        crc == crc32c::crc32c(bytes.get(..covered)?) && attestation.range.start <= attestation.range.end;
    sound.then_some(attestation)
}

#[cfg(test)]
mod tests {
    use neon_objects::WriterKey;
    use neon_types::TimelineId;

    use super::*;

    fn attestation(start: u64, end: u64) -> Attestation {
        let range = LsnRange {
            start: Lsn(start),
            end: Lsn(end),
        };
        WriterKey::from_seed(&[5; 32]).attest(TimelineId([1; 16]), range, [2; 32])
    }

    #[test]
    fn an_attestation_has_the_documented_bytes() {
        let attestation = attestation(8, 16);
        let bytes = encode(&attestation);
        assert_eq!(bytes.len(), ENTRY);
        assert_eq!(bytes[..8], 8_u64.to_le_bytes());
        assert_eq!(bytes[8..16], 16_u64.to_le_bytes());
        assert_eq!(bytes[16..48], [2; 32]);
        assert_eq!(bytes[48..80], attestation.key);
        assert_eq!(bytes[80..144], attestation.signature);
        assert_eq!(bytes[144..148], crc32c::crc32c(&bytes[..144]).to_le_bytes());
        assert_eq!(decode(&bytes), Some(attestation));
        for at in 0..148 {
            let mut damaged = bytes.clone();
            damaged[at] ^= 1;
            assert_eq!(decode(&damaged), None, "byte {at}");
        }
    }

    #[test]
    fn what_is_damaged_takes_nothing_else_along() {
        let directory = tempfile::tempdir().unwrap();
        let all = [attestation(8, 16), attestation(16, 32), attestation(32, 64)];
        add(directory.path(), &all[1..]).unwrap();
        add(directory.path(), &all[..2]).unwrap();
        assert_eq!(read(directory.path()).unwrap(), all, "in order, each once");
        let path = directory.path().join(ATTESTED_FILE);
        let mut bytes = fs::read(&path).unwrap();
        bytes[ENTRY + 3] ^= 1;
        bytes.truncate(3 * ENTRY - 1);
        fs::write(&path, &bytes).unwrap();
        assert_eq!(read(directory.path()).unwrap(), all[..1]);
    }
}
