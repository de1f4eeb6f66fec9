//! Writing records, for the boot record and for tests.

use neon_types::{Lsn, RelTag};

use super::block::{self, IMAGE_HAS_HOLE, ImageBits};
use super::record::{MAIN_DATA_LONG, MAIN_DATA_SHORT, ORIGIN, TOPLEVEL_XID};
use super::segment::{self, PageHeader};
use super::{BlockImage, Compression, StreamParams, record_crc, rmgr};
use crate::page::PAGE_HEADER_SIZE;
use crate::{BLCKSZ, Page, PgVersion};

/// A record that is being written.
#[derive(Clone, Debug)]
pub struct RecordBuilder {
    version: PgVersion,
    rmid: u8,
    info: u8,
    xid: u32,
    prev: Lsn,
    origin: Option<u16>,
    toplevel_xid: Option<u32>,
    blocks: Vec<NewBlock>,
    main: Vec<u8>,
}

/// A block reference that is being written.
#[derive(Clone, Debug)]
pub struct NewBlock {
    /// Number of the reference.
    pub id: u8,
    /// The relation fork.
    pub rel: RelTag,
    /// Block number in the fork.
    pub block: u32,
    /// Redo begins with a page of zeros.
    pub will_init: bool,
    /// The block's data.
    pub data: Vec<u8>,
    image: Option<(BlockImage, Vec<u8>)>,
}

impl NewBlock {
    /// Returns a reference without image and data.
    pub fn new(id: u8, rel: RelTag, block: u32) -> NewBlock {
        NewBlock {
            id,
            rel,
            block,
            will_init: false,
            data: Vec::new(),
            image: None,
        }
    }

    /// Sets the data.
    pub fn data(mut self, data: &[u8]) -> NewBlock {
        self.data = data.to_vec();
        self
    }

    /// Sets WILL_INIT.
    pub fn will_init(mut self) -> NewBlock {
        self.will_init = true;
        self
    }

    /// Sets the image: the page's free space is left out as a hole where its header is sane, the rest packed as told, or
    /// not at all if that does not make it smaller.
    pub fn image(mut self, page: &Page, apply: bool, compression: Compression) -> NewBlock {
        let [lower, upper] = [page.lower(), page.upper()].map(usize::from);
        let standard = PAGE_HEADER_SIZE <= lower && lower < upper && upper <= BLCKSZ;
        let (lower, upper) = if standard {
            (lower, upper)
        } else {
            (BLCKSZ, BLCKSZ)
        };
        let (before, rest) = page.as_bytes().split_at(lower);
        let dense = [before, rest.get(upper - lower..).unwrap_or_default()].concat();
        let packed = match compression {
            Compression::None => None,
            Compression::Pglz => pglz::compress(&dense, &pglz::Strategy::DEFAULT),
            Compression::Lz4 => Some(lz4_flex::block::compress(&dense)),
            Compression::Zstd => zstd::bulk::compress(&dense, 3).ok(),
        };
        let packed = packed.filter(|packed| packed.len() < dense.len());
        let image = BlockImage {
            apply,
            hole_offset: if standard { lower as u16 } else { 0 },
            hole_length: (upper - lower) as u16,
            compression: if packed.is_some() {
                compression
            } else {
                Compression::None
            },
            bytes: 0..0,
        };
        self.image = Some((image, packed.unwrap_or(dense)));
        self
    }
}

impl RecordBuilder {
    /// Returns a record of that kind without contents.
    pub fn new(version: PgVersion, rmid: u8, info: u8) -> RecordBuilder {
        RecordBuilder {
            version,
            rmid,
            info,
            xid: 0,
            prev: Lsn::INVALID,
            origin: None,
            toplevel_xid: None,
            blocks: Vec::new(),
            main: Vec::new(),
        }
    }

    /// Sets the transaction.
    pub fn xid(mut self, xid: u32) -> RecordBuilder {
        self.xid = xid;
        self
    }

    /// Sets the link to the record before.
    pub fn prev(mut self, prev: Lsn) -> RecordBuilder {
        self.prev = prev;
        self
    }

    /// Sets the replication origin.
    pub fn origin(mut self, origin: u16) -> RecordBuilder {
        self.origin = Some(origin);
        self
    }

    /// Sets the top-level transaction.
    pub fn toplevel_xid(mut self, xid: u32) -> RecordBuilder {
        self.toplevel_xid = Some(xid);
        self
    }

    /// Adds a block reference; ids must ascend.
    pub fn block(mut self, block: NewBlock) -> RecordBuilder {
        self.blocks.push(block);
        self
    }

    /// Sets the main data.
    pub fn main(mut self, main: &[u8]) -> RecordBuilder {
        self.main = main.to_vec();
        self
    }

    /// Returns the record with length and CRC, page headers not in it.
    pub fn build(&self) -> Vec<u8> {
        let mut out = vec![0; 4];
        out.extend_from_slice(&self.xid.to_le_bytes());
        out.extend_from_slice(&self.prev.0.to_le_bytes());
        out.extend_from_slice(&[self.info, self.rmid, 0, 0, 0, 0, 0, 0]);
        let bits = ImageBits::of(self.version);
        for reference in &self.blocks {
            write_reference(&mut out, reference, &bits);
        }
        if let Some(origin) = self.origin {
            out.push(ORIGIN);
            out.extend_from_slice(&origin.to_le_bytes());
        }
        if let Some(xid) = self.toplevel_xid {
            out.push(TOPLEVEL_XID);
            out.extend_from_slice(&xid.to_le_bytes());
        }
        match u8::try_from(self.main.len()) {
            Ok(0) => {}
            Ok(length) => out.extend_from_slice(&[MAIN_DATA_SHORT, length]),
            Err(_) => {
                out.push(MAIN_DATA_LONG);
                out.extend_from_slice(&(self.main.len() as u32).to_le_bytes());
            }
        }
        for reference in &self.blocks {
            out.extend_from_slice(reference.image.as_ref().map_or(&[], |(_, packed)| packed));
            out.extend_from_slice(&reference.data);
        }
        out.extend_from_slice(&self.main);
        let length = (out.len() as u32).to_le_bytes();
        if let Some(field) = out.first_chunk_mut() {
            *field = length;
        }
        let crc = record_crc(&out).unwrap_or_default().to_le_bytes();
        if let Some(field) = out.get_mut(20..24) {
            field.copy_from_slice(&crc);
        }
        out
    }
}

fn write_reference(out: &mut Vec<u8>, reference: &NewBlock, bits: &ImageBits) {
    let mut flags = reference.rel.fork as u8;
    for (bit, set) in [
        (block::HAS_IMAGE, reference.image.is_some()),
        (block::HAS_DATA, !reference.data.is_empty()),
        (block::WILL_INIT, reference.will_init),
    ] {
        flags |= if set { bit } else { 0 };
    }
    out.extend_from_slice(&[reference.id, flags]);
    out.extend_from_slice(&(reference.data.len() as u16).to_le_bytes());
    if let Some((image, packed)) = &reference.image {
        let info = bits.encode(image);
        out.extend_from_slice(&(packed.len() as u16).to_le_bytes());
        out.extend_from_slice(&image.hole_offset.to_le_bytes());
        out.push(info);
        if image.compression != Compression::None && info & IMAGE_HAS_HOLE != 0 {
            out.extend_from_slice(&image.hole_length.to_le_bytes());
        }
    }
    for oid in [reference.rel.spc, reference.rel.db, reference.rel.rel] {
        out.extend_from_slice(&oid.to_le_bytes());
    }
    out.extend_from_slice(&reference.block.to_le_bytes());
}

/// Lays records out in pages, as Postgres writes them.
#[derive(Clone, Debug)]
pub struct StreamWriter {
    params: StreamParams,
    bytes: Vec<u8>,
    at: Lsn,
    prev: Lsn,
}

impl StreamWriter {
    /// Returns a writer whose first byte is at `start`, the end of the record that began at `prev`.
    pub fn new(params: StreamParams, start: Lsn, prev: Lsn) -> StreamWriter {
        StreamWriter {
            params,
            bytes: Vec::new(),
            at: start,
            prev,
        }
    }

    /// Writes a record after setting its link to the one before. Returns its start and its end.
    pub fn push(&mut self, record: RecordBuilder) -> (Lsn, Lsn) {
        let switches = record.rmid == rmgr::XLOG && record.info & 0xF0 == rmgr::XLOG_SWITCH;
        let record = record.prev(self.prev).build();
        self.header_if_due(0);
        let start = self.at;
        let mut left = record.as_slice();
        while !left.is_empty() {
            self.header_if_due(left.len() as u32);
            let (now, later) = left.split_at(left.len().min(self.room()));
            self.bytes.extend_from_slice(now);
            self.at = self.at + now.len() as u64;
            left = later;
        }
        let mut end = self.at.align();
        if switches {
            end = Lsn(end.0.next_multiple_of(u64::from(self.params.segment_size)));
        }
        let padding = end.bytes_since(self.at) as usize;
        self.bytes.resize(self.bytes.len() + padding, 0);
        self.at = end;
        self.prev = start;
        (start, end)
    }

    /// Returns the bytes from the start of the stream to the end of the last record.
    pub fn into_bytes(self) -> Vec<u8> {
        self.bytes
    }

    /// Returns the end of the last record.
    pub fn end(&self) -> Lsn {
        self.at
    }

    fn header_if_due(&mut self, remaining: u32) {
        if self.at.0.is_multiple_of(BLCKSZ as u64) {
            let header = PageHeader::new(&self.params, self.at, remaining).to_bytes();
            self.bytes.extend_from_slice(&header);
            self.at = segment::skip_header(self.at, self.params.segment_size);
        }
    }

    fn room(&self) -> usize {
        BLCKSZ - (self.at.0 % BLCKSZ as u64) as usize
    }
}
