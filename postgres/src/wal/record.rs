//! A decoded record: its header, its block references, and where their bytes are.
//!
//! ```text
//! fixed header, 24 bytes: u32 total length | u32 xid | u64 prev | u8 info | u8 rmid | 2 zero | u32 CRC-32C
//! then headers, in any number: block reference (id 0..=32), 253 u16 origin, 252 u32 top-level xid,
//!      and at most one of 255 u8 main data length, 254 u32 main data length, which is the last
//! then, for each block reference: its image, its data;  then the main data
//! block reference: u8 id | u8 fork and flags | u16 data length | [u16 image length | u16 hole offset | u8 image bits |
//!      [u16 hole length: compressed and with a hole]] | [3 x u32 tablespace, database, relation: not SAME_REL] | u32 block
//! ```

use std::ops::Range;

use neon_types::{Fork, Lsn, RelTag};

use super::block::{self, ImageBits};
use super::{BlockImage, BlockRef, DecodeError, RECORD_HEADER_SIZE, image};
use crate::{Cursor, Page, PgVersion};

/// Bit of `info`: the record changes relation files in a way that its block references do not tell.
pub const XLR_SPECIAL_REL_UPDATE: u8 = 0x01;
/// Bit of `info`: the record carries images to check redo with.
pub const XLR_CHECK_CONSISTENCY: u8 = 0x02;

/// Largest number of a block reference (`XLR_MAX_BLOCK_ID`).
pub(super) const MAX_BLOCK_ID: u8 = 32;
pub(super) const MAIN_DATA_SHORT: u8 = 255;
pub(super) const MAIN_DATA_LONG: u8 = 254;
pub(super) const ORIGIN: u8 = 253;
pub(super) const TOPLEVEL_XID: u8 = 252;

/// A WAL record. Owns its bytes.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Record {
    /// The transaction that wrote it, 0 for none (`xl_xid`).
    pub xid: u32,
    /// Start of the record before (`xl_prev`).
    pub prev: Lsn,
    /// Low nibble: flags of all records; high nibble: the resource manager's (`xl_info`).
    pub info: u8,
    /// The resource manager (`xl_rmid`), see [`super::rmgr`].
    pub rmid: u8,
    /// Replication origin on whose behalf the record was written.
    pub origin: Option<u16>,
    /// The top-level transaction, on the first record of a subtransaction with logical WAL.
    pub toplevel_xid: Option<u32>,
    /// The blocks that the record names, in ascending order of id.
    pub blocks: Vec<BlockRef>,
    version: PgVersion,
    bytes: Vec<u8>,
    main: Range<u32>,
}

impl Record {
    /// Takes apart a whole record, page headers removed. The CRC is not looked at.
    pub fn decode(version: PgVersion, bytes: Vec<u8>) -> Result<Record, DecodeError> {
        let mut cursor = Cursor::new(&bytes);
        let stated = cursor.u32()?;
        let xid = cursor.u32()?;
        let prev = Lsn(cursor.u64()?);
        let info = cursor.u8()?;
        let rmid = cursor.u8()?;
        cursor.skip(6)?;
        if usize::try_from(stated) != Ok(bytes.len()) {
            return Err(DecodeError::Length {
                stated,
                actual: bytes.len(),
            });
        }

        let bits = ImageBits::of(version);
        let (mut origin, mut toplevel_xid) = (None, None);
        let mut blocks: Vec<BlockRef> = Vec::new();
        let mut main_length = 0;
        let mut payload = 0;
        // Headers go on until what is left is exactly what they announced.
        while cursor.remaining() > payload {
            let id = cursor.u8()?;
            match id {
                MAIN_DATA_SHORT | MAIN_DATA_LONG => {
                    let length = if id == MAIN_DATA_SHORT {
                        u32::from(cursor.u8()?)
                    } else {
                        cursor.u32()?
                    };
                    main_length = length;
                    payload += length as usize;
                    break; // by convention the last header
                }
                ORIGIN => origin = Some(cursor.u16()?),
                TOPLEVEL_XID => toplevel_xid = Some(cursor.u32()?),
                0..=MAX_BLOCK_ID => {
                    let reference = read_block(&mut cursor, id, &bits, blocks.last())?;
                    payload += reference.data.len() + reference.image.as_ref().map_or(0, |i| i.bytes.len());
                    blocks.push(reference);
                }
                _ => {
                    return Err(DecodeError::Block {
                        id,
                        what: "not a number that a reference can have",
                    });
                }
            }
        }
        match cursor.remaining().checked_sub(payload) {
            Some(0) => {}
            Some(left) => return Err(DecodeError::Leftover(left)),
            None => {
                let at = cursor.offset();
                return Err(crate::Truncated { at, wanted: payload }.into());
            }
        }
        // Record lengths are u32, so offsets are too.
        let mut at = cursor.offset() as u32;
        let mut place = |range: &mut Range<u32>| {
            let length = range.end;
            *range = at..at + length;
            at += length;
        };
        for reference in &mut blocks {
            if let Some(image) = &mut reference.image {
                place(&mut image.bytes);
            }
            place(&mut reference.data);
        }
        let mut main = 0..main_length;
        place(&mut main);
        Ok(Record {
            xid,
            prev,
            info,
            rmid,
            origin,
            toplevel_xid,
            blocks,
            version,
            bytes,
            main,
        })
    }

    /// Returns the version that wrote the record.
    pub fn version(&self) -> PgVersion {
        self.version
    }

    /// Returns the record as it was written, without page headers.
    pub fn bytes(&self) -> &[u8] {
        &self.bytes
    }

    /// Returns the part of `info` that belongs to the resource manager.
    pub fn opcode(&self) -> u8 {
        self.info & 0xF0
    }

    /// Returns the data that belongs to no block.
    pub fn main_data(&self) -> &[u8] {
        self.range(&self.main)
    }

    /// Returns the data of `blocks[index]`, empty if it has none.
    pub fn block_data(&self, index: usize) -> &[u8] {
        let reference = self.blocks.get(index);
        reference.map_or(&[], |reference| self.range(&reference.data))
    }

    /// Returns the page that the image of `blocks[index]` stands for, `None` if it has no image. Its `pd_lsn` is not that
    /// of this record but of the change before; redo sets it.
    pub fn block_image(&self, index: usize) -> Option<Result<Page, DecodeError>> {
        let reference = self.blocks.get(index)?;
        let image = reference.image.as_ref()?;
        Some(image::restore(image, reference.id, self.range(&image.bytes)))
    }

    /// Returns the index in `blocks` of the reference with that id.
    pub fn block_by_id(&self, id: u8) -> Option<usize> {
        self.blocks.iter().position(|reference| reference.id == id)
    }

    pub(super) fn range(&self, range: &Range<u32>) -> &[u8] {
        self.bytes
            .get(range.start as usize..range.end as usize)
            .unwrap_or_default()
    }
}

fn read_block(
    cursor: &mut Cursor<'_>,
    id: u8,
    bits: &ImageBits,
    before: Option<&BlockRef>,
) -> Result<BlockRef, DecodeError> {
    let bad = |what| DecodeError::Block { id, what };
    if before.is_some_and(|before| before.id >= id) {
        return Err(bad("out of order"));
    }
    let flags = cursor.u8()?;
    let fork =
        Fork::from_number(flags & block::FORK_MASK).ok_or_else(|| bad("names a fork that does not exist"))?;
    let data_length = cursor.u16()?;
    let has_data = flags & block::HAS_DATA != 0;
    if has_data != (data_length > 0) {
        return Err(bad("its length of data contradicts its flags"));
    }
    let image = if flags & block::HAS_IMAGE != 0 {
        Some(BlockImage::read(cursor, id, bits)?)
    } else {
        None
    };
    let rel = if flags & block::SAME_REL != 0 {
        let before =
            before.ok_or_else(|| bad("refers to the relation of a reference before it, and is the first"))?;
        before.rel.with_fork(fork)
    } else {
        RelTag {
            spc: cursor.u32()?,
            db: cursor.u32()?,
            rel: cursor.u32()?,
            fork,
        }
    };
    Ok(BlockRef {
        id,
        rel,
        block: cursor.u32()?,
        will_init: flags & block::WILL_INIT != 0,
        image,
        has_data,
        data: 0..u32::from(data_length),
    })
}

const _: () = assert!(RECORD_HEADER_SIZE == 24);
