//! From received bytes to indexed versions.

use std::sync::Arc;

use neon_postgres::wal::{RawRecord, Record, StreamParams, WalDecoder, WalError, rmgr};
use neon_types::{Key, KeyRange, Lsn, LsnRange, RelTag};

use super::ladder::Ladder;
use super::open::{OpenVersion, Slot};
use super::{Timeline, lock, write};
use crate::boundaries::RecordSpan;
use crate::value::Value;
use crate::{Effect, Ingest, PageStoreError, Result, State};

const CHUNK: usize = 1 << 20;
/// `XLOG_XACT_COMMIT` and `XLOG_XACT_COMMIT_PREPARED`.
const COMMITS: [u8; 2] = [0x00, 0x30];
/// Bits of a transaction record's `info` that are its kind.
const XACT_OPCODE: u8 = 0x70;

/// What indexing needs between calls.
pub(crate) struct Indexer {
    /// None before the first record and after a failure.
    decoder: Option<(WalDecoder, u64)>,
    ingest: Ingest,
    pub(super) ladder: Ladder,
    /// Relations whose first unknown record is noted.
    marked: std::collections::HashSet<RelTag>,
}

impl Indexer {
    pub(crate) fn new(ingest: Ingest, ladder: Ladder) -> Indexer {
        Indexer {
            decoder: None,
            ingest,
            ladder,
            marked: std::collections::HashSet::new(),
        }
    }

    /// Forgets which relations are marked: their marks may be in layers now.
    pub(super) fn forget_marks(&mut self) {
        self.marked.clear();
    }

    /// Forgets everything that can be derived again.
    pub(super) fn reset(&mut self, ingest: Ingest) {
        self.decoder = None;
        self.ingest = ingest;
        self.marked.clear();
    }
}

struct Newest<'a>(&'a Timeline);

impl State for Newest<'_> {
    fn item(&self, key: Key) -> Result<Option<Arc<[u8]>>> {
        self.0.value(key, self.0.end())
    }

    fn scan_items(&self, range: KeyRange) -> Result<Vec<(Key, Arc<[u8]>)>> {
        let mut items = Vec::new();
        self.0.scan_items(range, self.0.end(), &mut |key, bytes| {
            items.push((key, bytes.into()));
            Ok(())
        })?;
        Ok(items)
    }
}

impl Timeline {
    /// Writes raw WAL at `at`, which must be at least [`Timeline::end`] and at most [`Timeline::received_end`]: bytes beyond
    /// the last whole record are replaced. Nothing is looked at, nothing is durable before [`Timeline::sync_wal`].
    pub fn append_wal(&self, at: Lsn, bytes: &[u8]) -> Result<()> {
        self.wal.append(at, bytes, self.end())
    }

    /// Returns the end of the WAL bytes that were received, whole records or not.
    pub fn received_end(&self) -> Lsn {
        self.wal.received()
    }

    /// Makes the received WAL durable and returns the end of what is. After an error nothing may be acknowledged:
    /// [`Timeline::reopen_wal`], then receive again from what it returns.
    pub fn sync_wal(&self) -> Result<Lsn> {
        self.wal.sync()
    }

    /// Gives up everything that is not known to be durable (law 10) and returns the end of the last whole record that is.
    pub fn reopen_wal(&self) -> Result<Lsn> {
        let mut indexer = lock(&self.indexer);
        self.reopen(&mut indexer)?;
        Ok(self.end())
    }

    fn reopen(&self, indexer: &mut Indexer) -> Result<()> {
        let durable = self.wal.reopen()?;
        if durable < self.end() {
            self.forget_open(indexer)?;
            self.index_all(indexer)?;
        }
        Ok(())
    }

    /// Decodes and indexes the whole records among the received bytes and returns [`Timeline::end`]. After a failed fsync it does
    /// [`Timeline::reopen_wal`] first, so that receiving again from what it returns is all that a receiver has to do.
    ///
    /// Errors: [`PageStoreError::BrokenWal`] when the bytes after the last whole record are no WAL of this timeline: they
    /// have to be received again from [`Timeline::end`].
    pub fn index_wal(&self) -> Result<Lsn> {
        let mut indexer = lock(&self.indexer);
        if self.wal.is_poisoned() {
            self.reopen(&mut indexer)?;
        }
        self.index_all(&mut indexer)?;
        Ok(self.end())
    }

    pub(super) fn index_all(&self, indexer: &mut Indexer) -> Result<()> {
        let result = self.index_received(indexer);
        // Also what was indexed before an error is history.
        let result = result.and(indexer.ladder.feed(&self.wal, self.end()));
        if result.is_err() {
            // Caches may be ahead of what was indexed.
            indexer.reset(self.new_ingest());
        }
        result
    }

    fn index_received(&self, indexer: &mut Indexer) -> Result<()> {
        let mut chunk = Vec::new();
        loop {
            let (epoch, received) = self.wal.epoch();
            let mut decoder = match indexer.decoder.take() {
                Some((decoder, seen)) if seen == epoch => decoder,
                _ => self.new_decoder()?,
            };
            let fed = decoder.fed();
            let len = CHUNK.min(usize::try_from(received.bytes_since(fed)).unwrap_or(CHUNK));
            chunk.resize(len, 0);
            self.wal.read(fed, &mut chunk)?;
            decoder.feed(&chunk);
            while let Some(raw) = decoder.next_record().map_err(|error| self.broken(&error))? {
                self.index_record(indexer, raw)?;
            }
            indexer.decoder = Some((decoder, epoch));
            if fed + len as u64 >= received {
                return Ok(());
            }
        }
    }

    fn new_decoder(&self) -> Result<WalDecoder> {
        let end = self.end();
        let prev = match self.record_at_or_before(end) {
            Ok(span) if span.end == end => Some(span.start),
            Ok(_) | Err(PageStoreError::NoRecord(_)) => None,
            Err(error) => return Err(error),
        };
        Ok(WalDecoder::new(self.stream_params(), end, prev))
    }

    /// Returns what every WAL page of this timeline says.
    pub fn stream_params(&self) -> StreamParams {
        StreamParams {
            version: self.version,
            system_id: self.system_id,
            tli: self.tli,
            segment_size: self.segment_size,
        }
    }

    fn broken(&self, error: &WalError) -> PageStoreError {
        PageStoreError::BrokenWal {
            timeline: self.id,
            lsn: self.end(),
            reason: error.to_string(),
        }
    }

    fn index_record(&self, indexer: &mut Indexer, raw: RawRecord) -> Result<()> {
        let (start, end) = (raw.start, raw.end);
        let broken = |reason: String| PageStoreError::BrokenWal {
            timeline: self.id,
            lsn: start,
            reason,
        };
        let record = Record::decode(self.version, raw.bytes).map_err(|error| broken(error.to_string()))?;
        let effects = indexer.ingest.effects(&record, start, end, &Newest(self))?;
        let mut versions = Vec::with_capacity(effects.len());
        let mut blocks = false;
        for (key, effect) in effects {
            let (whole, slot) = match effect {
                Effect::Block { index } => {
                    blocks = true;
                    let whole = !neon_redo::needs_base(&record, index);
                    let index = u8::try_from(index).map_err(|error| broken(error.to_string()))?;
                    (whole, Slot::Wal { start, index })
                }
                Effect::Put(_, Value::Record(_)) => {
                    return Err(broken(format!("ingest made a record of its own for {key:?}")));
                }
                Effect::Put(_, value) => (value.is_whole(false), Slot::Put(Arc::new(value))),
            };
            versions.push((
                key.pack(),
                OpenVersion {
                    lsn: end,
                    whole,
                    slot,
                },
            ));
        }
        if blocks && !neon_redo::is_supported(record.rmid, record.info) {
            self.mark_unreadable(indexer, &record, end, &mut versions)?;
        }
        let commit_time = commit_time(&record);
        let mut memory = write(&self.memory);
        for (key, version) in versions {
            memory
                .open
                .put(key, version)
                .map_err(|_| broken(format!("{key:?} has two changes that need each other")))?;
        }
        memory.open.close_record(RecordSpan { start, end }, commit_time);
        self.set_end(end);
        Ok(())
    }

    /// Notes the first record of a relation, since it was created, that redo does not know.
    fn mark_unreadable(
        &self,
        indexer: &mut Indexer,
        record: &Record,
        end: Lsn,
        versions: &mut Vec<(neon_types::PackedKey, OpenVersion)>,
    ) -> Result<()> {
        for block in &record.blocks {
            if block.image.as_ref().is_some_and(|image| image.apply) || indexer.marked.contains(&block.rel) {
                continue;
            }
            let key = Key::Unreadable(block.rel);
            let created = self
                .rel_size_item(block.rel, self.end())?
                .map_or(Lsn::INVALID, |size| size.floor(0));
            let known = self.value(key, self.end())?;
            let known = known
                .map(|bytes| super::history::Mark::decode(&bytes))
                .transpose()?;
            if known.is_none_or(|mark| mark.lsn <= created) {
                let mark = super::history::Mark {
                    lsn: end,
                    name: rmgr::describe(record),
                };
                let version = OpenVersion {
                    lsn: end,
                    whole: true,
                    slot: Slot::Put(Arc::new(Value::Item(mark.encode()))),
                };
                versions.push((key.pack(), version));
            }
            // Oids of dropped relations come again only after the counter wrapped; the set is forgotten with each seal.
            indexer.marked.insert(block.rel);
        }
        Ok(())
    }

    /// Returns WAL of this timeline: the bytes `[range.start, range.end)`, which must be kept and received.
    pub fn wal_bytes(&self, range: LsnRange) -> Result<Vec<u8>> {
        const LIMIT: u64 = 1 << 30;
        let len = range.end.bytes_since(range.start);
        if range.end > self.end() || len > LIMIT {
            return Err(self.not_readable(range.end));
        }
        let mut bytes = vec![0; usize::try_from(len).unwrap_or(0)];
        self.read_wal(range.start, &mut bytes)?;
        Ok(bytes)
    }

    /// Fills `buffer` with WAL from `at` on, all of it below [`Timeline::end`].
    pub fn read_wal(&self, at: Lsn, buffer: &mut [u8]) -> Result<()> {
        if at + buffer.len() as u64 > self.end() {
            return Err(self.not_readable(at + buffer.len() as u64));
        }
        let _pin = self.wal.pin();
        self.wal.read(at, buffer)
    }

    /// Calls `f` with each record whose end is in `range`, which must be kept as WAL and begin at the end of a record, with its
    /// start and end. Stops early when `f` returns false.
    pub fn for_each_record(
        &self,
        range: LsnRange,
        f: &mut dyn FnMut(&Record, Lsn, Lsn) -> bool,
    ) -> Result<()> {
        let mut decoder = WalDecoder::new(self.stream_params(), range.start, None);
        let mut at = range.start;
        let stop = range.end.min(self.end());
        while at < stop {
            let len = CHUNK.min(usize::try_from(stop.bytes_since(at)).unwrap_or(CHUNK));
            let mut chunk = vec![0; len];
            self.read_wal(at, &mut chunk)?;
            decoder.feed(&chunk);
            at = at + len as u64;
            while let Some(raw) = decoder.next_record().map_err(|error| self.broken(&error))? {
                let (start, end) = (raw.start, raw.end);
                let record = Record::decode(self.version, raw.bytes)
                    .map_err(|error| PageStoreError::damaged(format!("the record at {start}"), error))?;
                if !f(&record, start, end) {
                    return Ok(());
                }
            }
        }
        Ok(())
    }

    /// Returns the first byte of WAL that is kept.
    pub fn wal_start(&self) -> Lsn {
        self.wal.start()
    }
}

/// Returns the time of a commit record, in microseconds since 2000-01-01 UTC.
fn commit_time(record: &Record) -> Option<i64> {
    if record.rmid != rmgr::XACT || !COMMITS.contains(&(record.info & XACT_OPCODE)) {
        return None;
    }
    let time = record.main_data().get(..8)?.try_into().ok()?;
    Some(i64::from_le_bytes(time))
}
