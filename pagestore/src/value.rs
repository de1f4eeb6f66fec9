//! What one version of a key is.

use neon_postgres::Page;

use crate::{PageStoreError, Result};

/// Longest value, in bytes. The longest that Postgres makes is the state of a prepared transaction with millions of subtransactions.
pub const MAX_VALUE: usize = 64 << 20;

const IMAGE: u8 = 1;
const RECORD: u8 = 2;
const CHANGE: u8 = 3;
const ITEM: u8 = 4;
const ABSENT: u8 = 5;
const DELTA: u8 = 6;
/// Set beside a record or change that makes its page anew: nothing older is needed.
const WHOLE: u8 = 0x80;

/// One version of one key.
#[derive(Clone, Debug, PartialEq)]
pub enum Value {
    /// The whole page.
    Image(Page),
    /// A WAL record, cut to the block of the key (`Record::slice_for_block`): redo makes the page of it and of the version before.
    Record(Vec<u8>),
    /// An effect of a record that has no block reference for the page (`neon_redo::change`).
    Change(Vec<u8>),
    /// The whole page as what differs from the version before ([`page_delta`](crate::page_delta)).
    Delta(Vec<u8>),
    /// The whole metadata item.
    Item(Vec<u8>),
    /// The key does not exist from here on.
    Absent,
}

impl Value {
    /// Returns true when the value does not depend on an older one. Of a record that is told by its blocks: `whole_record`.
    pub(crate) fn is_whole(&self, whole_record: bool) -> bool {
        match self {
            Value::Image(_) | Value::Item(_) | Value::Absent => true,
            Value::Record(_) => whole_record,
            Value::Delta(_) => false,
            Value::Change(bytes) => {
                neon_redo::change::Change::decode(bytes).is_ok_and(|change| !change.needs_base())
            }
        }
    }

    /// Returns the tag byte and the bytes that a layer stores.
    pub(crate) fn stored(&self, whole: bool) -> (u8, &[u8]) {
        let flag = if whole { WHOLE } else { 0 };
        match self {
            Value::Image(page) => (IMAGE, page.as_bytes().as_slice()),
            Value::Record(bytes) => (RECORD | flag, bytes),
            Value::Change(bytes) => (CHANGE | flag, bytes),
            Value::Delta(bytes) => (DELTA, bytes),
            Value::Item(bytes) => (ITEM, bytes),
            Value::Absent => (ABSENT, &[]),
        }
    }

    /// Returns the value that a layer stores as these bytes, and whether it is whole.
    pub(crate) fn from_stored(tag: u8, bytes: &[u8]) -> Result<(Value, bool)> {
        let value = match tag & !WHOLE {
            IMAGE if tag == IMAGE => Value::Image(
                Page::from_bytes(bytes)
                    .ok_or_else(|| PageStoreError::damaged("a page image", "it is not 8192 bytes long"))?,
            ),
            RECORD => Value::Record(bytes.to_vec()),
            CHANGE => Value::Change(bytes.to_vec()),
            DELTA if tag == DELTA => Value::Delta(bytes.to_vec()),
            ITEM if tag == ITEM => Value::Item(bytes.to_vec()),
            ABSENT if tag == ABSENT && bytes.is_empty() => Value::Absent,
            _ => return Err(PageStoreError::damaged("a value", format!("its tag is {tag:#x}"))),
        };
        Ok((value, is_whole_tag(tag)))
    }
}

/// Returns true when a value with that tag byte does not depend on an older one.
pub(crate) fn is_whole_tag(tag: u8) -> bool {
    matches!(tag, IMAGE | ITEM | ABSENT) || tag & WHOLE != 0
}

/// Returns true for a value that is a page of its own, or what makes one of the page before.
pub(crate) fn is_page_tag(tag: u8) -> bool {
    matches!(tag, IMAGE | DELTA)
}

/// Returns true for tag bytes that this format version knows.
pub(crate) fn is_tag(tag: u8) -> bool {
    matches!(tag, IMAGE | ITEM | ABSENT | DELTA) || matches!(tag & !WHOLE, RECORD | CHANGE)
}
