//! INSERT and MULTI_INSERT.

use neon_postgres::page::PD_ALL_VISIBLE;
use neon_postgres::records::heap::{HeapInsert, insert_flags};
use neon_postgres::records::heap2::MultiInsert;
use neon_postgres::{Cursor, Page};

use super::tuple::{MAX_TUPLE, StoredHeader, TUPLE_HEADER, Tid, new_header};
use crate::Damage;
use crate::page::{Slot, add_item, change_flags, skip_to_even};

/// Replays `Heap/INSERT` onto the heap page; `fresh` pages are made first.
pub(super) fn insert(
    page: &mut Page,
    insert: HeapInsert,
    fresh: bool,
    xid: u32,
    block: u32,
    data: &[u8],
) -> Result<(), Damage> {
    if fresh {
        page.init(0);
    }
    let mut cursor = Cursor::new(data);
    let header = stored_header(&mut cursor)?;
    let tid = Tid {
        block,
        offset: insert.offset,
    };
    store(page, header, xid, 0, tid, &[cursor.rest()])?;
    if insert.flags & insert_flags::ALL_VISIBLE_CLEARED != 0 {
        change_flags(page, PD_ALL_VISIBLE, 0);
    }
    Ok(())
}

/// Reads an `xl_heap_header`.
pub(super) fn stored_header(cursor: &mut Cursor<'_>) -> Result<StoredHeader, Damage> {
    Ok(StoredHeader {
        infomask2: cursor.u16()?,
        infomask: cursor.u16()?,
        hoff: cursor.u8()?,
    })
}

/// Stores a tuple made of a header and of parts of what follows it.
pub(super) fn store(
    page: &mut Page,
    header: StoredHeader,
    xmin: u32,
    xmax: u32,
    tid: Tid,
    parts: &[&[u8]],
) -> Result<(), Damage> {
    let len = parts
        .iter()
        .fold(TUPLE_HEADER, |sum, part| sum.saturating_add(part.len()));
    if len > MAX_TUPLE {
        return Err(Damage::NoSpace { len, free: MAX_TUPLE });
    }
    let mut bytes = Vec::with_capacity(len);
    bytes.extend_from_slice(&new_header(header, xmin, xmax, tid));
    for part in parts {
        bytes.extend_from_slice(part);
    }
    add_item(page, &bytes, tid.offset, Slot::Heap)
}

/// Replays `Heap2/MULTI_INSERT` onto the heap page; on a `fresh` page the tuples are numbered from 1.
pub(super) fn multi_insert(
    page: &mut Page,
    record: &MultiInsert,
    fresh: bool,
    xid: u32,
    block: u32,
    data: &[u8],
) -> Result<(), Damage> {
    if fresh {
        page.init(0);
    }
    let mut cursor = Cursor::new(data);
    for number in 0..record.count {
        let offset = if fresh {
            number.saturating_add(1)
        } else {
            let offset = record.offsets.get(usize::from(number));
            *offset.ok_or(Damage::OffsetList)?
        };
        skip_to_even(&mut cursor)?;
        let len = usize::from(cursor.u16()?);
        let header = stored_header(&mut cursor)?;
        let tuple = cursor.take(len)?;
        store(page, header, xid, 0, Tid { block, offset }, &[tuple])?;
    }
    if !cursor.rest().is_empty() {
        return Err(Damage::Value {
            what: "bytes behind the last inserted tuple",
        });
    }
    if record.flags & insert_flags::ALL_VISIBLE_CLEARED != 0 {
        change_flags(page, PD_ALL_VISIBLE, 0);
    }
    if record.flags & insert_flags::ALL_FROZEN_SET != 0 {
        change_flags(page, 0, PD_ALL_VISIBLE);
    }
    Ok(())
}
