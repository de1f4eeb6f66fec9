//! Why a page could not be rebuilt.

use neon_postgres::Truncated;
use neon_postgres::wal::DecodeError;
use neon_types::{Lsn, RelTag};

/// A record could not be replayed onto a page.
#[derive(Debug, thiserror::Error)]
pub enum RedoError {
    /// There is no replay for this kind of record in this release.
    #[error("replay of {name} records is not supported")]
    Unsupported {
        /// Resource manager id of the record.
        rmid: u8,
        /// `xl_info` of the record.
        info: u8,
        /// Name of the record as `pg_waldump` prints it, such as `Gin/INSERT`.
        name: String,
    },
    /// Record and page do not fit together, or one of them is damaged.
    #[error("replay of {name} that ends at {end} onto block {block} of {rel} failed")]
    Corrupt {
        /// Name of the record.
        name: String,
        /// End of the record.
        end: Lsn,
        /// Relation of the block.
        rel: RelTag,
        /// Number of the block.
        block: u32,
        /// What was found.
        #[source]
        damage: Damage,
    },
    /// The record has no block reference of that index.
    #[error("{name} that ends at {end} has no block reference number {index}")]
    NoSuchBlock {
        /// Name of the record.
        name: String,
        /// End of the record.
        end: Lsn,
        /// The index that was asked for.
        index: usize,
    },
}

/// What is wrong with a page or with a record's content.
#[derive(Debug, thiserror::Error)]
pub enum Damage {
    /// The page header's offsets contradict each other.
    #[error("page header has lower {lower}, upper {upper}, special {special}")]
    Header {
        /// `pd_lower`
        lower: usize,
        /// `pd_upper`
        upper: usize,
        /// `pd_special`
        special: usize,
    },
    /// The page has no such line pointer.
    #[error("item {offset} does not exist on a page of {count} items")]
    NoSuchItem {
        /// Offset number, from 1.
        offset: u16,
        /// Number of line pointers.
        count: u16,
    },
    /// The line pointer has another state than the record requires.
    #[error("item {offset} is not {expected}")]
    ItemState {
        /// Offset number, from 1.
        offset: u16,
        /// The state that it should have.
        expected: &'static str,
    },
    /// The line pointer points outside the area that it may point to.
    #[error("item {offset} lies at byte {at} with {len} bytes")]
    ItemPlace {
        /// Offset number, from 1.
        offset: u16,
        /// Where it begins.
        at: u16,
        /// Its length.
        len: u16,
    },
    /// An item does not fit.
    #[error("an item of {len} bytes does not fit into {free} free bytes")]
    NoSpace {
        /// Bytes of the item.
        len: usize,
        /// Bytes between lower and upper.
        free: usize,
    },
    /// Items together are longer than the page.
    #[error("items of {total} bytes in a space of {space}")]
    ItemLengths {
        /// Their aligned lengths together.
        total: usize,
        /// Bytes of the page for items.
        space: usize,
    },
    /// Offset numbers of a list are out of order or too large.
    #[error("item numbers to delete are out of order or not on the page")]
    OffsetList,
    /// Fewer bytes than the record's structure needs.
    #[error("the record's data ends early")]
    Short(#[from] Truncated),
    /// A value or combination that cannot be.
    #[error("{what}")]
    Value {
        /// What was found.
        what: &'static str,
    },
    /// The record refers to a block that its kind does not have.
    #[error("unexpected block reference with id {id}")]
    UnexpectedBlock {
        /// Id of the reference.
        id: u8,
    },
    /// The record lacks a block reference that its kind must have.
    #[error("block reference with id {id} is missing")]
    MissingBlock {
        /// Id of the reference.
        id: u8,
    },
    /// The record must have an image of the block.
    #[error("the full-page image is missing")]
    MissingImage,
    /// The record's own structure.
    #[error("the record cannot be decoded")]
    Record(#[from] DecodeError),
}
