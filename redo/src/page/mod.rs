//! What Postgres does to the inside of a page: line pointers, items, free space (`bufpage.c`).
//!
//! Every function checks what it reads: pages and records may be arbitrary bytes. Unlike Postgres, space that becomes free is
//! zeroed, so that free space stays zero on a page whose free space was zero.

mod add;
mod bytes;
mod compact;
mod header;
mod item;
mod remove;

pub(crate) use add::{Slot, add_item};
pub(crate) use bytes::{
    Offsets, align, bytes_at, copy_to, put_u16, put_u32, put_u64, skip_to_even, take_offsets, u16_at, u32_at,
    zero,
};
pub(crate) use compact::{repair_fragmentation, truncate_line_pointers};
pub(crate) use header::{change_flags, init_like, layout, set_prunable, special_space};
pub(crate) use item::{DEAD, UNUSED, index_tuple_size, item, put_item, redirect_to, stored_range};
pub(crate) use remove::{delete_items, overwrite_item, remove_item, vacate_item};
