//! What a checkpoint taken exactly here would say, and the control file beside it.
//!
//! Encoded byte by byte in `docs/format/checkpoint-state.md`.

use neon_types::Lsn;

use crate::control::{CHECK_POINT_SIZE, CheckPoint, ControlError, ControlFile, TRACK_COMMIT_TIMESTAMP};
use crate::records::clog::ClogRecord;
use crate::records::commit_ts::CommitTsRecord;
use crate::records::multixact::MultixactRecord;
use crate::records::xact::{Completion, XactRecord};
use crate::records::xlog::{ParameterChange, XlogRecord};
use crate::wal::{DecodeError, Record, rmgr};
use crate::xid;
use crate::{Cursor, PgVersion, Truncated};

/// Version of the encoding.
const FORMAT: u16 = 1;
/// Seconds from 1970-01-01 to 2000-01-01, where `TimestampTz` begins.
const EPOCH_SECONDS: i64 = 946_684_800;
const MICROSECONDS: i64 = 1_000_000;

/// The state of a cluster at the end of a record, as far as a server must know it to start there.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct CheckpointState {
    /// Counters as redo of everything up to here leaves them; `redo`, `time` and `oldest_active_xid` are those of the last
    /// checkpoint.
    pub checkpoint: CheckPoint,
    /// Time of the last record that has one, microseconds since 2000-01-01; 0 for none.
    pub last_time: i64,
    /// Start of the record that ends here: what the next record must link to.
    pub last_record: Lsn,
    /// The control file without its CRC, settings kept current.
    pub control: Vec<u8>,
}

/// The bytes are not a checkpoint state.
#[derive(Clone, Debug, PartialEq, thiserror::Error)]
pub enum StateError {
    /// They end too early.
    #[error("checkpoint state is cut short: {0}")]
    Truncated(#[from] Truncated),
    /// Their format is not known.
    #[error("checkpoint state has format {0}, expected {FORMAT}")]
    Format(u16),
    /// Their CRC does not match.
    #[error("checkpoint state is damaged")]
    Crc,
    /// The control file in it is not one.
    #[error("checkpoint state has a bad control file: {0}")]
    Control(#[from] ControlError),
    /// Something follows them, or the version does not go with the control file.
    #[error("checkpoint state has {0}")]
    Inconsistent(&'static str),
}

impl CheckpointState {
    /// Returns the state of a cleanly stopped cluster at the end of its shutdown checkpoint.
    pub fn from_control(control: &ControlFile) -> CheckpointState {
        let checkpoint = control.checkpoint();
        CheckpointState {
            checkpoint,
            last_time: timestamp_of(checkpoint.time),
            last_record: control.checkpoint_lsn(),
            control: control.image().to_vec(),
        }
    }

    /// Returns the bytes.
    pub fn encode(&self, version: PgVersion) -> Vec<u8> {
        let mut bytes = Vec::with_capacity(24 + CHECK_POINT_SIZE + self.control.len() + 4);
        bytes.extend_from_slice(&FORMAT.to_le_bytes());
        bytes.extend_from_slice(&version.major().to_le_bytes());
        bytes.extend_from_slice(&(self.control.len() as u32).to_le_bytes());
        bytes.extend_from_slice(&self.last_time.to_le_bytes());
        bytes.extend_from_slice(&self.last_record.0.to_le_bytes());
        bytes.extend_from_slice(&self.checkpoint.encode(version));
        bytes.extend_from_slice(&self.control);
        bytes.extend_from_slice(&crc32c::crc32c(&bytes).to_le_bytes());
        bytes
    }

    /// Reads bytes that [`encode`](CheckpointState::encode) returned.
    pub fn decode(bytes: &[u8]) -> Result<(PgVersion, CheckpointState), StateError> {
        let mut cursor = Cursor::new(bytes);
        let format = cursor.u16()?;
        if format != FORMAT {
            return Err(StateError::Format(format));
        }
        let version = PgVersion::from_major(cursor.u16()?);
        let length = cursor.count(1)?;
        let (last_time, last_record) = (cursor.i64()?, Lsn(cursor.u64()?));
        let checkpoint = cursor.take(CHECK_POINT_SIZE)?;
        let control = cursor.take(length)?.to_vec();
        let covered = bytes.get(..cursor.offset()).unwrap_or_default();
        if cursor.u32()? != crc32c::crc32c(covered) {
            return Err(StateError::Crc);
        }
        if cursor.remaining() > 0 {
            return Err(StateError::Inconsistent("bytes after its end"));
        }
        let version = version.ok_or(StateError::Inconsistent("an unknown major version"))?;
        if ControlFile::from_image(&control)?.version() != version {
            return Err(StateError::Inconsistent("a control file of another version"));
        }
        let state = CheckpointState {
            checkpoint: CheckPoint::decode(version, checkpoint)?,
            last_time,
            last_record,
            control,
        };
        Ok((version, state))
    }

    /// Returns the control file with current settings; its own checkpoint and state are out of date.
    pub fn control_file(&self) -> Result<ControlFile, ControlError> {
        ControlFile::from_image(&self.control)
    }

    /// Returns [`last_time`](CheckpointState::last_time) in seconds since 1970, rounded down.
    pub fn last_unix_time(&self) -> i64 {
        self.last_time
            .div_euclid(MICROSECONDS)
            .saturating_add(EPOCH_SECONDS)
    }

    /// Takes in the record that begins at `start`, which must be the one after [`last_record`](Self::last_record). Returns
    /// true when more than `last_record` changed. After an error the state is of no use.
    pub fn apply(&mut self, record: &Record, start: Lsn) -> Result<bool, DecodeError> {
        let before = (self.checkpoint, self.last_time);
        self.last_record = start;
        self.use_xid(record.xid);
        let control_changed = match record.rmid {
            rmgr::XLOG => self.apply_xlog(record)?,
            rmgr::XACT => {
                self.apply_xact(record)?;
                false
            }
            rmgr::CLOG => {
                if let ClogRecord::Truncate {
                    oldest_xid,
                    oldest_db,
                    ..
                } = ClogRecord::decode(record)?
                {
                    self.raise_oldest_xid(oldest_xid, oldest_db);
                }
                false
            }
            rmgr::MULTIXACT => {
                self.apply_multixact(record)?;
                false
            }
            rmgr::COMMIT_TS => {
                if let CommitTsRecord::Truncate { oldest_xid, .. } = CommitTsRecord::decode(record)? {
                    let oldest = &mut self.checkpoint.oldest_commit_ts_xid;
                    if *oldest != 0 && xid::precedes(*oldest, oldest_xid) {
                        *oldest = oldest_xid;
                    }
                }
                false
            }
            _ => false,
        };
        Ok(control_changed || before != (self.checkpoint, self.last_time))
    }

    fn apply_xlog(&mut self, record: &Record) -> Result<bool, DecodeError> {
        // Images of pages are most of these records and carry no state.
        match XlogRecord::decode(record)? {
            XlogRecord::CheckpointShutdown(point) => {
                self.checkpoint = point;
                self.last_time = timestamp_of(point.time);
            }
            XlogRecord::CheckpointOnline(point) => self.merge_online(&point),
            XlogRecord::NextOid(oid) => self.checkpoint.next_oid = oid,
            XlogRecord::ParameterChange(parameters) => {
                return Ok(self.set_parameters(record.version(), &parameters));
            }
            XlogRecord::RestorePoint { time, .. } | XlogRecord::OverwriteContrecord { time, .. } => {
                self.last_time = time;
            }
            XlogRecord::FullPageWrites(on) => self.checkpoint.full_page_writes = on,
            XlogRecord::EndOfRecovery {
                time,
                tli,
                prev_tli,
                wal_level,
            } => {
                self.last_time = time;
                self.checkpoint.tli = tli;
                self.checkpoint.prev_tli = prev_tli;
                self.checkpoint.wal_level = wal_level.unwrap_or(0);
            }
            XlogRecord::CheckpointRedo { wal_level } => self.checkpoint.wal_level = wal_level,
            XlogRecord::Noop
            | XlogRecord::Switch
            | XlogRecord::BackupEnd { .. }
            | XlogRecord::FullPageImages => {}
        }
        Ok(false)
    }

    /// The counters of an online checkpoint were read while others went on, and are only lower bounds. `next_oid` and
    /// `full_page_writes` are better known from their own records.
    fn merge_online(&mut self, point: &CheckPoint) {
        let own = &mut self.checkpoint;
        own.redo = point.redo;
        own.tli = point.tli;
        own.prev_tli = point.prev_tli;
        own.wal_level = point.wal_level;
        own.time = point.time;
        own.oldest_active_xid = point.oldest_active_xid;
        own.next_xid = own.next_xid.max(point.next_xid);
        for (mine, theirs) in [
            (&mut own.oldest_commit_ts_xid, point.oldest_commit_ts_xid),
            (&mut own.newest_commit_ts_xid, point.newest_commit_ts_xid),
        ] {
            if theirs != 0 && xid::precedes(*mine, theirs) {
                *mine = theirs;
            }
        }
        self.use_multi(point.next_multi, point.next_multi_offset);
        self.raise_oldest_xid(point.oldest_xid, point.oldest_xid_db);
        self.raise_oldest_multi(point.oldest_multi, point.oldest_multi_db);
        self.last_time = timestamp_of(point.time);
    }

    fn apply_xact(&mut self, record: &Record) -> Result<(), DecodeError> {
        match XactRecord::decode(record)? {
            XactRecord::Commit(end) | XactRecord::CommitPrepared(end) => {
                self.end_transaction(&end);
                if self.keeps_commit_timestamps() {
                    let newest = end.subxacts.last().copied().unwrap_or(end.xid);
                    if xid::precedes(self.checkpoint.newest_commit_ts_xid, newest) {
                        self.checkpoint.newest_commit_ts_xid = newest;
                    }
                }
            }
            XactRecord::Abort(end) | XactRecord::AbortPrepared(end) => self.end_transaction(&end),
            XactRecord::Prepare(prepare) => {
                self.last_time = prepare.time;
                self.use_xid(prepare.xid);
                prepare.subxacts.iter().for_each(|xid| self.use_xid(*xid));
            }
            XactRecord::Assignment { subxacts, .. } => subxacts.iter().for_each(|xid| self.use_xid(*xid)),
            XactRecord::Invalidations(_) => {}
        }
        Ok(())
    }

    fn apply_multixact(&mut self, record: &Record) -> Result<(), DecodeError> {
        match MultixactRecord::decode(record)? {
            MultixactRecord::Create {
                multi,
                offset,
                members,
            } => {
                self.use_multi(multi.wrapping_add(1), offset.wrapping_add(members.len() as u32));
                members.iter().for_each(|member| self.use_xid(member.xid));
            }
            MultixactRecord::Truncate {
                oldest_db, end_multi, ..
            } => self.raise_oldest_multi(end_multi, oldest_db),
            MultixactRecord::ZeroOffsetsPage(_) | MultixactRecord::ZeroMembersPage(_) => {}
        }
        Ok(())
    }

    fn end_transaction(&mut self, end: &Completion) {
        self.last_time = end.time;
        self.use_xid(end.xid);
        end.subxacts.iter().for_each(|xid| self.use_xid(*xid));
    }

    fn use_xid(&mut self, xid: u32) {
        self.checkpoint.next_xid = xid::advance_past(self.checkpoint.next_xid, xid);
    }

    fn use_multi(&mut self, next: u32, next_offset: u32) {
        let own = &mut self.checkpoint;
        if xid::circle_precedes(own.next_multi, next) {
            own.next_multi = next;
        }
        if xid::circle_precedes(own.next_multi_offset, next_offset) {
            own.next_multi_offset = next_offset;
        }
    }

    fn raise_oldest_xid(&mut self, oldest: u32, db: u32) {
        if xid::precedes(self.checkpoint.oldest_xid, oldest) {
            self.checkpoint.oldest_xid = oldest;
            self.checkpoint.oldest_xid_db = db;
        }
    }

    fn raise_oldest_multi(&mut self, oldest: u32, db: u32) {
        if xid::circle_precedes(self.checkpoint.oldest_multi, oldest) {
            self.checkpoint.oldest_multi = oldest;
            self.checkpoint.oldest_multi_db = db;
        }
    }

    fn keeps_commit_timestamps(&self) -> bool {
        self.control
            .get(TRACK_COMMIT_TIMESTAMP)
            .is_some_and(|flag| *flag != 0)
    }

    /// Returns true when the control file changed.
    fn set_parameters(&mut self, version: PgVersion, parameters: &ParameterChange) -> bool {
        let Ok(mut control) = self.control_file() else {
            return false;
        };
        let before = control.parameters();
        control.set_parameters(parameters);
        match (before.track_commit_timestamp, parameters.track_commit_timestamp) {
            (false, true) if self.checkpoint.oldest_commit_ts_xid == 0 => {
                let next = self.checkpoint.next_xid as u32;
                self.checkpoint.oldest_commit_ts_xid = next;
                self.checkpoint.newest_commit_ts_xid = next;
            }
            (true, false) => {
                self.checkpoint.oldest_commit_ts_xid = 0;
                self.checkpoint.newest_commit_ts_xid = 0;
            }
            _ => {}
        }
        if version >= PgVersion::V17 {
            self.checkpoint.wal_level = parameters.wal_level;
        }
        self.control = control.image().to_vec();
        before != *parameters
    }
}

/// Returns a time in seconds since 1970 as microseconds since 2000.
fn timestamp_of(unix: i64) -> i64 {
    unix.saturating_sub(EPOCH_SECONDS).saturating_mul(MICROSECONDS)
}

#[cfg(test)]
mod tests;
