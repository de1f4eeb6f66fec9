//! ADD_NODE and SPLIT_TUPLE: changes of one inner tuple.

use neon_postgres::Page;
use neon_postgres::records::spgist::{AddNode, SplitTuple};

use super::opaque::{Kind, make_page};
use super::tuple::{Place, Stand, add, link, replace, supersede};
use crate::Damage;
use crate::target::Target;

/// Replays ADD_NODE onto the page before (0), the page after (1), if that is another one, or the parent's page (2), if that is
/// neither.
pub(super) fn add_node(target: &Target<'_>, page: &mut Page, record: &AddNode<'_>) -> Result<(), Damage> {
    let id = target.id();
    let Some(block) = target.find_block(1) else {
        target.expect_ids(&[0])?;
        return replace(page, record.offset, record.tuple);
    };
    let place = Place {
        block,
        offset: record.new_offset,
    };
    match id {
        0 => supersede(page, record.offset, Stand::redirect(record.state, place))?,
        1 => {
            if record.new_page {
                make_page(page, Kind::Inner, false)?;
            }
            add(page, record.new_offset, record.tuple)?;
        }
        2 if record.parent_id == Some(2) => {}
        _ => return Err(target.unexpected()),
    }
    if record.parent_id == Some(id) {
        link(page, record.parent, place)?;
    }
    Ok(())
}

/// Replays SPLIT_TUPLE onto the page of the upper tuple (0) or of the lower one (1), if that is another one.
pub(super) fn split(target: &Target<'_>, page: &mut Page, split: &SplitTuple<'_>) -> Result<(), Damage> {
    match target.id() {
        0 => {
            replace(page, split.prefix_offset, split.prefix)?;
            if split.same_page {
                add(page, split.postfix_offset, split.postfix)?;
            }
            Ok(())
        }
        1 if !split.same_page => {
            if split.new_page {
                make_page(page, Kind::Inner, false)?;
            }
            add(page, split.postfix_offset, split.postfix)
        }
        _ => Err(target.unexpected()),
    }
}
