//! The records of segment files, one after the other.

use std::io::{self, BufRead};
use std::path::{Path, PathBuf};

use neon_postgres::wal::segment::{self, PageHeader};
use neon_postgres::wal::{DecodeError, RawRecord, StreamParams, WalDecoder, WalError};
use neon_postgres::{BLCKSZ, PgVersion};
use neon_types::Lsn;

use super::source::Source;

/// WAL could not be checked.
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
    /// A file could not be deleted.
    #[error("cannot delete {path}")]
    Delete {
        /// The file.
        path: PathBuf,
        /// Why.
        #[source]
        source: io::Error,
    },
    /// A line of a list of segments is too long, or its end is missing.
    #[error("the list of segments holds a line without end")]
    List,
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

/// Reads the records of segment files of one timeline, in the order of the log; those of other timelines are passed over.
pub struct Segments<'a> {
    source: Source<'a>,
    params: StreamParams,
    decoder: WalDecoder,
    /// The first segment, until it is read as one of the others.
    first: Option<(u64, Vec<u8>)>,
    current: PathBuf,
    next_number: u64,
    read: u64,
}

impl<'a> Segments<'a> {
    /// Finds the segment files of `dir` and reads the first one.
    ///
    /// # Errors
    /// There are none, or the first one is no segment of PostgreSQL 14 to 18.
    pub fn open(dir: &Path) -> Result<Segments<'a>, OracleError> {
        let source = Source::directory(dir)?;
        Segments::begin(source)?.ok_or_else(|| OracleError::NoSegments(dir.to_owned()))
    }

    /// Takes segment files from a list, as an `archive_command` may write it: one path a line, in the order of the log, each a whole
    /// segment when its line is there. A segment that is named again is passed over. With `delete`, each file is deleted when
    /// it has been read. `None` when the list ends before the first segment.
    ///
    /// # Errors
    /// The first one is no segment of PostgreSQL 14 to 18, or the list or the segment cannot be read.
    pub fn listed(lines: impl BufRead + 'a, delete: bool) -> Result<Option<Segments<'a>>, OracleError> {
        let lines = Box::new(lines);
        Segments::begin(Source::Listed { lines, delete })
    }

    fn begin(mut source: Source<'a>) -> Result<Option<Segments<'a>>, OracleError> {
        let Some(path) = source.next()? else {
            return Ok(None);
        };
        let bytes = source.read(&path)?;
        let not_a_segment = || OracleError::NotASegment(path.clone());
        let header = PageHeader::read(&bytes).map_err(|_| not_a_segment())?;
        let long = header.long.ok_or_else(not_a_segment)?;
        let version = PgVersion::from_page_magic(header.magic).ok_or_else(not_a_segment)?;
        if !segment::is_valid_size(long.segment_size) {
            return Err(not_a_segment());
        }
        let (tli, number) = number_of(&path, long.segment_size).ok_or_else(not_a_segment)?;
        let params = StreamParams {
            version,
            system_id: long.system_id,
            tli,
            segment_size: long.segment_size,
        };
        Ok(Some(Segments {
            source,
            params,
            decoder: WalDecoder::new(params, header.address, None),
            first: Some((number, bytes)),
            current: path,
            next_number: number,
            read: 0,
        }))
    }

    /// Returns the version that wrote the log.
    pub fn version(&self) -> PgVersion {
        self.params.version
    }

    /// Returns the timeline whose segments are read.
    pub fn timeline(&self) -> u32 {
        self.params.tli
    }

    /// Returns how many segments were read.
    pub fn read(&self) -> u64 {
        self.read
    }

    /// Returns the next record; `None` at the end of the last segment, or where the log ends in it. `progress` is called after
    /// each segment with the end of its last whole record.
    ///
    /// # Errors
    /// A segment is missing or cannot be read, or the log breaks off before the last one.
    pub fn next_record(&mut self, progress: &mut dyn FnMut(Lsn)) -> Result<Option<RawRecord>, OracleError> {
        loop {
            if self.read > 0 {
                match self.decoder.next_record() {
                    Ok(Some(record)) => return Ok(Some(record)),
                    Ok(None) => progress(self.decoder.end()),
                    Err(source) => {
                        let broken = OracleError::Broken {
                            path: self.current.clone(),
                            source: source.clone(),
                        };
                        let is_end =
                            matches!(source, WalError::EndOfWal { .. }) && self.next_segment()?.is_none();
                        return if is_end { Ok(None) } else { Err(broken) };
                    }
                }
            }
            let Some((number, bytes)) = self.next_segment()? else {
                return Ok(None);
            };
            if self.read > 0 {
                self.decoder.feed(&bytes);
                self.read += 1;
            } else if let Some(skipped) = first_record(&bytes) {
                let start = Lsn(number * u64::from(self.params.segment_size)) + skipped as u64;
                self.decoder = WalDecoder::new(self.params, start, None);
                self.decoder.feed(bytes.get(skipped..).unwrap_or_default());
                self.read = 1;
            }
        }
    }

    /// Returns number and bytes of the next segment of the timeline.
    fn next_segment(&mut self) -> Result<Option<(u64, Vec<u8>)>, OracleError> {
        if let Some(first) = self.first.take() {
            self.next_number += 1;
            return Ok(Some(first));
        }
        while let Some(path) = self.source.next()? {
            let (tli, number) = number_of(&path, self.params.segment_size)
                .ok_or_else(|| OracleError::NotASegment(path.clone()))?;
            if tli != self.params.tli || number < self.next_number {
                self.source.discard(&path)?;
                continue;
            }
            if number > self.next_number {
                return Err(OracleError::Gap(path));
            }
            self.next_number += 1;
            let bytes = self.source.read(&path)?;
            self.current = path;
            return Ok(Some((number, bytes)));
        }
        Ok(None)
    }
}

fn number_of(path: &Path, segment_size: u32) -> Option<(u32, u64)> {
    segment::parse_file_name(path.file_name()?.to_str()?, segment_size)
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

pub(super) fn read_error(path: &Path, source: io::Error) -> OracleError {
    OracleError::Read {
        path: path.to_owned(),
        source,
    }
}
