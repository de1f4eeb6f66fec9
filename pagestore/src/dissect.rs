//! Formats that are read out of objects, from bytes without a store. Feature `testing`.

use neon_postgres::Page;

use crate::page_delta;

/// Applies a page delta to the page that it was made of.
pub fn apply_delta(delta: &[u8], page: &mut Page) -> Result<(), &'static str> {
    page_delta::apply(delta, page)
}

/// Returns the page delta that leads from one page to another.
pub fn delta(base: &Page, result: &Page) -> Vec<u8> {
    page_delta::encode(base, result)
}
