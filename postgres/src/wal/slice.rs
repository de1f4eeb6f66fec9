//! One record, cut down to what redo of one of its blocks needs.

use neon_types::RelTag;

use super::block::{self, ImageBits};
use super::record::{MAIN_DATA_LONG, MAIN_DATA_SHORT, ORIGIN, TOPLEVEL_XID};
use super::{BlockRef, Compression, Record};

impl Record {
    /// Returns the same record with the images and data of all blocks but `blocks[index]` left out: the references keep
    /// id, relation, fork, block number and WILL_INIT, and lose HAS_IMAGE and HAS_DATA. An image of `blocks[index]` that is
    /// not for redo but to check it goes too. Framing is valid ([`Record::decode`] takes it), the CRC is 0.
    pub fn slice_for_block(&self, index: usize) -> Vec<u8> {
        let mut out = Vec::with_capacity(self.bytes().len().min(16 * 1024));
        out.extend_from_slice(&0u32.to_le_bytes()); // total length, set at the end
        out.extend_from_slice(&self.xid.to_le_bytes());
        out.extend_from_slice(&self.prev.0.to_le_bytes());
        out.extend_from_slice(&[self.info, self.rmid, 0, 0]);
        out.extend_from_slice(&0u32.to_le_bytes()); // CRC

        let bits = ImageBits::of(self.version());
        let mut before = None;
        for (number, reference) in self.blocks.iter().enumerate() {
            write_reference(&mut out, reference, number == index, &bits, before);
            before = Some(reference.rel);
        }
        if let Some(origin) = self.origin {
            out.push(ORIGIN);
            out.extend_from_slice(&origin.to_le_bytes());
        }
        if let Some(xid) = self.toplevel_xid {
            out.push(TOPLEVEL_XID);
            out.extend_from_slice(&xid.to_le_bytes());
        }
        let main = self.main_data();
        match u8::try_from(main.len()) {
            Ok(0) => {}
            Ok(length) => out.extend_from_slice(&[MAIN_DATA_SHORT, length]),
            Err(_) => {
                out.push(MAIN_DATA_LONG);
                out.extend_from_slice(&(main.len() as u32).to_le_bytes());
            }
        }
        if let Some(kept) = self.blocks.get(index) {
            if let Some(image) = kept.image.as_ref().filter(|image| image.apply) {
                out.extend_from_slice(self.range(&image.bytes));
            }
            out.extend_from_slice(self.range(&kept.data));
        }
        out.extend_from_slice(main);
        let length = (out.len() as u32).to_le_bytes();
        if let Some(field) = out.first_chunk_mut() {
            *field = length;
        }
        out
    }
}

fn write_reference(
    out: &mut Vec<u8>,
    reference: &BlockRef,
    keep: bool,
    bits: &ImageBits,
    before: Option<RelTag>,
) {
    let image = reference.image.as_ref().filter(|image| keep && image.apply);
    let data = if keep { reference.data.len() as u16 } else { 0 };
    let rel = reference.rel;
    let same_rel = before.is_some_and(|before| before.with_fork(rel.fork) == rel);
    let mut flags = rel.fork as u8;
    for (bit, set) in [
        (block::HAS_IMAGE, image.is_some()),
        (block::HAS_DATA, data > 0),
        (block::WILL_INIT, reference.will_init),
        (block::SAME_REL, same_rel),
    ] {
        flags |= if set { bit } else { 0 };
    }
    out.extend_from_slice(&[reference.id, flags]);
    out.extend_from_slice(&data.to_le_bytes());
    if let Some(image) = image {
        out.extend_from_slice(&(image.bytes.len() as u16).to_le_bytes());
        out.extend_from_slice(&image.hole_offset.to_le_bytes());
        out.push(bits.encode(image));
        if image.compression != Compression::None && image.hole_length > 0 {
            out.extend_from_slice(&image.hole_length.to_le_bytes());
        }
    }
    if !same_rel {
        for oid in [rel.spc, rel.db, rel.rel] {
            out.extend_from_slice(&oid.to_le_bytes());
        }
    }
    out.extend_from_slice(&reference.block.to_le_bytes());
}
