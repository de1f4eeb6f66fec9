//! Writing the files of all relations, on several threads.

use std::fs::File;
use std::path::Path;
use std::sync::Mutex;
use std::sync::atomic::{AtomicBool, AtomicU64, AtomicUsize, Ordering};
use std::sync::mpsc::{self, Sender};

use neon_postgres::{BLCKSZ, PgVersion, RELSEG_BLOCKS, layout};
use neon_types::RelTag;

use super::Progress;
use super::contents::Contents;
use super::segment_file::SegmentFile;
use crate::error::{ComputeError, Result};
use crate::source::PageSource;

/// Most threads that read pages at once.
const MOST_THREADS: usize = 8;

/// One file to write: blocks of `from` become a segment of `to`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Segment {
    to: RelTag,
    from: RelTag,
    number: u32,
    first: u32,
    blocks: u32,
}

/// Cuts forks into segment files, big ones first so that threads end together. An empty fork is an empty file.
fn plan(forks: &[(RelTag, RelTag, u32)]) -> Vec<Segment> {
    let mut segments = Vec::with_capacity(forks.len());
    for (to, from, blocks) in forks {
        let mut first = 0;
        for number in 0.. {
            let here = blocks.saturating_sub(first).min(RELSEG_BLOCKS);
            segments.push(Segment {
                to: *to,
                from: *from,
                number,
                first,
                blocks: here,
            });
            first += here;
            if first == *blocks {
                break;
            }
        }
    }
    segments.sort_by_key(|segment| std::cmp::Reverse(segment.blocks));
    segments
}

/// Writes all relation files below `root` and returns their size in bytes.
pub(super) fn write(
    source: &dyn PageSource,
    root: &Path,
    contents: &Contents,
    checksums: bool,
    progress: Progress<'_>,
) -> Result<u64> {
    let version = source.subject().version;
    let segments = plan(&contents.forks());
    let total: u64 = segments
        .iter()
        .map(|segment| u64::from(segment.blocks) * BLCKSZ as u64)
        .sum();
    let (next, done, stop) = (AtomicUsize::new(0), AtomicU64::new(0), AtomicBool::new(false));
    let first_error: Mutex<Option<ComputeError>> = Mutex::new(None);
    let fail = |error: ComputeError| {
        stop.store(true, Ordering::Relaxed);
        let mut first = first_error
            .lock()
            .unwrap_or_else(std::sync::PoisonError::into_inner);
        first.get_or_insert(error);
    };
    let (early, written) = mpsc::channel::<File>();
    let work = |early: Sender<File>| {
        while !stop.load(Ordering::Relaxed)
            && let Some(segment) = segments.get(next.fetch_add(1, Ordering::Relaxed))
        {
            let count = |blocks: u32| {
                let bytes = u64::from(blocks) * BLCKSZ as u64;
                super::go_on(progress, done.fetch_add(bytes, Ordering::Relaxed) + bytes, total)
            };
            if let Err(error) = write_segment(source, root, version, segment, checksums, &early, &count) {
                fail(error);
            }
        }
    };
    // Keeps the disk busy meanwhile; the directory is synced as a whole later.
    let sync = || {
        for file in written {
            if let Err(error) = file.sync_data() {
                fail(ComputeError::io("sync a file in", root)(error));
            }
        }
    };
    let threads = std::thread::available_parallelism()
        .map_or(1, usize::from)
        .min(MOST_THREADS);
    std::thread::scope(|scope| {
        for _ in 1..threads {
            let early = early.clone();
            scope.spawn(|| work(early));
        }
        scope.spawn(sync);
        work(early);
    });
    match first_error
        .into_inner()
        .unwrap_or_else(std::sync::PoisonError::into_inner)
    {
        Some(error) => Err(error),
        None => Ok(total),
    }
}

fn write_segment(
    source: &dyn PageSource,
    root: &Path,
    version: PgVersion,
    segment: &Segment,
    checksums: bool,
    early: &Sender<File>,
    count: &dyn Fn(u32) -> Result<()>,
) -> Result<()> {
    /// Blocks between two reports of progress.
    const REPORT: u32 = 1024;
    let path = root.join(layout::relation_path(version, segment.to, segment.number));
    let mut file = SegmentFile::create(&path, Some(early.clone()))?;
    let blocks = segment.first..segment.first + segment.blocks;
    let mut reported = segment.first;
    if segment.blocks > 0 {
        source.scan_pages(segment.from, blocks.clone(), &mut |block, page| {
            if !blocks.contains(&block) {
                return Err(ComputeError::Damaged(format!(
                    "block {block} of {} was not asked for",
                    segment.from
                )));
            }
            if block - reported >= REPORT {
                count(block - reported)?;
                reported = block;
            }
            if page.is_all_zero() {
                return Ok(());
            }
            // As PageSetChecksumCopy does: a page that was never initialized has none. Otherwise it is stored as 0 (canonical).
            let checksum = if checksums && !page.is_new() {
                page.checksum(block)
            } else {
                0
            };
            file.page(u64::from(block - segment.first), page.as_bytes(), Some(checksum))
        })?;
    }
    count(blocks.end - reported)?;
    file.finish(u64::from(segment.blocks))
}

#[cfg(test)]
mod tests {
    use super::*;
    use neon_types::Fork;

    #[test]
    fn forks_are_cut_into_files_of_a_gibibyte() {
        let rel = |rel| RelTag {
            spc: 1663,
            db: 5,
            rel,
            fork: Fork::Main,
        };
        let sizes = |blocks| -> Vec<(u32, u32, u32)> {
            let mut all: Vec<(u32, u32, u32)> = plan(&[(rel(1), rel(1), blocks)])
                .iter()
                .map(|s| (s.number, s.first, s.blocks))
                .collect();
            all.sort_unstable();
            all
        };
        assert_eq!(sizes(0), [(0, 0, 0)]);
        assert_eq!(sizes(7), [(0, 0, 7)]);
        assert_eq!(sizes(RELSEG_BLOCKS), [(0, 0, RELSEG_BLOCKS)]);
        assert_eq!(
            sizes(RELSEG_BLOCKS + 1),
            [(0, 0, RELSEG_BLOCKS), (1, RELSEG_BLOCKS, 1)]
        );
        assert_eq!(sizes(u32::MAX).len(), 32768);
    }
}
