//! `fsck --deep`: what layers hold is derived again from the WAL that is kept.

use crate::api::{Checked, Finding, Progress, ProgressSink, Rederived, SkippedHistory};
use crate::error::{RepoError, Result};
use crate::repository::Repository;

impl Repository {
    /// Derives again what can be, and adds what differs to the findings.
    pub(super) fn rederive(&self, checked: &mut Checked, progress: &mut dyn ProgressSink) -> Result<()> {
        let deep = neon_pagestore::fsck_deep(&self.pages, &mut |done, total| {
            progress.report(&Progress {
                label: "deriving layers from WAL".into(),
                done,
                total,
                unit: "bytes".into(),
            });
            !progress.cancelled()
        });
        if deep.ended {
            return Err(RepoError::Interrupted);
        }
        checked
            .findings
            .extend(deep.findings.into_iter().map(Finding::from));
        let skipped = deep.skipped.into_iter().map(|skipped| SkippedHistory {
            timeline: skipped.timeline,
            from: skipped.range.start,
            to: skipped.range.end,
            reason: skipped.reason,
        });
        checked.rederived = Some(Rederived {
            wal_bytes: deep.wal_bytes,
            versions: deep.versions,
            images: deep.images,
            skipped: skipped.collect(),
        });
        Ok(())
    }
}
