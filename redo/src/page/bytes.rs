//! Checked access to the bytes of pages, little-endian, and to lists in records.

use std::ops::Range;

use neon_postgres::{Cursor, Page};

use crate::Damage;

/// Returns `len` rounded up to 8 bytes (`MAXALIGN`); lengths of items and pages only.
pub(crate) fn align(len: usize) -> usize {
    (len + 7) & !7
}

const OUTSIDE: Damage = Damage::Value {
    what: "a place outside the page",
};

/// Returns bytes of the page.
pub(crate) fn bytes_at(page: &Page, range: Range<usize>) -> Result<&[u8], Damage> {
    page.as_bytes().get(range).ok_or(OUTSIDE)
}

/// Returns the 16-bit number at byte `at` of the page.
pub(crate) fn u16_at(page: &Page, at: usize) -> Result<u16, Damage> {
    let bytes = page.as_bytes().get(at..).and_then(|rest| rest.first_chunk());
    bytes.map(|b| u16::from_le_bytes(*b)).ok_or(OUTSIDE)
}

/// Returns the 32-bit number at byte `at` of the page.
pub(crate) fn u32_at(page: &Page, at: usize) -> Result<u32, Damage> {
    let bytes = page.as_bytes().get(at..).and_then(|rest| rest.first_chunk());
    bytes.map(|b| u32::from_le_bytes(*b)).ok_or(OUTSIDE)
}

/// Overwrites the page's bytes from `at` on.
pub(crate) fn copy_to(page: &mut Page, at: usize, bytes: &[u8]) -> Result<(), Damage> {
    let end = at.checked_add(bytes.len()).ok_or(OUTSIDE)?;
    let target = page.as_bytes_mut().get_mut(at..end).ok_or(OUTSIDE)?;
    target.copy_from_slice(bytes);
    Ok(())
}

/// Sets a range of the page to zero; a reversed range is empty.
pub(crate) fn zero(page: &mut Page, range: Range<usize>) -> Result<(), Damage> {
    if range.start < range.end {
        page.as_bytes_mut().get_mut(range).ok_or(OUTSIDE)?.fill(0);
    }
    Ok(())
}

/// Writes a 16-bit number at byte `at` of the page.
pub(crate) fn put_u16(page: &mut Page, at: usize, value: u16) -> Result<(), Damage> {
    copy_to(page, at, &value.to_le_bytes())
}

/// Writes a 32-bit number at byte `at` of the page.
pub(crate) fn put_u32(page: &mut Page, at: usize, value: u32) -> Result<(), Damage> {
    copy_to(page, at, &value.to_le_bytes())
}

/// Writes a 64-bit number at byte `at` of the page.
pub(crate) fn put_u64(page: &mut Page, at: usize, value: u64) -> Result<(), Damage> {
    copy_to(page, at, &value.to_le_bytes())
}

/// A list of 16-bit numbers in a record: offset numbers, mostly.
#[derive(Clone, Copy)]
pub(crate) struct Offsets<'a> {
    pairs: &'a [[u8; 2]],
}

impl<'a> Offsets<'a> {
    /// Returns them in order.
    pub(crate) fn iter(self) -> impl DoubleEndedIterator<Item = u16> + ExactSizeIterator + 'a {
        self.pairs.iter().map(|pair| u16::from_le_bytes(*pair))
    }
}

/// Takes `count` 16-bit numbers from a record; they are decoded as they are asked for.
pub(crate) fn take_offsets<'a>(cursor: &mut Cursor<'a>, count: usize) -> Result<Offsets<'a>, Damage> {
    let (pairs, _) = cursor.take(count * 2)?.as_chunks();
    Ok(Offsets { pairs })
}

/// Moves to the next even byte, counted from the front (`SHORTALIGN`).
pub(crate) fn skip_to_even(cursor: &mut Cursor<'_>) -> Result<(), Damage> {
    Ok(cursor.skip(cursor.offset() % 2)?)
}
