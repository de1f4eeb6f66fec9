//! What system catalogs say of names, roles and databases: the first columns of some of them, and relation maps.
//!
//! Only columns whose place is known: they have a fixed length and are never null, and what comes before them, too.

mod relation_map;
mod role;
mod row;
mod shared;

pub use relation_map::RelationMap;
pub use role::{PG_AUTHID, Role, Secret};
pub use row::{Row, Visibility, rows};
pub use shared::{Database, PG_SUBSCRIPTION, Subscription};

/// Oid of `pg_class`.
pub const PG_CLASS: u32 = 1259;
/// Oid of `pg_database`.
pub const PG_DATABASE: u32 = 1262;
/// Oid of `pg_namespace`.
pub const PG_NAMESPACE: u32 = 2615;

/// Bytes of a `name`, padded with zeros.
const NAME_SIZE: usize = 64;

/// The beginning of a row of `pg_database` or `pg_namespace` (`FormData_pg_database`, `FormData_pg_namespace`): oid and name.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Named {
    /// The object.
    pub oid: u32,
    /// Its name.
    pub name: String,
}

impl Named {
    /// Reads the columns of a row; none when it is too short.
    pub fn decode(columns: &[u8]) -> Option<Named> {
        Some(Named {
            oid: u32_at(columns, 0)?,
            name: name_at(columns, 4)?,
        })
    }
}

/// The beginning of a row of `pg_class` (`FormData_pg_class`).
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Class {
    /// The relation.
    pub oid: u32,
    /// Its name.
    pub name: String,
    /// Its schema.
    pub namespace: u32,
    /// Number of its file; 0 when a relation map has it, and for a relation without storage.
    pub file: u32,
    /// Its tablespace; 0 is that of the database.
    pub tablespace: u32,
}

impl Class {
    /// Reads the columns of a row; none when it is too short.
    pub fn decode(columns: &[u8]) -> Option<Class> {
        Some(Class {
            oid: u32_at(columns, 0)?,
            name: name_at(columns, 4)?,
            namespace: u32_at(columns, 68)?,
            file: u32_at(columns, 88)?,
            tablespace: u32_at(columns, 92)?,
        })
    }
}

fn u32_at(bytes: &[u8], at: usize) -> Option<u32> {
    let bytes = bytes.get(at..at + 4)?;
    Some(u32::from_le_bytes(bytes.try_into().ok()?))
}

fn name_at(bytes: &[u8], at: usize) -> Option<String> {
    let bytes = bytes.get(at..at + NAME_SIZE)?;
    let name = bytes.split(|byte| *byte == 0).next().unwrap_or_default();
    Some(String::from_utf8_lossy(name).into_owned())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn columns_lie_where_postgres_puts_them() {
        let mut row = vec![0; 120];
        row[..4].copy_from_slice(&16384u32.to_le_bytes());
        row[4..9].copy_from_slice(b"sales");
        row[68..72].copy_from_slice(&2200u32.to_le_bytes());
        row[88..92].copy_from_slice(&16390u32.to_le_bytes());
        row[92..96].copy_from_slice(&1663u32.to_le_bytes());
        assert_eq!(
            Class::decode(&row),
            Some(Class {
                oid: 16384,
                name: "sales".to_owned(),
                namespace: 2200,
                file: 16390,
                tablespace: 1663
            })
        );
        assert_eq!(
            Named::decode(&row),
            Some(Named {
                oid: 16384,
                name: "sales".to_owned()
            })
        );
        assert_eq!(Class::decode(&row[..95]), None);
        assert_eq!(Named::decode(&row[..67]), None);
    }
}
