//! Reads a layer: footer, index and filter at open, blocks on demand. Everything is checked before it is believed.

use std::cell::RefCell;
use std::fs::File;
use std::io;
use std::os::unix::fs::FileExt;
use std::path::PathBuf;
use std::sync::Arc;

use neon_objects::ObjectStore;
use neon_types::{LayerId, Lsn, PackedKey};
use zstd::bulk::Decompressor;

use super::filter;
use super::format::{Entries, FOOTER, HEADER, INDEX_ENTRY, IndexEntry, LayerFooter, MAX_BLOCK};
use crate::open_files::OpenFiles;
use crate::value::is_whole_tag;
use crate::{PageStoreError, Result};

thread_local! {
    /// Making one costs more than decompressing a block with it.
    static DECOMPRESSOR: RefCell<Option<Decompressor<'static>>> = const { RefCell::new(None) };
}

/// An open layer.
#[derive(Debug)]
pub struct Layer {
    id: LayerId,
    source: Source,
    len: u64,
    footer: LayerFooter,
    index: Vec<IndexEntry>,
    filter: Vec<u8>,
}

/// Where its bytes are.
#[derive(Debug)]
enum Source {
    /// A file that is open as long as the layer is.
    Own(File),
    /// One of many that are opened when they are read.
    Shared(Arc<OpenFiles>, PathBuf),
}

impl Source {
    fn read(&self, bytes: &mut [u8], at: u64) -> io::Result<()> {
        match self {
            Source::Own(file) => file.read_exact_at(bytes, at),
            Source::Shared(files, path) => files.get(path, |path| File::open(path))?.read_exact_at(bytes, at),
        }
    }
}

impl Layer {
    /// Opens the layer of that name; its blocks are not read.
    pub fn open(objects: &ObjectStore, id: LayerId) -> Result<Layer> {
        let source = Source::Own(objects.open_object(id.0)?);
        Layer::from(source, objects, id)
    }

    /// Opens it among others, of which few have an open file.
    pub(crate) fn open_shared(objects: &ObjectStore, id: LayerId, files: &Arc<OpenFiles>) -> Result<Layer> {
        let source = Source::Shared(Arc::clone(files), objects.path(id.0));
        Layer::from(source, objects, id)
    }

    fn from(source: Source, objects: &ObjectStore, id: LayerId) -> Result<Layer> {
        let path = objects.path(id.0);
        let len = objects.len(id.0)?;
        let damaged = |reason: String| PageStoreError::DamagedLayer { layer: id, reason };
        let footer_at = len
            .checked_sub(FOOTER as u64)
            .filter(|at| *at >= HEADER as u64)
            .ok_or_else(|| damaged(format!("it has {len} bytes")))?;
        let read = |len: usize, at: u64| -> Result<Vec<u8>> {
            let mut bytes = vec![0; len];
            source
                .read(&mut bytes, at)
                .map_err(PageStoreError::io("read", &path))?;
            Ok(bytes)
        };
        let footer =
            LayerFooter::decode(&read(HEADER, 0)?, &read(FOOTER, footer_at)?, len).map_err(damaged)?;
        let index_bytes = read(footer.blocks as usize * INDEX_ENTRY, footer.index_at)?;
        if crc32c::crc32c(&index_bytes) != footer.index_crc {
            return Err(damaged("the checksum of its index does not match".to_owned()));
        }
        let index = decode_index(&index_bytes, &footer).map_err(damaged)?;
        let filter = read(footer.filter_len as usize, footer.filter_at)?;
        if crc32c::crc32c(&filter) != footer.filter_crc {
            return Err(damaged("the checksum of its filter does not match".to_owned()));
        }
        Ok(Layer {
            id,
            source,
            len,
            footer,
            index,
            filter,
        })
    }

    /// Returns its name.
    pub fn id(&self) -> LayerId {
        self.id
    }

    /// Returns what it says about itself.
    pub fn footer(&self) -> &LayerFooter {
        &self.footer
    }

    /// Returns its length in bytes.
    pub fn file_len(&self) -> u64 {
        self.len
    }

    /// Returns about how much memory it takes, in bytes.
    pub(crate) fn memory(&self) -> usize {
        self.index.len() * size_of::<IndexEntry>() + self.filter.len() + 512
    }

    pub(crate) fn index_entry(&self, block: usize) -> Option<&IndexEntry> {
        self.index.get(block)
    }

    pub(crate) fn index(&self) -> &[IndexEntry] {
        &self.index
    }

    /// Returns false when the layer certainly has no version of `key`.
    pub(crate) fn may_hold(&self, key: &PackedKey) -> bool {
        self.footer.keys.contains(key) && filter::may_hold(&self.filter, filter::hash(key))
    }

    /// Returns the first block that may hold an entry at or above (key, LSN); the number of blocks if none can.
    pub(crate) fn seek(&self, key: &PackedKey, lsn: Lsn) -> usize {
        self.index
            .partition_point(|entry| (entry.key, entry.lsn) <= (*key, lsn))
            .saturating_sub(1)
    }

    /// Returns the decompressed bytes of a block, checked against its checksum and sizes.
    pub(crate) fn block(&self, block: usize) -> Result<Vec<u8>> {
        let entry = self
            .index
            .get(block)
            .ok_or_else(|| self.damaged("there is no such block"))?;
        let mut stored = vec![0; entry.len as usize];
        self.source
            .read(&mut stored, entry.at)
            .map_err(|error| self.damaged(format!("block {block} cannot be read: {error}")))?;
        self.decompress(block, entry, &stored)
    }

    /// Reads blocks `first..last` with one system call and calls `f` with each, decompressed.
    pub(crate) fn read_blocks(&self, first: usize, last: usize) -> Result<Vec<Vec<u8>>> {
        let entries = self.index.get(first..last).unwrap_or_default();
        let (Some(begin), Some(end)) = (entries.first(), entries.last()) else {
            return Ok(Vec::new());
        };
        let len = (end.at + u64::from(end.len)).saturating_sub(begin.at);
        let mut stored = vec![0; usize::try_from(len).unwrap_or(0)];
        self.source
            .read(&mut stored, begin.at)
            .map_err(|error| self.damaged(format!("blocks {first} to {last} cannot be read: {error}")))?;
        let mut rest = stored.as_slice();
        let mut blocks = Vec::with_capacity(entries.len());
        for (offset, entry) in entries.iter().enumerate() {
            let (bytes, tail) = rest
                .split_at_checked(entry.len as usize)
                .ok_or_else(|| self.damaged("its index is inconsistent"))?;
            rest = tail;
            blocks.push(self.decompress(first + offset, entry, bytes)?);
        }
        Ok(blocks)
    }

    fn decompress(&self, block: usize, entry: &IndexEntry, stored: &[u8]) -> Result<Vec<u8>> {
        if crc32c::crc32c(stored) != entry.crc {
            return Err(self.damaged(format!("the checksum of block {block} does not match")));
        }
        let raw = DECOMPRESSOR
            .with_borrow_mut(|decompressor| match decompressor {
                Some(decompressor) => decompressor.decompress(stored, entry.raw_len as usize),
                None => {
                    let new = decompressor.insert(Decompressor::new()?);
                    new.decompress(stored, entry.raw_len as usize)
                }
            })
            .map_err(|error| self.damaged(format!("block {block} cannot be decompressed: {error}")))?;
        if raw.len() != entry.raw_len as usize {
            return Err(self.damaged(format!("block {block} has another size than its index says")));
        }
        Ok(raw)
    }

    /// Reads every block and checks every promise of footer and index; returns the number of bytes read.
    pub fn verify(&self) -> Result<u64> {
        let mut last: Option<(PackedKey, Lsn)> = None;
        let (mut entries, mut distinct, mut raw_bytes) = (0, 0, 0);
        let mut chain = 0_u16;
        for block in 0..self.index.len() {
            let raw = self.block(block)?;
            raw_bytes += raw.len() as u64;
            let promised = self.index.get(block).copied();
            let (mut count, mut longest) = (0, 0);
            for entry in Entries(&raw) {
                let entry = entry.map_err(|reason| self.damaged(reason))?;
                if count == 0 && promised.is_none_or(|first| (first.key, first.lsn) != (entry.key, entry.lsn))
                {
                    return Err(self.damaged(format!("block {block} begins otherwise than its index says")));
                }
                if last.is_some_and(|last| last >= (entry.key, entry.lsn)) {
                    return Err(self.damaged(format!("{:?} at {} is out of order", entry.key, entry.lsn)));
                }
                if !self.footer.keys.contains(&entry.key) || !self.footer.holds_lsn(entry.lsn) {
                    return Err(
                        self.damaged(format!("{:?} at {} is outside its range", entry.key, entry.lsn))
                    );
                }
                neon_types::Key::unpack(&entry.key).map_err(|error| self.damaged(error))?;
                if !self.may_hold(&entry.key) {
                    return Err(self.damaged(format!("its filter denies {:?}", entry.key)));
                }
                if last.is_none_or(|(key, _)| key != entry.key) {
                    distinct += 1;
                    chain = 0;
                }
                chain = if is_whole_tag(entry.tag) {
                    0
                } else {
                    chain.saturating_add(1)
                };
                longest = longest.max(chain);
                crate::Value::from_stored(entry.tag, entry.value).map_err(|error| self.damaged(error))?;
                last = Some((entry.key, entry.lsn));
                count += 1;
                entries += 1;
            }
            if promised.is_none_or(|entry| (entry.entries, entry.chain) != (count, longest)) {
                return Err(self.damaged(format!("block {block} has other counts than its index says")));
            }
        }
        let footer = &self.footer;
        if (entries, distinct, raw_bytes) != (footer.entries, footer.distinct_keys, footer.raw_bytes) {
            return Err(self.damaged("its counts are not those of its footer"));
        }
        Ok(self.len)
    }

    pub(crate) fn damaged(&self, reason: impl ToString) -> PageStoreError {
        PageStoreError::DamagedLayer {
            layer: self.id,
            reason: reason.to_string(),
        }
    }
}

fn decode_index(bytes: &[u8], footer: &LayerFooter) -> std::result::Result<Vec<IndexEntry>, String> {
    let mut index = Vec::with_capacity(bytes.len() / INDEX_ENTRY);
    let mut at = HEADER as u64;
    let mut last: Option<(PackedKey, Lsn)> = None;
    for (number, chunk) in bytes.chunks_exact(INDEX_ENTRY).enumerate() {
        let entry =
            IndexEntry::decode(chunk).ok_or_else(|| format!("entry {number} of its index is damaged"))?;
        if entry.at != at
            || entry.raw_len as usize > MAX_BLOCK
            || entry.len as usize > 2 * MAX_BLOCK
            || entry.entries == 0
        {
            return Err(format!("entry {number} of its index makes no sense"));
        }
        if last.is_some_and(|last| last >= (entry.key, entry.lsn)) {
            return Err(format!("entry {number} of its index is out of order"));
        }
        if !footer.keys.contains(&entry.key) || !footer.holds_lsn(entry.lsn) {
            return Err(format!("entry {number} of its index is outside its range"));
        }
        at += u64::from(entry.len);
        last = Some((entry.key, entry.lsn));
        index.push(entry);
    }
    if at == footer.index_at {
        Ok(index)
    } else {
        Err("its blocks do not fill the space before its index".to_owned())
    }
}
