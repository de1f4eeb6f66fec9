//! Writing the SLRU files.

use std::collections::BTreeMap;
use std::path::Path;

use neon_pagestore::items::PAGES_PER_SEGMENT;
use neon_postgres::BLCKSZ;

use super::contents::Contents;
use super::segment_file::SegmentFile;
use crate::error::{ComputeError, Result};
use crate::source::PageSource;

/// Writes the files of every SLRU below `root`. Names are of 4 hex digits or more in all versions, for these four SLRUs.
pub(super) fn write(source: &dyn PageSource, root: &Path, contents: &Contents) -> Result<()> {
    for (kind, segments) in &contents.slrus {
        let lengths: BTreeMap<u64, u64> = segments.files().into_iter().collect();
        let mut open: Option<(u64, SegmentFile)> = None;
        let mut left = lengths.clone();
        let directory = root.join(kind.directory());
        let create = |number: u64| SegmentFile::create(&directory.join(format!("{number:04X}")), None);
        let finish = |open: Option<(u64, SegmentFile)>| match open {
            Some((number, file)) => file.finish(lengths.get(&number).copied().unwrap_or(0)),
            None => Ok(()),
        };
        source.slru_pages(*kind, &mut |page, bytes| {
            let number = page / PAGES_PER_SEGMENT;
            if !segments.contains(page) || bytes.len() != BLCKSZ {
                return Err(ComputeError::Damaged(format!(
                    "page {page} of {} should not exist",
                    kind.directory()
                )));
            }
            if open.as_ref().is_none_or(|(current, _)| *current != number) {
                finish(open.take())?;
                left.remove(&number);
                open = Some((number, create(number)?));
            }
            match &mut open {
                Some((_, file)) if bytes.iter().any(|byte| *byte != 0) => {
                    file.page(page % PAGES_PER_SEGMENT, bytes, None)
                }
                _ => Ok(()),
            }
        })?;
        finish(open)?;
        for (number, pages) in left {
            create(number)?.finish(pages)?;
        }
    }
    Ok(())
}
