//! The shutdown checkpoint record, the last of the imported history.

use std::fs::File;
use std::io::{Read, Seek, SeekFrom};

use neon_postgres::checkpoint::CheckpointState;
use neon_postgres::wal::{Record, StreamParams, WalDecoder, segment};
use neon_types::Lsn;

use super::{ImportError, ImportSource};

/// Where the shutdown checkpoint record is, and the state that it leaves.
pub(super) struct ShutdownCheckpoint {
    /// Start of the record.
    pub(super) start: Lsn,
    /// MAXALIGNed end of the record.
    pub(super) end: Lsn,
    /// Postgres timeline.
    pub(super) tli: u32,
    /// The checkpoint state at `end`.
    pub(super) state: CheckpointState,
}

/// `XLOG_CHECKPOINT_SHUTDOWN` of resource manager 0.
const CHECKPOINT_SHUTDOWN: (u8, u8) = (0, 0x00);

/// Reads the record that the control file names, from `pg_wal`.
pub(super) fn read(source: &ImportSource) -> Result<ShutdownCheckpoint, ImportError> {
    let control = &source.control;
    let start = control.checkpoint_lsn();
    let tli = control.checkpoint().tli;
    let wal = source.pgdata.join("pg_wal");
    let bad = |reason: String| ImportError::CheckpointRecord {
        path: wal.clone(),
        lsn: start,
        reason,
    };
    let params = StreamParams {
        version: source.version,
        system_id: control.system_id(),
        tli,
        segment_size: control.segment_size(),
    };
    let segment_size = u64::from(params.segment_size);
    if segment_size == 0 || !segment_size.is_power_of_two() {
        return Err(bad(format!("WAL segments of {segment_size} bytes")));
    }
    let mut decoder = WalDecoder::new(params, start, None);
    let mut at = start;
    // The record has 114 bytes: it may cross into a second segment.
    let raw = loop {
        if let Some(raw) = decoder.next_record().map_err(|error| bad(error.to_string()))? {
            break raw;
        }
        if at.bytes_since(start) > segment_size {
            return Err(bad("it does not end".to_owned()));
        }
        let number = at.segment(segment_size);
        let path = wal.join(segment::file_name(tli, number, params.segment_size));
        let offset = at.segment_offset(segment_size);
        let mut file = File::open(&path).map_err(ImportError::io(&path))?;
        file.seek(SeekFrom::Start(offset))
            .map_err(ImportError::io(&path))?;
        let mut bytes = Vec::new();
        let wanted = (segment_size - offset).min(1 << 20);
        file.take(wanted)
            .read_to_end(&mut bytes)
            .map_err(ImportError::io(&path))?;
        if bytes.len() as u64 != wanted {
            return Err(bad(format!("{} is too short", path.display())));
        }
        decoder.feed(&bytes);
        at = at + wanted;
    };
    let record = Record::decode(source.version, raw.bytes).map_err(|error| bad(error.to_string()))?;
    if (record.rmid, record.opcode()) != CHECKPOINT_SHUTDOWN || raw.start != start {
        return Err(bad("it is not a shutdown checkpoint".to_owned()));
    }
    let mut state = CheckpointState::from_control(control);
    state
        .apply(&record, raw.start)
        .map_err(|error| bad(error.to_string()))?;
    Ok(ShutdownCheckpoint {
        start,
        end: raw.end,
        tli,
        state,
    })
}
