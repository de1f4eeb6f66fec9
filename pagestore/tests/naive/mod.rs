//! The simplest page store: every version of every key in memory. It reads as the real one must.

use std::collections::BTreeMap;
use std::sync::Arc;

use neon_pagestore::items::RelSize;
use neon_pagestore::{Effect, Ingest, PageStoreError, State, Value};
use neon_postgres::wal::Record;
use neon_postgres::{Page, PgVersion};
use neon_redo::change::Change;
use neon_redo::{Cluster, RedoError};
use neon_types::{Key, KeyRange, Lsn, PackedKey, RelTag};

enum Version {
    Value(Value),
    Record { record: Arc<Record>, index: usize },
}

/// Versions of keys in LSN order, and the ingest that makes them.
pub struct Naive {
    cluster: Cluster,
    versions: BTreeMap<PackedKey, Vec<(Lsn, Version)>>,
    ingest: Option<Ingest>,
    /// Effects so far.
    pub effects: u64,
}

impl Naive {
    pub fn new(version: PgVersion, hints_logged: bool) -> Naive {
        Naive {
            cluster: Cluster {
                version,
                hints_logged,
            },
            versions: BTreeMap::new(),
            ingest: Some(Ingest::new(version)),
            effects: 0,
        }
    }

    pub fn put(&mut self, key: PackedKey, lsn: Lsn, value: Value) {
        self.versions
            .entry(key)
            .or_default()
            .push((lsn, Version::Value(value)));
    }

    /// Takes a record in.
    pub fn take(&mut self, record: Record, start: Lsn, end: Lsn) {
        let mut ingest = self.ingest.take().expect("an ingest");
        let effects = ingest
            .effects(&record, start, end, self)
            .unwrap_or_else(|error| panic!("record at {start}: {error}"));
        self.ingest = Some(ingest);
        let record = Arc::new(record);
        let mut keys = Vec::new();
        for (key, effect) in effects {
            assert!(
                !keys.contains(&key),
                "record at {start} has two effects on {key:?}"
            );
            keys.push(key);
            self.effects += 1;
            let version = match effect {
                Effect::Block { index } => Version::Record {
                    record: Arc::clone(&record),
                    index,
                },
                Effect::Put(value) => Version::Value(value),
            };
            self.versions.entry(key.pack()).or_default().push((end, version));
        }
    }

    /// Returns every key that has a version.
    pub fn keys(&self) -> impl Iterator<Item = Key> + '_ {
        self.versions.keys().map(|key| Key::unpack(key).expect("a key"))
    }

    /// Forgets what ingest looked up, as a reopen does.
    pub fn forget(&mut self) {
        if let Some(ingest) = &mut self.ingest {
            ingest.reset();
        }
    }

    pub fn item_at(&self, key: Key, lsn: Lsn) -> Option<Arc<[u8]>> {
        let versions = self.versions.get(&key.pack())?;
        let (_, version) = versions.iter().rev().find(|(at, _)| *at <= lsn)?;
        match version {
            Version::Value(Value::Item(bytes)) => Some(bytes.as_slice().into()),
            Version::Value(Value::Absent) => None,
            _ => panic!("{key:?} is not an item"),
        }
    }

    pub fn size_at(&self, rel: RelTag, lsn: Lsn) -> Option<RelSize> {
        self.item_at(Key::RelSize(rel), lsn)
            .map(|bytes| RelSize::decode(&bytes).expect("a relation size"))
    }

    /// Returns the block, an error naming the record that cannot be replayed.
    pub fn block_at(&self, rel: RelTag, block: u32, lsn: Lsn) -> Result<Page, PageStoreError> {
        let size = self
            .size_at(rel, lsn)
            .ok_or(PageStoreError::NoRelation { rel, lsn })?;
        if block >= size.size {
            return Err(PageStoreError::NoBlock {
                rel,
                block,
                size: size.size,
                lsn,
            });
        }
        self.page_at(Key::Block(rel, block), size.floor(block), lsn, || {
            match size.source(block) {
                Some((source, at)) => self.block_at(source, block, at),
                None => Ok(Page::zeroed()),
            }
        })
    }

    /// Returns the page of a key that no relation size floors.
    pub fn page_at(
        &self,
        key: Key,
        floor: Lsn,
        lsn: Lsn,
        base: impl FnOnce() -> Result<Page, PageStoreError>,
    ) -> Result<Page, PageStoreError> {
        let none = Vec::new();
        let versions = self.versions.get(&key.pack()).unwrap_or(&none);
        let readable: Vec<&(Lsn, Version)> = versions
            .iter()
            .filter(|(at, _)| floor < *at && *at <= lsn)
            .collect();
        let whole = readable.iter().rposition(|(_, version)| match version {
            Version::Record { record, index } => !neon_redo::needs_base(record, *index),
            Version::Value(Value::Change(bytes)) => !Change::decode(bytes).expect("a change").needs_base(),
            Version::Value(_) => true,
        });
        let mut page = match whole {
            Some(_) => Page::zeroed(),
            None => base()?,
        };
        for (at, version) in readable.iter().skip(whole.unwrap_or(0)) {
            match version {
                Version::Record { record, index } => {
                    // What a store keeps: the record cut to the block.
                    let slice = Record::decode(self.cluster.version, record.slice_for_block(*index))
                        .expect("a slice");
                    neon_redo::redo(&self.cluster, &slice, *at, *index, &mut page).map_err(|error| {
                        match error {
                            RedoError::Unsupported { name, .. } => {
                                PageStoreError::Unsupported { key, name, lsn: *at }
                            }
                            error => PageStoreError::Redo {
                                key,
                                lsn: *at,
                                reason: error.to_string(),
                            },
                        }
                    })?;
                }
                Version::Value(Value::Image(image)) => page = image.clone(),
                Version::Value(Value::Change(bytes)) => {
                    Change::decode(bytes).expect("a change").apply(*at, &mut page);
                }
                Version::Value(Value::Absent) => page = Page::zeroed(),
                Version::Value(_) => panic!("{key:?} is not a page"),
            }
        }
        page.set_stored_checksum_if_relation(key);
        Ok(page)
    }
}

trait Canonical {
    fn set_stored_checksum_if_relation(&mut self, key: Key);
}

impl Canonical for Page {
    fn set_stored_checksum_if_relation(&mut self, key: Key) {
        if matches!(key, Key::Block(..)) {
            self.set_stored_checksum(0);
        }
    }
}

impl State for Naive {
    fn item(&self, key: Key) -> Result<Option<Arc<[u8]>>, PageStoreError> {
        Ok(self.item_at(key, Lsn::MAX))
    }

    fn scan_items(
        &self,
        range: KeyRange,
        f: &mut dyn FnMut(Key, &[u8]) -> Result<(), PageStoreError>,
    ) -> Result<(), PageStoreError> {
        for (key, _) in self.versions.range(range.start..range.end) {
            let key = Key::unpack(key).expect("a key");
            if let Some(bytes) = self.item_at(key, Lsn::MAX) {
                f(key, &bytes)?;
            }
        }
        Ok(())
    }
}
