//! The proof that replay is right: WAL that a stock server wrote with `wal_consistency_checking` holds, beside each change of
//! a block, the block after it. For every such block reference: take the page before (as we rebuilt it ourselves), replay,
//! mask what Postgres does not fix, compare with the image.
//!
//! Beyond what Postgres' masks leave, the oracle compares visibility map pages whole, `PD_ALL_VISIBLE` of heap pages, and
//! counts how often the LSN that we gave a page is the one that the next image of it shows.
//!
//! Memory is bounded: only the newest page of each block is kept, up to a number of pages, and pages of relations that are
//! dropped or cut are forgotten.

mod bases;
mod check;
mod compare;
pub mod fixture;
mod invalidate;
mod kinds;
mod report;
mod sample;
mod segments;
mod source;

pub use check::Oracle;
pub use compare::{Difference, compare};
pub use kinds::kinds;
pub use report::{Counts, Mismatch, Report};
pub use sample::Sampler;
pub use segments::{OracleError, Segments};

use neon_types::Lsn;

/// What to check and how much memory to use.
#[derive(Clone, Copy, Debug)]
pub struct Options {
    /// The cluster has data checksums or `wal_log_hints`.
    pub hints_logged: bool,
    /// Most pages to keep, 8 KiB each.
    pub max_pages: usize,
    /// Most mismatches to describe; all are counted.
    pub max_described: usize,
}

impl Default for Options {
    /// Returns hints logged, 2 GiB of pages, 100 descriptions.
    fn default() -> Options {
        Options {
            hints_logged: true,
            max_pages: 262_144,
            max_described: 100,
        }
    }
}

/// Checks every segment in order. `sampler` is offered every reference that was checked without a difference; `progress` is told
/// after each segment what was found, and the end of its last whole record.
///
/// # Errors
/// A segment is missing or cannot be read, a record cannot be taken apart, or the log breaks off before its last segment.
pub fn run(
    mut segments: Segments<'_>,
    options: Options,
    sampler: &mut Sampler,
    progress: &mut dyn FnMut(&Report, Lsn),
) -> Result<Report, OracleError> {
    let mut oracle = Oracle::new(segments.version(), options);
    loop {
        let report = oracle.report();
        let Some(record) = segments.next_record(&mut |end| progress(report, end))? else {
            return Ok(oracle.into_report());
        };
        oracle.observe(record, sampler)?;
    }
}
