//! Databases and subscriptions: shared catalogs whose columns lie elsewhere from version to version.

use super::{name_at, u32_at};
use crate::PgVersion;

/// Oid of `pg_subscription`.
pub const PG_SUBSCRIPTION: u32 = 6100;

/// The beginning of a row of `pg_database` (`FormData_pg_database`).
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Database {
    /// The database.
    pub oid: u32,
    /// Its name.
    pub name: String,
    /// Sessions may be begun in it.
    pub connections: bool,
}

impl Database {
    /// Reads the columns of a row; none when it is too short.
    pub fn decode(version: PgVersion, columns: &[u8]) -> Option<Database> {
        // 14 has two names before it, later versions a letter.
        let connections = if version >= PgVersion::V15 { 78 } else { 205 };
        Some(Database {
            oid: u32_at(columns, 0)?,
            name: name_at(columns, 4)?,
            connections: *columns.get(connections)? != 0,
        })
    }
}

/// The beginning of a row of `pg_subscription` (`FormData_pg_subscription`).
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Subscription {
    /// Its name.
    pub name: String,
    /// It takes in changes.
    pub enabled: bool,
}

impl Subscription {
    /// Reads the columns of a row; none when it is too short.
    pub fn decode(version: PgVersion, columns: &[u8]) -> Option<Subscription> {
        // From 15 on an LSN comes before the name.
        let name = if version >= PgVersion::V15 { 16 } else { 8 };
        Some(Subscription {
            name: name_at(columns, name)?,
            enabled: *columns.get(name + 68)? != 0,
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn columns_lie_where_each_version_puts_them() {
        let mut row = vec![0; 220];
        row[..4].copy_from_slice(&5u32.to_le_bytes());
        row[4..8].copy_from_slice(b"shop");
        let may = |row: &[u8], version| Database::decode(version, row).map(|database| database.connections);
        row[78] = 1;
        assert_eq!(
            (may(&row, PgVersion::V14), may(&row, PgVersion::V15)),
            (Some(false), Some(true))
        );
        row[205] = 1;
        assert_eq!(may(&row, PgVersion::V14), Some(true));
        assert_eq!(may(&row[..78], PgVersion::V17), None);

        let mut row = vec![0; 100];
        row[8..11].copy_from_slice(b"one");
        row[76] = 1;
        let one = Subscription::decode(PgVersion::V14, &row).expect("a row");
        assert_eq!((one.name.as_str(), one.enabled), ("one", true));
        let mut row = vec![0; 100];
        row[16..19].copy_from_slice(b"two");
        row[84] = 1;
        let two = Subscription::decode(PgVersion::V18, &row).expect("a row");
        assert_eq!((two.name.as_str(), two.enabled), ("two", true));
        assert_eq!(Subscription::decode(PgVersion::V18, &row[..84]), None);
    }
}
