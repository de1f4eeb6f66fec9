//! Inner parts by themselves, for the fuzzer and for benches. Feature `testing`.

use neon_postgres::Page;
use neon_types::{Lsn, PackedKey};

use crate::{LayerMap, page_delta};

/// Returns the number of layers that may hold versions of a key at or below `lsn`.
pub fn lookup(map: &LayerMap, key: &PackedKey, lsn: Lsn) -> usize {
    map.plan(key, lsn, Lsn::INVALID).len()
}

/// Applies a page delta to the page that it was made of.
pub fn apply_delta(delta: &[u8], page: &mut Page) -> Result<(), &'static str> {
    page_delta::apply(delta, page)
}

/// Returns the page delta that leads from one page to another.
pub fn delta(base: &Page, result: &Page) -> Vec<u8> {
    page_delta::encode(base, result)
}
