//! The part of a timeline that is not sealed: an index in memory over its WAL.

use std::collections::BTreeMap;
use std::collections::btree_map::Entry;
use std::sync::Arc;

use neon_types::{Key, KeyRange, Lsn, LsnRange, PackedKey};

use crate::boundaries::{RecordSpan, Run};
use crate::value::Value;

/// Memory that a key with its first version takes, in bytes: a tree filled in order has nodes that are a little more than half full.
const KEY_COST: usize = (size_of::<PackedKey>() + size_of::<KeyVersions>()) * 2;
/// Memory that an allocation takes beside what was asked for, in bytes.
const ALLOCATION_COST: usize = 16;

/// Where one version is.
#[derive(Clone, Debug)]
pub(crate) enum Slot {
    /// In the WAL record that begins there, for the block reference of that index.
    Wal { start: Lsn, index: u8 },
    /// Here: what no block reference tells.
    Put(Arc<Value>),
    /// Here: the key does not exist any more.
    Absent,
}

impl Slot {
    /// Returns where to keep a value that no block reference tells.
    pub(crate) fn of(value: Value) -> Slot {
        match value {
            Value::Absent => Slot::Absent,
            value => Slot::Put(Arc::new(value)),
        }
    }

    /// Returns about how much memory it takes besides itself, in bytes.
    fn memory(&self) -> usize {
        let Slot::Put(value) = self else { return 0 };
        let bytes = match value.as_ref() {
            Value::Image(page) => page.as_bytes().len(),
            Value::Record(bytes) | Value::Change(bytes) | Value::Delta(bytes) | Value::Item(bytes) => {
                bytes.capacity()
            }
            Value::Absent => 0,
        };
        size_of::<Value>() + bytes + 2 * ALLOCATION_COST
    }
}

/// One version of a key.
#[derive(Clone, Debug)]
pub(crate) struct OpenVersion {
    pub lsn: Lsn,
    /// No older version is needed.
    pub whole: bool,
    pub slot: Slot,
}

/// The versions of one key, oldest first. Most keys of a mass of new relations have a single one.
#[derive(Clone, Debug)]
pub(crate) enum KeyVersions {
    /// The only one.
    One(OpenVersion),
    /// Several, or none while they are being put together.
    Many(Vec<OpenVersion>),
}

impl KeyVersions {
    pub(crate) fn as_slice(&self) -> &[OpenVersion] {
        match self {
            KeyVersions::One(version) => std::slice::from_ref(version),
            KeyVersions::Many(versions) => versions,
        }
    }

    fn last_mut(&mut self) -> Option<&mut OpenVersion> {
        match self {
            KeyVersions::One(version) => Some(version),
            KeyVersions::Many(versions) => versions.last_mut(),
        }
    }

    /// Adds the newest one; returns how much more memory the list takes, in bytes.
    fn push(&mut self, version: OpenVersion) -> usize {
        let versions = match self {
            KeyVersions::Many(versions) => versions,
            KeyVersions::One(_) => {
                let KeyVersions::One(first) = std::mem::replace(self, KeyVersions::Many(Vec::new())) else {
                    return 0;
                };
                *self = KeyVersions::Many(vec![first, version]);
                return 2 * size_of::<OpenVersion>() + ALLOCATION_COST;
            }
        };
        let before = versions.capacity();
        versions.push(version);
        (versions.capacity() - before) * size_of::<OpenVersion>()
    }

    fn of(versions: &[OpenVersion]) -> Option<KeyVersions> {
        match versions {
            [] => None,
            [version] => Some(KeyVersions::One(version.clone())),
            versions => Some(KeyVersions::Many(versions.to_vec())),
        }
    }
}

/// KeyVersions made by records that end in an LSN range, by key.
#[derive(Debug)]
pub(crate) struct OpenLayer {
    range: LsnRange,
    keys: BTreeMap<PackedKey, KeyVersions>,
    runs: BTreeMap<u64, Run>,
    /// End of the last record that makes history.
    significant: Option<Lsn>,
    memory: usize,
}

/// Two effects of one record on one key, of which the second needs the first.
#[derive(Debug, PartialEq, Eq)]
pub(crate) struct TwoChanges;

impl OpenLayer {
    pub(crate) fn new(start: Lsn) -> OpenLayer {
        OpenLayer {
            range: LsnRange { start, end: start },
            keys: BTreeMap::new(),
            runs: BTreeMap::new(),
            significant: None,
            memory: 0,
        }
    }

    /// Returns the LSN range whose versions are here.
    pub(crate) fn range(&self) -> LsnRange {
        self.range
    }

    /// Returns about how much memory it takes, in bytes.
    pub(crate) fn memory(&self) -> usize {
        self.memory
    }

    /// Adds a version at an LSN that is not below the last one's.
    pub(crate) fn put(&mut self, key: PackedKey, version: OpenVersion) -> Result<(), TwoChanges> {
        self.memory += version.slot.memory();
        match self.keys.entry(key) {
            Entry::Vacant(vacant) => {
                vacant.insert(KeyVersions::One(version));
                self.memory += KEY_COST;
            }
            Entry::Occupied(mut occupied) => {
                let versions = occupied.get_mut();
                match versions.last_mut().filter(|last| last.lsn == version.lsn) {
                    // One key has one version at one LSN: the later effect of a record wins if it does not need the earlier.
                    Some(_) if !version.whole => return Err(TwoChanges),
                    Some(last) => *last = version,
                    None => self.memory += versions.push(version),
                }
            }
        }
        Ok(())
    }

    /// Returns the end of the last record in it that makes history (law 3); none when all are housekeeping.
    pub(crate) fn significant(&self) -> Option<Lsn> {
        self.significant
    }

    /// Notes that a record is in, and whether it makes history: everything up to its end can be read.
    pub(crate) fn close_record(&mut self, span: RecordSpan, commit_time: Option<i64>, significant: bool) {
        if significant {
            self.significant = Some(span.end);
        }
        self.runs
            .entry(span.start.0 >> 20)
            .or_default()
            .push(span, commit_time);
        self.range.end = span.end;
    }

    /// Calls `f` with the versions of `key` at or below `lsn` and above `floor`, newest first, until it returns false.
    pub(crate) fn newest_first(
        &self,
        key: &PackedKey,
        lsn: Lsn,
        floor: Lsn,
        mut f: impl FnMut(&OpenVersion) -> bool,
    ) {
        if let Some(version) = self.run_version(key)
            && version.lsn <= lsn
            && !f(&version)
        {
            return;
        }
        let versions = self.keys.get(key).map_or(&[][..], KeyVersions::as_slice);
        let below = versions.partition_point(|version| version.lsn <= lsn);
        for version in versions.get(..below).unwrap_or_default().iter().rev() {
            if version.lsn <= floor || !f(version) {
                break;
            }
        }
    }

    /// Returns the record boundaries of a mebibyte as a version.
    fn run_version(&self, key: &PackedKey) -> Option<OpenVersion> {
        if self.runs.is_empty() {
            return None;
        }
        let Ok(Key::Boundaries { mebibyte }) = Key::unpack(key) else {
            return None;
        };
        let run = self.runs.get(&mebibyte)?;
        Some(OpenVersion {
            lsn: run.version()?,
            whole: true,
            slot: Slot::Put(Arc::new(Value::Item(run.encode()))),
        })
    }

    /// Returns the keys of a range with their versions at or below `lsn`, the last whole one first.
    pub(crate) fn snapshot(
        &self,
        range: std::ops::Range<PackedKey>,
        lsn: Lsn,
    ) -> Vec<(PackedKey, KeyVersions)> {
        let mut found = Vec::new();
        for (key, versions) in self.keys.range(range) {
            let versions = versions.as_slice();
            let below = versions.partition_point(|version| version.lsn <= lsn);
            let seen = versions.get(..below).unwrap_or_default();
            let first = seen.iter().rposition(|version| version.whole).unwrap_or(0);
            let needed = KeyVersions::of(seen.get(first..).unwrap_or_default());
            found.extend(needed.map(|needed| (*key, needed)));
        }
        found
    }

    /// Turns the record boundaries into versions: nothing is added any more.
    pub(crate) fn freeze(&mut self) {
        for (mebibyte, run) in std::mem::take(&mut self.runs) {
            if let Some(lsn) = run.version() {
                let version = OpenVersion {
                    lsn,
                    whole: true,
                    slot: Slot::Put(Arc::new(Value::Item(run.encode()))),
                };
                self.keys
                    .insert(Key::Boundaries { mebibyte }.pack(), KeyVersions::One(version));
            }
        }
    }

    /// Returns all versions in key order.
    pub(crate) fn iter(&self) -> impl Iterator<Item = (&PackedKey, &[OpenVersion])> {
        self.keys.iter().map(|(key, versions)| (key, versions.as_slice()))
    }

    /// Divides all keys so that each part has about as many versions.
    pub(crate) fn parts(&self, versions: usize) -> Vec<KeyRange> {
        let mut parts = Vec::new();
        let (mut start, mut count) = (PackedKey::MIN, 0);
        for (key, here) in self.iter() {
            if count >= versions {
                parts.push(KeyRange { start, end: *key });
                (start, count) = (*key, 0);
            }
            count += here.len();
        }
        parts.push(KeyRange {
            start,
            end: PackedKey::MAX,
        });
        parts
    }

    /// Returns the versions of the keys of a range, in key order.
    pub(crate) fn within(&self, keys: KeyRange) -> impl Iterator<Item = (&PackedKey, &[OpenVersion])> {
        let keys = self.keys.range(keys.start..keys.end);
        keys.map(|(key, versions)| (key, versions.as_slice()))
    }
}
