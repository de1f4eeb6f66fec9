//! What a [`Change`] does to a page.

use neon_postgres::Page;
use neon_types::Lsn;

use super::{Change, MultixactMember, MultixactOffset, VM_ALL_FROZEN, VM_ALL_VISIBLE, VmBits, XactState};

/// Bytes of the page header in front of the map of a visibility map page (`MAXALIGN(SizeOfPageHeaderData)`).
const VM_HEADER: usize = 24;
/// Heap blocks whose bits share a byte.
const BLOCKS_PER_BYTE: usize = 4;
/// `SizeOfCommitTimestampEntry`: the time and the origin, packed.
const COMMIT_TS_ENTRY: usize = 10;
/// `MULTIXACT_MEMBERGROUP_SIZE`: four status bytes, then four transaction ids.
const MEMBER_GROUP: usize = 20;
/// `MULTIXACT_MEMBERS_PER_MEMBERGROUP`
const MEMBERS_PER_GROUP: usize = 4;

impl Change {
    /// Turns the page before the record that ends at `end` into the page after it. A page that did not exist is zero.
    ///
    /// Slots beyond their page, which [`Change::decode`] never returns, change nothing.
    pub fn apply(&self, end: Lsn, page: &mut Page) {
        // No change of today carries an LSN: SLRU pages have none, and Postgres clears map bits without moving it.
        let _ = end;
        match self {
            Change::Zero => page.as_bytes_mut().fill(0),
            Change::ClearVm(blocks) => clear_vm(page, blocks),
            Change::TruncateVmTail { keep } => truncate_vm_tail(page, usize::from(*keep)),
            Change::XactStatus { state, slots } => set_xact_status(page, *state, slots),
            Change::CommitTs { time, origin, slots } => set_commit_ts(page, *time, *origin, slots),
            Change::MultixactOffsets { fresh, entries } => set_offsets(page, *fresh, entries),
            Change::MultixactMembers(members) => set_members(page, members),
        }
    }
}

fn store(page: &mut Page, at: usize, value: &[u8]) {
    if let Some(to) = page.as_bytes_mut().get_mut(at..at + value.len()) {
        to.copy_from_slice(value);
    }
}

fn change_byte(page: &mut Page, at: usize, change: impl FnOnce(u8) -> u8) {
    if let Some(byte) = page.as_bytes_mut().get_mut(at) {
        *byte = change(*byte);
    }
}

fn clear_vm(page: &mut Page, blocks: &[VmBits]) {
    for block in blocks {
        let slot = usize::from(block.slot);
        let shift = 2 * (slot % BLOCKS_PER_BYTE);
        let mask = (block.bits & (VM_ALL_VISIBLE | VM_ALL_FROZEN)) << shift;
        change_byte(page, VM_HEADER + slot / BLOCKS_PER_BYTE, |byte| byte & !mask);
    }
}

fn truncate_vm_tail(page: &mut Page, keep: usize) {
    let at = VM_HEADER + keep / BLOCKS_PER_BYTE;
    let kept_bits = (1_u8 << (2 * (keep % BLOCKS_PER_BYTE))) - 1;
    change_byte(page, at, |byte| byte & kept_bits);
    if let Some(tail) = page.as_bytes_mut().get_mut(at + 1..) {
        tail.fill(0);
    }
}

fn set_xact_status(page: &mut Page, state: XactState, slots: &[u16]) {
    for slot in slots {
        let slot = usize::from(*slot);
        let shift = 2 * (slot % 4);
        change_byte(page, slot / 4, |byte| {
            // As Postgres: what is committed is not made to depend on its parent again.
            let committed = (byte >> shift) & 3 == XactState::Committed as u8;
            if state == XactState::SubCommitted && committed {
                byte
            } else {
                byte & !(3 << shift) | (state as u8) << shift
            }
        });
    }
}

fn set_commit_ts(page: &mut Page, time: i64, origin: u16, slots: &[u16]) {
    let mut entry = [0; COMMIT_TS_ENTRY];
    if let Some((head, tail)) = entry.split_first_chunk_mut::<8>() {
        *head = time.to_le_bytes();
        tail.copy_from_slice(&origin.to_le_bytes());
    }
    for slot in slots {
        store(page, usize::from(*slot) * COMMIT_TS_ENTRY, &entry);
    }
}

fn set_offsets(page: &mut Page, fresh: bool, entries: &[MultixactOffset]) {
    if fresh {
        page.as_bytes_mut().fill(0);
    }
    for entry in entries {
        store(page, usize::from(entry.slot) * 4, &entry.offset.to_le_bytes());
    }
}

fn set_members(page: &mut Page, members: &[MultixactMember]) {
    for member in members {
        let slot = usize::from(member.slot);
        let group = slot / MEMBERS_PER_GROUP * MEMBER_GROUP;
        let place = slot % MEMBERS_PER_GROUP;
        change_byte(page, group + place, |_| member.status);
        store(
            page,
            group + MEMBERS_PER_GROUP + 4 * place,
            &member.xid.to_le_bytes(),
        );
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn filled(byte: u8) -> Page {
        let mut page = Page::zeroed();
        page.as_bytes_mut().fill(byte);
        page
    }

    fn applied(mut page: Page, change: Change) -> Page {
        change.apply(Lsn(0x1234_5678), &mut page);
        page
    }

    /// Returns the offsets and values of the bytes that differ from `byte`.
    fn differing(page: &Page, byte: u8) -> Vec<(usize, u8)> {
        page.as_bytes()
            .iter()
            .copied()
            .enumerate()
            .filter(|(_, b)| *b != byte)
            .collect()
    }

    #[test]
    fn zero_leaves_nothing() {
        let page = applied(filled(0xff), Change::Zero);
        assert!(differing(&page, 0).is_empty());
    }

    #[test]
    fn map_bits_are_cleared_and_the_lsn_stays() {
        let change = Change::ClearVm(vec![VmBits { slot: 5, bits: 3 }, VmBits { slot: 32671, bits: 2 }]);
        let page = applied(filled(0xff), change);
        assert_eq!(differing(&page, 0xff), [(25, 0b1111_0011), (8191, 0b0111_1111)]);
    }

    #[test]
    fn the_tail_of_a_map_is_cleared_from_the_kept_block_on() {
        let page = applied(filled(0xff), Change::TruncateVmTail { keep: 6 });
        let differing = differing(&page, 0xff);
        assert_eq!(differing[0], (25, 0b0000_1111));
        assert_eq!(differing.len(), 8192 - 25);
        assert!(differing[1..].iter().all(|(_, byte)| *byte == 0));
        let page = applied(filled(0xff), Change::TruncateVmTail { keep: 32671 });
        assert_eq!(page.as_bytes()[8191], 0b0011_1111);
    }

    #[test]
    fn statuses_take_two_bits_each() {
        let change = |state, slots: &[u16]| Change::XactStatus {
            state,
            slots: slots.to_vec(),
        };
        let page = applied(Page::zeroed(), change(XactState::Committed, &[3, 4, 32767]));
        assert_eq!(differing(&page, 0), [(0, 0x40), (1, 0x01), (8191, 0x40)]);
        let page = applied(page, change(XactState::Aborted, &[0]));
        assert_eq!(page.as_bytes()[0], 0x42);
        let page = applied(page, change(XactState::SubCommitted, &[3, 1]));
        assert_eq!(
            page.as_bytes()[0],
            0x4e,
            "a committed transaction stays committed"
        );
        let page = applied(page, change(XactState::Committed, &[1]));
        assert_eq!(page.as_bytes()[0], 0x46);
    }

    #[test]
    fn commit_timestamps_are_packed_in_ten_bytes() {
        let change = Change::CommitTs {
            time: 0x0102_0304_0506_0708,
            origin: 0x0a0b,
            slots: vec![1, 818],
        };
        let page = applied(Page::zeroed(), change);
        let entry = [8, 7, 6, 5, 4, 3, 2, 1, 0x0b, 0x0a];
        assert_eq!(page.as_bytes()[10..20], entry);
        assert_eq!(page.as_bytes()[8180..8190], entry);
        assert_eq!(differing(&page, 0).len(), 20);
    }

    #[test]
    fn a_fresh_offsets_page_forgets_what_was_there() {
        let entries = vec![MultixactOffset { slot: 1, offset: 9 }];
        let kept = applied(
            filled(0xff),
            Change::MultixactOffsets {
                fresh: false,
                entries: entries.clone(),
            },
        );
        assert_eq!(kept.as_bytes()[3..9], [0xff, 9, 0, 0, 0, 0xff]);
        let fresh = applied(filled(0xff), Change::MultixactOffsets { fresh: true, entries });
        assert_eq!(differing(&fresh, 0), [(4, 9)]);
    }

    #[test]
    fn members_come_in_groups_of_four() {
        let member = |slot, xid, status| MultixactMember { slot, xid, status };
        let change = Change::MultixactMembers(vec![member(5, 0x0403_0201, 4), member(1635, 7, 0)]);
        let page = applied(Page::zeroed(), change);
        assert_eq!(
            differing(&page, 0),
            [(21, 4), (28, 1), (29, 2), (30, 3), (31, 4), (408 * 20 + 16, 7)]
        );
    }
}
