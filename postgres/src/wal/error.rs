//! Where a stream of WAL ends, and what is wrong with it.

use neon_types::Lsn;

use crate::wal::rmgr;
use crate::{PgVersion, Truncated};

/// Why no further record could be read. Every one of these is what the end of a log looks like after a crash or in a
/// segment file that is being reused; whether it is one, the caller knows.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum EndKind {
    /// The next record has length zero: never written.
    ZeroLength,
    /// The length of the next record is not one that a record can have.
    BadLength,
    /// The page does not begin with the magic number of this version, or its header has impossible flags.
    BadPage,
    /// The page says that it belongs elsewhere: a segment file that is being reused.
    BadPageAddress,
    /// The record goes on in the next page, which does not continue it; or a page continues a record that is none.
    BadContinuation,
    /// The record does not link to the one before it.
    BadPrev,
    /// The resource manager does not exist.
    BadRmgr,
    /// The record's CRC does not match.
    BadCrc,
}

impl std::fmt::Display for EndKind {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(match self {
            EndKind::ZeroLength => "no record was written",
            EndKind::BadLength => "impossible record length",
            EndKind::BadPage => "not a WAL page",
            EndKind::BadPageAddress => "the page belongs to another position",
            EndKind::BadContinuation => "the record is not continued",
            EndKind::BadPrev => "wrong link to the previous record",
            EndKind::BadRmgr => "unknown resource manager",
            EndKind::BadCrc => "wrong CRC",
        })
    }
}

/// A stream cannot be decoded further.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum WalError {
    /// History ends at the end of the record before.
    #[error("WAL ends at {at}: {kind}")]
    EndOfWal {
        /// How the end looks.
        kind: EndKind,
        /// The record or page that is not good.
        at: Lsn,
    },
    /// A good page of another timeline.
    #[error("WAL page {at} belongs to timeline {found:08X}, expected {expected:08X}")]
    OtherTimeline {
        /// Start of the page.
        at: Lsn,
        /// TLI in the page header.
        found: u32,
        /// TLI of the stream.
        expected: u32,
    },
    /// A good page of another cluster.
    #[error("WAL page {at} belongs to the cluster with system identifier {found}, expected {expected}")]
    OtherCluster {
        /// Start of the page.
        at: Lsn,
        /// System identifier in the page header.
        found: u64,
        /// System identifier of the stream.
        expected: u64,
    },
    /// A segment header states sizes other than ours.
    #[error("WAL segment at {at} has segments of {segment_size} bytes and pages of {page_size} bytes")]
    OtherSizes {
        /// Start of the segment.
        at: Lsn,
        /// Bytes in a segment, as the header says.
        segment_size: u32,
        /// Bytes in a page, as the header says.
        page_size: u32,
    },
    /// After a record that was abandoned in a crash, something else than the record that says so.
    #[error("the record at {at} should state that the one at {abandoned} was abandoned, and does not")]
    NotOverwritten {
        /// Start of the record that was read.
        at: Lsn,
        /// Start of the abandoned record.
        abandoned: Lsn,
    },
}

/// A whole record has impossible contents.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum DecodeError {
    /// Something is shorter than it says.
    #[error("record is cut short: {0}")]
    Truncated(#[from] Truncated),
    /// The length in the header is not the number of bytes.
    #[error("record states {stated} bytes and has {actual}")]
    Length {
        /// `xl_tot_len`
        stated: u32,
        /// Bytes given.
        actual: usize,
    },
    /// A block reference that no Postgres writes.
    #[error("block reference {id} of a record: {what}")]
    Block {
        /// Number of the reference, or what stands in its place.
        id: u8,
        /// What is wrong.
        what: &'static str,
    },
    /// The lengths of images, data and main data do not add up to the record.
    #[error("record has {0} bytes that belong to nothing")]
    Leftover(usize),
    /// A full-page image does not decompress to a page.
    #[error("image of block reference {id} does not decompress ({method})")]
    Image {
        /// Number of the reference.
        id: u8,
        /// Compression method.
        method: &'static str,
    },
    /// The resource manager has no such record in this version.
    #[error("unknown record {} of PostgreSQL {version}", rmgr::describe_kind(*version, *rmid, *info))]
    Opcode {
        /// The version.
        version: PgVersion,
        /// The resource manager.
        rmid: u8,
        /// `xl_info`
        info: u8,
    },
    /// The main data of a record is not what its kind calls for.
    #[error("{record}: {what}")]
    Payload {
        /// Name of the record kind, as in `Transaction/COMMIT`.
        record: &'static str,
        /// What is wrong.
        what: &'static str,
    },
}
