//! Full-page images back to pages.

use std::cell::RefCell;

use zstd::bulk::Decompressor;

use super::{BlockImage, Compression, DecodeError};
use crate::{BLCKSZ, Page};

thread_local! {
    /// Making one costs more than decompressing a page with it.
    static DECOMPRESSOR: RefCell<Option<Decompressor<'static>>> = const { RefCell::new(None) };
}

/// Decompresses a zstd frame; returns its length, none when it is damaged or longer than `dense`.
fn decompress_zstd(packed: &[u8], dense: &mut [u8]) -> Option<usize> {
    DECOMPRESSOR.with_borrow_mut(|decompressor| {
        let decompressor = match decompressor {
            Some(decompressor) => decompressor,
            None => decompressor.insert(Decompressor::new().ok()?),
        };
        decompressor.decompress_to_buffer(packed, dense).ok()
    })
}

/// Returns the page that `packed`, the bytes of `image`, stands for: decompressed, the hole filled with zeros. Its LSN is
/// the one that the image carries, which is that of the change before.
pub(super) fn restore(image: &BlockImage, id: u8, packed: &[u8]) -> Result<Page, DecodeError> {
    let failed = |method| DecodeError::Image { id, method };
    let length = BLCKSZ.saturating_sub(usize::from(image.hole_length));
    let mut unpacked = [0; BLCKSZ];
    let dense = unpacked.get_mut(..length).ok_or_else(|| failed("hole"))?;
    let (method, written) = match image.compression {
        Compression::None => {
            if packed.len() != length {
                return Err(failed("none"));
            }
            dense.copy_from_slice(packed);
            ("none", Some(length))
        }
        Compression::Pglz => ("pglz", pglz::decompress_into(packed, dense, true)),
        Compression::Lz4 => ("lz4", lz4_flex::block::decompress_into(packed, dense).ok()),
        Compression::Zstd => ("zstd", decompress_zstd(packed, dense)),
    };
    if written != Some(length) {
        return Err(failed(method));
    }
    if image.hole_length > 0 {
        let hole = usize::from(image.hole_offset);
        let after = hole + usize::from(image.hole_length);
        unpacked.copy_within(hole..length, after);
        let zeros = unpacked.get_mut(hole..after).ok_or_else(|| failed("hole"))?;
        zeros.fill(0);
    }
    Page::from_bytes(&unpacked).ok_or_else(|| failed(method))
}
