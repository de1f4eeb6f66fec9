//! Tablespaces that begin and go.

use super::unknown;
use crate::Cursor;
use crate::wal::{DecodeError, Record};

/// Opcode: a tablespace begins.
pub const CREATE: u8 = 0x00;
/// Opcode: a tablespace goes.
pub const DROP: u8 = 0x10;

/// A Tablespace record.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum TblspcRecord {
    /// The tablespace exists.
    Create {
        /// Its oid.
        spc: u32,
        /// Where it is, as the server's file system calls it; empty for one inside the data directory. Not trusted.
        path: Vec<u8>,
    },
    /// The tablespace goes.
    Drop {
        /// Its oid.
        spc: u32,
    },
}

impl TblspcRecord {
    /// Reads the main data of a Tablespace record.
    pub fn decode(record: &Record) -> Result<TblspcRecord, DecodeError> {
        let mut cursor = Cursor::new(record.main_data());
        let spc = cursor.u32()?;
        match record.opcode() {
            CREATE => Ok(TblspcRecord::Create {
                spc,
                path: cursor.c_string()?.to_vec(),
            }),
            DROP => Ok(TblspcRecord::Drop { spc }),
            _ => Err(unknown(record)),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::super::testing::{record, refuses_prefixes};
    use super::*;
    use crate::PgVersion::*;
    use crate::wal::rmgr::TBLSPC;

    #[test]
    fn the_path_ends_at_its_zero() {
        let create = record(V15, TBLSPC, CREATE, 0, b"\x01\x40\0\0/srv/pg\0");
        assert_eq!(
            TblspcRecord::decode(&create),
            Ok(TblspcRecord::Create {
                spc: 0x4001,
                path: b"/srv/pg".to_vec()
            })
        );
        refuses_prefixes(&create, TblspcRecord::decode);
    }
}
