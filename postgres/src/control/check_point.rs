//! The body of a checkpoint record, of which the control file has a copy: 88 bytes in all versions.
//!
//! ```text
//!  0 u64 redo | 8 u32 timeline | 12 u32 previous timeline | 16 u8 full_page_writes | 20 i32 wal_level (17 on, else padding)
//! 24 u64 next full xid | 32 u32 next oid | 36 u32 next multixact | 40 u32 next multixact offset | 44 u32 oldest xid
//! 48 u32 its database | 52 u32 oldest multixact | 56 u32 its database | 64 i64 time, seconds since 1970
//! 72 u32 oldest, 76 u32 newest xid with a commit timestamp | 80 u32 oldest active xid | 84 padding
//! ```

use neon_types::Lsn;

use crate::{Cursor, PgVersion, Truncated};

/// Bytes of a checkpoint's body.
pub const CHECK_POINT_SIZE: usize = 88;

/// The counters that a server starts with.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct CheckPoint {
    /// Where redo begins.
    pub redo: Lsn,
    /// The timeline (TLI).
    pub tli: u32,
    /// The timeline before, if the record begins a new one, else `tli`.
    pub prev_tli: u32,
    /// `full_page_writes`
    pub full_page_writes: bool,
    /// `wal_level`; 0 before 17, which do not write it.
    pub wal_level: i32,
    /// The next transaction id, with its epoch in the high half.
    pub next_xid: u64,
    /// The next object id.
    pub next_oid: u32,
    /// The next multixact.
    pub next_multi: u32,
    /// Where the members of the next multixact go.
    pub next_multi_offset: u32,
    /// The oldest transaction id that may be in a table.
    pub oldest_xid: u32,
    /// The database that has it.
    pub oldest_xid_db: u32,
    /// The oldest multixact that may be in a table.
    pub oldest_multi: u32,
    /// The database that has it.
    pub oldest_multi_db: u32,
    /// When, seconds since 1970.
    pub time: i64,
    /// The oldest transaction with a commit timestamp, 0 if none is kept.
    pub oldest_commit_ts_xid: u32,
    /// The newest transaction with a commit timestamp, 0 if none is kept.
    pub newest_commit_ts_xid: u32,
    /// The oldest transaction that ran at an online checkpoint, 0 in a shutdown checkpoint.
    pub oldest_active_xid: u32,
}

impl CheckPoint {
    /// Reads the first 88 of `bytes`.
    pub fn decode(version: PgVersion, bytes: &[u8]) -> Result<CheckPoint, Truncated> {
        let mut cursor = Cursor::new(bytes);
        let redo = Lsn(cursor.u64()?);
        let (tli, prev_tli) = (cursor.u32()?, cursor.u32()?);
        let full_page_writes = cursor.bool()?;
        cursor.skip(3)?;
        let wal_level = cursor.i32()?;
        let point = CheckPoint {
            redo,
            tli,
            prev_tli,
            full_page_writes,
            wal_level: if version >= PgVersion::V17 { wal_level } else { 0 },
            next_xid: cursor.u64()?,
            next_oid: cursor.u32()?,
            next_multi: cursor.u32()?,
            next_multi_offset: cursor.u32()?,
            oldest_xid: cursor.u32()?,
            oldest_xid_db: cursor.u32()?,
            oldest_multi: cursor.u32()?,
            oldest_multi_db: cursor.u32()?,
            time: {
                cursor.skip(4)?;
                cursor.i64()?
            },
            oldest_commit_ts_xid: cursor.u32()?,
            newest_commit_ts_xid: cursor.u32()?,
            oldest_active_xid: cursor.u32()?,
        };
        cursor.skip(4)?;
        Ok(point)
    }

    /// Returns the 88 bytes, padding zero.
    pub fn encode(&self, version: PgVersion) -> [u8; CHECK_POINT_SIZE] {
        let wal_level = if version >= PgVersion::V17 {
            self.wal_level
        } else {
            0
        };
        let mut bytes = [0; CHECK_POINT_SIZE];
        let mut put = |at: usize, field: &[u8]| {
            for (to, from) in bytes.iter_mut().skip(at).zip(field) {
                *to = *from;
            }
        };
        put(0, &self.redo.0.to_le_bytes());
        put(8, &self.tli.to_le_bytes());
        put(12, &self.prev_tli.to_le_bytes());
        put(16, &[u8::from(self.full_page_writes)]);
        put(20, &wal_level.to_le_bytes());
        put(24, &self.next_xid.to_le_bytes());
        put(32, &self.next_oid.to_le_bytes());
        put(36, &self.next_multi.to_le_bytes());
        put(40, &self.next_multi_offset.to_le_bytes());
        put(44, &self.oldest_xid.to_le_bytes());
        put(48, &self.oldest_xid_db.to_le_bytes());
        put(52, &self.oldest_multi.to_le_bytes());
        put(56, &self.oldest_multi_db.to_le_bytes());
        put(64, &self.time.to_le_bytes());
        put(72, &self.oldest_commit_ts_xid.to_le_bytes());
        put(76, &self.newest_commit_ts_xid.to_le_bytes());
        put(80, &self.oldest_active_xid.to_le_bytes());
        bytes
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn fields_are_where_they_belong() {
        let bytes: [u8; 88] = std::array::from_fn(|at| at as u8);
        let point = CheckPoint::decode(PgVersion::V17, &bytes).unwrap();
        assert_eq!(point.redo, Lsn(0x0706_0504_0302_0100));
        assert_eq!((point.tli, point.prev_tli), (0x0B0A_0908, 0x0F0E_0D0C));
        assert!(point.full_page_writes);
        assert_eq!(point.wal_level, 0x1716_1514);
        assert_eq!(point.next_xid, 0x1F1E_1D1C_1B1A_1918);
        assert_eq!(
            (point.next_oid, point.oldest_multi_db),
            (0x2322_2120, 0x3B3A_3938)
        );
        assert_eq!(
            (point.time, point.oldest_active_xid),
            (0x4746_4544_4342_4140, 0x5352_5150)
        );
        for version in PgVersion::ALL {
            let point = CheckPoint::decode(version, &bytes).unwrap();
            assert_eq!(CheckPoint::decode(version, &point.encode(version)), Ok(point));
        }
        assert_eq!(
            CheckPoint::decode(PgVersion::V16, &bytes).map(|point| point.wal_level),
            Ok(0)
        );
        assert!(CheckPoint::decode(PgVersion::V16, &bytes[..87]).is_err());
    }
}
