//! Walks through the versions of a layer in order.

use std::collections::VecDeque;
use std::sync::Arc;

use neon_types::{KeyRange, Lsn, PackedKey};

use super::format::{Entries, Entry};
use super::{Layer, LayerCache};
use crate::Result;

/// Stored bytes that one system call reads ahead.
const READ_AHEAD: u64 = 512 << 10;
/// The same for a cursor that is one of many.
const FRUGAL: u64 = 64 << 10;

/// A place in a layer, at a version or at the end of the range.
pub(crate) struct LayerCursor {
    layer: Arc<Layer>,
    range: KeyRange,
    next_block: usize,
    ahead: VecDeque<Vec<u8>>,
    window: u64,
    /// Most stored bytes that are read ahead.
    read_ahead: u64,
    raw: Arc<Vec<u8>>,
    at: usize,
    /// Key, LSN, tag, and where the value lies in `raw`.
    current: Option<(PackedKey, Lsn, u8, std::ops::Range<usize>)>,
}

impl LayerCursor {
    /// Returns a cursor at the first version of a key in `range`. The first block comes through the cache, if there is one: whoever
    /// scans many small ranges in key order finds it there the next time.
    pub(crate) fn seek(
        layer: Arc<Layer>,
        cache: Option<&LayerCache>,
        range: KeyRange,
    ) -> Result<LayerCursor> {
        let next_block = layer.seek(&range.start, Lsn::INVALID);
        let mut cursor = LayerCursor {
            layer,
            range,
            next_block,
            ahead: VecDeque::new(),
            window: 0,
            read_ahead: READ_AHEAD,
            raw: Arc::new(Vec::new()),
            at: 0,
            current: None,
        };
        if let Some(cache) = cache
            && let Some(first) = cursor.layer.index_entry(next_block)
            && first.key < range.end
        {
            cursor.raw = cache.block(&cursor.layer, next_block)?;
            cursor.next_block += 1;
        }
        cursor.advance()?;
        while cursor.key().is_some_and(|key| key < range.start) {
            cursor.advance()?;
        }
        Ok(cursor)
    }

    /// Takes less memory: one block at a time, or a few small ones.
    pub(crate) fn frugal(mut self) -> LayerCursor {
        self.read_ahead = FRUGAL;
        self
    }

    /// Returns the key at the cursor, none at the end.
    pub(crate) fn key(&self) -> Option<PackedKey> {
        self.current.as_ref().map(|current| current.0)
    }

    /// Returns the version at the cursor, none at the end.
    pub(crate) fn entry(&self) -> Option<Entry<'_>> {
        let (key, lsn, tag, place) = self.current.as_ref()?;
        let value = self.raw.get(place.clone())?;
        Some(Entry {
            key: *key,
            lsn: *lsn,
            tag: *tag,
            value,
        })
    }

    /// Goes to the next version.
    pub(crate) fn advance(&mut self) -> Result<()> {
        self.current = None;
        if self.at >= self.raw.len() && !self.load()? {
            return Ok(());
        }
        let rest = self.raw.get(self.at..).unwrap_or_default();
        let mut entries = Entries(rest);
        match entries.next() {
            None => Ok(()),
            Some(Err(reason)) => Err(self.layer.damaged(reason)),
            Some(Ok(entry)) => {
                let end = self.raw.len() - entries.0.len();
                let begin = end - entry.value.len();
                if entry.key < self.range.end {
                    self.current = Some((entry.key, entry.lsn, entry.tag, begin..end));
                }
                self.at = end;
                Ok(())
            }
        }
    }

    /// Fetches the next block; false when the range ends before it.
    fn load(&mut self) -> Result<bool> {
        if let Some(raw) = self.ahead.pop_front() {
            self.raw = Arc::new(raw);
            self.at = 0;
            return Ok(true);
        }
        let first = self.next_block;
        let mut last = first;
        let mut bytes = 0;
        while let Some(entry) = self.layer.index_entry(last) {
            // A cursor that goes on reading reads ahead more and more; one that looks at a single key does not.
            if entry.key >= self.range.end || (last > first && bytes + u64::from(entry.len) > self.window) {
                break;
            }
            bytes += u64::from(entry.len);
            last += 1;
        }
        if last == first {
            return Ok(false);
        }
        self.window = (self.window * 2).clamp(FRUGAL, self.read_ahead);
        self.ahead = self.layer.read_blocks(first, last)?.into();
        self.next_block = last;
        match self.ahead.pop_front() {
            Some(raw) => {
                self.raw = Arc::new(raw);
                self.at = 0;
                Ok(true)
            }
            None => Ok(false),
        }
    }
}
