//! UPDATE and HOT_UPDATE.

use neon_postgres::page::PD_ALL_VISIBLE;
use neon_postgres::records::heap::{HeapUpdate, update_flags};
use neon_postgres::{Cursor, Page};

use super::insert::{store, stored_header};
use super::tuple::{TUPLE_HEADER, Tid, normal_tuple};
use crate::Damage;
use crate::page::{bytes_at, change_flags, set_prunable, stored_range};

/// An update and where its two tuple versions lie.
pub(super) struct Update<'a> {
    pub(super) record: HeapUpdate,
    pub(super) hot: bool,
    pub(super) xid: u32,
    /// Block of the new version.
    pub(super) new_block: u32,
    /// Data that belongs to the new version's block.
    pub(super) data: &'a [u8],
}

impl Update<'_> {
    fn new_tid(&self) -> Tid {
        Tid {
            block: self.new_block,
            offset: self.record.new_offset,
        }
    }

    /// Marks the old version on its page.
    pub(super) fn apply_old(&self, page: &mut Page) -> Result<(), Damage> {
        let mut tuple = normal_tuple(page, self.record.old_offset)?;
        tuple.replace_xmax_bits(self.record.old_infobits);
        tuple.set_hot_updated(self.hot);
        tuple.set_xmax(self.record.old_xmax);
        tuple.clear_cmax();
        tuple.set_ctid(self.new_tid());
        set_prunable(page, self.xid);
        if self.record.flags & update_flags::OLD_ALL_VISIBLE_CLEARED != 0 {
            change_flags(page, PD_ALL_VISIBLE, 0);
        }
        Ok(())
    }

    /// Stores the new version on its page. Only with `same_page` may it take its beginning and end from the old version.
    pub(super) fn apply_new(&self, page: &mut Page, fresh: bool, same_page: bool) -> Result<(), Damage> {
        if fresh {
            page.init(0);
        }
        let mut cursor = Cursor::new(self.data);
        let prefix = self.shared_len(&mut cursor, update_flags::PREFIX_FROM_OLD, same_page)?;
        let suffix = self.shared_len(&mut cursor, update_flags::SUFFIX_FROM_OLD, same_page)?;
        let header = stored_header(&mut cursor)?;
        let tid = self.new_tid();
        let xmax = self.record.new_xmax;
        if prefix == 0 && suffix == 0 {
            store(page, header, self.xid, xmax, tid, &[cursor.rest()])?;
        } else {
            let old = self.old_columns(page)?;
            let bitmap_len = usize::from(header.hoff).checked_sub(TUPLE_HEADER);
            let bitmap_len = bitmap_len.ok_or(Damage::Value {
                what: "a tuple header shorter than 23 bytes",
            })?;
            // Without a prefix nothing comes between the bitmap and the columns of the record.
            let bitmap = cursor.take(if prefix > 0 { bitmap_len } else { 0 })?;
            let short = || Damage::Value {
                what: "an old tuple shorter than what an update takes from it",
            };
            let head = old.columns.get(..prefix).ok_or_else(short)?;
            let tail = old
                .tuple
                .len()
                .checked_sub(suffix)
                .and_then(|at| old.tuple.get(at..))
                .ok_or_else(short)?;
            store(
                page,
                header,
                self.xid,
                xmax,
                tid,
                &[bitmap, head, cursor.rest(), tail],
            )?;
        }
        if self.record.flags & update_flags::NEW_ALL_VISIBLE_CLEARED != 0 {
            change_flags(page, PD_ALL_VISIBLE, 0);
        }
        Ok(())
    }

    fn shared_len(&self, cursor: &mut Cursor<'_>, flag: u8, same_page: bool) -> Result<usize, Damage> {
        if self.record.flags & flag == 0 {
            return Ok(0);
        }
        if !same_page {
            return Err(Damage::Value {
                what: "an update across pages that shares columns",
            });
        }
        Ok(cursor.u16()?.into())
    }

    fn old_columns(&self, page: &mut Page) -> Result<OldTuple, Damage> {
        let hoff = normal_tuple(page, self.record.old_offset)?.hoff();
        let tuple = bytes_at(page, stored_range(page, self.record.old_offset)?)?.to_vec();
        let columns = tuple.get(hoff..).unwrap_or_default().to_vec();
        Ok(OldTuple { tuple, columns })
    }
}

struct OldTuple {
    tuple: Vec<u8>,
    columns: Vec<u8>,
}
