//! Replay of `SPGist` records.
//!
//! No tuple of an SP-GiST page changes its offset number while links may lead to it. What goes leaves a dead tuple in its
//! place: a redirect to where the tuple went, a dead one that the parent still leads to, or a placeholder that a new tuple may
//! take the place of.

mod inner;
mod leaf;
mod opaque;
mod pick_split;
mod tuple;
mod vacuum;

use neon_postgres::Page;
use neon_postgres::records::spgist::SpgistRecord;

use crate::Damage;
use crate::target::{Target, Touch};

/// Replays a record of resource manager `SPGist` onto one of its blocks.
pub(crate) fn redo(target: &Target<'_>, page: &mut Page) -> Result<Touch, Damage> {
    match SpgistRecord::decode(target.record)? {
        SpgistRecord::AddLeaf(add) => leaf::add(target, page, &add)?,
        SpgistRecord::MoveLeafs(moved) => leaf::move_chain(target, page, &moved)?,
        SpgistRecord::AddNode(add) => inner::add_node(target, page, &add)?,
        SpgistRecord::SplitTuple(split) => inner::split(target, page, &split)?,
        SpgistRecord::PickSplit(split) => pick_split::redo(target, page, &split)?,
        SpgistRecord::VacuumLeaf(vacuum) if target.id() == 0 => vacuum::leaf(page, &vacuum)?,
        SpgistRecord::VacuumRoot { deleted } if target.id() == 0 => vacuum::root(page, &deleted)?,
        SpgistRecord::VacuumRedirect {
            redirects,
            first_placeholder,
        } if target.id() == 0 => vacuum::redirects(page, &redirects, first_placeholder)?,
        _ => return Err(target.unexpected()),
    }
    Ok(Touch::Changed)
}
