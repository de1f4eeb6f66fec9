//! Relation maps: where the catalogs are that cannot say so themselves.

use super::unknown;
use crate::wal::{DecodeError, Record};
use crate::{Cursor, PgVersion};

/// Opcode: a map is replaced.
pub const UPDATE: u8 = 0x00;

/// Returns the bytes of a `pg_filenode.map`.
pub fn map_size(version: PgVersion) -> usize {
    if version >= PgVersion::V16 { 524 } else { 512 }
}

/// The map of a database is replaced.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct RelmapUpdate {
    /// The database, 0 for the shared map.
    pub db: u32,
    /// Its tablespace.
    pub spc: u32,
    /// The whole new `pg_filenode.map`.
    pub map: Vec<u8>,
}

impl RelmapUpdate {
    /// Reads the main data of a RelMap record.
    pub fn decode(record: &Record) -> Result<RelmapUpdate, DecodeError> {
        if record.opcode() != UPDATE {
            return Err(unknown(record));
        }
        let mut cursor = Cursor::new(record.main_data());
        let (db, spc) = (cursor.u32()?, cursor.u32()?);
        let size = cursor.count(1)?;
        if size != map_size(record.version()) {
            return Err(DecodeError::Payload {
                record: "RelMap/UPDATE",
                what: "the map does not have the size of this version",
            });
        }
        let map = cursor.take(size)?.to_vec();
        Ok(RelmapUpdate { db, spc, map })
    }
}

#[cfg(test)]
mod tests {
    use super::super::testing::{record, refuses_prefixes, words};
    use super::*;
    use crate::PgVersion::*;
    use crate::wal::rmgr::RELMAP;

    #[test]
    fn a_map_has_the_size_of_its_version() {
        for (version, size) in [(V14, 512), (V15, 512), (V16, 524), (V18, 524)] {
            let mut main = words(&[5, 1663, size]);
            main.resize(main.len() + size as usize, 7);
            let record = record(version, RELMAP, UPDATE, 0, &main);
            let update = RelmapUpdate::decode(&record).unwrap();
            assert_eq!(
                (update.db, update.spc, update.map.len()),
                (5, 1663, size as usize)
            );
            refuses_prefixes(&record, RelmapUpdate::decode);
        }
        let mut main = words(&[5, 1663, 524]);
        main.resize(main.len() + 524, 7);
        assert!(RelmapUpdate::decode(&record(V15, RELMAP, UPDATE, 0, &main)).is_err());
    }
}
