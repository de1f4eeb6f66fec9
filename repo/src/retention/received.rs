//! `timelines/<id>/received`: by when how much of a timeline had been received, by our own clock.
//!
//! ```text
//! 0 8 LSN | 8 8 microseconds since 1970 | 16 4 first 4 bytes of the BLAKE3 of the 16 before | 20 4 zero          a row, little-endian
//! ```
//! A row says that everything up to its LSN had been received by its time. Rows are appended by collections of garbage; a torn or damaged
//! one ends the table, and what follows is written over it: less is known then, so more is kept.

use std::fs::{self, OpenOptions};
use std::io::{Seek, SeekFrom, Write};
use std::os::unix::fs::OpenOptionsExt;
use std::path::Path;

use neon_types::Lsn;

use crate::error::{RepoError, Result};

const FILE: &str = "received";
const ROW: usize = 24;
/// Longest table that is read: two centuries of a row an hour.
const MAX_TABLE: u64 = 64 << 20;

/// One row.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Received {
    /// Everything up to here.
    pub lsn: Lsn,
    /// Had been received by then, in microseconds since 1970.
    pub time: i64,
}

impl Received {
    fn encode(self) -> Vec<u8> {
        let mut fields = self.lsn.0.to_le_bytes().to_vec();
        fields.extend_from_slice(&self.time.to_le_bytes());
        let check = checksum(&fields);
        fields.extend_from_slice(&check);
        fields.extend_from_slice(&[0; 4]);
        fields
    }

    fn decode(row: &[u8]) -> Option<Received> {
        let (fields, check) = row.split_at_checked(16)?;
        let (lsn, time) = fields.split_at_checked(8)?;
        if check.get(..4)? != checksum(fields) || check.get(4..)? != [0; 4] {
            return None;
        }
        Some(Received {
            lsn: Lsn(u64::from_le_bytes(lsn.try_into().ok()?)),
            time: i64::from_le_bytes(time.try_into().ok()?),
        })
    }
}

/// Returns the first four bytes of the BLAKE3 of a row's fields.
fn checksum(fields: &[u8]) -> [u8; 4] {
    let hash = blake3::hash(fields);
    let [a, b, c, d, ..] = *hash.as_bytes();
    [a, b, c, d]
}

/// Returns the rows of a timeline, oldest first.
pub(crate) fn read(timeline: &Path) -> Result<Vec<Received>> {
    let path = timeline.join(FILE);
    match fs::metadata(&path) {
        Ok(metadata) if metadata.len() > MAX_TABLE => return Ok(Vec::new()),
        Ok(_) => {}
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => return Ok(Vec::new()),
        Err(error) => return Err(RepoError::io("look at", path)(error)),
    }
    let bytes = fs::read(&path).map_err(RepoError::io("read", path))?;
    Ok(bytes.chunks(ROW).map_while(Received::decode).collect())
}

/// Returns true when a whole row is not one. A torn end is what a crash leaves.
pub(crate) fn is_damaged(timeline: &Path) -> bool {
    fs::read(timeline.join(FILE))
        .is_ok_and(|bytes| bytes.chunks_exact(ROW).any(|row| Received::decode(row).is_none()))
}

/// Adds a row, durably, unless the last one says as much.
pub(crate) fn note(timeline: &Path, row: Received) -> Result<()> {
    let known = read(timeline)?;
    if known.last().is_some_and(|last| last.lsn >= row.lsn) {
        return Ok(());
    }
    let path = timeline.join(FILE);
    let write = || {
        let mut file = OpenOptions::new()
            .write(true)
            .create(true)
            .truncate(false)
            .mode(0o600)
            .open(&path)?;
        let end = (known.len() * ROW) as u64;
        file.set_len(end)?;
        file.seek(SeekFrom::Start(end))?;
        file.write_all(&row.encode())?;
        file.sync_all()
    };
    write().map_err(RepoError::io("write", &path))?;
    if known.is_empty() {
        neon_objects::durable::sync_directory(timeline)?;
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    proptest! {
        #[test]
        fn any_bytes_are_a_table(bytes in proptest::collection::vec(any::<u8>(), 0..100), lsn: u64, time: i64) {
            let row = Received { lsn: Lsn(lsn), time };
            let directory = tempfile::tempdir().unwrap();
            fs::write(directory.path().join(FILE), [row.encode(), bytes].concat()).unwrap();
            prop_assert_eq!(read(directory.path()).unwrap(), [row]);
        }
    }

    fn row(number: u64) -> Received {
        Received {
            lsn: Lsn(number * 100),
            time: number as i64,
        }
    }

    #[test]
    fn rows_are_appended_and_damage_ends_the_table() {
        let directory = tempfile::tempdir().unwrap();
        assert_eq!(read(directory.path()).unwrap(), []);
        for number in [1, 1, 2, 3] {
            note(directory.path(), row(number)).unwrap();
        }
        assert_eq!(read(directory.path()).unwrap(), [row(1), row(2), row(3)]);
        let path = directory.path().join(FILE);
        let bytes = fs::read(&path).unwrap();
        assert_eq!(
            (bytes.len(), &bytes[..9]),
            (72, &[100, 0, 0, 0, 0, 0, 0, 0, 1][..])
        );
        let mut damaged = bytes.clone();
        damaged[30] ^= 1;
        fs::write(&path, &damaged).unwrap();
        assert_eq!(read(directory.path()).unwrap(), [row(1)]);
        fs::write(&path, &bytes[..50]).unwrap();
        assert_eq!(read(directory.path()).unwrap(), [row(1), row(2)]);
        note(directory.path(), row(4)).unwrap();
        assert_eq!(read(directory.path()).unwrap(), [row(1), row(2), row(4)]);
    }
}
