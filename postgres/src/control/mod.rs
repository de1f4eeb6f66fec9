//! `global/pg_control`: what a server must know before it can read anything else.
//!
//! ```text
//!   0 u64 system identifier | 8 u32 control version | 12 u32 catalog version | 16 u32 state | 24 i64 time
//!  32 u64 last checkpoint | 40 its body, 88 bytes | 128 u64 unlogged LSN | 136 u64 minimum recovery point
//! 144 u32 its timeline | 152 u64 backup start | 160 u64 backup end | 168 u8 backup end required | 172 i32 wal_level
//! 176 u8 wal_log_hints | 180 i32 max_connections | 184 i32 max_worker_processes | 188 i32 max_wal_senders
//! 192 i32 max_prepared_xacts | 196 i32 max_locks_per_xact | 200 u8 track_commit_timestamp | 204 u32 alignment
//! 208 f64 1234567.0 | 216 u32 block size | 220 u32 blocks in a relation segment | 224 u32 WAL page size
//! 228 u32 WAL segment size | 232 u32 name length | 236 u32 index keys | 240 u32 toast chunk | 244 u32 large object chunk
//! 248 u8 float8 by value | 252 u32 page checksum version | 18: 256 u8 char is signed | nonce, 32 bytes | CRC-32C
//! ```
//! The CRC is at 288, in 18 at 292, and covers all before it. The file is padded with zeros to 8192 bytes.

mod check_point;

pub use check_point::{CHECK_POINT_SIZE, CheckPoint};

use neon_types::Lsn;

use crate::records::xlog::ParameterChange;
use crate::wal::segment;
use crate::{BLCKSZ, PgVersion, RELSEG_BLOCKS};

/// Bytes of the file.
pub const CONTROL_FILE_SIZE: usize = 8192;

/// Offset of `track_commit_timestamp`.
pub(crate) const TRACK_COMMIT_TIMESTAMP: usize = 200;

/// The file is not one that we can use.
#[derive(Clone, Debug, PartialEq, thiserror::Error)]
pub enum ControlError {
    /// It ends too early.
    #[error("pg_control has only {0} bytes")]
    TooShort(usize),
    /// It was written by another version, or on a machine with another byte order.
    #[error(
        "pg_control has control version {control} and catalog version {catalog}, which PostgreSQL 14 to 18 do not write"
    )]
    Version {
        /// Control version.
        control: u32,
        /// Catalog version.
        catalog: u32,
    },
    /// It is damaged.
    #[error("pg_control has CRC {stored:08X}, its contents have {computed:08X}")]
    Crc {
        /// CRC in the file.
        stored: u32,
        /// CRC of the contents.
        computed: u32,
    },
    /// The cluster was made by a server that was built in another way.
    #[error("the cluster has a {what} of {found}, expected {expected}")]
    Layout {
        /// What differs.
        what: &'static str,
        /// Its value.
        found: u64,
        /// The only value that we support.
        expected: u64,
    },
}

/// What the server was doing when it wrote the control file (`DBState`).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(u32)]
pub enum DbState {
    /// Starting for the first time.
    Startup = 0,
    /// Stopped cleanly.
    ShutDowned = 1,
    /// A standby, stopped cleanly.
    ShutDownedInRecovery = 2,
    /// Stopping.
    ShuttingDown = 3,
    /// Recovering from a crash.
    InCrashRecovery = 4,
    /// A standby, or recovering from a backup.
    InArchiveRecovery = 5,
    /// Running.
    InProduction = 6,
}

impl DbState {
    /// Returns the state of that number.
    pub fn from_number(number: u32) -> Option<DbState> {
        Some(match number {
            0 => DbState::Startup,
            1 => DbState::ShutDowned,
            2 => DbState::ShutDownedInRecovery,
            3 => DbState::ShuttingDown,
            4 => DbState::InCrashRecovery,
            5 => DbState::InArchiveRecovery,
            6 => DbState::InProduction,
            _ => return None,
        })
    }
}

/// A control file. Keeps the bytes that it was read from, so that fields without a name here survive.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ControlFile {
    version: PgVersion,
    /// Everything before the CRC.
    bytes: Vec<u8>,
}

impl ControlFile {
    /// Reads a file: version and CRC must be good, the layout may be another (see
    /// [`check_layout`](ControlFile::check_layout)).
    pub fn parse(file: &[u8]) -> Result<ControlFile, ControlError> {
        let version = version_of(file)?;
        let end = crc_offset(version);
        let too_short = ControlError::TooShort(file.len());
        let Some((image, rest)) = file.split_at_checked(end) else {
            return Err(too_short);
        };
        let stored = u32::from_le_bytes(*rest.first_chunk().ok_or(too_short)?);
        let computed = crc32c::crc32c(image);
        if stored != computed {
            return Err(ControlError::Crc { stored, computed });
        }
        Ok(ControlFile {
            version,
            bytes: image.to_vec(),
        })
    }

    /// Reads an image without its CRC, as [`image`](ControlFile::image) returns it.
    pub fn from_image(image: &[u8]) -> Result<ControlFile, ControlError> {
        let version = version_of(image)?;
        if image.len() != crc_offset(version) {
            return Err(ControlError::TooShort(image.len()));
        }
        Ok(ControlFile {
            version,
            bytes: image.to_vec(),
        })
    }

    /// Returns the bytes before the CRC: 288, or 292 in 18.
    pub fn image(&self) -> &[u8] {
        &self.bytes
    }

    /// Returns the file: 8192 bytes with a good CRC.
    pub fn encode(&self) -> Vec<u8> {
        let mut file = self.bytes.clone();
        file.extend_from_slice(&crc32c::crc32c(&self.bytes).to_le_bytes());
        file.resize(CONTROL_FILE_SIZE, 0);
        file
    }

    /// Refuses clusters of servers that were built with other sizes than usual.
    pub fn check_layout(&self) -> Result<(), ControlError> {
        for (what, found, expected) in [
            ("block size", self.block_size(), BLCKSZ as u32),
            ("relation segment size in blocks", self.u32_at(220), RELSEG_BLOCKS),
            ("WAL page size", self.u32_at(224), BLCKSZ as u32),
            ("tuple alignment", self.u32_at(204), 8),
            ("name length", self.u32_at(232), 64),
        ] {
            if found != expected {
                let [found, expected] = [found, expected].map(u64::from);
                return Err(ControlError::Layout {
                    what,
                    found,
                    expected,
                });
            }
        }
        let format = u64::from_le_bytes(self.get(208));
        let expected = 1_234_567.0_f64.to_bits();
        if format != expected {
            return Err(ControlError::Layout {
                what: "floating-point format",
                found: format,
                expected,
            });
        }
        if !segment::is_valid_size(self.segment_size()) {
            return Err(ControlError::Layout {
                what: "WAL segment size",
                found: self.segment_size().into(),
                expected: segment::DEFAULT_SEGMENT_SIZE.into(),
            });
        }
        Ok(())
    }

    /// Returns the version that wrote it.
    pub fn version(&self) -> PgVersion {
        self.version
    }

    /// Returns the system identifier.
    pub fn system_id(&self) -> u64 {
        u64::from_le_bytes(self.get(0))
    }

    /// Sets the system identifier.
    pub fn set_system_id(&mut self, id: u64) {
        self.put(0, id.to_le_bytes());
    }

    /// Returns what the server was doing, `None` for a number that stands for nothing.
    pub fn state(&self) -> Option<DbState> {
        DbState::from_number(self.u32_at(16))
    }

    /// Sets what the server was doing.
    pub fn set_state(&mut self, state: DbState) {
        self.put(16, (state as u32).to_le_bytes());
    }

    /// Returns when it was written, seconds since 1970.
    pub fn time(&self) -> i64 {
        i64::from_le_bytes(self.get(24))
    }

    /// Sets when it was written, seconds since 1970.
    pub fn set_time(&mut self, time: i64) {
        self.put(24, time.to_le_bytes());
    }

    /// Returns the start of the last checkpoint record.
    pub fn checkpoint_lsn(&self) -> Lsn {
        Lsn(u64::from_le_bytes(self.get(32)))
    }

    /// Returns the body of the last checkpoint.
    pub fn checkpoint(&self) -> CheckPoint {
        let body: [u8; CHECK_POINT_SIZE] = self.get(40);
        CheckPoint::decode(self.version, &body).unwrap_or_default()
    }

    /// Sets the last checkpoint: where its record begins, and its body.
    pub fn set_checkpoint(&mut self, lsn: Lsn, point: &CheckPoint) {
        self.put(32, lsn.0.to_le_bytes());
        self.put(40, point.encode(self.version));
    }

    /// Returns the counter that stands in for LSNs in unlogged relations.
    pub fn unlogged_lsn(&self) -> Lsn {
        Lsn(u64::from_le_bytes(self.get(128)))
    }

    /// Returns how far recovery must go at least before the cluster is consistent, [`Lsn::INVALID`] if nowhere.
    pub fn min_recovery_point(&self) -> Lsn {
        Lsn(u64::from_le_bytes(self.get(136)))
    }

    /// Returns where redo of an unfinished backup begins, [`Lsn::INVALID`] if there is none.
    pub fn backup_start(&self) -> Lsn {
        Lsn(u64::from_le_bytes(self.get(152)))
    }

    /// Forgets that there is anything to recover: no minimum recovery point, no backup.
    pub fn clear_recovery(&mut self) {
        self.put(136, [0; 16]);
        self.put(152, [0; 17]);
    }

    /// Returns the settings that PARAMETER_CHANGE records carry.
    pub fn parameters(&self) -> ParameterChange {
        let number = |at| i32::from_le_bytes(self.get(at));
        ParameterChange {
            wal_level: number(172),
            wal_log_hints: self.flag(176),
            max_connections: number(180),
            max_worker_processes: number(184),
            max_wal_senders: number(188),
            max_prepared_xacts: number(192),
            max_locks_per_xact: number(196),
            track_commit_timestamp: self.flag(TRACK_COMMIT_TIMESTAMP),
        }
    }

    /// Sets them.
    pub fn set_parameters(&mut self, parameters: &ParameterChange) {
        self.put(172, parameters.wal_level.to_le_bytes());
        self.put(176, [u8::from(parameters.wal_log_hints)]);
        self.put(180, parameters.max_connections.to_le_bytes());
        self.put(184, parameters.max_worker_processes.to_le_bytes());
        self.put(188, parameters.max_wal_senders.to_le_bytes());
        self.put(192, parameters.max_prepared_xacts.to_le_bytes());
        self.put(196, parameters.max_locks_per_xact.to_le_bytes());
        self.put(
            TRACK_COMMIT_TIMESTAMP,
            [u8::from(parameters.track_commit_timestamp)],
        );
    }

    /// Returns the bytes of a block.
    pub fn block_size(&self) -> u32 {
        self.u32_at(216)
    }

    /// Returns the bytes of a WAL segment.
    pub fn segment_size(&self) -> u32 {
        self.u32_at(228)
    }

    /// Returns true when pages carry checksums.
    pub fn checksums(&self) -> bool {
        self.u32_at(252) != 0
    }

    /// Returns true when a change of hint bits alone is logged: with checksums or `wal_log_hints`.
    pub fn hints_logged(&self) -> bool {
        self.checksums() || self.flag(176)
    }

    /// Returns whether C's `char` is signed where the cluster was made; `None` before 18, which do not say.
    pub fn char_signed(&self) -> Option<bool> {
        (self.version >= PgVersion::V18).then(|| self.flag(256))
    }

    fn flag(&self, at: usize) -> bool {
        self.get::<1>(at) != [0]
    }

    fn u32_at(&self, at: usize) -> u32 {
        u32::from_le_bytes(self.get(at))
    }

    /// Every offset in this file is below 288, which `bytes` always has.
    fn get<const N: usize>(&self, at: usize) -> [u8; N] {
        let field = self.bytes.get(at..).and_then(|rest| rest.first_chunk());
        field.copied().unwrap_or([0; N])
    }

    fn put<const N: usize>(&mut self, at: usize, field: [u8; N]) {
        if let Some(place) = self.bytes.get_mut(at..).and_then(|rest| rest.first_chunk_mut()) {
            *place = field;
        }
    }
}

fn crc_offset(version: PgVersion) -> usize {
    if version >= PgVersion::V18 { 292 } else { 288 }
}

fn version_of(bytes: &[u8]) -> Result<PgVersion, ControlError> {
    let word = |at: usize| {
        bytes
            .get(at..)?
            .first_chunk()
            .map(|word| u32::from_le_bytes(*word))
    };
    let (control, catalog) = word(8).zip(word(12)).ok_or(ControlError::TooShort(bytes.len()))?;
    PgVersion::from_catalog_version(catalog)
        .filter(|version| version.control_version() == control)
        .ok_or(ControlError::Version { control, catalog })
}

#[cfg(test)]
pub(crate) mod tests;
