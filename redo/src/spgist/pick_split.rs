//! PICKSPLIT: a chain of leaf tuples becomes an inner tuple with chains below.

use neon_postgres::Page;
use neon_postgres::records::spgist::PickSplit;

use super::opaque::{Kind, make_page};
use super::tuple::{Place, Stand, add, link, supersede_all};
use crate::Damage;
use crate::target::Target;

/// Replays it onto the leaf page before (0), the other leaf page (1), the page of the inner tuple (2) or its parent's page (3).
pub(super) fn redo(target: &Target<'_>, page: &mut Page, split: &PickSplit<'_>) -> Result<(), Damage> {
    let inner = Place {
        block: target.block_of(2)?,
        offset: split.inner_offset,
    };
    match target.id() {
        0 => {
            if split.init_source {
                make_page(page, Kind::Leaf, split.nulls)?;
            } else {
                let head = Stand::redirect(split.state, inner);
                supersede_all(page, &split.deleted, head, Stand::Placeholder)?;
            }
            add_leaves(page, split, false)
        }
        1 => {
            if split.init_destination {
                make_page(page, Kind::Leaf, split.nulls)?;
            }
            add_leaves(page, split, true)
        }
        2 => {
            if split.init_inner {
                make_page(page, Kind::Inner, split.nulls)?;
            }
            add(page, split.inner_offset, split.inner)?;
            if split.inner_is_parent {
                link(page, split.parent, inner)?;
            }
            Ok(())
        }
        3 => link(page, split.parent, inner),
        _ => Err(target.unexpected()),
    }
}

fn add_leaves(page: &mut Page, split: &PickSplit<'_>, on_destination: bool) -> Result<(), Damage> {
    let mut leaves = split
        .inserted
        .iter()
        .filter(|leaf| leaf.on_destination == on_destination);
    leaves.try_for_each(|leaf| add(page, leaf.offset, leaf.tuple))
}
