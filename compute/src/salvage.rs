//! Taking the WAL out of a dead data directory (law 8, after [`crate::kill_everything`]).

use std::fs::File;
use std::io::{self, Read};
use std::os::unix::fs::FileExt;
use std::path::{Path, PathBuf};

use neon_postgres::wal::segment::file_name;
use neon_postgres::wal::{StreamParams, WalDecoder, WalError};
use neon_types::{Lsn, LsnRange};

use crate::error::{ComputeError, Result};
use crate::witness::reached_beyond;

/// Bytes that are read and given out at once.
const CHUNK: usize = 1 << 20;

/// What [`salvage`] found.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Salvaged {
    /// From the position asked for to the end of the last whole record.
    pub range: LsnRange,
    /// The start of the last whole record: its prev-link. As given when there was none.
    pub last_record: Option<Lsn>,
    /// A position beyond that which the server reached, as the directory shows: WAL of it is missing or damaged.
    pub beyond: Option<Lsn>,
}

/// Reads the WAL of a dead directory from `from` to the last whole record, in order and without a gap, in chunks of at most a mebibyte.
///
/// `from` is the end of a whole record that is already held and `prev` the start of that record, which the first record must link
/// to (law 10). Bytes behind the last whole record are not given out. The end is found first and the bytes are read
/// again, so memory does not grow with the WAL, though one record is held whole.
///
/// # Errors
/// [`ComputeError::DamagedWal`] when a page is of another cluster or timeline.
pub fn salvage(
    pgdata: &Path,
    from: Lsn,
    prev: Option<Lsn>,
    params: &StreamParams,
    sink: &mut dyn FnMut(Lsn, &[u8]) -> Result<()>,
) -> Result<Salvaged> {
    let salvaged = whole_records(pgdata, from, prev, params)?;
    let mut segments = Segments::new(pgdata, params);
    let mut at = from;
    let mut buffer = vec![0; CHUNK];
    while at < salvaged.range.end {
        let wanted = usize::try_from(salvaged.range.end.bytes_since(at))
            .unwrap_or(CHUNK)
            .min(CHUNK);
        let part = buffer.get_mut(..wanted).unwrap_or_default();
        let read = segments.read(at, part)?;
        if read == 0 {
            return Err(ComputeError::DamagedWal {
                pgdata: pgdata.to_owned(),
                lsn: at,
                why: "it became shorter while it was read".to_owned(),
            });
        }
        sink(at, part.get(..read).unwrap_or_default())?;
        at = at + read as u64;
    }
    Ok(salvaged)
}

/// Returns how far whole records reach in the WAL of a dead directory, and whether that is all. Where the segment of `from` is not there, they
/// reach no further than `from`.
pub fn whole_records(pgdata: &Path, from: Lsn, prev: Option<Lsn>, params: &StreamParams) -> Result<Salvaged> {
    let mut segments = Segments::new(pgdata, params);
    let mut decoder = WalDecoder::new(*params, from, prev);
    let mut buffer = vec![0; CHUNK];
    'reading: loop {
        let read = segments.read(decoder.fed(), &mut buffer)?;
        if read == 0 {
            break;
        }
        decoder.feed(buffer.get(..read).unwrap_or_default());
        loop {
            match decoder.next_record() {
                Ok(Some(_)) => {}
                Ok(None) => break,
                Err(WalError::EndOfWal { .. } | WalError::NotOverwritten { .. }) => break 'reading,
                Err(error) => {
                    return Err(ComputeError::DamagedWal {
                        pgdata: pgdata.to_owned(),
                        lsn: decoder.end(),
                        why: error.to_string(),
                    });
                }
            }
        }
    }
    let end = decoder.end();
    Ok(Salvaged {
        range: LsnRange { start: from, end },
        last_record: decoder.last_start(),
        beyond: reached_beyond(pgdata, end, params)?,
    })
}

/// The segment files of one timeline, read as one stream.
struct Segments {
    directory: PathBuf,
    params: StreamParams,
    open: Option<(u64, File)>,
}

impl Segments {
    fn new(pgdata: &Path, params: &StreamParams) -> Segments {
        Segments {
            directory: pgdata.join("pg_wal"),
            params: *params,
            open: None,
        }
    }

    fn path(&self, number: u64) -> PathBuf {
        self.directory
            .join(file_name(self.params.tli, number, self.params.segment_size))
    }

    /// Reads from `at` to the end of its segment at most; 0 where there is no more.
    fn read(&mut self, at: Lsn, buffer: &mut [u8]) -> Result<usize> {
        let size = u64::from(self.params.segment_size);
        let (number, offset) = (at.segment(size), at.segment_offset(size));
        let path = self.path(number);
        if self.open.as_ref().is_none_or(|(open, _)| *open != number) {
            match File::open(&path) {
                Ok(file) => self.open = Some((number, file)),
                Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(0),
                Err(error) => return Err(ComputeError::io("open", &path)(error)),
            }
        }
        let Some((_, file)) = &self.open else { return Ok(0) };
        let most = usize::try_from(size - offset)
            .unwrap_or(usize::MAX)
            .min(buffer.len());
        let part = buffer.get_mut(..most).unwrap_or_default();
        loop {
            match file.read_at(part, offset) {
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                other => return other.map_err(ComputeError::io("read", &path)),
            }
        }
    }
}

/// Reads a whole small file, refusing one of more than `limit` bytes.
pub(crate) fn read_limited(path: &Path, limit: u64) -> Result<Vec<u8>> {
    let file = File::open(path).map_err(ComputeError::io("open", path))?;
    let mut bytes = Vec::new();
    file.take(limit + 1)
        .read_to_end(&mut bytes)
        .map_err(ComputeError::io("read", path))?;
    if bytes.len() as u64 > limit {
        return Err(ComputeError::Damaged(format!(
            "{} is longer than {limit} bytes",
            path.display()
        )));
    }
    Ok(bytes)
}
