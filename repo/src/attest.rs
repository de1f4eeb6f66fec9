//! What we sign of our timelines, and what is handed on of others'.

use neon_objects::{Attestation, WalDigest, WriterKey};
use neon_pagestore::Timeline;
use neon_types::{Lsn, LsnRange};

use crate::error::Result;
use crate::repository::Repository;

/// Signs the WAL of a timeline that leads from `from` to `to`: its whole parts, and the open one up to `to`, or when the WAL of that is gone the
/// whole part that `to` lies in; where no WAL leads, nothing that ends at `to`. At most `most`, the newest.
pub(crate) fn attest(
    timeline: &Timeline,
    key: &WriterKey,
    from: Lsn,
    to: Lsn,
    most: usize,
) -> Result<Vec<Attestation>> {
    let mut digests = timeline.digests(from, to)?;
    if digests.last().is_none_or(|digest| digest.end < to) {
        let around = timeline
            .ladder()
            .into_iter()
            .find(|rung| rung.start < to && to <= rung.end);
        digests.extend(around);
    }
    let state = timeline.state();
    if digests.last().is_none_or(|digest| digest.end < to) && state.wal_base == to {
        // It was taken in from a data directory: no WAL leads there.
        digests.push(WalDigest {
            segment: to.segment(u64::from(state.segment_size)),
            start: to,
            end: to,
            blake3: *blake3::hash(&[]).as_bytes(),
        });
    }
    let newest = digests.len().saturating_sub(most);
    let signed = digests.into_iter().skip(newest).map(|digest| {
        let range = LsnRange {
            start: digest.start,
            end: digest.end,
        };
        key.attest(timeline.id(), range, digest.blake3)
    });
    Ok(signed.collect())
}

impl Repository {
    /// Returns what proves to a peer who has a timeline up to `from` that its writer reached `to`.
    pub(crate) fn attestations(
        &self,
        timeline: &Timeline,
        from: Lsn,
        to: Lsn,
        most: usize,
    ) -> Result<Vec<Attestation>> {
        if timeline.state().writer == self.writer() {
            let signed = attest(timeline, &self.key, from, to, most)?;
            if signed.last().is_some_and(|last| last.range.end >= to) {
                return Ok(signed);
            }
            // It was lost here, and came back as layers.
        }
        Ok(timeline.attestations(from, to, most)?)
    }
}
