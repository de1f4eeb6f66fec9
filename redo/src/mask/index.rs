//! Masks of index pages.

use neon_postgres::Page;
use neon_postgres::page::PAGE_HEADER_SIZE;
use neon_types::Lsn;

use super::common;
use crate::Damage;
use crate::btree::opaque::{HAS_GARBAGE, LEAF, Opaque, SPLIT_END};
use crate::gin::opaque as gin;
use crate::gist::opaque as gist;
use crate::hash::opaque as hash;
use crate::page::{put_u16, u16_at};

pub(super) fn btree(page: &mut Page) -> Result<(), Damage> {
    common::lsn_and_checksum(page);
    common::header_hints(page);
    common::free_space(page)?;
    let mut opaque = Opaque::read(page)?;
    if opaque.flags & LEAF != 0 {
        common::item_flags(page)?;
    }
    opaque.flags &= !(HAS_GARBAGE | SPLIT_END);
    opaque.cycle_id = 0;
    opaque.write(page)
}

pub(super) fn hash(page: &mut Page) -> Result<(), Damage> {
    common::lsn_and_checksum(page);
    common::header_hints(page);
    common::free_space(page)?;
    let mut opaque = hash::Opaque::read(page)?;
    match opaque.flags & hash::PAGE_TYPE {
        hash::UNUSED => return common::content(page),
        hash::OVERFLOW | hash::BUCKET => common::item_flags(page)?,
        _ => {}
    }
    opaque.flags &= !hash::HAS_DEAD_TUPLES;
    opaque.write(page)
}

pub(super) fn gin(page: &mut Page) -> Result<(), Damage> {
    common::lsn_and_checksum(page);
    common::header_hints(page);
    if gin::Opaque::read(page)?.flags & gin::DELETED != 0 {
        common::content(page)
    } else if usize::from(page.lower()) > PAGE_HEADER_SIZE {
        common::free_space(page)
    } else {
        Ok(())
    }
}

pub(super) fn gist(page: &mut Page) -> Result<(), Damage> {
    common::lsn_and_checksum(page);
    common::header_hints(page);
    common::free_space(page)?;
    let mut opaque = gist::Opaque::read(page)?;
    if opaque.flags & gist::LEAF != 0 {
        common::item_flags(page)?;
    }
    opaque.nsn = Lsn::INVALID;
    opaque.flags = (opaque.flags | gist::FOLLOW_RIGHT) & !gist::HAS_GARBAGE;
    opaque.write(page)
}

pub(super) fn spgist(page: &mut Page) -> Result<(), Damage> {
    common::lsn_and_checksum(page);
    common::header_hints(page);
    if usize::from(page.lower()) >= PAGE_HEADER_SIZE {
        common::free_space(page)
    } else {
        Ok(())
    }
}

/// Special space: four u16, of which the third is flags and the fourth the page's type.
pub(super) fn brin(page: &mut Page) -> Result<(), Damage> {
    const META: u16 = 0xF091;
    const REGULAR: u16 = 0xF093;
    const EVACUATE: u16 = 1;
    common::lsn_and_checksum(page);
    common::header_hints(page);
    let special = usize::from(page.special());
    let kind = u16_at(page, special + 6)?;
    if kind == REGULAR || (kind == META && usize::from(page.lower()) > PAGE_HEADER_SIZE) {
        common::free_space(page)?;
    }
    let flags = u16_at(page, special + 4)?;
    put_u16(page, special + 4, flags & !EVACUATE)
}
