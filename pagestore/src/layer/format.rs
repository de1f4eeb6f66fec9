//! The bytes of a layer: header, index entries, footer, entries of a block.

use neon_types::{KeyRange, Lsn, LsnRange, PACKED_KEY_SIZE, PackedKey};

use crate::value::{MAX_VALUE, is_tag};

/// First bytes of a layer.
pub(crate) const MAGIC: [u8; 8] = *b"NEONLAYR";
/// Last bytes of a layer.
pub(super) const END_MAGIC: [u8; 8] = *b"NEONLEND";
/// Format version.
pub(super) const VERSION: u32 = 1;
pub(super) const HEADER: usize = 16;
pub(super) const FOOTER: usize = 136;
pub(super) const INDEX_ENTRY: usize = 52;
/// Bytes before the value in a block's entry.
pub(super) const ENTRY_HEADER: usize = PACKED_KEY_SIZE + 1 + 8 + 4;
/// A block is closed when it holds this many bytes before compression.
pub(super) const BLOCK_TARGET: usize = 64 << 10;
/// Longest block before compression: one longest value.
pub(super) const MAX_BLOCK: usize = MAX_VALUE + ENTRY_HEADER + BLOCK_TARGET;
/// Most blocks of one layer.
pub(super) const MAX_BLOCKS: usize = 1 << 20;
/// Longest filter, in bytes.
pub(super) const MAX_FILTER: usize = 64 << 20;

/// Which rectangle a layer is.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum LayerKind {
    /// Every key of the key range at one LSN.
    Image = 1,
    /// Every change of the key range in the LSN range.
    Delta = 2,
}

impl LayerKind {
    /// Returns the kind of that number.
    pub(crate) fn from_number(number: u32) -> Option<LayerKind> {
        match number {
            1 => Some(LayerKind::Image),
            2 => Some(LayerKind::Delta),
            _ => None,
        }
    }
}

/// What a layer says about itself.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct LayerFooter {
    /// Image or delta.
    pub kind: LayerKind,
    /// Keys that it answers for, whether it holds a version of them or not.
    pub keys: KeyRange,
    /// Changes that it answers for; of an image layer, start and end are the LSN of the images.
    pub lsns: LsnRange,
    /// Number of versions.
    pub entries: u64,
    /// Number of keys that have versions.
    pub distinct_keys: u64,
    /// Bytes of all blocks before compression.
    pub raw_bytes: u64,
    /// [`REDO_VERSION`](super::REDO_VERSION) of whoever made the pages in it.
    pub redo_version: u32,
    pub(super) index_at: u64,
    pub(super) blocks: u32,
    pub(super) index_crc: u32,
    pub(super) filter_at: u64,
    pub(super) filter_len: u32,
    pub(super) filter_crc: u32,
}

/// Where a block is, and the first entry in it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct IndexEntry {
    pub key: PackedKey,
    pub lsn: Lsn,
    pub at: u64,
    pub len: u32,
    pub raw_len: u32,
    pub entries: u32,
    pub crc: u32,
    /// Most versions in a row that need an older one, of any key in it, counted from blocks before on.
    pub chain: u16,
}

/// Reads little-endian fields from bytes whose length was checked.
pub(crate) struct Fields<'a>(pub &'a [u8]);

impl<'a> Fields<'a> {
    pub fn take(&mut self, len: usize) -> Option<&'a [u8]> {
        let (head, tail) = self.0.split_at_checked(len)?;
        self.0 = tail;
        Some(head)
    }
    pub fn array<const N: usize>(&mut self) -> Option<[u8; N]> {
        self.take(N)?.try_into().ok()
    }
    pub fn u8(&mut self) -> Option<u8> {
        self.array::<1>().map(|[byte]| byte)
    }
    pub fn u16(&mut self) -> Option<u16> {
        self.array().map(u16::from_le_bytes)
    }
    pub fn u32(&mut self) -> Option<u32> {
        self.array().map(u32::from_le_bytes)
    }
    pub fn u64(&mut self) -> Option<u64> {
        self.array().map(u64::from_le_bytes)
    }
    pub fn lsn(&mut self) -> Option<Lsn> {
        self.u64().map(Lsn)
    }
    pub fn key(&mut self) -> Option<PackedKey> {
        self.array().map(PackedKey)
    }
}

pub(super) fn header(kind: LayerKind) -> [u8; HEADER] {
    let mut bytes = Vec::with_capacity(HEADER);
    bytes.extend_from_slice(&MAGIC);
    bytes.extend_from_slice(&VERSION.to_le_bytes());
    bytes.extend_from_slice(&(kind as u32).to_le_bytes());
    bytes.try_into().unwrap_or([0; HEADER])
}

impl IndexEntry {
    pub(super) fn encode(&self, out: &mut Vec<u8>) {
        out.extend_from_slice(&self.key.0);
        out.extend_from_slice(&self.chain.to_le_bytes());
        out.extend_from_slice(&self.lsn.0.to_le_bytes());
        out.extend_from_slice(&self.at.to_le_bytes());
        for field in [self.len, self.raw_len, self.entries, self.crc] {
            out.extend_from_slice(&field.to_le_bytes());
        }
    }

    pub(super) fn decode(bytes: &[u8]) -> Option<IndexEntry> {
        let mut fields = Fields(bytes);
        let key = fields.key()?;
        let chain = fields.u16()?;
        let entry = IndexEntry {
            key,
            lsn: fields.lsn()?,
            at: fields.u64()?,
            len: fields.u32()?,
            raw_len: fields.u32()?,
            entries: fields.u32()?,
            crc: fields.u32()?,
            chain,
        };
        fields.0.is_empty().then_some(entry)
    }
}

impl LayerFooter {
    pub(super) fn encode(&self) -> Vec<u8> {
        let mut out = Vec::with_capacity(FOOTER);
        out.extend_from_slice(&self.index_at.to_le_bytes());
        out.extend_from_slice(&self.blocks.to_le_bytes());
        out.extend_from_slice(&self.index_crc.to_le_bytes());
        out.extend_from_slice(&self.filter_at.to_le_bytes());
        out.extend_from_slice(&self.filter_len.to_le_bytes());
        out.extend_from_slice(&self.filter_crc.to_le_bytes());
        out.extend_from_slice(&self.keys.start.0);
        out.extend_from_slice(&self.keys.end.0);
        out.extend_from_slice(&[0; 4]);
        for field in [
            self.lsns.start.0,
            self.lsns.end.0,
            self.entries,
            self.distinct_keys,
            self.raw_bytes,
        ] {
            out.extend_from_slice(&field.to_le_bytes());
        }
        for field in [self.redo_version, self.kind as u32, VERSION] {
            out.extend_from_slice(&field.to_le_bytes());
        }
        let crc = crc32c::crc32c_append(crc32c::crc32c(&header(self.kind)), &out);
        out.extend_from_slice(&crc.to_le_bytes());
        out.extend_from_slice(&END_MAGIC);
        out
    }

    /// Returns the footer of a layer that begins with `head` (16 bytes), or what is wrong with it.
    pub(super) fn decode(head: &[u8], bytes: &[u8], file_len: u64) -> Result<LayerFooter, String> {
        let short = || "the footer is cut".to_owned();
        let mut fields = Fields(bytes);
        let index_at = fields.u64().ok_or_else(short)?;
        let blocks = fields.u32().ok_or_else(short)?;
        let index_crc = fields.u32().ok_or_else(short)?;
        let filter_at = fields.u64().ok_or_else(short)?;
        let filter_len = fields.u32().ok_or_else(short)?;
        let filter_crc = fields.u32().ok_or_else(short)?;
        let keys = KeyRange {
            start: fields.key().ok_or_else(short)?,
            end: fields.key().ok_or_else(short)?,
        };
        fields.u32().ok_or_else(short)?;
        let lsns = LsnRange {
            start: fields.lsn().ok_or_else(short)?,
            end: fields.lsn().ok_or_else(short)?,
        };
        let (entries, distinct_keys, raw_bytes) = (
            fields.u64().ok_or_else(short)?,
            fields.u64().ok_or_else(short)?,
            fields.u64().ok_or_else(short)?,
        );
        let redo_version = fields.u32().ok_or_else(short)?;
        let kind = fields.u32().ok_or_else(short)?;
        let version = fields.u32().ok_or_else(short)?;
        let covered = bytes.len() - fields.0.len();
        let crc = fields.u32().ok_or_else(short)?;
        if fields.0 != END_MAGIC || head.get(..8) != Some(&MAGIC) {
            return Err("it does not begin and end as a layer".to_owned());
        }
        if version != VERSION {
            return Err(format!(
                "its format version is {version}, this program reads {VERSION}"
            ));
        }
        let kind = LayerKind::from_number(kind).ok_or_else(|| format!("it is of kind {kind}"))?;
        let actual = crc32c::crc32c_append(crc32c::crc32c(head), bytes.get(..covered).unwrap_or_default());
        if crc != actual || head != header(kind) {
            return Err("the checksum of header and footer does not match".to_owned());
        }
        let index_len = u64::from(blocks) * INDEX_ENTRY as u64;
        if blocks as usize > MAX_BLOCKS || filter_len as usize > MAX_FILTER {
            return Err(format!(
                "it claims {blocks} blocks and a filter of {filter_len} bytes"
            ));
        }
        if index_at.checked_add(index_len) != Some(filter_at)
            || filter_at.checked_add(u64::from(filter_len) + FOOTER as u64) != Some(file_len)
            || index_at < HEADER as u64
        {
            return Err(format!("its sections do not add up to {file_len} bytes"));
        }
        let lsns_fit = match kind {
            LayerKind::Image => lsns.start == lsns.end,
            LayerKind::Delta => lsns.start < lsns.end,
        };
        if keys.start >= keys.end || !lsns_fit {
            return Err("its range is empty or inverted".to_owned());
        }
        Ok(LayerFooter {
            kind,
            keys,
            lsns,
            entries,
            distinct_keys,
            raw_bytes,
            redo_version,
            index_at,
            blocks,
            index_crc,
            filter_at,
            filter_len,
            filter_crc,
        })
    }

    /// Returns true when a version at `lsn` may be in the layer.
    pub(crate) fn holds_lsn(&self, lsn: Lsn) -> bool {
        match self.kind {
            LayerKind::Image => lsn == self.lsns.end,
            LayerKind::Delta => self.lsns.contains(lsn),
        }
    }
}

/// One version in a decompressed block.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Entry<'a> {
    pub key: PackedKey,
    pub lsn: Lsn,
    pub tag: u8,
    pub value: &'a [u8],
}

pub(super) fn put_entry(out: &mut Vec<u8>, key: &PackedKey, lsn: Lsn, tag: u8, value: &[u8]) {
    out.extend_from_slice(&key.0);
    out.push(tag);
    out.extend_from_slice(&lsn.0.to_le_bytes());
    out.extend_from_slice(&u32::try_from(value.len()).unwrap_or(u32::MAX).to_le_bytes());
    out.extend_from_slice(value);
}

/// The versions in a decompressed block, in order. Stops with an error at bytes that are none.
pub(crate) struct Entries<'a>(pub &'a [u8]);

impl<'a> Iterator for Entries<'a> {
    type Item = Result<Entry<'a>, &'static str>;

    fn next(&mut self) -> Option<Self::Item> {
        if self.0.is_empty() {
            return None;
        }
        let mut fields = Fields(self.0);
        let mut entry = || {
            let key = fields.key()?;
            let tag = fields.u8()?;
            let lsn = fields.lsn()?;
            let len = fields.u32()?;
            let value = fields.take(len as usize)?;
            is_tag(tag).then_some(Entry { key, lsn, tag, value })
        };
        match entry() {
            Some(entry) => {
                self.0 = fields.0;
                Some(Ok(entry))
            }
            None => {
                self.0 = &[];
                Some(Err("a block holds something that is no version"))
            }
        }
    }
}
