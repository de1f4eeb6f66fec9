//! What a dead data directory shows of WAL that its server wrote and that is not to be had any more.

use std::fs::{self, File};
use std::io::{self, Read};
use std::path::Path;

use neon_postgres::wal::StreamParams;
use neon_postgres::wal::segment::{self, FIRST_IS_CONTRECORD, LONG_HEADER_SIZE, PageHeader};
use neon_types::Lsn;

use crate::directory::read_control;
use crate::error::{ComputeError, Result};

/// Returns a position beyond `end` that the directory's server reached, when whole records of its WAL can be read up to `end` alone. None: no
/// sign of any.
///
/// Two things are signs. `pg_control` names a checkpoint there, or a later segment begins with a record: a server flushes what is before
/// that, and what was flushed had been acknowledged. A torn record at the end of the WAL is neither.
pub(crate) fn reached_beyond(pgdata: &Path, end: Lsn, params: &StreamParams) -> Result<Option<Lsn>> {
    let checkpoint = read_control(pgdata)
        .ok()
        .filter(|control| control.system_id() == params.system_id && control.checkpoint().tli == params.tli)
        .map(|control| control.checkpoint_lsn());
    let segment = last_segment(pgdata, end, params)?;
    Ok(checkpoint
        .into_iter()
        .chain(segment)
        .max()
        .filter(|seen| *seen >= end))
}

/// Returns where the last segment begins that follows the one of `end` and begins with a record of this timeline.
fn last_segment(pgdata: &Path, end: Lsn, params: &StreamParams) -> Result<Option<Lsn>> {
    let directory = pgdata.join("pg_wal");
    let entries = match fs::read_dir(&directory) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(None),
        entries => entries.map_err(ComputeError::io("read", &directory))?,
    };
    let size = u64::from(params.segment_size);
    let mut last = None;
    for entry in entries {
        let entry = entry.map_err(ComputeError::io("read", &directory))?;
        let Some((tli, number)) = entry
            .file_name()
            .to_str()
            .and_then(|name| segment::parse_file_name(name, params.segment_size))
        else {
            continue;
        };
        let start = Lsn(number.saturating_mul(size));
        if tli == params.tli && start > end && begins_with_a_record(&entry.path(), start, params)? {
            last = last.max(Some(start));
        }
    }
    Ok(last)
}

/// Recycled segments have the names of those to come, and say inside which they were.
fn begins_with_a_record(path: &Path, start: Lsn, params: &StreamParams) -> Result<bool> {
    let mut bytes = Vec::new();
    let file = File::open(path).map_err(ComputeError::io("open", path))?;
    file.take(LONG_HEADER_SIZE as u64)
        .read_to_end(&mut bytes)
        .map_err(ComputeError::io("read", path))?;
    Ok(PageHeader::read(&bytes).is_ok_and(|header| {
        let fresh = PageHeader::new(params, start, 0);
        header.info & FIRST_IS_CONTRECORD == 0
            && (header.magic, header.tli, header.address, header.long)
                == (fresh.magic, fresh.tli, fresh.address, fresh.long)
    }))
}

#[cfg(test)]
mod tests {
    use neon_postgres::PgVersion;

    use super::*;

    const SEGMENT: u32 = 1 << 20;

    fn params() -> StreamParams {
        StreamParams {
            version: PgVersion::V17,
            system_id: 7,
            tli: 3,
            segment_size: SEGMENT,
        }
    }

    fn put(pgdata: &Path, name_tli: u32, number: u64, header: &PageHeader) {
        let path = pgdata
            .join("pg_wal")
            .join(segment::file_name(name_tli, number, SEGMENT));
        fs::create_dir_all(pgdata.join("pg_wal")).expect("mkdir");
        fs::write(path, header.to_bytes()).expect("write");
    }

    #[test]
    fn a_later_segment_that_begins_with_a_record_is_a_sign() {
        let dir = tempfile::tempdir().expect("tempdir");
        let at = |number: u64| Lsn(number * u64::from(SEGMENT));
        let beyond = |end: Lsn| reached_beyond(dir.path(), end, &params()).expect("readable");
        let end = at(5) + 800;
        assert_eq!(beyond(end), None, "no pg_wal");
        put(dir.path(), 3, 5, &PageHeader::new(&params(), at(5), 0));
        assert_eq!(beyond(end), None, "its own segment");
        // Recycled, the rest of a torn record, of another timeline, of another cluster.
        put(dir.path(), 3, 6, &PageHeader::new(&params(), at(2), 0));
        put(dir.path(), 3, 7, &PageHeader::new(&params(), at(7), 100));
        put(dir.path(), 4, 8, &PageHeader::new(&params(), at(8), 0));
        let other = StreamParams {
            system_id: 8,
            ..params()
        };
        put(dir.path(), 3, 9, &PageHeader::new(&other, at(9), 0));
        fs::write(dir.path().join("pg_wal/archive_status"), b"").expect("write");
        assert_eq!(beyond(end), None);
        put(dir.path(), 3, 8, &PageHeader::new(&params(), at(8), 0));
        assert_eq!(beyond(end), Some(at(8)));
        assert_eq!(beyond(at(8)), None, "nothing whole need follow there");
        assert_eq!(beyond(at(8) + 8), None);
    }
}
