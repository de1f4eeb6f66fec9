//! The records of a directory of segment files.

use std::fs;
use std::io;
use std::path::{Path, PathBuf};

use neon_postgres::wal::segment::{self, PageHeader};
use neon_postgres::wal::{DecodeError, RawRecord, StreamParams, WalDecoder, WalError};
use neon_postgres::{BLCKSZ, PgVersion};
use neon_types::Lsn;

/// A directory of WAL could not be checked.
#[derive(Debug, thiserror::Error)]
pub enum OracleError {
    /// A file or directory could not be read.
    #[error("cannot read {path}")]
    Read {
        /// The file or directory.
        path: PathBuf,
        /// Why.
        #[source]
        source: io::Error,
    },
    /// The directory holds no segment files.
    #[error("no WAL segments in {0}")]
    NoSegments(PathBuf),
    /// The first page of the first segment is none that we read.
    #[error("{0} does not begin as a WAL segment of PostgreSQL 14 to 18")]
    NotASegment(PathBuf),
    /// The log breaks off although more segments follow.
    #[error("the log breaks off in {path}")]
    Broken {
        /// The segment that was being read.
        path: PathBuf,
        /// How.
        #[source]
        source: WalError,
    },
    /// A segment file is missing between two others.
    #[error("a segment is missing before {0}")]
    Gap(PathBuf),
    /// A record with a good CRC cannot be taken apart.
    #[error("the record at {start} cannot be decoded")]
    Record {
        /// Its start.
        start: Lsn,
        /// Why.
        #[source]
        source: DecodeError,
    },
}

/// Reads the records of segment files, in order of their names.
pub struct Segments {
    files: std::vec::IntoIter<(u64, PathBuf)>,
    params: StreamParams,
    decoder: WalDecoder,
    current: PathBuf,
    next_number: u64,
    begun: bool,
}

impl Segments {
    /// Finds the segment files of `dir` and reads the first page of the first one.
    pub fn open(dir: &Path) -> Result<Segments, OracleError> {
        let mut names = Vec::new();
        for entry in fs::read_dir(dir).map_err(|source| read_error(dir, source))? {
            let path = entry.map_err(|source| read_error(dir, source))?.path();
            // All sizes give names of the same form.
            let name = path.file_name().and_then(|name| name.to_str()).map(str::to_owned);
            if let Some(name) = name.filter(|name| segment::parse_file_name(name, 1 << 20).is_some()) {
                names.push((name, path));
            }
        }
        names.sort();
        let first = names
            .first()
            .ok_or_else(|| OracleError::NoSegments(dir.to_owned()))?
            .1
            .clone();
        let bytes = read(&first)?;
        let not_a_segment = || OracleError::NotASegment(first.clone());
        let header = PageHeader::read(&bytes).map_err(|_| not_a_segment())?;
        let long = header.long.ok_or_else(not_a_segment)?;
        let version = PgVersion::from_page_magic(header.magic).ok_or_else(not_a_segment)?;
        if !segment::is_valid_size(long.segment_size) {
            return Err(not_a_segment());
        }
        let params = StreamParams {
            version,
            system_id: long.system_id,
            tli: header.tli,
            segment_size: long.segment_size,
        };
        let files: Vec<_> = names
            .into_iter()
            .filter_map(|(name, path)| {
                let (tli, number) = segment::parse_file_name(&name, params.segment_size)?;
                (tli == params.tli).then_some((number, path))
            })
            .collect();
        Ok(Segments {
            next_number: files.first().map_or(0, |file| file.0),
            files: files.into_iter(),
            params,
            decoder: WalDecoder::new(params, header.address, None),
            current: first,
            begun: false,
        })
    }

    /// Returns the version that wrote the log.
    pub fn version(&self) -> PgVersion {
        self.params.version
    }

    /// Returns the next record; `None` at the end of the last segment, or where the log ends in it.
    pub fn next_record(&mut self, progress: &mut dyn FnMut(Lsn)) -> Result<Option<RawRecord>, OracleError> {
        loop {
            if self.begun {
                match self.decoder.next_record() {
                    Ok(Some(record)) => return Ok(Some(record)),
                    Ok(None) => progress(self.decoder.end()),
                    Err(WalError::EndOfWal { .. }) if self.files.as_slice().is_empty() => return Ok(None),
                    Err(source) => {
                        return Err(OracleError::Broken {
                            path: self.current.clone(),
                            source,
                        });
                    }
                }
            }
            let Some((number, path)) = self.files.next() else {
                return Ok(None);
            };
            if number != self.next_number {
                return Err(OracleError::Gap(path));
            }
            self.next_number += 1;
            let bytes = read(&path)?;
            self.current = path;
            if self.begun {
                self.decoder.feed(&bytes);
            } else if let Some(skipped) = first_record(&bytes) {
                let start = Lsn(number * u64::from(self.params.segment_size)) + skipped as u64;
                self.decoder = WalDecoder::new(self.params, start, None);
                self.decoder.feed(bytes.get(skipped..).unwrap_or_default());
                self.begun = true;
            }
        }
    }
}

/// Returns where the first record that begins in a segment begins: behind the rest of one that began before.
fn first_record(segment: &[u8]) -> Option<usize> {
    for (number, page) in segment.chunks_exact(BLCKSZ).enumerate() {
        let header = PageHeader::read(page).ok()?;
        let size = if header.long.is_some() {
            segment::LONG_HEADER_SIZE
        } else {
            segment::SHORT_HEADER_SIZE
        };
        let rest = (header.remaining as usize).checked_next_multiple_of(8)?;
        if size + rest < BLCKSZ {
            return Some(number * BLCKSZ + size + rest);
        }
    }
    None
}

fn read(path: &Path) -> Result<Vec<u8>, OracleError> {
    fs::read(path).map_err(|source| read_error(path, source))
}

fn read_error(path: &Path, source: io::Error) -> OracleError {
    OracleError::Read {
        path: path.to_owned(),
        source,
    }
}
