//! Writes a layer as a stream: memory for a few blocks, the index and the key hashes. Blocks are compressed on all processors.

use std::collections::VecDeque;

use neon_objects::{ObjectStore, ObjectWriter};
use neon_types::{KeyRange, LayerId, Lsn, LsnRange, PackedKey};

use super::compress::{Compressed, Compressing, compress};
use super::format::{
    BLOCK_TARGET, HEADER, INDEX_ENTRY, IndexEntry, LayerFooter, LayerKind, MAX_BLOCKS, header, put_entry,
};
use super::{REDO_VERSION, filter};
use crate::value::{MAX_VALUE, is_whole_tag};
use crate::{PageStoreError, Result};

/// Blocks that are being compressed while the next one fills. The same on every machine: where a layer ends depends on it.
const IN_FLIGHT: usize = 8;
/// Bytes of these blocks, of which a single value may be larger.
const IN_FLIGHT_BYTES: u64 = 4 << 20;

/// A layer that is being written. Dropped unfinished, it leaves nothing behind.
pub struct LayerWriter {
    out: ObjectWriter,
    kind: LayerKind,
    lsns: LsnRange,
    /// Oldest first.
    in_flight: VecDeque<InFlight>,
    /// Bytes of the blocks in flight, before compression.
    in_flight_bytes: u64,
    /// Buffers of blocks that were written.
    spare: Vec<Vec<u8>>,
    block: Vec<u8>,
    block_entries: u32,
    first: Option<(PackedKey, Lsn)>,
    last: Option<(PackedKey, Lsn)>,
    index: Vec<u8>,
    hashes: Vec<u64>,
    entries: u64,
    raw_bytes: u64,
    redo_version: u32,
    /// Versions of the last key, up to the last one, that need an older one; the most of them in the block at hand.
    chain: u16,
    longest_chain: u16,
}

/// A block on its way to the file.
struct InFlight {
    /// What the index will say of it; its place, length and checksum are not known yet.
    entry: IndexEntry,
    data: Compressing,
}

/// A layer that was written.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct SealedLayer {
    /// Its name.
    pub id: LayerId,
    /// Its length in bytes.
    pub len: u64,
    /// What it says about itself.
    pub footer: LayerFooter,
}

impl LayerWriter {
    /// Begins a layer of changes in `lsns`.
    pub fn delta(objects: &ObjectStore, lsns: LsnRange) -> Result<LayerWriter> {
        LayerWriter::create(objects, LayerKind::Delta, lsns)
    }

    /// Begins a layer of all keys at `lsn`.
    pub fn image(objects: &ObjectStore, lsn: Lsn) -> Result<LayerWriter> {
        LayerWriter::create(objects, LayerKind::Image, LsnRange { start: lsn, end: lsn })
    }

    pub(super) fn create(objects: &ObjectStore, kind: LayerKind, lsns: LsnRange) -> Result<LayerWriter> {
        let mut out = objects.writer()?;
        out.append(&header(kind))?;
        Ok(LayerWriter {
            out,
            kind,
            lsns,
            in_flight: VecDeque::with_capacity(IN_FLIGHT + 1),
            in_flight_bytes: 0,
            spare: Vec::new(),
            block: Vec::with_capacity(2 * BLOCK_TARGET),
            block_entries: 0,
            first: None,
            last: None,
            index: Vec::new(),
            hashes: Vec::new(),
            entries: 0,
            raw_bytes: 0,
            redo_version: REDO_VERSION,
            chain: 0,
            longest_chain: 0,
        })
    }

    /// Says which redo made the pages in it, if it was not this program's.
    pub(crate) fn made_with(mut self, redo_version: u32) -> LayerWriter {
        self.redo_version = redo_version;
        self
    }

    /// Returns the bytes written so far; what is not compressed yet counts as if it became as small as what was. Depends on what was
    /// added alone, not on how fast that is.
    pub fn len(&self) -> u64 {
        let written = self.raw_bytes - self.in_flight_bytes;
        let pending = self.in_flight_bytes + self.block.len() as u64;
        let expected = match u128::from(written) {
            0 => pending,
            written => {
                let expected = u128::from(pending) * u128::from(self.out.len()) / written;
                u64::try_from(expected).unwrap_or(pending)
            }
        };
        self.out.len() + expected
    }

    /// Returns true when no version was added.
    pub fn is_empty(&self) -> bool {
        self.entries == 0
    }

    /// Returns the key that was added last.
    pub fn last_key(&self) -> Option<PackedKey> {
        self.last.map(|(key, _)| key)
    }

    /// Adds a version in its stored form; (key, LSN) must ascend.
    pub(crate) fn add(&mut self, key: &PackedKey, lsn: Lsn, (tag, value): (u8, &[u8])) -> Result<()> {
        if value.len() > MAX_VALUE {
            return Err(PageStoreError::TooLarge {
                what: format!("the value of {key:?} at {lsn}"),
                len: value.len() as u64,
                limit: MAX_VALUE as u64,
            });
        }
        let fits = match self.kind {
            LayerKind::Image => lsn == self.lsns.end,
            LayerKind::Delta => self.lsns.contains(lsn),
        };
        if !fits || self.last.is_some_and(|last| last >= (*key, lsn)) {
            return Err(PageStoreError::damaged(
                "a layer",
                format!(
                    "the version of {key:?} at {lsn} is out of order or outside {}",
                    self.lsns
                ),
            ));
        }
        if self.last_key() != Some(*key) {
            self.hashes.push(filter::hash(key));
            self.chain = 0;
        }
        self.chain = if is_whole_tag(tag) {
            0
        } else {
            self.chain.saturating_add(1)
        };
        self.longest_chain = self.longest_chain.max(self.chain);
        self.first.get_or_insert((*key, lsn));
        self.last = Some((*key, lsn));
        put_entry(&mut self.block, key, lsn, tag, value);
        self.block_entries += 1;
        self.entries += 1;
        if self.block.len() >= BLOCK_TARGET {
            self.close_block()?;
        }
        Ok(())
    }

    fn close_block(&mut self) -> Result<()> {
        let Some((key, lsn)) = self.first.take() else {
            return Ok(());
        };
        if self.index.len() / INDEX_ENTRY + self.in_flight.len() >= MAX_BLOCKS {
            return Err(PageStoreError::TooLarge {
                what: "a layer".to_owned(),
                len: self.out.len(),
                limit: self.out.len(),
            });
        }
        let next = self
            .spare
            .pop()
            .unwrap_or_else(|| Vec::with_capacity(2 * BLOCK_TARGET));
        let raw = std::mem::replace(&mut self.block, next);
        let entry = IndexEntry {
            key,
            lsn,
            at: 0,
            len: 0,
            raw_len: u32::try_from(raw.len()).unwrap_or(u32::MAX),
            entries: std::mem::take(&mut self.block_entries),
            crc: 0,
            chain: std::mem::take(&mut self.longest_chain),
        };
        self.raw_bytes += raw.len() as u64;
        self.in_flight_bytes += raw.len() as u64;
        self.in_flight.push_back(InFlight {
            entry,
            data: compress(raw),
        });
        // The first block is waited for: how small it became says how large a small layer gets.
        while self.index.is_empty()
            || self.in_flight.len() > IN_FLIGHT
            || self.in_flight_bytes > IN_FLIGHT_BYTES
        {
            self.write_oldest()?;
        }
        Ok(())
    }

    /// Writes the oldest block in flight, if there is one.
    fn write_oldest(&mut self) -> Result<()> {
        let Some(InFlight { entry, data }) = self.in_flight.pop_front() else {
            return Ok(());
        };
        let Compressed { bytes, crc, mut raw } = data
            .wait()
            .map_err(|error| PageStoreError::damaged("a layer that is written", error))?;
        let entry = IndexEntry {
            at: self.out.len(),
            len: u32::try_from(bytes.len()).unwrap_or(u32::MAX),
            crc,
            ..entry
        };
        entry.encode(&mut self.index);
        self.out.append(&bytes)?;
        self.in_flight_bytes -= u64::from(entry.raw_len);
        if raw.capacity() <= 4 * BLOCK_TARGET {
            raw.clear();
            self.spare.push(raw);
        }
        Ok(())
    }

    /// Makes the layer durable under its name. It answers for `keys`, which must hold every key that was added.
    pub fn finish(mut self, keys: KeyRange) -> Result<SealedLayer> {
        self.close_block()?;
        while !self.in_flight.is_empty() {
            self.write_oldest()?;
        }
        let index_at = self.out.len();
        let filter = filter::build(&self.hashes);
        self.out.append(&self.index)?;
        self.out.append(&filter)?;
        let footer = LayerFooter {
            kind: self.kind,
            keys,
            lsns: self.lsns,
            entries: self.entries,
            distinct_keys: self.hashes.len() as u64,
            raw_bytes: self.raw_bytes,
            redo_version: self.redo_version,
            index_at,
            blocks: u32::try_from(self.index.len() / INDEX_ENTRY).unwrap_or(u32::MAX),
            index_crc: crc32c::crc32c(&self.index),
            filter_at: index_at + self.index.len() as u64,
            filter_len: u32::try_from(filter.len()).unwrap_or(u32::MAX),
            filter_crc: crc32c::crc32c(&filter),
        };
        self.out.append(&footer.encode())?;
        let len = self.out.len();
        debug_assert!(index_at >= HEADER as u64);
        let id = LayerId(self.out.finish()?);
        Ok(SealedLayer { id, len, footer })
    }
}
