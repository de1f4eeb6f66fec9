//! Index tuples (`IndexTupleData`, 8 bytes, then keys) and posting lists.
//!
//! ```text
//! 0 u16 block high, u16 block low, u16 offset: the heap TID, or metadata | 6 u16: 13 bits size, 0x2000 metadata, 0xC000 ...
//! A tuple with a posting list: 0x2000 is set; block = where the list begins in the tuple, offset = 0x2000 | number of TIDs.
//! ```

use crate::Damage;
use crate::page::{align, index_tuple_size};

const HEADER: usize = 8;
const SIZE_MASK: u16 = 0x1fff;
/// `INDEX_ALT_TID_MASK`
const ALT_TID: u16 = 0x2000;
/// `BT_IS_POSTING`, in the offset number.
const IS_POSTING: u16 = 0x2000;
/// `BT_OFFSET_MASK`
const COUNT_MASK: u16 = 0x0fff;
/// Bytes of a heap TID.
const TID: usize = 6;

/// An index tuple of at least 8 bytes, as long as it says.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct IndexTuple(Vec<u8>);

impl IndexTuple {
    /// Takes the tuple that `bytes` begins with, without padding.
    pub(super) fn read(bytes: &[u8]) -> Result<IndexTuple, Damage> {
        let size = index_tuple_size(bytes)?;
        Ok(IndexTuple(bytes.get(..size).unwrap_or_default().to_vec()))
    }

    /// Returns a tuple without keys that names the topmost page of a branch that is being deleted.
    pub(super) fn top_parent(block: u32) -> IndexTuple {
        let mut tuple = IndexTuple(vec![0; HEADER]);
        tuple.set_info(HEADER as u16 | ALT_TID);
        tuple.set_block(block);
        tuple
    }

    pub(super) fn bytes(&self) -> &[u8] {
        &self.0
    }

    /// Returns the tuple's bytes with padding to a multiple of 8.
    pub(super) fn padded(mut self) -> Vec<u8> {
        self.0.resize(align(self.0.len()), 0);
        self.0
    }

    fn word(&self, at: usize) -> u16 {
        let chunk = self.0.get(at..).and_then(|rest| rest.first_chunk());
        chunk.map_or(0, |chunk| u16::from_le_bytes(*chunk))
    }

    fn set_word(&mut self, at: usize, value: u16) {
        if let Some(chunk) = self.0.get_mut(at..).and_then(|rest| rest.first_chunk_mut()) {
            *chunk = value.to_le_bytes();
        }
    }

    fn info(&self) -> u16 {
        self.word(6)
    }

    fn set_info(&mut self, info: u16) {
        self.set_word(6, info);
    }

    /// Returns the block of the TID: the downlink of a tuple on an inner page.
    pub(super) fn block(&self) -> u32 {
        u32::from(self.word(0)) << 16 | u32::from(self.word(2))
    }

    fn set_block(&mut self, block: u32) {
        self.set_word(0, (block >> 16) as u16);
        self.set_word(2, block as u16);
    }

    fn set_offset(&mut self, offset: u16) {
        self.set_word(4, offset);
    }

    fn offset(&self) -> u16 {
        self.word(4)
    }

    fn is_posting(&self) -> bool {
        self.info() & ALT_TID != 0 && self.offset() & IS_POSTING != 0
    }

    fn is_pivot(&self) -> bool {
        self.info() & ALT_TID != 0 && self.offset() & IS_POSTING == 0
    }

    /// Returns the heap TIDs of a leaf tuple: one, or its posting list.
    pub(super) fn tids(&self) -> Result<&[[u8; TID]], Damage> {
        let list = if self.is_posting() {
            let start = self.block() as usize;
            let bytes = usize::from(self.offset() & COUNT_MASK) * TID;
            self.0.get(start..).and_then(|rest| rest.get(..bytes))
        } else if self.is_pivot() {
            None
        } else {
            self.0.get(..TID)
        };
        let list = list.ok_or(Damage::Value {
            what: "a tuple without a valid list of heap TIDs",
        })?;
        Ok(list.as_chunks().0)
    }

    /// Returns the tuple's keys: everything in front of a posting list.
    fn key(&self) -> Result<&[u8], Damage> {
        let size = if self.is_posting() {
            self.block() as usize
        } else {
            self.0.len()
        };
        let key = self.0.get(..size).filter(|key| key.len() >= HEADER);
        key.ok_or(Damage::Value {
            what: "a posting list inside the tuple's header",
        })
    }

    /// Returns the tuple with these TIDs in place of its own (`_bt_form_posting`); no fewer than one.
    pub(super) fn with_tids(&self, tids: &[[u8; TID]]) -> Result<IndexTuple, Damage> {
        let key = self.key()?;
        let key_size = key.len();
        let [first, rest @ ..] = tids else {
            return Err(Damage::Value {
                what: "a tuple that lost all of its heap TIDs",
            });
        };
        let size = if rest.is_empty() {
            key_size
        } else {
            align(key_size + tids.len() * TID)
        };
        let count = u16::try_from(tids.len())
            .ok()
            .filter(|count| *count <= COUNT_MASK);
        let (Ok(info_size), Some(count)) = (u16::try_from(size), count) else {
            return Err(Damage::Value {
                what: "a posting list longer than a page",
            });
        };
        if info_size > SIZE_MASK || !key_size.is_multiple_of(8) {
            return Err(Damage::Value {
                what: "a posting list longer than a tuple may be, or not aligned",
            });
        }
        let mut bytes = Vec::with_capacity(size);
        bytes.extend_from_slice(key);
        let mut tuple = IndexTuple(bytes);
        let info = self.info() & !SIZE_MASK | info_size;
        if rest.is_empty() {
            tuple.set_info(info & !ALT_TID);
            tuple.set_tid(*first);
        } else {
            tuple.set_info(info | ALT_TID);
            tuple.set_offset(count | IS_POSTING);
            tuple.set_block(key_size as u32);
            tuple.0.extend_from_slice(tids.as_flattened());
            tuple.0.resize(size, 0);
        }
        Ok(tuple)
    }

    fn set_tid(&mut self, tid: [u8; TID]) {
        if let Some(chunk) = self.0.first_chunk_mut() {
            *chunk = tid;
        }
    }

    /// Puts the TID of `new` at place `at` of this posting list, and the TID that falls out at its end into `new`
    /// (`_bt_swap_posting`). The length stays.
    pub(super) fn swap_in(&self, new: &mut IndexTuple, at: u16) -> Result<IndexTuple, Damage> {
        let mut tids = self.tids()?.to_vec();
        let at = usize::from(at);
        let (Some(last), [incoming]) = (tids.last().copied(), new.tids()?) else {
            return Err(Damage::Value {
                what: "a posting list split by a posting list",
            });
        };
        if at == 0 || at >= tids.len() || !self.is_posting() {
            return Err(Damage::Value {
                what: "a posting list split outside of its TIDs",
            });
        }
        tids.pop();
        tids.insert(at, *incoming);
        new.set_tid(last);
        let mut changed = self.clone();
        let start = self.block() as usize;
        let list = changed
            .0
            .get_mut(start..)
            .and_then(|rest| rest.get_mut(..tids.len() * TID));
        if let Some(list) = list {
            list.copy_from_slice(tids.as_flattened());
        }
        Ok(changed)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn plain(tid: [u8; 6]) -> IndexTuple {
        let mut bytes = tid.to_vec();
        bytes.extend_from_slice(&[16, 0x40]);
        bytes.extend_from_slice(b"key of 8");
        IndexTuple::read(&bytes).expect("is whole")
    }

    #[test]
    fn a_posting_list_holds_what_was_put_in_and_shrinks_to_a_plain_tuple() {
        let tids = [[0, 0, 1, 0, 1, 0], [0, 0, 1, 0, 2, 0], [0, 0, 1, 0, 3, 0]];
        let one = plain(tids[0]);
        assert_eq!(one.tids().expect("is plain"), &tids[..1]);
        let posting = one.with_tids(&tids).expect("fits");
        assert_eq!(posting.bytes().len(), 40);
        assert_eq!(posting.tids().expect("is a list"), &tids[..]);
        assert_eq!(posting.with_tids(&tids[..1]).expect("fits"), one);
        assert!(posting.with_tids(&[]).is_err());
    }

    #[test]
    fn a_new_tid_pushes_the_last_one_out() {
        let tids = [[0, 0, 1, 0, 1, 0], [0, 0, 1, 0, 3, 0], [0, 0, 1, 0, 4, 0]];
        let posting = plain(tids[0]).with_tids(&tids).expect("fits");
        let mut new = plain([0, 0, 1, 0, 2, 0]);
        let swapped = posting.swap_in(&mut new, 1).expect("inside the list");
        assert_eq!(
            swapped.tids().expect("is a list"),
            &[tids[0], [0, 0, 1, 0, 2, 0], tids[1]][..]
        );
        assert_eq!(new.tids().expect("is plain"), &tids[2..]);
        for outside in [0, 3, 4095] {
            assert!(posting.swap_in(&mut plain(tids[0]), outside).is_err());
        }
    }

    #[test]
    fn a_size_beyond_the_bytes_is_refused() {
        assert!(IndexTuple::read(&[0; 7]).is_err());
        assert!(IndexTuple::read(&[0, 0, 0, 0, 0, 0, 7, 0]).is_err());
        assert!(IndexTuple::read(&[0, 0, 0, 0, 0, 0, 9, 0]).is_err());
    }
}
