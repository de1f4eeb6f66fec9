//! Rows on heap pages, and which of them a reader sees.

use crate::Page;
use crate::slru::XactStatus;

/// `HEAP_XMIN_COMMITTED`; with the next bit, `HEAP_XMIN_FROZEN`
const XMIN_COMMITTED: u16 = 0x0100;
/// `HEAP_XMIN_INVALID`
const XMIN_INVALID: u16 = 0x0200;
/// `HEAP_XMAX_COMMITTED`
const XMAX_COMMITTED: u16 = 0x0400;
/// `HEAP_XMAX_INVALID`
const XMAX_INVALID: u16 = 0x0800;
/// `HEAP_XMAX_IS_MULTI`
const XMAX_IS_MULTI: u16 = 0x1000;
/// `HEAP_XMAX_LOCK_ONLY`
const XMAX_LOCK_ONLY: u16 = 0x0080;
/// `HEAP_HASNULL`
const HAS_NULL: u16 = 0x0001;
/// `SizeofHeapTupleHeader`: where the null bitmap begins.
const BITMAP: usize = 23;

/// A row (`HeapTupleHeaderData` and what follows).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Row<'a> {
    xmin: u32,
    xmax: u32,
    infomask: u16,
    /// A bit for each column that is not null; empty when none is null.
    nulls: &'a [u8],
    /// Its columns, without header and null bitmap.
    pub columns: &'a [u8],
}

/// Whether a row is there once every transaction that has not ended is undone.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Visibility {
    /// It is.
    Visible,
    /// It is not.
    Gone,
    /// Its deleter is in a multixact, which is not looked up.
    Unsure,
}

/// Returns the rows of a heap page; what is not one is passed over.
pub fn rows(page: &Page) -> impl Iterator<Item = Row<'_>> {
    (1..=page.item_count()).filter_map(move |number| {
        let item = page.item(number).filter(|item| item.has_storage())?;
        Row::decode(page.tuple(item)?)
    })
}

impl<'a> Row<'a> {
    pub(super) fn decode(tuple: &'a [u8]) -> Option<Row<'a>> {
        let word = |at: usize| Some(u32::from_le_bytes(tuple.get(at..at + 4)?.try_into().ok()?));
        let half = |at: usize| Some(u16::from_le_bytes(tuple.get(at..at + 2)?.try_into().ok()?));
        let header = usize::from(*tuple.get(22)?);
        Some(Row {
            xmin: word(0)?,
            xmax: word(4)?,
            infomask: half(20)?,
            nulls: match half(20)? & HAS_NULL {
                0 => &[],
                _ => tuple.get(BITMAP..header)?,
            },
            columns: tuple.get(header..)?,
        })
    }

    /// Returns true when the column, from 0, is null.
    pub fn is_null(&self, column: usize) -> bool {
        let byte = self.nulls.get(column / 8);
        byte.is_some_and(|byte| byte >> (column % 8) & 1 == 0)
    }

    /// Returns whether it is there, given what became of transactions.
    pub fn visibility<E>(
        &self,
        mut status: impl FnMut(u32) -> Result<XactStatus, E>,
    ) -> Result<Visibility, E> {
        let is = |bits| self.infomask & bits == bits;
        if !is(XMIN_COMMITTED) && (is(XMIN_INVALID) || status(self.xmin)? != XactStatus::Committed) {
            return Ok(Visibility::Gone);
        }
        if is(XMAX_INVALID) || is(XMAX_LOCK_ONLY) || self.xmax == 0 {
            return Ok(Visibility::Visible);
        }
        if is(XMAX_IS_MULTI) {
            return Ok(Visibility::Unsure);
        }
        if is(XMAX_COMMITTED) || status(self.xmax)? == XactStatus::Committed {
            return Ok(Visibility::Gone);
        }
        Ok(Visibility::Visible)
    }
}

#[cfg(test)]
pub(super) mod tests {
    use std::convert::Infallible;

    use super::*;

    /// A tuple with a null bitmap, when it is not empty, and columns.
    pub fn tuple(nulls: &[u8], columns: &[u8]) -> Vec<u8> {
        let header = (BITMAP + nulls.len()).next_multiple_of(8);
        let mut tuple = vec![0; header];
        tuple[20] = u8::from(!nulls.is_empty());
        tuple[22] = u8::try_from(header).expect("short");
        tuple[BITMAP..BITMAP + nulls.len()].copy_from_slice(nulls);
        tuple.extend_from_slice(columns);
        tuple
    }

    fn row(infomask: u16) -> Row<'static> {
        Row {
            xmin: 700,
            xmax: 701,
            infomask,
            nulls: &[],
            columns: &[],
        }
    }

    #[test]
    fn nulls_are_told_by_their_bits() {
        let some = tuple(&[0b1111_1011, 0b1], &[7; 8]);
        let row = Row::decode(&some).expect("a row");
        let nulls: Vec<usize> = (0..9).filter(|column| row.is_null(*column)).collect();
        assert_eq!((nulls, row.columns), (vec![2], &[7; 8][..]));
        assert!(!Row::decode(&tuple(&[], &[7])).expect("a row").is_null(2));
    }

    #[test]
    fn a_row_is_there_from_its_inserter_to_its_deleter() {
        let see = |infomask, inserter, deleter| {
            let status = |xid| Ok::<_, Infallible>(if xid == 700 { inserter } else { deleter });
            let Ok(visibility) = row(infomask).visibility(status);
            visibility
        };
        use Visibility::{Gone, Unsure, Visible};
        use XactStatus::{Aborted, Committed, InProgress};
        assert_eq!(see(0, Committed, InProgress), Visible);
        assert_eq!(see(0, Committed, Aborted), Visible);
        assert_eq!(see(0, Committed, Committed), Gone);
        assert_eq!(see(0, InProgress, InProgress), Gone);
        assert_eq!(
            see(XMIN_COMMITTED | XMAX_INVALID, InProgress, Committed),
            Visible,
            "hints come first"
        );
        assert_eq!(see(XMIN_INVALID, Committed, InProgress), Gone);
        assert_eq!(
            see(XMIN_COMMITTED | XMIN_INVALID | XMAX_INVALID, Aborted, Aborted),
            Visible,
            "frozen"
        );
        assert_eq!(see(XMAX_LOCK_ONLY, Committed, Committed), Visible);
        assert_eq!(see(XMAX_COMMITTED, Committed, InProgress), Gone);
        assert_eq!(see(XMAX_IS_MULTI, Committed, Committed), Unsure);
    }

    #[test]
    fn a_tuple_that_is_too_short_is_no_row() {
        let mut tuple = [0; 32];
        tuple[22] = 24;
        assert_eq!(Row::decode(&tuple).map(|row| row.columns.len()), Some(8));
        tuple[22] = 33;
        assert_eq!(Row::decode(&tuple), None);
        assert_eq!(Row::decode(&tuple[..22]), None);
        assert_eq!(rows(&Page::zeroed()).count(), 0);
    }
}
