//! WAL that is kept, taken in again by stretches that fit into memory.

use std::sync::Arc;

use neon_postgres::wal::{Record, WalDecoder};
use neon_types::{Key, KeyRange, Lsn, LsnRange};

use super::super::Timeline;
use super::super::open::{OpenLayer, OpenVersion, Slot};
use super::super::scan::Merge;
use super::super::versions::{Versions, commit_time};
use super::Next;
use crate::boundaries::RecordSpan;
use crate::map::LayerMap;
use crate::significance::is_significant;
use crate::value::Value;
use crate::{PageStoreError, Result, State};

const READ: usize = 1 << 20;
/// Bounds of one chunk: WAL and memory of its index, as of a seal, and bytes of values that are no WAL.
const MAX_WAL: u64 = 64 << 20;
const MAX_VALUES: u64 = 32 << 20;

/// The versions that a stretch of WAL makes.
pub(super) struct Chunk {
    /// The state before it, and after it.
    pub lsns: LsnRange,
    /// Its versions; nothing is added any more.
    pub open: OpenLayer,
}

/// Takes in WAL, chunk by chunk.
pub(super) struct Chunks<'a> {
    timeline: &'a Timeline,
    versions: Versions,
    decoder: WalDecoder,
    to: Lsn,
    stopped: bool,
}

impl<'a> Chunks<'a> {
    /// Begins at `from`, the end of a record; ends at `to`, where a record ends too.
    pub(super) fn new(timeline: &'a Timeline, from: Lsn, to: Lsn) -> Chunks<'a> {
        Chunks {
            timeline,
            versions: timeline.new_versions(),
            decoder: WalDecoder::new(timeline.stream_params(), from, None),
            to,
            stopped: false,
        }
    }

    /// Returns the end of the last record that was taken in.
    pub(super) fn at(&self) -> Lsn {
        self.decoder.end()
    }

    /// Returns why there is no chunk.
    pub(super) fn why_none(&self) -> Next {
        if self.stopped { Next::Stop } else { Next::End }
    }

    /// Returns the next chunk, none at the end, or when `progress`, which is told of the bytes since its beginning, says so. The state before it
    /// is read from `map`.
    pub(super) fn next(
        &mut self,
        map: &Arc<LayerMap>,
        progress: &mut dyn FnMut(u64) -> bool,
    ) -> Result<Option<Chunk>> {
        let start = self.at();
        let settings = &self.timeline.core.settings;
        let most_wal = settings.seal_wal_bytes.min(MAX_WAL);
        let mut open = OpenLayer::new(start);
        let mut values = 0;
        let mut bytes = Vec::new();
        while self.at() < self.to
            && self.at().bytes_since(start) < most_wal
            && open.memory() < settings.index_memory
            && values < MAX_VALUES
        {
            let end = self.at();
            match self.decoder.next_record() {
                Ok(Some(raw)) => {
                    let span = RecordSpan {
                        start: raw.start,
                        end: raw.end,
                    };
                    let broken = |reason: String| self.timeline.breaks_off(span.start, reason);
                    let record = Record::decode(self.timeline.version, raw.bytes)
                        .map_err(|error| broken(error.to_string()))?;
                    values += self.take(map, &mut open, span, &record, &broken)?;
                }
                Ok(None) => {
                    if !progress(end.bytes_since(start)) {
                        self.stopped = true;
                        return Ok(None);
                    }
                    self.read(&mut bytes)?;
                }
                Err(error) => return Err(self.timeline.breaks_off(end, error.to_string())),
            }
        }
        if self.at() > self.to {
            let reason = format!("no record ends at {}, where it is sealed", self.to);
            return Err(self.timeline.breaks_off(self.to, reason));
        }
        let lsns = open.range();
        open.freeze();
        Ok((!lsns.is_empty()).then_some(Chunk { lsns, open }))
    }

    fn read(&mut self, bytes: &mut Vec<u8>) -> Result<()> {
        let at = self.decoder.fed();
        let len = READ.min(usize::try_from(self.to.bytes_since(at)).unwrap_or(READ));
        if len == 0 {
            let reason = format!("no record ends at {}, where it is sealed", self.to);
            return Err(self.timeline.breaks_off(self.at(), reason));
        }
        bytes.resize(len, 0);
        self.timeline.wal.read(at, bytes)?;
        self.decoder.feed(bytes);
        Ok(())
    }

    /// Adds the versions of one record; returns the bytes of their values that are no WAL.
    fn take(
        &mut self,
        map: &Arc<LayerMap>,
        open: &mut OpenLayer,
        span: RecordSpan,
        record: &Record,
        broken: &dyn Fn(String) -> PageStoreError,
    ) -> Result<u64> {
        let before = Before {
            timeline: self.timeline,
            map,
            at: open.range().start,
            open,
        };
        // Every record that redo does not know makes a mark here: which of them a seal kept follows from when it began.
        self.versions.forget_marks();
        let versions = self.versions.of(record, span, &before, broken)?;
        let mut values = 0;
        for (key, version) in versions {
            if let Slot::Put(value) = &version.slot {
                values += value.stored(version.whole).1.len() as u64;
            }
            open.put(key, version)
                .map_err(|_| broken(format!("{key:?} has two changes that need each other")))?;
        }
        open.close_record(span, commit_time(record), is_significant(record));
        Ok(values)
    }
}

/// What the records before the one at hand left behind: the chunk so far, above the layers.
struct Before<'a> {
    timeline: &'a Timeline,
    map: &'a Arc<LayerMap>,
    at: Lsn,
    open: &'a OpenLayer,
}

impl State for Before<'_> {
    fn item(&self, key: Key) -> Result<Option<Arc<[u8]>>> {
        if matches!(key, Key::Unreadable(_)) {
            return Ok(None);
        }
        let packed = key.pack();
        let mut newest: Option<OpenVersion> = None;
        self.open
            .newest_first(&packed, Lsn::MAX, Lsn::INVALID, |version| {
                newest = Some(version.clone());
                false
            });
        if let Some(version) = newest {
            return match self.timeline.resolve(version)?.value {
                Value::Item(bytes) => Ok(Some(bytes.into())),
                Value::Absent => Ok(None),
                _ => Err(PageStoreError::WrongKind { key, lsn: self.at }),
            };
        }
        self.timeline.item_in(self.map, key, self.at)
    }

    fn scan_items(&self, range: KeyRange, f: &mut dyn FnMut(Key, &[u8]) -> Result<()>) -> Result<()> {
        let mut merge = Merge::above_map(self.timeline, self.open, Arc::clone(self.map), range, self.at);
        let mut found = Vec::new();
        while let Some(packed) = merge.next(&|_| Lsn::INVALID, &mut found)? {
            let key = Key::unpack(&packed).map_err(|error| PageStoreError::damaged("a key", error))?;
            if let Some(bytes) = self.timeline.finish_value(key, std::mem::take(&mut found))? {
                f(key, &bytes)?;
            }
        }
        Ok(())
    }
}
