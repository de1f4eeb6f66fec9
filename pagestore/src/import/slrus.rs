//! Are the SLRU files there that a start needs? Postgres reads the page of the next transaction, multixact and member as it starts.

use std::path::Path;

use neon_postgres::BLCKSZ;
use neon_postgres::control::ControlFile;
use neon_redo::change::{MEMBERS_PER_MEMBERS_PAGE, MULTIXACTS_PER_OFFSETS_PAGE, XACTS_PER_CLOG_PAGE};
use neon_types::SlruKind;

use super::ImportError;
use super::survey::Survey;
use crate::items::{PAGES_PER_SEGMENT, SlruSegments};

/// Members in one group, which has its flags in front.
const MEMBERS_IN_GROUP: u32 = 4;

/// Refuses a directory without them, by name, and one whose files are of no shape that Postgres makes.
pub(super) fn check(pgdata: &Path, control: &ControlFile, survey: &Survey) -> Result<(), ImportError> {
    for kind in SlruKind::ALL {
        let segments = segments(pgdata, survey, kind)?;
        if let Some((page, what)) = needed(control, kind)
            && !segments.contains(page)
        {
            let file = pgdata.join(path(kind, page / PAGES_PER_SEGMENT));
            return Err(ImportError::damaged(&file)(format!(
                "its page {} is not there, and the next {what} is on it",
                page % PAGES_PER_SEGMENT
            )));
        }
    }
    Ok(())
}

/// Returns which pages of an SLRU are there.
pub(super) fn segments(pgdata: &Path, survey: &Survey, kind: SlruKind) -> Result<SlruSegments, ImportError> {
    let mut segments = SlruSegments::default();
    for (number, length) in survey.slrus.get(&kind).into_iter().flatten() {
        let pages = length / BLCKSZ as u64;
        let bad = |reason: String| ImportError::damaged(&pgdata.join(path(kind, *number)))(reason);
        if length % BLCKSZ as u64 != 0 || pages > PAGES_PER_SEGMENT {
            return Err(bad(format!("it has {length} bytes")));
        }
        for page in 0..pages {
            segments.insert(number * PAGES_PER_SEGMENT + page);
        }
        if SlruSegments::decode(&segments.encode()).is_err() {
            return Err(bad(
                "no number of this cluster is on its pages, or the files before it have too many gaps"
                    .to_owned(),
            ));
        }
    }
    Ok(segments)
}

/// Returns the page that a start reads, unless the next number begins a page.
fn needed(control: &ControlFile, kind: SlruKind) -> Option<(u64, &'static str)> {
    let point = control.checkpoint();
    let xid = (point.next_xid & 0xffff_ffff) as u32;
    let (number, per_page, begins, what) = match kind {
        SlruKind::Clog => (xid, XACTS_PER_CLOG_PAGE, 1, "transaction"),
        SlruKind::MultixactOffsets => (point.next_multi, MULTIXACTS_PER_OFFSETS_PAGE, 1, "multixact"),
        SlruKind::MultixactMembers => (
            point.next_multi_offset,
            MEMBERS_PER_MEMBERS_PAGE,
            MEMBERS_IN_GROUP,
            "member of a multixact",
        ),
        // Made at the start when it is not there.
        SlruKind::CommitTs => return None,
    };
    (number % per_page >= begins).then(|| (u64::from(number / per_page), what))
}

/// Returns the path of a segment, relative to the data directory.
pub(super) fn path(kind: SlruKind, segment: u64) -> String {
    format!("{}/{segment:04X}", kind.directory())
}
