//! Every change of a block, one after the other: it must lead from the page before it to a page that Postgres takes.

use neon_postgres::Page;
use neon_types::{Key, Lsn, RelTag};

use super::sizes::Sizes;
use crate::items::RelSize;
use crate::timeline::Changed;
use crate::{PageStoreError, Result, Timeline};

/// The flags that a page may have (`PD_VALID_FLAG_BITS`).
const PAGE_FLAGS: u16 = 7;

/// Replays blocks, which come in order.
pub(super) struct Replay<'t> {
    timeline: &'t Timeline,
    from: Lsn,
    sizes: &'t Sizes<'t>,
    current: Option<Current>,
    /// Relation of the last block, with how large it was before.
    relation: Option<(RelTag, Option<RelSize>)>,
    rebuilt: u64,
}

/// The block whose changes are being replayed.
struct Current {
    rel: RelTag,
    block: u32,
    /// Where it is now: its last change.
    at: Lsn,
    /// As it is there; none as long as only what arrived was needed.
    page: Option<Page>,
    /// Redo knew all of its records.
    known: bool,
}

impl<'t> Replay<'t> {
    pub(super) fn new(timeline: &'t Timeline, from: Lsn, sizes: &'t Sizes<'t>) -> Replay<'t> {
        Replay {
            timeline,
            from,
            sizes,
            current: None,
            relation: None,
            rebuilt: 0,
        }
    }

    /// Replays the next change; true when it is the first of its block.
    pub(super) fn apply(&mut self, rel: RelTag, block: u32, changed: &Changed<'_>) -> Result<bool> {
        let same = |current: &Current| (current.rel, current.block) == (rel, block);
        let mut current = match self.current.take() {
            Some(current) if same(&current) => current,
            other => {
                self.rebuilt += u64::from(other.is_some_and(|other| other.known));
                Current {
                    rel,
                    block,
                    at: self.from,
                    page: None,
                    known: true,
                }
            }
        };
        let first = current.at == self.from;
        let lost = self.sizes.lost(rel, block, current.at, changed.lsn);
        if lost.is_some() {
            current.page = Some(Page::zeroed());
        }
        current.at = changed.lsn;
        // What is at or below a floor is never read.
        if lost != Some(changed.lsn) {
            self.step(&mut current, changed)?;
        }
        self.current = Some(current);
        Ok(first)
    }

    /// Returns how many blocks were replayed from their first change to the last.
    pub(super) fn finish(mut self) -> u64 {
        self.rebuilt + u64::from(self.current.take().is_some_and(|current| current.known))
    }

    fn step(&mut self, current: &mut Current, changed: &Changed<'_>) -> Result<()> {
        let found = changed.value()?;
        let Current { rel, block, .. } = *current;
        let mut page = match current.page.take() {
            _ if found.whole => Page::zeroed(),
            // Nothing is known of it since a record that redo does not know.
            _ if !current.known => return Ok(()),
            Some(page) => page,
            None => self.before(rel, block, changed.lsn)?,
        };
        match self
            .timeline
            .apply(Key::Block(rel, block), changed.lsn, found.value, &mut page)
        {
            Ok(()) => {}
            Err(PageStoreError::Unsupported { .. }) => {
                current.known = false;
                return Ok(());
            }
            Err(error) => return Err(error),
        }
        if !is_plausible(&page) {
            return Err(PageStoreError::damaged(
                format!("block {block} of relation {rel} at {}", changed.lsn),
                "Postgres would not take it for a page",
            ));
        }
        current.page = Some(page);
        Ok(())
    }

    /// Returns a block as it was before its first change, which ends at `lsn`.
    fn before(&mut self, rel: RelTag, block: u32, lsn: Lsn) -> Result<Page> {
        if self.sizes.is_copied(rel) {
            let size = self.timeline.rel_size_item(rel, lsn)?;
            let page = size.map(|size| self.timeline.copied_page(block, &size, 0));
            return Ok(page.transpose()?.flatten().unwrap_or_else(Page::zeroed));
        }
        if self.relation.as_ref().is_none_or(|(known, _)| *known != rel) {
            self.relation = Some((rel, self.sizes.before(rel)?));
        }
        match &self.relation {
            Some((_, Some(size))) if block < size.size => self.timeline.page(rel, block, self.from, size, 0),
            _ => Ok(Page::zeroed()),
        }
    }
}

/// Returns true for a page whose header Postgres accepts when it reads it (`PageIsVerified`).
fn is_plausible(page: &Page) -> bool {
    let header = || page.is_sane() && page.flags() & !PAGE_FLAGS == 0 && page.special().is_multiple_of(8);
    page.is_all_zero() || header()
}
