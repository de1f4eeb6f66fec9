//! Databases, relation maps and tablespaces.

use super::ItemError;
use super::codec::{Reader, Writer};

/// Longest path of a tablespace (`MAXPGPATH`).
const MAX_PATH: usize = 1024;
/// Longest `PG_VERSION` file.
const MAX_VERSION_FILE: usize = 64;
/// Longest relation map file: 524 bytes since Postgres 16.
const MAX_REL_MAP: usize = 1024;

/// The item of [`Key::Database`](neon_types::Key::Database): the directory exists.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct Database {
    /// Bytes of its `PG_VERSION` file.
    pub version_file: Vec<u8>,
}

impl Database {
    /// Returns the database directory that Postgres `major` makes.
    pub fn of_version(major: u16) -> Database {
        Database {
            version_file: format!("{major}\n").into_bytes(),
        }
    }

    /// Returns the item's bytes.
    pub fn encode(&self) -> Vec<u8> {
        Writer::new().bytes(&self.version_file).done()
    }

    /// Returns the item that these bytes encode.
    pub fn decode(bytes: &[u8]) -> Result<Database, ItemError> {
        limited("database", bytes, MAX_VERSION_FILE).map(|version_file| Database { version_file })
    }
}

/// The item of [`Key::RelMap`](neon_types::Key::RelMap).
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct RelMap {
    /// Bytes of the `pg_filenode.map` file, its CRC included.
    pub file: Vec<u8>,
}

impl RelMap {
    /// Returns the item's bytes.
    pub fn encode(&self) -> Vec<u8> {
        Writer::new().bytes(&self.file).done()
    }

    /// Returns the item that these bytes encode.
    pub fn decode(bytes: &[u8]) -> Result<RelMap, ItemError> {
        limited("relation map", bytes, MAX_REL_MAP).map(|file| RelMap { file })
    }
}

/// The item of [`Key::Tablespace`](neon_types::Key::Tablespace).
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct Tablespace {
    /// Its location as CREATE TABLESPACE gave it; empty for a tablespace in place.
    pub location: Vec<u8>,
}

impl Tablespace {
    /// Returns the item's bytes.
    pub fn encode(&self) -> Vec<u8> {
        Writer::new().bytes(&self.location).done()
    }

    /// Returns the item that these bytes encode.
    pub fn decode(bytes: &[u8]) -> Result<Tablespace, ItemError> {
        limited("tablespace", bytes, MAX_PATH).map(|location| Tablespace { location })
    }
}

/// Reads an item that is bytes alone.
fn limited(item: &'static str, bytes: &[u8], limit: usize) -> Result<Vec<u8>, ItemError> {
    let fields = Reader::new(item, bytes)?;
    let too_long = fields.length();
    let rest = fields.rest();
    if rest.len() > limit {
        return Err(too_long);
    }
    Ok(rest.to_vec())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn items_round_trip_and_limits_hold() {
        let database = Database::of_version(17);
        assert_eq!(database.encode(), b"\x0117\n");
        assert_eq!(Database::decode(&database.encode()), Ok(database));
        let map = RelMap { file: vec![7; 524] };
        assert_eq!(RelMap::decode(&map.encode()), Ok(map));
        let tablespace = Tablespace {
            location: b"/srv/fast".to_vec(),
        };
        assert_eq!(Tablespace::decode(&tablespace.encode()), Ok(tablespace));
        assert!(
            RelMap::decode(
                &RelMap {
                    file: vec![0; 1 << 20]
                }
                .encode()
            )
            .is_err()
        );
        assert!(Database::decode(&[]).is_err());
        assert!(Tablespace::decode(&[0]).is_err());
    }
}
