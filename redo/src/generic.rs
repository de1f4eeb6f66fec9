//! Replay of `Generic` records: byte ranges get new content, free space becomes zero.

use neon_postgres::Page;
use neon_postgres::records::generic::fragments;

use crate::Damage;
use crate::page::{copy_to, layout, zero};
use crate::target::{Target, Touch};

pub(crate) fn redo(target: &Target<'_>, page: &mut Page) -> Result<Touch, Damage> {
    for fragment in fragments(target.data()) {
        let fragment = fragment?;
        copy_to(page, fragment.offset.into(), fragment.bytes)?;
    }
    let layout = layout(page)?;
    zero(page, layout.lower..layout.upper)?;
    Ok(Touch::Changed)
}
