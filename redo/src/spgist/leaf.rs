//! ADD_LEAF and MOVE_LEAFS: changes of one chain of leaf tuples.

use neon_postgres::Page;
use neon_postgres::records::spgist::{AddLeaf, MoveLeafs};

use super::opaque::{Kind, make_page};
use super::tuple::{Place, Stand, add as add_tuple, link, replace, set_next, supersede_all};
use crate::Damage;
use crate::target::Target;

/// Replays ADD_LEAF onto the leaf page (0) or the parent's page (1).
pub(super) fn add(target: &Target<'_>, page: &mut Page, add: &AddLeaf<'_>) -> Result<(), Damage> {
    match target.id() {
        0 => {
            if add.new_page {
                make_page(page, Kind::Leaf, add.nulls)?;
            }
            if add.leaf == add.head {
                return replace(page, add.leaf, add.tuple);
            }
            add_tuple(page, add.leaf, add.tuple)?;
            if add.head == 0 {
                return Ok(());
            }
            set_next(page, add.head, add.leaf)
        }
        1 if add.parent.offset != 0 => {
            let place = Place {
                block: target.block_of(0)?,
                offset: add.leaf,
            };
            link(page, add.parent, place)
        }
        _ => Err(target.unexpected()),
    }
}

/// Replays MOVE_LEAFS onto the page before (0), the page after (1) or the parent's page (2).
pub(super) fn move_chain(target: &Target<'_>, page: &mut Page, moved: &MoveLeafs<'_>) -> Result<(), Damage> {
    // The chain begins with the tuple that was written last.
    let Some((head, _)) = moved.inserted.last() else {
        return Err(Damage::OffsetList);
    };
    let place = Place {
        block: target.block_of(1)?,
        offset: *head,
    };
    match target.id() {
        0 => supersede_all(
            page,
            &moved.deleted,
            Stand::redirect(moved.state, place),
            Stand::Placeholder,
        ),
        1 => {
            if moved.new_page {
                make_page(page, Kind::Leaf, moved.nulls)?;
            }
            let mut inserted = moved.inserted.iter();
            inserted.try_for_each(|(offset, tuple)| add_tuple(page, *offset, tuple))
        }
        2 => link(page, moved.parent, place),
        _ => Err(target.unexpected()),
    }
}
