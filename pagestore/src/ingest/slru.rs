//! SLRUs: which of their pages exist, and what records write into them.

use std::collections::BTreeMap;

use neon_postgres::records::multixact::Member;
use neon_redo::change::{
    Change, MEMBERS_PER_MEMBERS_PAGE, MULTIXACTS_PER_OFFSETS_PAGE, MultixactMember, MultixactOffset,
    XACTS_PER_CLOG_PAGE, XACTS_PER_COMMIT_TS_PAGE, XactState,
};
use neon_types::{Key, SlruKind};

use super::{Effect, State};
use crate::items::{MAX_RUNS, PAGES_PER_SEGMENT, SlruSegments};
use crate::{PageStoreError, Result, Value};

/// Members after which numbers begin again: the last page is not full.
const MEMBER_NUMBERS: u64 = 1 << 32;

type Effects = Vec<(Key, Effect)>;

/// Which pages exist, of each SLRU that was looked up.
#[derive(Default)]
pub(super) struct Slrus {
    known: [Option<SlruSegments>; 4],
}

impl Slrus {
    fn segments(&mut self, kind: SlruKind, state: &dyn State) -> Result<&mut SlruSegments> {
        // One entry per kind.
        let entry = self
            .known
            .get_mut(kind as usize)
            .ok_or_else(|| PageStoreError::damaged("an SLRU", "it has no number"))?;
        if entry.is_none() {
            let key = Key::SlruSegments(kind);
            *entry = Some(match state.item(key)? {
                Some(bytes) => SlruSegments::decode(&bytes)
                    .map_err(|error| PageStoreError::damaged(format!("{key:?}"), error))?,
                None => SlruSegments::default(),
            });
        }
        Ok(entry.get_or_insert_default())
    }

    /// Makes sure that the pages exist. Returns true when all of them did.
    fn ensure(
        &mut self,
        kind: SlruKind,
        pages: impl IntoIterator<Item = u64>,
        state: &dyn State,
        out: &mut Effects,
    ) -> Result<bool> {
        let segments = self.segments(kind, state)?;
        let mut existed = true;
        for page in pages {
            existed &= !segments.insert(page);
        }
        if !existed {
            put_segments(kind, segments, out)?;
        }
        Ok(existed)
    }

    /// A record zeroes a page, which exists from then on.
    pub(super) fn zero(
        &mut self,
        kind: SlruKind,
        page: u64,
        state: &dyn State,
        out: &mut Effects,
    ) -> Result<()> {
        let segments = self.segments(kind, state)?;
        if kind == SlruKind::MultixactOffsets {
            // See `multixact`: the first offset of this page came before the record that zeroes it.
            let implicit = segments.implicit.take();
            if implicit.is_some() {
                put_segments(kind, segments, out)?;
            }
            if implicit == Some(page) {
                return Ok(());
            }
        }
        if segments.insert(page) {
            put_segments(kind, segments, out)?;
        }
        put_change(kind, page, &Change::Zero, out);
        Ok(())
    }

    /// Transactions end.
    pub(super) fn set_status(
        &mut self,
        xids: impl Iterator<Item = u32>,
        xact_state: XactState,
        state: &dyn State,
        out: &mut Effects,
    ) -> Result<()> {
        let pages = by_page(xids, XACTS_PER_CLOG_PAGE);
        self.ensure(SlruKind::Clog, pages.keys().copied(), state, out)?;
        for (page, slots) in pages {
            let change = Change::XactStatus {
                state: xact_state,
                slots,
            };
            put_change(SlruKind::Clog, page, &change, out);
        }
        Ok(())
    }

    /// Transactions commit, and commit timestamps are kept.
    pub(super) fn set_commit_ts(
        &mut self,
        xids: impl Iterator<Item = u32>,
        time: i64,
        origin: u16,
        state: &dyn State,
        out: &mut Effects,
    ) -> Result<()> {
        let pages = by_page(xids, XACTS_PER_COMMIT_TS_PAGE);
        self.ensure(SlruKind::CommitTs, pages.keys().copied(), state, out)?;
        for (page, slots) in pages {
            put_change(
                SlruKind::CommitTs,
                page,
                &Change::CommitTs { time, origin, slots },
                out,
            );
        }
        Ok(())
    }

    /// Commit timestamps are switched on: the page of the next transaction exists.
    pub(super) fn activate_commit_ts(
        &mut self,
        next_xid: u32,
        state: &dyn State,
        out: &mut Effects,
    ) -> Result<()> {
        let page = u64::from(next_xid / XACTS_PER_COMMIT_TS_PAGE);
        if !self.ensure(SlruKind::CommitTs, [page], state, out)? {
            put_change(SlruKind::CommitTs, page, &Change::Zero, out);
        }
        Ok(())
    }

    /// A multixact is created.
    ///
    /// It stores where its members begin and, since 15.16, 17.8 and 18.2, where those of the next one will. That may be
    /// the first entry of a page which older minor versions zero only afterwards: then the page begins to exist here, and
    /// the record that zeroes it is passed over.
    pub(super) fn multixact(
        &mut self,
        id: u32,
        first: u32,
        members: &[Member],
        state: &dyn State,
        out: &mut Effects,
    ) -> Result<()> {
        let kind = SlruKind::MultixactOffsets;
        let count = u32::try_from(members.len()).unwrap_or(u32::MAX);
        // Multixact ids begin at 1; member 0 is left out, so that an offset of 0 means "none".
        let next = id.checked_add(1).unwrap_or(1);
        let next_first = match first.wrapping_add(count) {
            0 => 1,
            offset => offset,
        };
        let place = |id: u32| {
            (
                u64::from(id / MULTIXACTS_PER_OFFSETS_PAGE),
                id % MULTIXACTS_PER_OFFSETS_PAGE,
            )
        };
        let ((page, slot), (next_page, next_slot)) = (place(id), place(next));
        let entry = |slot: u32, offset| MultixactOffset {
            slot: slot as u16,
            offset,
        };
        let mut entries = vec![entry(slot, first)];
        self.ensure(kind, [page], state, out)?;
        if next_page == page {
            entries.push(entry(next_slot, next_first));
        } else {
            let segments = self.segments(kind, state)?;
            let fresh = segments.insert(next_page);
            if fresh {
                segments.implicit = Some(next_page);
                put_segments(kind, segments, out)?;
            }
            let change = Change::MultixactOffsets {
                fresh,
                entries: vec![entry(next_slot, next_first)],
            };
            put_change(kind, next_page, &change, out);
        }
        put_change(
            kind,
            page,
            &Change::MultixactOffsets {
                fresh: false,
                entries,
            },
            out,
        );
        self.members(first, members, state, out)
    }

    fn members(
        &mut self,
        first: u32,
        members: &[Member],
        state: &dyn State,
        out: &mut Effects,
    ) -> Result<()> {
        let kind = SlruKind::MultixactMembers;
        let mut pages: Vec<(u64, Vec<MultixactMember>)> = Vec::new();
        for (index, member) in (0_u32..).zip(members) {
            let number = first.wrapping_add(index);
            let page = u64::from(number / MEMBERS_PER_MEMBERS_PAGE);
            let member = MultixactMember {
                slot: (number % MEMBERS_PER_MEMBERS_PAGE) as u16,
                xid: member.xid,
                status: member.status as u8,
            };
            match pages.last_mut() {
                Some(last) if last.0 == page => last.1.push(member),
                _ => pages.push((page, vec![member])),
            }
        }
        self.ensure(kind, pages.iter().map(|(page, _)| *page), state, out)?;
        for (page, members) in pages {
            put_change(kind, page, &Change::MultixactMembers(members), out);
        }
        Ok(())
    }

    /// A record removes every file that lies wholly before `cutoff`, as numbers of this SLRU go around.
    pub(super) fn truncate(
        &mut self,
        kind: SlruKind,
        cutoff: u64,
        state: &dyn State,
        out: &mut Effects,
    ) -> Result<()> {
        let precedes = |page: u64| page_precedes(kind, page, cutoff);
        self.remove(
            kind,
            |segment| {
                let first = segment * PAGES_PER_SEGMENT;
                precedes(first) && precedes(first + PAGES_PER_SEGMENT - 1)
            },
            state,
            out,
        )
    }

    /// A record removes the files of multixact members from that of member `start` up to, not including, that of `end`.
    pub(super) fn truncate_members(
        &mut self,
        start: u32,
        end: u32,
        state: &dyn State,
        out: &mut Effects,
    ) -> Result<()> {
        let segment = |member: u64| member / u64::from(MEMBERS_PER_MEMBERS_PAGE) / PAGES_PER_SEGMENT;
        let (start, end) = (segment(start.into()), segment(end.into()));
        let count = segment(MEMBER_NUMBERS - 1) + 1;
        let distance = (end + count - start) % count;
        self.remove(
            SlruKind::MultixactMembers,
            |segment| (segment + count - start) % count < distance,
            state,
            out,
        )
    }

    /// Removes every file.
    pub(super) fn clear(&mut self, kind: SlruKind, state: &dyn State, out: &mut Effects) -> Result<()> {
        self.remove(kind, |_| true, state, out)
    }

    fn remove(
        &mut self,
        kind: SlruKind,
        doomed: impl Fn(u64) -> bool,
        state: &dyn State,
        out: &mut Effects,
    ) -> Result<()> {
        let segments = self.segments(kind, state)?;
        let removed = segments.remove(|page| doomed(page / PAGES_PER_SEGMENT));
        if removed.is_empty() {
            return Ok(());
        }
        put_segments(kind, segments, out)?;
        for page in removed {
            out.push((Key::SlruPage { kind, page }, Effect::Put(Value::Absent)));
        }
        Ok(())
    }
}

fn put_segments(kind: SlruKind, segments: &SlruSegments, out: &mut Effects) -> Result<()> {
    if segments.runs().len() > MAX_RUNS {
        return Err(PageStoreError::damaged(
            format!("the WAL's use of {}", kind.directory()),
            format!("its pages lie in more than {MAX_RUNS} places"),
        ));
    }
    let key = Key::SlruSegments(kind);
    // One version of a key for each record: the last counts.
    out.retain(|(known, _)| *known != key);
    out.push((key, Effect::Put(Value::Item(segments.encode()))));
    Ok(())
}

fn put_change(kind: SlruKind, page: u64, change: &Change, out: &mut Effects) {
    let key = Key::SlruPage { kind, page };
    out.push((key, Effect::Put(Value::Change(change.encode()))));
}

/// Sorts transactions into pages of `per_page`; a page's are in the order in which they come.
fn by_page(xids: impl Iterator<Item = u32>, per_page: u32) -> BTreeMap<u64, Vec<u16>> {
    let mut pages: BTreeMap<u64, Vec<u16>> = BTreeMap::new();
    for xid in xids {
        let slot = (xid % per_page) as u16;
        pages.entry(u64::from(xid / per_page)).or_default().push(slot);
    }
    for slots in pages.values_mut() {
        if slots.len() > per_page as usize {
            slots.sort_unstable();
            slots.dedup();
        }
    }
    pages
}

/// `PagePrecedes` of each SLRU: page numbers go around with the ids that they hold.
fn page_precedes(kind: SlruKind, page: u64, cutoff: u64) -> bool {
    // The offset that Postgres adds to the first id of a page, so that no special id is compared.
    let (per_page, offset) = match kind {
        SlruKind::Clog => (XACTS_PER_CLOG_PAGE, 4),
        SlruKind::CommitTs => (XACTS_PER_COMMIT_TS_PAGE, 4),
        SlruKind::MultixactOffsets => (MULTIXACTS_PER_OFFSETS_PAGE, 2),
        SlruKind::MultixactMembers => (MEMBERS_PER_MEMBERS_PAGE, 0),
    };
    let first_id = |page: u64| (page as u32).wrapping_mul(per_page).wrapping_add(offset);
    let precedes = |a: u32, b: u32| (a.wrapping_sub(b) as i32) < 0;
    let (id, cutoff) = (first_id(page), first_id(cutoff));
    precedes(id, cutoff) && precedes(id, cutoff.wrapping_add(per_page - 1))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn pages_precede_as_ids_go_around() {
        let clog = |page, cutoff| page_precedes(SlruKind::Clog, page, cutoff);
        assert!(clog(0, 1) && clog(31, 32));
        assert!(!clog(1, 1) && !clog(2, 1));
        // 131072 pages hold all ids: half of them lie before any page.
        assert!(clog(131_071, 5), "the page before the wraparound");
        assert!(!clog(60_000, 5), "less than half way ahead");
        assert!(clog(70_000, 5), "less than half way behind");
        let offsets = |page, cutoff| page_precedes(SlruKind::MultixactOffsets, page, cutoff);
        assert!(offsets(3, 4) && !offsets(4, 4));
    }

    #[test]
    fn transactions_are_sorted_into_pages() {
        assert_eq!(
            by_page([32767, 32768, 5, 32769].into_iter(), 32768),
            BTreeMap::from([(0, vec![32767, 5]), (1, vec![0, 1])])
        );
        let many = (0..100_000).map(|n| n % 3);
        assert_eq!(by_page(many, 32768), BTreeMap::from([(0, vec![0, 1, 2])]));
    }
}
