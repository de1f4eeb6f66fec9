//! DELETE and VACUUM: tuples go, or lose some of the heap TIDs of their posting lists.

use neon_postgres::records::btree::Delete;
use neon_postgres::{Cursor, Page, PgVersion};

use super::opaque::{HAS_GARBAGE, Opaque};
use super::tuple::IndexTuple;
use crate::Damage;
use crate::page::{Offsets, bytes_at, delete_items, overwrite_item, stored_range, take_offsets};

/// Replays both. Data: offsets of tuples to delete, offsets of tuples to change, then for each of those u16 number of TIDs
/// that go and their places in the list.
pub(super) fn delete(page: &mut Page, version: PgVersion, delete: Delete, data: &[u8]) -> Result<(), Damage> {
    let mut cursor = Cursor::new(data);
    let deleted = take_offsets(&mut cursor, delete.deleted.into())?;
    let updated = take_offsets(&mut cursor, delete.updated.into())?;
    for offset in updated.iter() {
        let count = cursor.u16()?;
        let gone = take_offsets(&mut cursor, count.into())?;
        shrink_posting(page, offset, gone)?;
    }
    if delete.deleted > 0 {
        delete_items(page, deleted.iter())?;
    }
    let mut opaque = Opaque::read(page)?;
    opaque.flags &= !HAS_GARBAGE;
    if delete.vacuum && version >= PgVersion::V18 {
        opaque.cycle_id = 0;
    }
    opaque.write(page)
}

/// Takes the TIDs at the places `gone`, ascending, out of a posting list (`_bt_update_posting`).
fn shrink_posting(page: &mut Page, offset: u16, gone: Offsets<'_>) -> Result<(), Damage> {
    let old = IndexTuple::read(bytes_at(page, stored_range(page, offset)?)?)?;
    let mut gone = gone.iter().map(usize::from).peekable();
    let mut kept = Vec::new();
    for (place, tid) in old.tids()?.iter().enumerate() {
        if gone.next_if_eq(&place).is_none() {
            kept.push(*tid);
        }
    }
    if gone.next().is_some() {
        return Err(Damage::OffsetList);
    }
    overwrite_item(page, offset, &old.with_tids(&kept)?.padded())
}
