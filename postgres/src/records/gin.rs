//! Main data of records of resource manager `Gin`, and the block data of those that change a tree. The layouts are the same in
//! 14 to 18.
//!
//! ```text
//! block data, by the page that an INSERT changes:
//!   entry tree           u16 offset | bool replaces | 1 pad | index tuple
//!   posting tree, inner  u16 offset | posting item: u16 block high, u16 block low, 6 bytes key
//!   posting tree, leaf   u16 number of actions, then for each u8 segment, u8 kind, and by kind
//!                          1 delete: nothing   2 insert, 3 replace: a segment   4 add: u16 count, 6 bytes a TID
//! a segment              6 bytes first TID | u16 n | n bytes | 1 pad if n is odd
//! ```

use super::unknown;
use crate::Cursor;
use crate::wal::{DecodeError, Record};

/// Bytes of a heap TID: u16 block high, u16 block low, u16 offset.
pub const TID_SIZE: usize = 6;
/// Bytes of an item of a posting tree's inner page (`PostingItem`): block of the child, then its largest TID.
pub const POSTING_ITEM_SIZE: usize = 10;
/// Bytes of the meta page's content (`GinMetaPageData`).
pub const META_SIZE: usize = 56;
/// Bytes of a segment in front of its encoded TIDs (`GinPostingList`).
pub const SEGMENT_HEADER_SIZE: usize = 8;

/// A record of resource manager `Gin`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum GinRecord<'a> {
    /// Page 0 was made as the root of a posting tree, a leaf.
    CreatePostingTree {
        /// Its segments.
        segments: &'a [u8],
    },
    /// Page 0 of a tree changed, 1 is the child whose split that finishes (not on leaves).
    Insert(Insert),
    /// A page was split: 0 left, 1 right, 2 the root that is above them now, all three with images; 3 the child whose split
    /// made this one necessary.
    Split,
    /// Entry leaf 0 was vacuumed; it has an image.
    VacuumPage,
    /// Posting tree leaf 0 was vacuumed: its data are actions as of [`decode_actions`].
    VacuumDataLeafPage,
    /// Posting tree page 0 was deleted, its parent 1 lost the item for it, its left sibling 2 got another right link.
    DeletePage(DeletePage),
    /// Meta page 0 changed; 1 is the last page of the pending list.
    UpdateMetaPage(UpdateMetaPage),
    /// Page 0 of a pending list was made; its data is its tuples.
    InsertListPage {
        /// The next page, `u32::MAX` for none.
        right_link: u32,
        /// Number of tuples.
        tuples: u32,
    },
    /// Meta page 0 changed, all other pages left the pending list.
    DeleteListPages {
        /// New content of the meta page.
        metadata: [u8; META_SIZE],
    },
}

/// `ginxlogInsert`
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Insert {
    /// The tree is a posting tree, else it is the tree of entries.
    pub is_data: bool,
    /// Of an inner page: the right half of the child that was split.
    pub right_child: Option<u32>,
}

/// `ginxlogDeletePage`
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct DeletePage {
    /// Number of the item, from 1, that the parent loses.
    pub parent_offset: u16,
    /// Right link of the deleted page, which its left sibling gets.
    pub right_link: u32,
    /// Transaction id from which on the page may be used again.
    pub delete_xid: u32,
}

/// `ginxlogUpdateMeta`
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct UpdateMetaPage {
    /// New content of the meta page.
    pub metadata: [u8; META_SIZE],
    /// What happened to the last page of the pending list.
    pub tail: TailChange,
}

/// How the last page of a pending list changes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum TailChange {
    /// Not at all: only counts of the meta page changed, or the list was empty.
    None,
    /// It took one heap row's tuples, which are its data.
    Tuples(u32),
    /// It is the last one no more: the list goes on with this page.
    Link(u32),
}

/// Data of an INSERT into the tree of entries (`ginxlogInsertEntry`).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct EntryInsert<'a> {
    /// Offset number of the tuple.
    pub offset: u16,
    /// The tuple takes the place of another one.
    pub replaces: bool,
    /// The tuple, as long as it says.
    pub tuple: &'a [u8],
}

/// Data of an INSERT into an inner page of a posting tree (`ginxlogInsertDataInternal`).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct PostingItemInsert {
    /// Number of the item, from 1.
    pub offset: u16,
    /// The item.
    pub item: [u8; POSTING_ITEM_SIZE],
}

/// A change of one segment of a posting tree's leaf.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct SegmentAction<'a> {
    /// Number of the segment, from 0, as the page was before the record.
    pub segment: u8,
    /// What becomes of it.
    pub change: SegmentChange<'a>,
}

/// What becomes of a segment.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum SegmentChange<'a> {
    /// It goes.
    Delete,
    /// A new one, with its header and padding, is put in front of it.
    Insert(&'a [u8]),
    /// Another one takes its place.
    Replace(&'a [u8]),
    /// TIDs are added to it.
    AddItems(&'a [[u8; TID_SIZE]]),
}

impl<'a> GinRecord<'a> {
    /// Reads the main data of a Gin record.
    pub fn decode(record: &'a Record) -> Result<GinRecord<'a>, DecodeError> {
        let mut cursor = Cursor::new(record.main_data());
        let c = &mut cursor;
        Ok(match record.opcode() {
            0x10 => {
                let size = c.u32()? as usize;
                GinRecord::CreatePostingTree {
                    segments: c.take(size)?,
                }
            }
            0x20 => GinRecord::Insert(Insert::decode(c)?),
            0x30 => {
                // Relation, blocks and flags, all of which the references tell.
                c.skip(28)?;
                GinRecord::Split
            }
            0x40 => GinRecord::VacuumPage,
            0x50 => GinRecord::DeletePage(DeletePage::decode(c)?),
            0x60 => GinRecord::UpdateMetaPage(UpdateMetaPage::decode(c)?),
            0x70 => {
                let right_link = c.u32()?;
                GinRecord::InsertListPage {
                    right_link,
                    tuples: count(c, "Gin/INSERT_LISTPAGE")?,
                }
            }
            0x80 => {
                let metadata = c.array()?;
                c.skip(4)?; // the number of other pages, which the references tell
                GinRecord::DeleteListPages { metadata }
            }
            0x90 => GinRecord::VacuumDataLeafPage,
            _ => return Err(unknown(record)),
        })
    }
}

fn count(cursor: &mut Cursor<'_>, record: &'static str) -> Result<u32, DecodeError> {
    u32::try_from(cursor.i32()?).map_err(|_| DecodeError::Payload {
        record,
        what: "a negative number of tuples",
    })
}

/// Reads a block number as `BlockIdData` has it.
fn block_id(cursor: &mut Cursor<'_>) -> Result<u32, DecodeError> {
    let high = u32::from(cursor.u16()?);
    Ok(high << 16 | u32::from(cursor.u16()?))
}

impl Insert {
    fn decode(cursor: &mut Cursor<'_>) -> Result<Insert, DecodeError> {
        const IS_DATA: u16 = 1;
        const IS_LEAF: u16 = 2;
        let flags = cursor.u16()?;
        let right_child = if flags & IS_LEAF == 0 {
            cursor.skip(4)?; // the left child, which reference 1 names too
            Some(block_id(cursor)?)
        } else {
            None
        };
        Ok(Insert {
            is_data: flags & IS_DATA != 0,
            right_child,
        })
    }
}

impl DeletePage {
    fn decode(cursor: &mut Cursor<'_>) -> Result<DeletePage, DecodeError> {
        let parent_offset = cursor.u16()?;
        cursor.skip(2)?;
        Ok(DeletePage {
            parent_offset,
            right_link: cursor.u32()?,
            delete_xid: cursor.u32()?,
        })
    }
}

impl UpdateMetaPage {
    fn decode(cursor: &mut Cursor<'_>) -> Result<UpdateMetaPage, DecodeError> {
        cursor.skip(12 + 4)?; // the relation, which the references name too; padding
        let metadata = cursor.array()?;
        let (previous_tail, right_link) = (cursor.u32()?, cursor.u32()?);
        let tail = match count(cursor, "Gin/UPDATE_META_PAGE")? {
            0 if previous_tail == u32::MAX => TailChange::None,
            0 => TailChange::Link(right_link),
            tuples => TailChange::Tuples(tuples),
        };
        Ok(UpdateMetaPage { metadata, tail })
    }
}

impl<'a> EntryInsert<'a> {
    /// Reads the data of reference 0.
    pub fn decode(data: &'a [u8]) -> Result<EntryInsert<'a>, DecodeError> {
        let mut cursor = Cursor::new(data);
        let offset = cursor.u16()?;
        let replaces = cursor.bool()?;
        cursor.skip(1)?;
        Ok(EntryInsert {
            offset,
            replaces,
            tuple: cursor.rest(),
        })
    }
}

impl PostingItemInsert {
    /// Reads the data of reference 0.
    pub fn decode(data: &[u8]) -> Result<PostingItemInsert, DecodeError> {
        let mut cursor = Cursor::new(data);
        Ok(PostingItemInsert {
            offset: cursor.u16()?,
            item: cursor.array()?,
        })
    }
}

/// Takes a segment with its header and padding.
pub fn take_segment<'a>(cursor: &mut Cursor<'a>) -> Result<&'a [u8], DecodeError> {
    let mut ahead = cursor.clone();
    ahead.skip(TID_SIZE)?;
    let encoded = usize::from(ahead.u16()?);
    Ok(cursor.take(SEGMENT_HEADER_SIZE + encoded.next_multiple_of(2))?)
}

/// Reads the changes of a posting tree's leaf (`ginxlogRecompressDataLeaf`): data of reference 0 of INSERT and
/// VACUUM_DATA_LEAF_PAGE.
pub fn decode_actions(data: &[u8]) -> Result<Vec<SegmentAction<'_>>, DecodeError> {
    let mut cursor = Cursor::new(data);
    let mut actions = Vec::new();
    for _ in 0..cursor.u16()? {
        let (segment, kind) = (cursor.u8()?, cursor.u8()?);
        let change = match kind {
            1 => SegmentChange::Delete,
            2 => SegmentChange::Insert(take_segment(&mut cursor)?),
            3 => SegmentChange::Replace(take_segment(&mut cursor)?),
            4 => {
                let count = usize::from(cursor.u16()?);
                SegmentChange::AddItems(cursor.take(count * TID_SIZE)?.as_chunks().0)
            }
            _ => return Err(bad_actions("an action on a segment that does not exist")),
        };
        actions.push(SegmentAction { segment, change });
    }
    if cursor.remaining() > 0 {
        return Err(bad_actions("bytes behind the last action"));
    }
    Ok(actions)
}

fn bad_actions(what: &'static str) -> DecodeError {
    DecodeError::Payload {
        record: "Gin recompression",
        what,
    }
}

#[cfg(test)]
mod tests {
    use super::super::testing::{record, refuses_prefixes, words};
    use super::*;
    use crate::PgVersion::*;
    use crate::wal::rmgr;

    #[test]
    fn an_inner_insert_names_the_right_child() {
        let inner = record(V17, rmgr::GIN, 0x20, 0, &[1, 0, 0, 0, 7, 0, 2, 0, 9, 0]);
        refuses_prefixes(&inner, |record| GinRecord::decode(record).map(drop));
        let expected = Insert {
            is_data: true,
            right_child: Some(0x0002_0009),
        };
        assert_eq!(GinRecord::decode(&inner), Ok(GinRecord::Insert(expected)));
        let leaf = record(V17, rmgr::GIN, 0x20, 0, &[2, 0]);
        let expected = Insert {
            is_data: false,
            right_child: None,
        };
        assert_eq!(GinRecord::decode(&leaf), Ok(GinRecord::Insert(expected)));
    }

    #[test]
    fn padding_is_skipped() {
        let delete = record(
            V14,
            rmgr::GIN,
            0x50,
            0,
            &[5, 0, 0xaa, 0xaa, 6, 0, 0, 0, 7, 0, 0, 0],
        );
        refuses_prefixes(&delete, |record| GinRecord::decode(record).map(drop));
        let expected = DeletePage {
            parent_offset: 5,
            right_link: 6,
            delete_xid: 7,
        };
        assert_eq!(GinRecord::decode(&delete), Ok(GinRecord::DeletePage(expected)));
    }

    fn update(tail: [u32; 3]) -> Result<TailChange, DecodeError> {
        let mut main = vec![0xaa; 16];
        main.extend(0..META_SIZE as u8);
        main.extend(words(&tail));
        let record = record(V18, rmgr::GIN, 0x60, 0, &main);
        match GinRecord::decode(&record)? {
            GinRecord::UpdateMetaPage(update) => {
                assert_eq!((update.metadata[0], update.metadata[55]), (0, 55));
                Ok(update.tail)
            }
            other => panic!("decoded as {other:?}"),
        }
    }

    #[test]
    fn the_tail_of_a_pending_list_grows_or_gets_a_successor() {
        assert_eq!(update([u32::MAX, u32::MAX, 0]), Ok(TailChange::None));
        assert_eq!(update([3, 9, 0]), Ok(TailChange::Link(9)));
        assert_eq!(update([u32::MAX, u32::MAX, 2]), Ok(TailChange::Tuples(2)));
        assert!(update([3, 9, u32::MAX]).is_err());
    }

    #[test]
    fn actions_end_where_the_data_ends() {
        let segment = [0, 0, 1, 0, 2, 0, 3, 0, 1, 1, 1, 0];
        let mut data = vec![3, 0, 0, 1, 4, 2];
        data.extend(segment);
        data.extend([9, 4, 1, 0, 0, 0, 1, 0, 5, 0]);
        let actions = [
            (0, SegmentChange::Delete),
            (4, SegmentChange::Insert(&segment)),
            (9, SegmentChange::AddItems(&[[0, 0, 1, 0, 5, 0]])),
        ];
        let actions = actions.map(|(segment, change)| SegmentAction { segment, change });
        assert_eq!(decode_actions(&data), Ok(actions.to_vec()));
        for length in 0..data.len() {
            assert!(
                decode_actions(&data[..length]).is_err(),
                "{length} bytes were taken"
            );
        }
        data.push(0);
        assert!(decode_actions(&data).is_err());
        assert!(decode_actions(&[1, 0, 0, 5]).is_err());
    }

    #[test]
    fn what_no_version_writes_is_refused() {
        for opcode in [0x00, 0xA0, 0xF0] {
            assert!(GinRecord::decode(&record(V16, rmgr::GIN, opcode, 0, &[0; 100])).is_err());
        }
    }
}
