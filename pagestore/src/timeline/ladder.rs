//! The digest ladder: BLAKE3 of the WAL bytes of each segment's part on this timeline.
//!
//! File `ladder`: 64 bytes a rung, in WAL order: segment u64 | start u64 | end u64 | BLAKE3 32 | CRC-32C of these u32 | 0 u32.
//! It is appended to at each seal, before the WAL that it digests may go; a torn end is cut and derived again.

use std::fs::{self, OpenOptions};
use std::io::Write;
use std::os::unix::fs::OpenOptionsExt;
use std::path::{Path, PathBuf};

use neon_objects::{WalDigest, durable};
use neon_types::Lsn;

use super::wal::Wal;
use crate::layer::Fields;
use crate::{PageStoreError, Result};

const RUNG: usize = 64;
const CHUNK: usize = 1 << 20;
pub(crate) const LADDER_FILE: &str = "ladder";

pub(crate) struct Ladder {
    path: PathBuf,
    segment_size: u64,
    rungs: Vec<WalDigest>,
    /// Rungs that are in the file.
    written: usize,
    hasher: blake3::Hasher,
    /// First byte of the open part.
    from: Lsn,
    /// First byte that is not hashed.
    to: Lsn,
}

impl Ladder {
    /// Reads the ladder of the timeline that begins at `start`.
    pub(crate) fn open(directory: &Path, start: Lsn, segment_size: u32) -> Result<Ladder> {
        let path = directory.join(LADDER_FILE);
        let bytes = match fs::read(&path) {
            Err(error) if error.kind() == std::io::ErrorKind::NotFound => Vec::new(),
            result => result.map_err(PageStoreError::io("read", &path))?,
        };
        let mut rungs: Vec<WalDigest> = Vec::new();
        for rung in bytes.chunks_exact(RUNG).map_while(decode) {
            if rungs.last().is_some_and(|last| last.end > rung.start) {
                break;
            }
            rungs.push(rung);
        }
        let to = rungs.last().map_or(start, |rung| rung.end);
        Ok(Ladder {
            path,
            segment_size: u64::from(segment_size),
            written: rungs.len(),
            rungs,
            hasher: blake3::Hasher::new(),
            from: to,
            to,
        })
    }

    /// Hashes the WAL up to `end`, the end of a whole record.
    pub(crate) fn feed(&mut self, wal: &Wal, end: Lsn) -> Result<()> {
        if self.to < wal.start() {
            self.restart(wal.start());
        }
        while self.to < end {
            let next = Lsn((self.to.segment(self.segment_size) + 1) * self.segment_size);
            let stop = next.min(end);
            hash(wal, &mut self.hasher, self.to, stop)?;
            self.to = stop;
            if stop == next {
                self.rungs.push(WalDigest {
                    segment: self.from.segment(self.segment_size),
                    start: self.from,
                    end: stop,
                    blake3: *self.hasher.finalize().as_bytes(),
                });
                self.restart(stop);
            }
        }
        Ok(())
    }

    /// Begins a part at `from`: what is before it did not come here as WAL.
    pub(crate) fn restart(&mut self, from: Lsn) {
        self.hasher.reset();
        (self.from, self.to) = (from, from);
    }

    /// Takes back what was hashed beyond `end`.
    pub(crate) fn cut(&mut self, wal: &Wal, end: Lsn) -> Result<()> {
        if self.to <= end {
            return Ok(());
        }
        while self.rungs.len() > self.written && self.rungs.last().is_some_and(|rung| rung.end > end) {
            self.from = self.rungs.pop().map_or(self.from, |rung| rung.start);
        }
        self.restart(self.from);
        self.feed(wal, end)
    }

    /// Returns the rungs of whole parts.
    pub(crate) fn rungs(&self) -> &[WalDigest] {
        &self.rungs
    }

    /// Returns the rungs that end above `since` and at or below `upto`, and the digest of the open part that ends at `upto` if
    /// its WAL is still here.
    pub(crate) fn between(&self, wal: &Wal, since: Lsn, upto: Lsn) -> Result<Vec<WalDigest>> {
        let mut digests: Vec<WalDigest> = self
            .rungs
            .iter()
            .filter(|rung| rung.end > since && rung.end <= upto)
            .copied()
            .collect();
        // The part that `upto` is in begins where the rung of its segment does.
        let part = self
            .rungs
            .iter()
            .find(|rung| rung.start < upto && upto < rung.end);
        let from = part.map_or(self.from, |rung| rung.start);
        if from < upto && from >= wal.start() && upto <= self.to {
            let mut hasher = blake3::Hasher::new();
            hash(wal, &mut hasher, from, upto)?;
            digests.push(WalDigest {
                segment: from.segment(self.segment_size),
                start: from,
                end: upto,
                blake3: *hasher.finalize().as_bytes(),
            });
        }
        Ok(digests)
    }

    /// Makes the rungs durable that end at or below `upto`, which must be durable WAL: what a crash may take back has no rung.
    pub(crate) fn write(&mut self, upto: Lsn) -> Result<()> {
        let ready = self.rungs.partition_point(|rung| rung.end <= upto);
        let new = self.rungs.get(self.written..ready).unwrap_or_default();
        if new.is_empty() {
            return Ok(());
        }
        let bytes: Vec<u8> = new.iter().flat_map(encode).collect();
        let is_new = self.written == 0;
        OpenOptions::new()
            .create(true)
            .append(true)
            .mode(0o600)
            .open(&self.path)
            .and_then(|mut file| {
                // A torn or stale end is cut.
                file.set_len((self.written * RUNG) as u64)?;
                file.write_all(&bytes)?;
                file.sync_all()
            })
            .map_err(PageStoreError::io("write", &self.path))?;
        if is_new && let Some(directory) = self.path.parent() {
            durable::sync_directory(directory)?;
        }
        self.written = ready;
        Ok(())
    }
}

/// Returns true when a whole rung in the file is not one. A torn end is what a crash leaves, and is derived again.
pub(crate) fn is_damaged(directory: &Path) -> bool {
    fs::read(directory.join(LADDER_FILE))
        .is_ok_and(|bytes| bytes.chunks_exact(RUNG).any(|rung| decode(rung).is_none()))
}

fn hash(wal: &Wal, hasher: &mut blake3::Hasher, from: Lsn, to: Lsn) -> Result<()> {
    let mut at = from;
    let mut chunk = vec![0; CHUNK.min(usize::try_from(to.bytes_since(from)).unwrap_or(CHUNK))];
    while at < to {
        let len = chunk
            .len()
            .min(usize::try_from(to.bytes_since(at)).unwrap_or(CHUNK));
        let part = chunk.get_mut(..len).unwrap_or_default();
        wal.read(at, part)?;
        hasher.update(part);
        at = at + len as u64;
    }
    Ok(())
}

fn encode(rung: &WalDigest) -> Vec<u8> {
    let mut out = Vec::with_capacity(RUNG);
    for field in [rung.segment, rung.start.0, rung.end.0] {
        out.extend_from_slice(&field.to_le_bytes());
    }
    out.extend_from_slice(&rung.blake3);
    out.extend_from_slice(&crc32c::crc32c(&out).to_le_bytes());
    out.extend_from_slice(&[0; 4]);
    out
}

fn decode(bytes: &[u8]) -> Option<WalDigest> {
    let mut fields = Fields(bytes);
    let rung = WalDigest {
        segment: fields.u64()?,
        start: fields.lsn()?,
        end: fields.lsn()?,
        blake3: fields.array()?,
    };
    let covered = bytes.len() - fields.0.len();
    let crc = fields.u32()?;
    (crc == crc32c::crc32c(bytes.get(..covered)?) && rung.start < rung.end).then_some(rung)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_rung_has_the_documented_bytes() {
        let rung = WalDigest {
            segment: 1,
            start: Lsn(0x10_2128),
            end: Lsn(0x20_0000),
            blake3: [7; 32],
        };
        let bytes = encode(&rung);
        let mut expected = Vec::new();
        for field in [1_u64, 0x10_2128, 0x20_0000] {
            expected.extend_from_slice(&field.to_le_bytes());
        }
        expected.extend_from_slice(&[7; 32]);
        assert_eq!(bytes[..56], expected);
        assert_eq!(bytes[56..60], crc32c::crc32c(&expected).to_le_bytes());
        assert_eq!(bytes[60..], [0; 4]);
        assert_eq!(decode(&bytes), Some(rung));
        for at in 0..60 {
            let mut damaged = bytes.clone();
            damaged[at] ^= 1;
            assert_eq!(decode(&damaged), None);
        }
    }
}
