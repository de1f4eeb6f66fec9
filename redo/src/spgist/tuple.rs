//! Tuples of SP-GiST pages, and what stands in for those that went.
//!
//! ```text
//! leaf   0 u32: 2 bits state, 30 bits size | 4 u16: 2 bits flags, 14 bits next of the chain | 6 heap TID | 12 ...
//! dead   0 u32: 2 bits state, 30 bits size | 4 u16 0 | 6 TID in the index | 12 u32 xid
//! inner  0 u32: 2 bits state, 1 bit flag, 13 bits number of nodes, 16 bits size of the prefix | 4 u16 size | 6 u16
//!        8 prefix, then nodes, which are index tuples: 0 TID in the index | 6 u16: 13 bits size, flags | 8 label
//! ```

use neon_postgres::Page;
use neon_postgres::records::spgist::{ParentLink, State};

use super::opaque::Counters;
use crate::Damage;
use crate::heap::tid_bytes;
use crate::page::{
    Slot, add_item, bytes_at, copy_to, delete_items, index_tuple_size, item, put_u16, put_u32, remove_item,
    stored_range, u16_at, u32_at,
};

const STATE_MASK: u32 = 3;
const REDIRECT: u32 = 1;
const DEAD: u32 = 2;
const PLACEHOLDER: u32 = 3;
/// Bytes of a dead tuple (`SGDTSIZE`); no tuple is shorter.
const DEAD_SIZE: u32 = 16;
/// Bytes of an inner tuple before its prefix.
const INNER_HEADER: usize = 8;
const NEXT_MASK: u16 = 0x3fff;

/// Where a link leads: block and offset number of a tuple.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Place {
    pub(super) block: u32,
    pub(super) offset: u16,
}

/// Stands for no place (an invalid `ItemPointerData`).
const NOWHERE: Place = Place {
    block: u32::MAX,
    offset: 0,
};

impl Place {
    fn to_bytes(self) -> [u8; 6] {
        tid_bytes(self.block, self.offset)
    }
}

/// What takes the place of a tuple that goes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Stand {
    /// The tuple went there, in that transaction; scans that are on their way follow.
    Redirect { to: Place, xid: u32 },
    /// Nothing is here, but the parent leads here.
    Dead,
    /// Nothing is here, and nothing leads here.
    Placeholder,
}

impl Stand {
    /// Returns a redirect, or in an index that is being built, where no scan is on its way, a placeholder.
    pub(super) fn redirect(state: State, to: Place) -> Stand {
        if state.is_build {
            Stand::Placeholder
        } else {
            Stand::Redirect {
                to,
                xid: state.redirect_xid,
            }
        }
    }

    /// Returns the tuple (`spgFormDeadTuple`).
    fn tuple(self) -> [u8; DEAD_SIZE as usize] {
        let (state, to, xid) = match self {
            Stand::Redirect { to, xid } => (REDIRECT, to, xid),
            Stand::Dead => (DEAD, NOWHERE, 0),
            Stand::Placeholder => (PLACEHOLDER, NOWHERE, 0),
        };
        let parts = (state | DEAD_SIZE << 2).to_le_bytes().into_iter();
        let parts = parts.chain([0; 2]).chain(to.to_bytes()).chain(xid.to_le_bytes());
        let mut tuple = [0; DEAD_SIZE as usize];
        tuple.iter_mut().zip(parts).for_each(|(to, from)| *to = from);
        tuple
    }

    fn count(self, page: &mut Page) -> Result<(), Damage> {
        let mut counters = Counters::read(page)?;
        match self {
            Stand::Redirect { .. } => counters.redirects = counters.redirects.wrapping_add(1),
            Stand::Dead => return Ok(()),
            Stand::Placeholder => counters.placeholders = counters.placeholders.wrapping_add(1),
        }
        counters.write(page)
    }
}

/// Returns where the tuple at `offset` begins, which has room for at least the fixed part of a leaf or dead tuple.
fn start(page: &Page, offset: u16) -> Result<usize, Damage> {
    let range = stored_range(page, offset)?;
    if range.len() < DEAD_SIZE as usize {
        return Err(Damage::Value {
            what: "a tuple shorter than one that stands for another",
        });
    }
    Ok(range.start)
}

fn expect_state(page: &Page, offset: u16, state: u32, expected: &'static str) -> Result<usize, Damage> {
    let at = start(page, offset)?;
    if u32_at(page, at)? & STATE_MASK == state {
        Ok(at)
    } else {
        Err(Damage::ItemState { offset, expected })
    }
}

/// Adds a tuple behind the last one, or in place of a placeholder (`SpGistPageAddNewItem`).
pub(super) fn add(page: &mut Page, offset: u16, tuple: &[u8]) -> Result<(), Damage> {
    if item(page, offset).is_ok() {
        expect_state(page, offset, PLACEHOLDER, "a placeholder")?;
        let mut counters = Counters::read(page)?;
        counters.placeholders = counters.placeholders.wrapping_sub(1);
        counters.write(page)?;
        return replace(page, offset, tuple);
    }
    add_item(page, tuple, offset, Slot::Index)
}

/// Puts a tuple in place of another one.
pub(super) fn replace(page: &mut Page, offset: u16, tuple: &[u8]) -> Result<(), Damage> {
    remove_item(page, offset)?;
    add_item(page, tuple, offset, Slot::Index)
}

/// Puts a stand-in in place of a tuple.
pub(super) fn supersede(page: &mut Page, offset: u16, stand: Stand) -> Result<(), Damage> {
    replace(page, offset, &stand.tuple())?;
    stand.count(page)
}

/// Puts stand-ins in place of tuples: `first` for the first that is listed, `rest` for the others
/// (`spgPageIndexMultiDelete`). The list is in any order.
pub(super) fn supersede_all(
    page: &mut Page,
    offsets: &[u16],
    first: Stand,
    rest: Stand,
) -> Result<(), Damage> {
    let mut sorted = offsets.to_vec();
    sorted.sort_unstable();
    if !sorted.is_sorted_by(|one, other| one < other) {
        return Err(Damage::OffsetList);
    }
    delete_items(page, sorted.iter().copied())?;
    for offset in sorted {
        let stand = if offsets.first() == Some(&offset) {
            first
        } else {
            rest
        };
        add_item(page, &stand.tuple(), offset, Slot::Index)?;
        stand.count(page)?;
    }
    Ok(())
}

/// Turns a redirect into a placeholder. Its xid stays.
pub(super) fn end_redirect(page: &mut Page, offset: u16) -> Result<(), Damage> {
    let at = expect_state(page, offset, REDIRECT, "a redirect")?;
    let size = u32_at(page, at)? & !STATE_MASK;
    put_u32(page, at, PLACEHOLDER | size)?;
    copy_to(page, at + 6, &NOWHERE.to_bytes())?;
    let mut counters = Counters::read(page)?;
    counters.redirects = counters.redirects.wrapping_sub(1);
    counters.placeholders = counters.placeholders.wrapping_add(1);
    counters.write(page)
}

/// Makes `next` the leaf tuple that follows the one at `offset` in its chain, 0 for none.
pub(super) fn set_next(page: &mut Page, offset: u16, next: u16) -> Result<(), Damage> {
    let at = start(page, offset)? + 4;
    let flags = u16_at(page, at)? & !NEXT_MASK;
    put_u16(page, at, flags | next & NEXT_MASK)
}

/// Makes a node of an inner tuple lead to `place` (`spgUpdateNodeLink`).
pub(super) fn link(page: &mut Page, parent: ParentLink, place: Place) -> Result<(), Damage> {
    let range = stored_range(page, parent.offset)?;
    let word = u32_at(page, range.start)?;
    let (nodes, prefix) = (word >> 3 & 0x1fff, (word >> 16) as usize);
    let none = Damage::Value {
        what: "a downlink in a node that the inner tuple does not have",
    };
    if u32::from(parent.node) >= nodes {
        return Err(none);
    }
    let bytes = bytes_at(page, range.clone())?;
    let mut at = INNER_HEADER + prefix;
    for _ in 0..parent.node {
        at += index_tuple_size(bytes.get(at..).unwrap_or_default())?;
    }
    index_tuple_size(bytes.get(at..).unwrap_or_default())?;
    copy_to(page, range.start + at, &place.to_bytes())
}
