//! Names of databases and relations at a position, read from the system catalogs' pages: no server is needed.

use std::collections::BTreeMap;

use neon_pagestore::items::RelMap;
use neon_pagestore::{RelationFile, Timeline};
use neon_postgres::catalog::{
    Class, Named, PG_CLASS, PG_DATABASE, PG_NAMESPACE, RelationMap, Row, Visibility, rows,
};
use neon_postgres::slru::{XactStatus, clog_place};
use neon_types::{Fork, Key, KeyRange, Lsn, PackedKey, RelTag, SlruKind};

use crate::error::Result;

/// Tablespace of what all databases share.
const GLOBAL: u32 = neon_postgres::layout::GLOBAL_TABLESPACE;

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
        let mut reader = Reader {
            timeline,
            lsn,
            clog: BTreeMap::new(),
        };
        let mut names = Names::default();
        let maps = reader.maps()?;
        if let Some(shared) = maps.get(&(GLOBAL, 0))
            && let Some(file) = shared.file_of(PG_DATABASE)
        {
            let databases: Vec<Named> = reader.rows_of((GLOBAL, 0, file), Named::decode)?;
            names
                .databases
                .extend(databases.into_iter().map(|row| (row.oid, row.name)));
        }
        let shared = maps.get(&(GLOBAL, 0)).cloned().unwrap_or_default();
        for ((spc, db), map) in maps.iter().filter(|(place, _)| place.0 != GLOBAL) {
            reader.relations(*spc, *db, map, &shared, &mut names)?;
        }
        Ok(names)
    }
}

struct Reader<'a> {
    timeline: &'a Timeline,
    lsn: Lsn,
    clog: BTreeMap<u32, Option<std::sync::Arc<[u8]>>>,
}

impl Reader<'_> {
    /// Returns every relation map, by tablespace and database.
    fn maps(&self) -> Result<BTreeMap<(u32, u32), RelationMap>> {
        let range = KeyRange {
            start: Key::RelMap { spc: 0, db: 0 }.pack(),
            end: after(Key::RelMap {
                spc: u32::MAX,
                db: u32::MAX,
            }),
        };
        let mut maps = BTreeMap::new();
        self.timeline.scan_items(range, self.lsn, &mut |key, bytes| {
            if let Key::RelMap { spc, db } = key
                && let Ok(item) = RelMap::decode(bytes)
                && let Some(map) = RelationMap::decode(&item.file)
            {
                maps.insert((spc, db), map);
            }
            Ok(())
        })?;
        Ok(maps)
    }

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
        let classes: Vec<Class> = self.rows_of((spc, db, file), Class::decode)?;
        let schemas: BTreeMap<u32, String> = match classes.iter().find(|class| class.oid == PG_NAMESPACE) {
            Some(namespace) => {
                let rows: Vec<Named> = self.rows_of((spc, db, namespace.file), Named::decode)?;
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

    /// Returns what `decode` makes of the rows of a heap that a reader sees here.
    fn rows_of<T>(&mut self, file: RelationFile, decode: impl Fn(&[u8]) -> Option<T>) -> Result<Vec<T>> {
        let rel = RelTag {
            spc: file.0,
            db: file.1,
            rel: file.2,
            fork: Fork::Main,
        };
        let mut found = Vec::new();
        let Some(blocks) = self.timeline.rel_size(rel, self.lsn)? else {
            return Ok(found);
        };
        let mut pages = Vec::new();
        self.timeline
            .scan_pages(rel, 0..blocks, self.lsn, &mut |_, page| {
                pages.push(page.clone());
                Ok(())
            })?;
        for row in pages.iter().flat_map(rows) {
            if self.sees(&row)? {
                found.extend(decode(row.columns));
            }
        }
        Ok(found)
    }

    fn sees(&mut self, row: &Row<'_>) -> Result<bool> {
        Ok(row.visibility(|xid| self.status(xid))? != Visibility::Gone)
    }

    /// Returns what became of a transaction; of one so old that nothing is kept of it, that it committed: others' rows are gone.
    fn status(&mut self, xid: u32) -> Result<XactStatus> {
        let number = clog_place(xid).0.page;
        if !self.clog.contains_key(&number) {
            let key = Key::SlruPage {
                kind: SlruKind::Clog,
                page: u64::from(number),
            };
            let page = self.timeline.get_item(key, self.lsn)?;
            self.clog.insert(number, page);
        }
        let page = self.clog.get(&number).and_then(Option::as_ref);
        Ok(page
            .and_then(|page| XactStatus::of(xid, page))
            .unwrap_or(XactStatus::Committed))
    }
}

fn after(key: Key) -> PackedKey {
    key.pack().next()
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
