//! The part of a timeline that is not sealed: an index in memory over its WAL.

use std::collections::BTreeMap;
use std::sync::Arc;

use neon_types::{Key, KeyRange, Lsn, LsnRange, PackedKey};

use crate::boundaries::{RecordSpan, Run};
use crate::value::Value;

/// Where one version is.
#[derive(Clone, Debug)]
pub(crate) enum Slot {
    /// In the WAL record that begins there, for the block reference of that index.
    Wal { start: Lsn, index: u8 },
    /// Here: what no block reference tells.
    Put(Arc<Value>),
}

/// One version of a key.
#[derive(Clone, Debug)]
pub(crate) struct OpenVersion {
    pub lsn: Lsn,
    /// No older version is needed.
    pub whole: bool,
    pub slot: Slot,
}

/// Versions made by records that end in an LSN range, by key.
#[derive(Debug)]
pub(crate) struct OpenLayer {
    range: LsnRange,
    keys: BTreeMap<PackedKey, Vec<OpenVersion>>,
    runs: BTreeMap<u64, Run>,
    versions: u64,
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
            versions: 0,
        }
    }

    /// Returns the LSN range whose versions are here.
    pub(crate) fn range(&self) -> LsnRange {
        self.range
    }

    /// Returns the number of versions.
    pub(crate) fn versions(&self) -> u64 {
        self.versions
    }

    /// Adds a version at an LSN that is not below the last one's.
    pub(crate) fn put(&mut self, key: PackedKey, version: OpenVersion) -> Result<(), TwoChanges> {
        let versions = self.keys.entry(key).or_default();
        if let Some(last) = versions.last_mut()
            && last.lsn == version.lsn
        {
            // One key has one version at one LSN: the later effect of a record wins if it does not need the earlier.
            if !version.whole {
                return Err(TwoChanges);
            }
            *last = version;
            return Ok(());
        }
        versions.push(version);
        self.versions += 1;
        Ok(())
    }

    /// Notes that a record is in: everything up to its end can be read.
    pub(crate) fn close_record(&mut self, span: RecordSpan, commit_time: Option<i64>) {
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
        let versions = self.keys.get(key).map_or(&[][..], Vec::as_slice);
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
    ) -> Vec<(PackedKey, Vec<OpenVersion>)> {
        let mut found = Vec::new();
        for (key, versions) in self.keys.range(range) {
            let below = versions.partition_point(|version| version.lsn <= lsn);
            let seen = versions.get(..below).unwrap_or_default();
            let first = seen.iter().rposition(|version| version.whole).unwrap_or(0);
            let needed = seen.get(first..).unwrap_or_default();
            if !needed.is_empty() {
                found.push((*key, needed.to_vec()));
            }
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
                    .insert(Key::Boundaries { mebibyte }.pack(), vec![version]);
                self.versions += 1;
            }
        }
    }

    /// Returns all versions in key order.
    pub(crate) fn iter(&self) -> impl Iterator<Item = (&PackedKey, &Vec<OpenVersion>)> {
        self.keys.iter()
    }

    /// Returns the versions of the keys of a range, in key order.
    pub(crate) fn within(&self, keys: KeyRange) -> impl Iterator<Item = (&PackedKey, &Vec<OpenVersion>)> {
        self.keys.range(keys.start..keys.end)
    }
}
