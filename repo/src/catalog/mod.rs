//! What the system catalogs say at a position, read from their pages: no server is needed, and no code of the database runs.

mod access;
mod names;

use std::collections::BTreeMap;
use std::sync::Arc;

use neon_pagestore::items::RelMap;
use neon_pagestore::{RelationFile, Timeline};
use neon_postgres::catalog::{RelationMap, Row, Visibility, rows};
use neon_postgres::slru::{XactStatus, clog_place};
use neon_types::{Fork, Key, KeyRange, Lsn, PackedKey, RelTag, SlruKind};

use crate::error::Result;

pub(crate) use access::Access;
pub use names::{Names, RelationName};

/// Tablespace of what all databases share.
const GLOBAL: u32 = neon_postgres::layout::GLOBAL_TABLESPACE;

struct Reader<'a> {
    timeline: &'a Timeline,
    lsn: Lsn,
    clog: BTreeMap<u32, Option<Arc<[u8]>>>,
}

impl<'a> Reader<'a> {
    fn new(timeline: &'a Timeline, lsn: Lsn) -> Reader<'a> {
        Reader {
            timeline,
            lsn,
            clog: BTreeMap::new(),
        }
    }

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

    /// Returns what `decode` makes of the rows of a catalog that all databases share.
    fn shared<T>(
        &mut self,
        map: &RelationMap,
        catalog: u32,
        decode: impl Fn(&Row<'_>) -> Option<T>,
    ) -> Result<Vec<T>> {
        match map.file_of(catalog) {
            Some(file) => self.rows_of((GLOBAL, 0, file), decode),
            None => Ok(Vec::new()),
        }
    }

    /// Returns what `decode` makes of the rows of a heap that a reader sees here.
    fn rows_of<T>(&mut self, file: RelationFile, decode: impl Fn(&Row<'_>) -> Option<T>) -> Result<Vec<T>> {
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
                found.extend(decode(&row));
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
