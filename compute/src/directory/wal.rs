//! The boot record: `pg_control`, the first WAL segments, the history file.

use std::fs::OpenOptions;
use std::os::unix::fs::{FileExt, OpenOptionsExt};
use std::path::Path;

use neon_postgres::checkpoint::CheckpointState;
use neon_postgres::control::ControlFile;
use neon_postgres::wal::StreamParams;
use neon_postgres::wal::segment::file_name;
use neon_postgres::{BLCKSZ, boot, timeline_history};
use neon_types::Lsn;

use super::{Boot, Purpose, skeleton};
use crate::error::{ComputeError, Result};
use crate::source::Subject;

/// `WAL_LEVEL_REPLICA`
const REPLICA: i32 = 1;

/// Writes them below `root` and returns the end of the boot record.
pub(super) fn write(root: &Path, subject: &Subject, state: &CheckpointState, boot: &Boot) -> Result<Lsn> {
    let params = StreamParams {
        version: subject.version,
        system_id: subject.system_id,
        tli: boot.tli,
        segment_size: subject.segment_size,
    };
    let wal = boot::boot_wal(&params, subject.lsn, state, boot.tli)
        .map_err(|error| ComputeError::Damaged(format!("control parameters: {error}")))?;
    for (number, bytes) in &wal.segments {
        let name = file_name(boot.tli, *number, subject.segment_size);
        segment(&root.join("pg_wal").join(name), bytes)?;
    }
    if !boot.history.entries.is_empty() {
        let name = timeline_history::file_name(boot.tli);
        let text = boot.history.format();
        skeleton::file(&root.join("pg_wal").join(name), text.as_bytes(), 0o600)?;
    }
    let mut control = wal.control;
    if boot.purpose == Purpose::ReadOnly {
        skeleton::file(&root.join("standby.signal"), b"", 0o600)?;
        control = fit_for_standby(&control)?;
    }
    skeleton::file(&root.join("global/pg_control"), &control, 0o600)?;
    Ok(wal.end)
}

/// A standby refuses a `pg_control` of a cluster whose WAL was minimal. There is no such WAL to be replayed here.
fn fit_for_standby(control: &[u8]) -> Result<Vec<u8>> {
    let mut control = ControlFile::parse(control)
        .map_err(|error| ComputeError::Damaged(format!("the control file that was made: {error}")))?;
    let mut parameters = control.parameters();
    if parameters.wal_level < REPLICA {
        parameters.wal_level = REPLICA;
        control.set_parameters(&parameters);
    }
    Ok(control.encode())
}

/// Writes a WAL segment. Its zeros are reserved on disk but not written: Postgres expects that a segment cannot run out of space.
fn segment(path: &Path, bytes: &[u8]) -> Result<()> {
    let file = OpenOptions::new()
        .write(true)
        .create(true)
        .truncate(true)
        .mode(0o600)
        .open(path)
        .map_err(ComputeError::io("create", path))?;
    let length = bytes.len() as u64;
    // A file system that cannot reserve is no reason to fail.
    #[cfg(target_os = "linux")]
    if let Err(error) = rustix::fs::fallocate(&file, rustix::fs::FallocateFlags::empty(), 0, length)
        && !matches!(error, rustix::io::Errno::OPNOTSUPP | rustix::io::Errno::NOSYS)
    {
        return Err(ComputeError::io("reserve space for", path)(error.into()));
    }
    file.set_len(length).map_err(ComputeError::io("resize", path))?;
    let mut at = 0;
    for page in bytes.chunks(BLCKSZ) {
        if page.iter().any(|byte| *byte != 0) {
            file.write_all_at(page, at)
                .map_err(ComputeError::io("write", path))?;
        }
        at += page.len() as u64;
    }
    Ok(())
}
