//! Names of databases and relations at a position, read from the system catalogs' pages: no server is needed.

use std::collections::BTreeMap;

use neon_pagestore::{RelationFile, Timeline};
use neon_postgres::catalog::{Class, Named, PG_CLASS, PG_DATABASE, PG_NAMESPACE, RelationMap};
use neon_types::Lsn;

use super::{GLOBAL, Reader};
use crate::error::Result;

/// The name of a relation.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct RelationName {
    /// Its schema.
    pub schema: String,
    /// Its name; of a TOAST table or its index, that of the table that it belongs to and what it is.
    pub name: String,
}

/// Names at a position.
#[derive(Clone, Debug, Default)]
pub struct Names {
    /// By oid.
    pub databases: BTreeMap<u32, String>,
    /// By file.
    pub relations: BTreeMap<RelationFile, RelationName>,
}

impl Names {
    /// Reads them. A catalog that cannot be read leaves its names out.
    pub fn read(timeline: &Timeline, lsn: Lsn) -> Result<Names> {
        let mut reader = Reader::new(timeline, lsn);
        let mut names = Names::default();
        let maps = reader.maps()?;
        let shared = maps.get(&(GLOBAL, 0)).cloned().unwrap_or_default();
        let databases = reader.shared(&shared, PG_DATABASE, |row| Named::decode(row.columns))?;
        let databases = databases.into_iter().map(|row| (row.oid, row.name));
        names.databases.extend(databases);
        for ((spc, db), map) in maps.iter().filter(|(place, _)| place.0 != GLOBAL) {
            reader.relations(*spc, *db, map, &shared, &mut names)?;
        }
        Ok(names)
    }
}

impl Reader<'_> {
    fn relations(
        &mut self,
        spc: u32,
        db: u32,
        map: &RelationMap,
        shared: &RelationMap,
        names: &mut Names,
    ) -> Result<()> {
        let Some(file) = map.file_of(PG_CLASS) else {
            return Ok(());
        };
        let classes: Vec<Class> = self.rows_of((spc, db, file), |row| Class::decode(row.columns))?;
        let schemas: BTreeMap<u32, String> = match classes.iter().find(|class| class.oid == PG_NAMESPACE) {
            Some(namespace) => {
                let rows: Vec<Named> =
                    self.rows_of((spc, db, namespace.file), |row| Named::decode(row.columns))?;
                rows.into_iter().map(|row| (row.oid, row.name)).collect()
            }
            None => BTreeMap::new(),
        };
        let name_of: BTreeMap<u32, &Class> = classes.iter().map(|class| (class.oid, class)).collect();
        for class in &classes {
            let place = match (class.tablespace, class.file) {
                (GLOBAL, 0) => shared.file_of(class.oid).map(|file| (GLOBAL, 0, file)),
                (_, 0) => map.file_of(class.oid).map(|file| (spc, db, file)),
                (0, file) => Some((spc, db, file)),
                (other, file) => Some((other, db, file)),
            };
            let Some(place) = place else {
                continue;
            };
            let (owner, of) = toast(&class.name)
                .and_then(|(oid, of)| Some((*name_of.get(&oid)?, of)))
                .unwrap_or((class, ""));
            let name = RelationName {
                schema: schemas.get(&owner.namespace).cloned().unwrap_or_default(),
                name: format!("{}{of}", owner.name),
            };
            names.relations.insert(place, name);
        }
        Ok(())
    }
}

/// Returns the oid of the table that a TOAST table or its index is named after, and what to say behind the table's name.
fn toast(name: &str) -> Option<(u32, &'static str)> {
    let rest = name.strip_prefix("pg_toast_")?;
    match rest.strip_suffix("_index") {
        Some(oid) => Some((oid.parse().ok()?, " (index of TOAST)")),
        None => Some((rest.parse().ok()?, " (TOAST)")),
    }
}

#[cfg(test)]
mod tests {
    use super::toast;

    #[test]
    fn toast_belongs_to_its_table() {
        assert_eq!(toast("pg_toast_16384"), Some((16384, " (TOAST)")));
        assert_eq!(toast("pg_toast_16384_index"), Some((16384, " (index of TOAST)")));
        assert_eq!(toast("pg_toast_x"), None);
        assert_eq!(toast("sales"), None);
    }
}
