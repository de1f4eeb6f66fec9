//! Databases that begin and go.

use super::unknown;
use crate::wal::{DecodeError, Record};
use crate::{Cursor, PgVersion};

/// A Database record. 14 knows only copies, and numbers its opcodes in another way.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum DbaseRecord {
    /// The directory of a database becomes a copy of another, as it is at this record.
    CreateFileCopy {
        /// The new database.
        db: u32,
        /// Its tablespace.
        spc: u32,
        /// The database that is copied.
        source_db: u32,
        /// The tablespace of the copied directory.
        source_spc: u32,
    },
    /// The directory of a database begins; its pages and its relation map follow as records.
    CreateWalLog {
        /// The new database.
        db: u32,
        /// Its tablespace.
        spc: u32,
    },
    /// The directories of a database go.
    Drop {
        /// The database.
        db: u32,
        /// Every tablespace in which it has a directory that goes.
        tablespaces: Vec<u32>,
    },
}

impl DbaseRecord {
    /// Reads the main data of a Database record.
    pub fn decode(record: &Record) -> Result<DbaseRecord, DecodeError> {
        let mut cursor = Cursor::new(record.main_data());
        let db = cursor.u32()?;
        let old = record.version() == PgVersion::V14;
        match record.opcode() {
            0x00 => Ok(DbaseRecord::CreateFileCopy {
                db,
                spc: cursor.u32()?,
                source_db: cursor.u32()?,
                source_spc: cursor.u32()?,
            }),
            0x10 if !old => Ok(DbaseRecord::CreateWalLog {
                db,
                spc: cursor.u32()?,
            }),
            0x10 | 0x20 if old == (record.opcode() == 0x10) => {
                let count = cursor.count(4)?;
                let tablespaces = (0..count).map(|_| cursor.u32()).collect::<Result<_, _>>()?;
                Ok(DbaseRecord::Drop { db, tablespaces })
            }
            _ => Err(unknown(record)),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::super::testing::{record, refuses_prefixes, words};
    use super::*;
    use crate::PgVersion::*;
    use crate::wal::rmgr::DBASE;

    #[test]
    fn opcodes_moved_after_14() {
        let drop = DbaseRecord::Drop {
            db: 16400,
            tablespaces: vec![1663, 17000],
        };
        for (version, opcode) in [(V14, 0x10), (V15, 0x20), (V18, 0x20)] {
            let record = record(version, DBASE, opcode, 0, &words(&[16400, 2, 1663, 17000]));
            assert_eq!(DbaseRecord::decode(&record).as_ref(), Ok(&drop));
            refuses_prefixes(&record, DbaseRecord::decode);
        }
        let create = record(V15, DBASE, 0x10, 0, &words(&[16400, 1663]));
        assert_eq!(
            DbaseRecord::decode(&create),
            Ok(DbaseRecord::CreateWalLog { db: 16400, spc: 1663 })
        );
        assert!(DbaseRecord::decode(&record(V14, DBASE, 0x20, 0, &words(&[1, 0]))).is_err());
        let copy = record(V14, DBASE, 0x00, 0, &words(&[16400, 1663, 1, 1664]));
        assert!(matches!(
            DbaseRecord::decode(&copy),
            Ok(DbaseRecord::CreateFileCopy { source_spc: 1664, .. })
        ));
    }
}
