//! A record's reference to a block.

use std::ops::Range;

use neon_types::RelTag;

use crate::Cursor;
use crate::wal::DecodeError;
use crate::{BLCKSZ, PgVersion};

pub(super) const FORK_MASK: u8 = 0x0F;
pub(super) const HAS_IMAGE: u8 = 0x10;
pub(super) const HAS_DATA: u8 = 0x20;
pub(super) const WILL_INIT: u8 = 0x40;
pub(super) const SAME_REL: u8 = 0x80;
/// `BKPIMAGE_HAS_HOLE`, the one image bit that is the same in all versions.
pub(super) const IMAGE_HAS_HOLE: u8 = 0x01;

/// A block that a record changes or names.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct BlockRef {
    /// Number of the reference, 0 to 32, ascending in a record but not without gaps.
    pub id: u8,
    /// The relation fork.
    pub rel: RelTag,
    /// Block number in the fork.
    pub block: u32,
    /// Redo begins with a page of zeros (`BKPBLOCK_WILL_INIT`).
    pub will_init: bool,
    /// The full-page image, if there is one.
    pub image: Option<BlockImage>,
    /// The record carries data for this block (`BKPBLOCK_HAS_DATA`).
    pub has_data: bool,
    pub(super) data: Range<u32>,
}

/// Where a full-page image is in its record, and how it is packed.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct BlockImage {
    /// Redo restores the page from it (`BKPIMAGE_APPLY`); if not, the image is only there to check redo.
    pub apply: bool,
    /// First byte of the run of zeros that was left out.
    pub hole_offset: u16,
    /// Length of the run of zeros, 0 if nothing was left out.
    pub hole_length: u16,
    /// How the rest is packed.
    pub compression: Compression,
    pub(super) bytes: Range<u32>,
}

/// How a full-page image is packed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Compression {
    /// Not at all.
    None,
    /// Postgres's own LZ.
    Pglz,
    /// One raw LZ4 block.
    Lz4,
    /// One zstd frame.
    Zstd,
}

/// Bits of `bimg_info` other than [`IMAGE_HAS_HOLE`]; 15 renumbered them.
pub(super) struct ImageBits {
    apply: u8,
    compressed: &'static [(u8, Compression)],
}

impl ImageBits {
    pub(super) fn of(version: PgVersion) -> ImageBits {
        if version == PgVersion::V14 {
            ImageBits {
                apply: 0x04,
                compressed: &[(0x02, Compression::Pglz)],
            }
        } else {
            ImageBits {
                apply: 0x02,
                compressed: &[
                    (0x04, Compression::Pglz),
                    (0x08, Compression::Lz4),
                    (0x10, Compression::Zstd),
                ],
            }
        }
    }

    /// Returns `bimg_info` for an image with that packing.
    pub(super) fn encode(&self, image: &BlockImage) -> u8 {
        let packing = self
            .compressed
            .iter()
            .find(|(_, method)| *method == image.compression);
        let hole = if image.hole_length > 0 { IMAGE_HAS_HOLE } else { 0 };
        let apply = if image.apply { self.apply } else { 0 };
        hole | apply | packing.map_or(0, |(bit, _)| *bit)
    }
}

impl BlockImage {
    /// Reads the image header; `bytes` of the result says only how many there are (`0..length`).
    pub(super) fn read(cursor: &mut Cursor<'_>, id: u8, bits: &ImageBits) -> Result<BlockImage, DecodeError> {
        let bad = |what| DecodeError::Block { id, what };
        let length = cursor.u16()?;
        let hole_offset = cursor.u16()?;
        let info = cursor.u8()?;
        let mut compression = Compression::None;
        for (bit, method) in bits.compressed {
            if info & bit != 0 {
                if compression != Compression::None {
                    return Err(bad("an image is compressed twice"));
                }
                compression = *method;
            }
        }
        let has_hole = info & IMAGE_HAS_HOLE != 0;
        let hole_length = match (compression, has_hole) {
            (Compression::None, _) => (BLCKSZ as u16)
                .checked_sub(length)
                .ok_or_else(|| bad("an image is longer than a page"))?,
            (_, true) => cursor.u16()?,
            (_, false) => 0,
        };
        let whole = usize::from(length) == BLCKSZ;
        if has_hole {
            if hole_offset == 0 || hole_length == 0 || whole {
                return Err(bad("an image with a hole has none"));
            }
            if usize::from(hole_offset) + usize::from(hole_length) > BLCKSZ {
                return Err(bad("the hole of an image ends beyond the page"));
            }
        } else if hole_offset != 0 || hole_length != 0 {
            return Err(bad("an image without a hole is not a whole page"));
        }
        if compression != Compression::None && (whole || length == 0) {
            return Err(bad("a compressed image is as long as a page, or empty"));
        }
        Ok(BlockImage {
            apply: info & bits.apply != 0,
            hole_offset,
            hole_length,
            compression,
            bytes: 0..u32::from(length),
        })
    }
}
