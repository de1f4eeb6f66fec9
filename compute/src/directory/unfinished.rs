//! Relations and databases of transactions that were in flight at the position: nobody will ever see them, so their files are
//! not made.

use std::collections::{BTreeMap, BTreeSet};

use neon_postgres::records::xact::Prepare;
use neon_postgres::slru::{XactStatus, clog_place};
use neon_types::{Fork, RelTag, SlruKind};

use super::contents::Contents;
use crate::error::Result;
use crate::source::PageSource;

/// Takes out of `contents` every relation whose creator (a full transaction id) has neither committed nor been prepared, and every
/// database that has no other relations.
pub(super) fn remove(
    source: &dyn PageSource,
    contents: &mut Contents,
    creators: &BTreeMap<RelTag, u64>,
) -> Result<()> {
    let point = source.checkpoint_state()?.checkpoint;
    // Transactions before the oldest one have ended long ago; their status may be gone.
    let age = (point.next_xid as u32).wrapping_sub(point.oldest_xid);
    let oldest = point.next_xid.saturating_sub(u64::from(age));
    let recent: BTreeMap<&RelTag, u32> = creators
        .iter()
        .filter(|(_, creator)| **creator >= oldest)
        .map(|(rel, creator)| (rel, *creator as u32))
        .collect();
    let finished = finished(source, contents, recent.values().copied())?;
    let unfinished: Vec<&RelTag> = recent
        .iter()
        .filter(|(_, xid)| !finished.contains(xid))
        .map(|(rel, _)| *rel)
        .collect();
    for rel in &unfinished {
        for fork in [Fork::Main, Fork::FreeSpaceMap, Fork::VisibilityMap, Fork::Init] {
            contents.relations.remove(&rel.with_fork(fork));
        }
    }
    let emptied: BTreeSet<(u32, u32)> = unfinished.iter().map(|rel| (rel.spc, rel.db)).collect();
    for (spc, db) in emptied {
        let of = |rel, fork| RelTag { spc, db, rel, fork };
        let mut left = contents
            .relations
            .range(of(0, Fork::Main)..=of(u32::MAX, Fork::Init));
        if left.next().is_none() {
            contents.databases.remove(&(spc, db));
            contents.rel_maps.remove(&(spc, db));
        }
    }
    Ok(())
}

/// Returns which of these transactions have committed or are prepared.
fn finished(
    source: &dyn PageSource,
    contents: &Contents,
    xids: impl Iterator<Item = u32>,
) -> Result<BTreeSet<u32>> {
    let mut by_page: BTreeMap<u64, BTreeSet<u32>> = BTreeMap::new();
    for xid in xids {
        let page = clog_place(xid).0.page;
        by_page.entry(u64::from(page)).or_default().insert(xid);
    }
    let mut finished = BTreeSet::new();
    if by_page.is_empty() {
        return Ok(finished);
    }
    source.slru_pages(SlruKind::Clog, &mut |page, bytes| {
        for xid in by_page.get(&page).into_iter().flatten() {
            if XactStatus::of(*xid, bytes) == Some(XactStatus::Committed) {
                finished.insert(*xid);
            }
        }
        Ok(())
    })?;
    let version = source.subject().version;
    for file in contents.two_phase.values() {
        // A file that cannot be read is told when it is written.
        if let Ok(prepare) = Prepare::decode(version, file) {
            finished.insert(prepare.xid);
            finished.extend(prepare.subxacts);
        }
    }
    Ok(finished)
}
