//! VACUUM_LEAF, VACUUM_ROOT and VACUUM_REDIRECT.

use neon_postgres::Page;
use neon_postgres::records::spgist::VacuumLeaf;

use super::opaque::Counters;
use super::tuple::{Stand, end_redirect, set_next, supersede_all};
use crate::Damage;
use crate::page::{delete_items, item, layout, put_item};

/// Removes tuples of chains. The head of a chain keeps its place: it dies, or the next live one moves there.
pub(super) fn leaf(page: &mut Page, vacuum: &VacuumLeaf) -> Result<(), Damage> {
    let placeholder = Stand::Placeholder;
    supersede_all(page, &vacuum.dead, Stand::Dead, Stand::Dead)?;
    supersede_all(page, &vacuum.placeholders, placeholder, placeholder)?;
    for (from, to) in &vacuum.moved {
        let (one, other) = (item(page, *from)?, item(page, *to)?);
        put_item(page, *from, other)?;
        put_item(page, *to, one)?;
    }
    let moved: Vec<u16> = vacuum.moved.iter().map(|(from, _)| *from).collect();
    supersede_all(page, &moved, placeholder, placeholder)?;
    let mut chained = vacuum.chained.iter();
    chained.try_for_each(|(offset, next)| set_next(page, *offset, *next))
}

/// Removes tuples of a root that is a leaf: they are in no chain.
pub(super) fn root(page: &mut Page, deleted: &[u16]) -> Result<(), Damage> {
    delete_items(page, deleted.iter().copied())
}

/// Makes placeholders of redirects; then the tuples from `first_placeholder` on, all of them placeholders, go.
pub(super) fn redirects(page: &mut Page, redirects: &[u16], first_placeholder: u16) -> Result<(), Damage> {
    for offset in redirects {
        end_redirect(page, *offset)?;
    }
    if first_placeholder == 0 {
        return Ok(());
    }
    let last = layout(page)?.items();
    let Some(gone) = last.checked_sub(first_placeholder - 1) else {
        return Err(Damage::OffsetList);
    };
    let mut counters = Counters::read(page)?;
    counters.placeholders = counters.placeholders.wrapping_sub(gone);
    counters.write(page)?;
    let doomed: Vec<u16> = (first_placeholder..=last).collect();
    delete_items(page, doomed.into_iter())
}
