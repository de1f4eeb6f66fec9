//! Reading the bytes.

use super::super::{offset_list, unknown};
use super::{
    AddLeaf, AddNode, MoveLeafs, ParentLink, PickSplit, PlacedLeaf, SpgistRecord, SplitTuple, State,
    VacuumLeaf,
};
use crate::wal::{DecodeError, Record};
use crate::{Cursor, PgVersion};

impl<'a> SpgistRecord<'a> {
    /// Reads the main data of an SPGist record.
    pub fn decode(record: &'a Record) -> Result<SpgistRecord<'a>, DecodeError> {
        let mut cursor = Cursor::new(record.main_data());
        let c = &mut cursor;
        Ok(match record.opcode() {
            0x10 => SpgistRecord::AddLeaf(AddLeaf::decode(c)?),
            0x20 => SpgistRecord::MoveLeafs(MoveLeafs::decode(c)?),
            0x30 => SpgistRecord::AddNode(AddNode::decode(c)?),
            0x40 => SpgistRecord::SplitTuple(SplitTuple::decode(c)?),
            0x50 => SpgistRecord::PickSplit(PickSplit::decode(c)?),
            0x60 => SpgistRecord::VacuumLeaf(VacuumLeaf::decode(c)?),
            0x70 => {
                let count = c.u16()?;
                c.skip(2 + 8)?; // padding; the state, which deletion does not need
                SpgistRecord::VacuumRoot {
                    deleted: offset_list(c, count)?,
                }
            }
            0x80 => {
                let (count, first_placeholder) = (c.u16()?, c.u16()?);
                c.skip(4)?; // the conflict horizon
                if record.version() >= PgVersion::V16 {
                    c.skip(2)?; // whether the table is a catalog, and padding
                }
                SpgistRecord::VacuumRedirect {
                    redirects: offset_list(c, count)?,
                    first_placeholder,
                }
            }
            _ => return Err(unknown(record)),
        })
    }
}

impl ParentLink {
    fn decode(cursor: &mut Cursor<'_>) -> Result<ParentLink, DecodeError> {
        Ok(ParentLink {
            offset: cursor.u16()?,
            node: cursor.u16()?,
        })
    }
}

impl State {
    fn decode(cursor: &mut Cursor<'_>) -> Result<State, DecodeError> {
        let (redirect_xid, is_build) = (cursor.u32()?, cursor.bool()?);
        cursor.skip(3)?;
        Ok(State {
            redirect_xid,
            is_build,
        })
    }
}

/// Takes a leaf tuple (`SpGistLeafTupleData`): u32 of which the upper 30 bits are its size, u16, heap TID.
fn leaf_tuple<'a>(cursor: &mut Cursor<'a>) -> Result<&'a [u8], DecodeError> {
    const HEADER: usize = 12;
    let word = cursor.clone().u32()?;
    tuple(cursor, (word >> 2) as usize, HEADER)
}

/// Takes an inner tuple (`SpGistInnerTupleData`): u32, u16 size, u16 of padding.
fn inner_tuple<'a>(cursor: &mut Cursor<'a>) -> Result<&'a [u8], DecodeError> {
    const HEADER: usize = 8;
    let mut ahead = cursor.clone();
    ahead.skip(4)?;
    tuple(cursor, ahead.u16()?.into(), HEADER)
}

fn tuple<'a>(cursor: &mut Cursor<'a>, size: usize, header: usize) -> Result<&'a [u8], DecodeError> {
    if size < header {
        return Err(DecodeError::Payload {
            record: "SPGist",
            what: "a tuple smaller than its header",
        });
    }
    Ok(cursor.take(size)?)
}

impl<'a> AddLeaf<'a> {
    fn decode(cursor: &mut Cursor<'a>) -> Result<AddLeaf<'a>, DecodeError> {
        Ok(AddLeaf {
            new_page: cursor.bool()?,
            nulls: cursor.bool()?,
            leaf: cursor.u16()?,
            head: cursor.u16()?,
            parent: ParentLink::decode(cursor)?,
            tuple: leaf_tuple(cursor)?,
        })
    }
}

impl<'a> MoveLeafs<'a> {
    fn decode(cursor: &mut Cursor<'a>) -> Result<MoveLeafs<'a>, DecodeError> {
        let moves = cursor.u16()?;
        let [new_page, replace_dead, nulls] = [cursor.bool()?, cursor.bool()?, cursor.bool()?];
        cursor.skip(1)?;
        let parent = ParentLink::decode(cursor)?;
        cursor.skip(2)?;
        let state = State::decode(cursor)?;
        let deleted = offset_list(cursor, moves)?;
        // A dead tuple does not move: only the new one is inserted.
        let count = if replace_dead {
            Some(1)
        } else {
            moves.checked_add(1)
        };
        let count = count.ok_or(DecodeError::Payload {
            record: "SPGist/MOVE_LEAFS",
            what: "more tuples than can be counted",
        })?;
        let offsets = offset_list(cursor, count)?;
        let inserted: Result<_, DecodeError> = offsets
            .into_iter()
            .map(|offset| Ok((offset, leaf_tuple(cursor)?)))
            .collect();
        Ok(MoveLeafs {
            new_page,
            nulls,
            parent,
            state,
            deleted,
            inserted: inserted?,
        })
    }
}

impl<'a> AddNode<'a> {
    fn decode(cursor: &mut Cursor<'a>) -> Result<AddNode<'a>, DecodeError> {
        let (offset, new_offset, new_page) = (cursor.u16()?, cursor.u16()?, cursor.bool()?);
        let parent_id = match cursor.u8()? {
            0xff => None,
            id @ 0..=2 => Some(id),
            _ => {
                return Err(DecodeError::Payload {
                    record: "SPGist/ADD_NODE",
                    what: "a parent on a block that the record does not have",
                });
            }
        };
        let parent = ParentLink::decode(cursor)?;
        cursor.skip(2)?;
        Ok(AddNode {
            offset,
            new_offset,
            new_page,
            parent_id,
            parent,
            state: State::decode(cursor)?,
            tuple: inner_tuple(cursor)?,
        })
    }
}

impl<'a> SplitTuple<'a> {
    fn decode(cursor: &mut Cursor<'a>) -> Result<SplitTuple<'a>, DecodeError> {
        Ok(SplitTuple {
            prefix_offset: cursor.u16()?,
            postfix_offset: cursor.u16()?,
            new_page: cursor.bool()?,
            same_page: cursor.bool()?,
            prefix: inner_tuple(cursor)?,
            postfix: inner_tuple(cursor)?,
        })
    }
}

impl<'a> PickSplit<'a> {
    fn decode(cursor: &mut Cursor<'a>) -> Result<PickSplit<'a>, DecodeError> {
        cursor.skip(2)?; // whether the root was split, which shows in the references; padding
        let (deletes, inserts) = (cursor.u16()?, cursor.u16()?);
        let [init_source, init_destination] = [cursor.bool()?, cursor.bool()?];
        let inner_offset = cursor.u16()?;
        let [init_inner, nulls, inner_is_parent] = [cursor.bool()?, cursor.bool()?, cursor.bool()?];
        cursor.skip(1)?;
        let parent = ParentLink::decode(cursor)?;
        cursor.skip(2)?;
        let state = State::decode(cursor)?;
        let deleted = offset_list(cursor, deletes)?;
        let offsets = offset_list(cursor, inserts)?;
        let selected = cursor.take(inserts.into())?;
        let inner = inner_tuple(cursor)?;
        let inserted: Result<_, DecodeError> = offsets
            .into_iter()
            .zip(selected)
            .map(|(offset, page)| {
                Ok(PlacedLeaf {
                    on_destination: *page != 0,
                    offset,
                    tuple: leaf_tuple(cursor)?,
                })
            })
            .collect();
        Ok(PickSplit {
            init_source,
            init_destination,
            init_inner,
            nulls,
            inner_is_parent,
            parent,
            state,
            deleted,
            inner_offset,
            inner,
            inserted: inserted?,
        })
    }
}

impl VacuumLeaf {
    fn decode(cursor: &mut Cursor<'_>) -> Result<VacuumLeaf, DecodeError> {
        let [dead, placeholders, moves, chained] =
            [cursor.u16()?, cursor.u16()?, cursor.u16()?, cursor.u16()?];
        let state = State::decode(cursor)?;
        let (dead, placeholders) = (offset_list(cursor, dead)?, offset_list(cursor, placeholders)?);
        let mut pairs = |count| -> Result<Vec<(u16, u16)>, DecodeError> {
            let from = offset_list(cursor, count)?;
            Ok(from.into_iter().zip(offset_list(cursor, count)?).collect())
        };
        Ok(VacuumLeaf {
            state,
            dead,
            placeholders,
            moved: pairs(moves)?,
            chained: pairs(chained)?,
        })
    }
}
