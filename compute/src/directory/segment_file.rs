//! Writing one file of pages in ascending order: zero pages become holes.

use std::fs::{File, OpenOptions};
use std::os::unix::fs::{FileExt, OpenOptionsExt};
use std::path::{Path, PathBuf};
use std::sync::mpsc::Sender;

use neon_postgres::BLCKSZ;

use crate::error::{ComputeError, Result};

/// Bytes that are gathered before they are written.
const BUFFER: usize = 64 * BLCKSZ;

/// Bytes that are written to a file before somebody is told that they could go to the disk.
const EARLY: u64 = 32 << 20;

/// A file of pages that is being written.
pub(super) struct SegmentFile {
    path: PathBuf,
    file: File,
    /// Offset of the first byte of the buffer.
    at: u64,
    buffer: Vec<u8>,
    /// Bytes written since `early` was told.
    written: u64,
    early: Option<Sender<File>>,
}

impl SegmentFile {
    /// Makes the file, which must not exist. `early` is told of it whenever much was written.
    pub(super) fn create(path: &Path, early: Option<Sender<File>>) -> Result<SegmentFile> {
        let file = OpenOptions::new()
            .write(true)
            .create_new(true)
            .mode(0o600)
            .open(path)
            .map_err(ComputeError::io("create", path))?;
        Ok(SegmentFile {
            path: path.to_owned(),
            file,
            at: 0,
            // Most relations are small: it grows with what comes.
            buffer: Vec::new(),
            written: 0,
            early,
        })
    }

    /// Writes the page with that number in the file, above all before. `checksum`, when given, becomes its `pd_checksum`.
    pub(super) fn page(&mut self, number: u64, bytes: &[u8], checksum: Option<u16>) -> Result<()> {
        let offset = number.saturating_mul(BLCKSZ as u64);
        if offset != self.at + self.buffer.len() as u64 || self.buffer.len() >= BUFFER {
            self.flush()?;
            self.at = offset;
        }
        let start = self.buffer.len();
        self.buffer.extend_from_slice(bytes);
        if let (Some(checksum), Some(field)) = (checksum, self.buffer.get_mut(start + 8..start + 10)) {
            field.copy_from_slice(&checksum.to_le_bytes());
        }
        Ok(())
    }

    /// Gives the file its size of `pages`. It is synced with the whole directory later.
    pub(super) fn finish(mut self, pages: u64) -> Result<()> {
        self.flush()?;
        self.file
            .set_len(pages.saturating_mul(BLCKSZ as u64))
            .map_err(ComputeError::io("resize", &self.path))
    }

    fn flush(&mut self) -> Result<()> {
        self.file
            .write_all_at(&self.buffer, self.at)
            .map_err(ComputeError::io("write", &self.path))?;
        self.at += self.buffer.len() as u64;
        self.written += self.buffer.len() as u64;
        self.buffer.clear();
        if self.written >= EARLY
            && let Some(early) = &self.early
        {
            self.written = 0;
            let file = self
                .file
                .try_clone()
                .map_err(ComputeError::io("open", &self.path))?;
            // Who listens no more has failed, and says so.
            let _ = early.send(file);
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn pages_land_where_they_belong_and_gaps_are_zeros() {
        let directory = tempfile::tempdir().expect("temporary directory");
        let path = directory.path().join("file");
        let mut file = SegmentFile::create(&path, None).expect("create");
        for number in (0..150).filter(|number| *number != 70) {
            let page = vec![u8::try_from(number).expect("small") | 1; BLCKSZ];
            file.page(number, &page, (number == 149).then_some(0x1234))
                .expect("write");
        }
        file.finish(152).expect("finish");
        let bytes = std::fs::read(&path).expect("read");
        assert_eq!(bytes.len(), 152 * BLCKSZ);
        for number in 0..149_usize {
            let expected = if number == 70 {
                0
            } else {
                u8::try_from(number).expect("small") | 1
            };
            let page = &bytes[number * BLCKSZ..][..BLCKSZ];
            assert!(page.iter().all(|byte| *byte == expected), "page {number}");
        }
        assert_eq!(bytes[149 * BLCKSZ + 7..][..4], [149, 0x34, 0x12, 149]);
        assert!(bytes[150 * BLCKSZ..].iter().all(|byte| *byte == 0));
        assert!(
            SegmentFile::create(&path, None).is_err(),
            "an existing file was taken"
        );
    }
}
