//! Effects of a record on pages that it does not name by a block reference.
//!
//! Postgres computes these pages while it replays: visibility map bits that a heap record clears, transaction statuses,
//! commit timestamps, multixacts. Ingest turns each into a [`Change`] under the key of the page; a read applies it where
//! it would have called redo. The bytes are specified in `docs/format/change.md`.
//!
//! SLRU pages have no page header: every byte is content, so their changes never touch an LSN.

mod apply;
mod codec;

pub use codec::{ChangeError, MAX_CHANGE_SIZE};

/// Transactions whose status one `pg_xact` page holds.
pub const XACTS_PER_CLOG_PAGE: u32 = 32768;
/// Transactions whose commit timestamp one `pg_commit_ts` page holds.
pub const XACTS_PER_COMMIT_TS_PAGE: u32 = 819;
/// Multixact ids whose offset one `pg_multixact/offsets` page holds.
pub const MULTIXACTS_PER_OFFSETS_PAGE: u32 = 2048;
/// Members that one `pg_multixact/members` page holds: 409 groups of 4.
pub const MEMBERS_PER_MEMBERS_PAGE: u32 = 1636;
/// Heap blocks whose two bits one visibility map page holds.
pub const HEAP_BLOCKS_PER_VM_PAGE: u32 = 32672;

/// Visibility map bit: every tuple of the block is visible to everybody.
pub const VM_ALL_VISIBLE: u8 = 1;
/// Visibility map bit: every tuple of the block is frozen.
pub const VM_ALL_FROZEN: u8 = 2;

/// What `pg_xact` says about a transaction that is over.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[repr(u8)]
pub enum XactState {
    /// `TRANSACTION_STATUS_COMMITTED`
    Committed = 1,
    /// `TRANSACTION_STATUS_ABORTED`
    Aborted = 2,
    /// `TRANSACTION_STATUS_SUB_COMMITTED`: committed if its parent did. Never what a finished record leaves behind.
    SubCommitted = 3,
}

/// Bits to clear for one heap block.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct VmBits {
    /// Heap block number modulo [`HEAP_BLOCKS_PER_VM_PAGE`].
    pub slot: u16,
    /// Some of [`VM_ALL_VISIBLE`] and [`VM_ALL_FROZEN`].
    pub bits: u8,
}

/// Where the members of one multixact begin.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct MultixactOffset {
    /// Multixact id modulo [`MULTIXACTS_PER_OFFSETS_PAGE`].
    pub slot: u16,
    /// Number of its first member.
    pub offset: u32,
}

/// One member of a multixact.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct MultixactMember {
    /// Member number modulo [`MEMBERS_PER_MEMBERS_PAGE`].
    pub slot: u16,
    /// The member transaction.
    pub xid: u32,
    /// `MultiXactStatus`, 0 to 5.
    pub status: u8,
}

/// One effect of one record on one page.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub enum Change {
    /// The whole page becomes zero bytes.
    Zero,
    /// Visibility map: clear bits of these heap blocks. Postgres does not move the page's LSN here: only a record that
    /// names the map page by a block reference does.
    ClearVm(Vec<VmBits>),
    /// Visibility map: the heap ends in the middle of this page; clear the bits of every block from `keep` on.
    TruncateVmTail {
        /// Heap blocks of this page that remain, below [`HEAP_BLOCKS_PER_VM_PAGE`].
        keep: u16,
    },
    /// `pg_xact`: the final state of transactions.
    XactStatus {
        /// The state of all of them.
        state: XactState,
        /// Transaction ids modulo [`XACTS_PER_CLOG_PAGE`].
        slots: Vec<u16>,
    },
    /// `pg_commit_ts`: when transactions committed and where they came from.
    CommitTs {
        /// `TimestampTz`: microseconds since 2000-01-01 UTC.
        time: i64,
        /// `RepOriginId`; 0 is local.
        origin: u16,
        /// Transaction ids modulo [`XACTS_PER_COMMIT_TS_PAGE`].
        slots: Vec<u16>,
    },
    /// `pg_multixact/offsets`
    MultixactOffsets {
        /// The page did not exist: begin with a zero page, whatever is there.
        fresh: bool,
        /// The offsets to store.
        entries: Vec<MultixactOffset>,
    },
    /// `pg_multixact/members`
    MultixactMembers(Vec<MultixactMember>),
}

impl Change {
    /// Returns false when the page after the change does not depend on the page before it.
    pub fn needs_base(&self) -> bool {
        !matches!(self, Change::Zero | Change::MultixactOffsets { fresh: true, .. })
    }
}
