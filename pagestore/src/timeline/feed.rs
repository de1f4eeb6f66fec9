//! From received bytes to indexed versions.

use std::sync::Arc;

use neon_postgres::wal::{RawRecord, Record, StreamParams, WalDecoder, WalError};
use neon_types::{Key, KeyRange, Lsn, LsnRange};

use super::ladder::Ladder;
use super::versions::{Versions, commit_time};
use super::{Timeline, lock, write};
use crate::boundaries::RecordSpan;
use crate::significance::is_significant;
use crate::{PageStoreError, Result, State};

const CHUNK: usize = 1 << 20;
/// Chunks that are indexed at a time.
const CHUNKS: usize = 4;

/// What indexing needs between calls.
pub(crate) struct Indexer {
    /// None before the first record and after a failure.
    decoder: Option<(WalDecoder, u64)>,
    versions: Versions,
    pub(super) ladder: Ladder,
}

impl Indexer {
    pub(crate) fn new(versions: Versions, ladder: Ladder) -> Indexer {
        Indexer {
            decoder: None,
            versions,
            ladder,
        }
    }

    /// Forgets which relations are marked: their marks may be in layers now.
    pub(super) fn forget_marks(&mut self) {
        self.versions.forget_marks();
    }

    /// Forgets everything that can be derived again.
    pub(super) fn reset(&mut self, versions: Versions) {
        self.decoder = None;
        self.versions = versions;
    }
}

/// How far indexing went.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Indexed {
    /// To the end of what was received.
    All,
    /// As far as is done at a time.
    Some,
    /// To the end of what may be held in memory.
    Full,
}

struct Newest<'a>(&'a Timeline);

impl State for Newest<'_> {
    fn item(&self, key: Key) -> Result<Option<Arc<[u8]>>> {
        self.0.value(key, self.0.end())
    }

    fn scan_items(&self, range: KeyRange, f: &mut dyn FnMut(Key, &[u8]) -> Result<()>) -> Result<()> {
        self.0.scan_items(range, self.0.end(), f)
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

    /// Makes everything up to `lsn` durable: to be called before anything names that position.
    ///
    /// Errors: [`PageStoreError::Poisoned`] when an fsync of it has failed.
    pub fn make_durable(&self, lsn: Lsn) -> Result<()> {
        if lsn > self.sealed() && self.sync_wal()? < lsn {
            return Err(PageStoreError::Poisoned(self.id));
        }
        Ok(())
    }

    /// Gives up everything that is not known to be durable (law 10) and returns the end of the last whole record that is.
    pub fn reopen_wal(&self) -> Result<Lsn> {
        if self.reopen(&mut lock(&self.indexer))? {
            self.index_and_seal(&mut || ())?;
        }
        Ok(self.end())
    }

    /// Returns true when what was indexed was more than what is durable: it is to be indexed again.
    fn reopen(&self, indexer: &mut Indexer) -> Result<bool> {
        let durable = self.wal.reopen()?;
        let less = durable < self.end();
        if less {
            self.forget_open(indexer)?;
        }
        Ok(less)
    }

    /// Decodes and indexes the whole records among the received bytes and returns [`Timeline::end`]. After a failed fsync it does
    /// [`Timeline::reopen_wal`] first, so that receiving again from what it returns is all that a receiver has to do. Seals on the way
    /// when the index has no more room in memory.
    ///
    /// Errors: [`PageStoreError::BrokenWal`] when the bytes after the last whole record are no WAL of this timeline: they
    /// have to be received again from [`Timeline::end`].
    pub fn index_wal(&self) -> Result<Lsn> {
        self.index_wal_pausing(&mut || ())
    }

    /// As [`Timeline::index_wal`], and calls `pause` every few megabytes, and when the index is full: to begin a seal on another thread, for instance, so that
    /// indexing need not wait for one.
    pub fn index_wal_pausing(&self, pause: &mut dyn FnMut()) -> Result<Lsn> {
        {
            let mut indexer = lock(&self.indexer);
            if self.wal.is_poisoned() {
                self.reopen(&mut indexer)?;
            }
        }
        self.index_and_seal(pause)?;
        Ok(self.end())
    }

    /// Indexes everything that was received, and seals where that takes more memory than it may.
    pub(super) fn index_and_seal(&self, pause: &mut dyn FnMut()) -> Result<()> {
        loop {
            // A seal takes the same lock: it is let go first.
            let indexed = self.index_some(&mut lock(&self.indexer))?;
            match indexed {
                Indexed::All => return Ok(()),
                Indexed::Some => pause(),
                Indexed::Full => {
                    pause();
                    // A seal that is running may make room.
                    drop(lock(&self.sealing));
                    if self.is_full() {
                        self.seal()?;
                    }
                }
            }
        }
    }

    fn index_some(&self, indexer: &mut Indexer) -> Result<Indexed> {
        let result = self.index_received(indexer);
        // Also what was indexed before an error is history.
        let fed = indexer.ladder.feed(&self.wal, self.end());
        let result = result.and_then(|indexed| fed.map(|()| indexed));
        if result.is_err() {
            // Caches may be ahead of what was indexed.
            indexer.reset(self.new_versions());
        }
        result
    }

    fn index_received(&self, indexer: &mut Indexer) -> Result<Indexed> {
        let mut chunk = Vec::new();
        for _ in 0..CHUNKS {
            if self.is_full() {
                return Ok(Indexed::Full);
            }
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
                return Ok(Indexed::All);
            }
        }
        Ok(Indexed::Some)
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
        let span = RecordSpan { start, end };
        let versions = indexer.versions.of(&record, span, &Newest(self), &broken)?;
        let (commit_time, significant) = (commit_time(&record), is_significant(&record));
        let mut memory = write(&self.memory);
        for (key, version) in versions {
            memory
                .open
                .put(key, version)
                .map_err(|_| broken(format!("{key:?} has two changes that need each other")))?;
        }
        memory.open.close_record(span, commit_time, significant);
        self.worked();
        self.set_end(end);
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

    /// Returns the BLAKE3 of the WAL bytes `[range.start, range.end)`, none when not all of them are kept.
    pub fn wal_digest(&self, range: LsnRange) -> Result<Option<[u8; 32]>> {
        Ok(self.wal_digests(&[range])?.pop().flatten())
    }

    /// Returns the same of many ranges. Those with one start, in order of their ends, are read once.
    pub fn wal_digests(&self, ranges: &[LsnRange]) -> Result<Vec<Option<[u8; 32]>>> {
        let mut digests = Vec::with_capacity(ranges.len());
        let mut so_far: Option<(LsnRange, blake3::Hasher)> = None;
        for range in ranges {
            let goes_on =
                |(hashed, _): &(LsnRange, _)| hashed.start == range.start && hashed.end <= range.end;
            let (hashed, mut hasher) = so_far.take().filter(goes_on).unwrap_or_else(|| {
                let nothing = LsnRange {
                    start: range.start,
                    end: range.start,
                };
                (nothing, blake3::Hasher::new())
            });
            let rest = LsnRange {
                start: hashed.end,
                end: range.end,
            };
            let here = self.hash_wal(rest, &mut hasher)?;
            digests.push(here.then(|| *hasher.finalize().as_bytes()));
            so_far = here.then_some((*range, hasher));
        }
        Ok(digests)
    }

    /// Returns false when not all of the bytes are kept.
    fn hash_wal(&self, range: LsnRange, hasher: &mut blake3::Hasher) -> Result<bool> {
        // What stands in for the rest of a timeline forks from it: the bytes before are there.
        let before = LsnRange {
            start: range.start,
            end: range.end.min(self.start),
        };
        let mut at = range.start;
        if range.is_empty() {
            return Ok(true);
        }
        if !before.is_empty() {
            let same = self.ancestor.as_ref().filter(|ancestor| ancestor.id == self.id);
            let Some(held) = same else { return Ok(false) };
            if !held.hash_wal(before, hasher)? {
                return Ok(false);
            }
            at = before.end;
        }
        let _pin = self.wal.pin_from(at);
        if at < self.wal_start() || range.end > self.end() {
            return Ok(false);
        }
        let mut chunk = vec![0; CHUNK];
        while at < range.end {
            let len = CHUNK.min(usize::try_from(range.end.bytes_since(at)).unwrap_or(CHUNK));
            let bytes = chunk.get_mut(..len).unwrap_or_default();
            self.read_wal(at, bytes)?;
            hasher.update(bytes);
            at = at + len as u64;
        }
        Ok(true)
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
