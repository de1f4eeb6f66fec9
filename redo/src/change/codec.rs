//! Bytes of a [`Change`]: a tag byte and little-endian fields (`docs/format/change.md`).

use super::{
    Change, HEAP_BLOCKS_PER_VM_PAGE, MEMBERS_PER_MEMBERS_PAGE, MULTIXACTS_PER_OFFSETS_PAGE, MultixactMember,
    MultixactOffset, VM_ALL_FROZEN, VM_ALL_VISIBLE, VmBits, XACTS_PER_CLOG_PAGE, XACTS_PER_COMMIT_TS_PAGE,
    XactState,
};

/// Longest encoding: a clog page all of whose transactions end in one record.
pub const MAX_CHANGE_SIZE: usize = 2 + 2 * XACTS_PER_CLOG_PAGE as usize;

const ZERO: u8 = 1;
const CLEAR_VM: u8 = 2;
const TRUNCATE_VM_TAIL: u8 = 3;
const XACT_STATUS: u8 = 4;
const COMMIT_TS: u8 = 5;
const MULTIXACT_OFFSETS: u8 = 6;
const MULTIXACT_MEMBERS: u8 = 7;

/// Highest `MultiXactStatus` (`MultiXactStatusUpdate`).
const MAX_MEMBER_STATUS: u8 = 5;

/// The bytes are not a change of this format version.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum ChangeError {
    /// Longer than any change.
    #[error("change of {0} bytes is longer than the limit of {MAX_CHANGE_SIZE}")]
    TooLong(usize),
    /// Ends too early, or has bytes left over.
    #[error("change of {0} bytes has the wrong length for its kind")]
    Length(usize),
    /// The first byte names no change.
    #[error("unknown change tag {0}")]
    Tag(u8),
    /// A field is out of its range.
    #[error("{field} {value} of a change is out of range")]
    Range {
        /// Which field.
        field: &'static str,
        /// Its value.
        value: u32,
    },
}

impl Change {
    /// Returns the change as bytes.
    pub fn encode(&self) -> Vec<u8> {
        let mut out = Vec::with_capacity(16);
        match self {
            Change::Zero => out.push(ZERO),
            Change::ClearVm(blocks) => {
                out.push(CLEAR_VM);
                for block in blocks {
                    out.extend_from_slice(&block.slot.to_le_bytes());
                    out.push(block.bits);
                }
            }
            Change::TruncateVmTail { keep } => {
                out.push(TRUNCATE_VM_TAIL);
                out.extend_from_slice(&keep.to_le_bytes());
            }
            Change::XactStatus { state, slots } => {
                out.push(XACT_STATUS);
                out.push(*state as u8);
                put_slots(&mut out, slots);
            }
            Change::CommitTs { time, origin, slots } => {
                out.push(COMMIT_TS);
                out.extend_from_slice(&time.to_le_bytes());
                out.extend_from_slice(&origin.to_le_bytes());
                put_slots(&mut out, slots);
            }
            Change::MultixactOffsets { fresh, entries } => {
                out.push(MULTIXACT_OFFSETS);
                out.push(u8::from(*fresh));
                for entry in entries {
                    out.extend_from_slice(&entry.slot.to_le_bytes());
                    out.extend_from_slice(&entry.offset.to_le_bytes());
                }
            }
            Change::MultixactMembers(members) => {
                out.push(MULTIXACT_MEMBERS);
                for member in members {
                    out.extend_from_slice(&member.slot.to_le_bytes());
                    out.extend_from_slice(&member.xid.to_le_bytes());
                    out.push(member.status);
                }
            }
        }
        out
    }

    /// Returns the change that these bytes encode. Every slot is in the range of its kind of page.
    pub fn decode(bytes: &[u8]) -> Result<Change, ChangeError> {
        if bytes.len() > MAX_CHANGE_SIZE {
            return Err(ChangeError::TooLong(bytes.len()));
        }
        let mut fields = Fields { bytes, left: bytes };
        let change = match fields.u8()? {
            ZERO => Change::Zero,
            CLEAR_VM => Change::ClearVm(fields.rest(|f| {
                let slot = f.slot(HEAP_BLOCKS_PER_VM_PAGE)?;
                let bits = f.u8()?;
                in_range("visibility map bits", bits, 1, VM_ALL_VISIBLE | VM_ALL_FROZEN)?;
                Ok(VmBits { slot, bits })
            })?),
            TRUNCATE_VM_TAIL => Change::TruncateVmTail {
                keep: fields.slot(HEAP_BLOCKS_PER_VM_PAGE)?,
            },
            XACT_STATUS => Change::XactStatus {
                state: match fields.u8()? {
                    1 => XactState::Committed,
                    2 => XactState::Aborted,
                    3 => XactState::SubCommitted,
                    other => {
                        return Err(ChangeError::Range {
                            field: "transaction state",
                            value: u32::from(other),
                        });
                    }
                },
                slots: fields.rest(|f| f.slot(XACTS_PER_CLOG_PAGE))?,
            },
            COMMIT_TS => Change::CommitTs {
                time: i64::from_le_bytes(fields.array()?),
                origin: u16::from_le_bytes(fields.array()?),
                slots: fields.rest(|f| f.slot(XACTS_PER_COMMIT_TS_PAGE))?,
            },
            MULTIXACT_OFFSETS => Change::MultixactOffsets {
                fresh: in_range("fresh flag", fields.u8()?, 0, 1)? == 1,
                entries: fields.rest(|f| {
                    Ok(MultixactOffset {
                        slot: f.slot(MULTIXACTS_PER_OFFSETS_PAGE)?,
                        offset: u32::from_le_bytes(f.array()?),
                    })
                })?,
            },
            MULTIXACT_MEMBERS => Change::MultixactMembers(fields.rest(|f| {
                Ok(MultixactMember {
                    slot: f.slot(MEMBERS_PER_MEMBERS_PAGE)?,
                    xid: u32::from_le_bytes(f.array()?),
                    status: in_range("multixact member status", f.u8()?, 0, MAX_MEMBER_STATUS)?,
                })
            })?),
            other => return Err(ChangeError::Tag(other)),
        };
        if fields.left.is_empty() {
            Ok(change)
        } else {
            Err(ChangeError::Length(bytes.len()))
        }
    }
}

fn put_slots(out: &mut Vec<u8>, slots: &[u16]) {
    out.reserve(slots.len() * 2);
    for slot in slots {
        out.extend_from_slice(&slot.to_le_bytes());
    }
}

fn in_range(field: &'static str, value: u8, low: u8, high: u8) -> Result<u8, ChangeError> {
    if (low..=high).contains(&value) {
        Ok(value)
    } else {
        Err(ChangeError::Range {
            field,
            value: u32::from(value),
        })
    }
}

struct Fields<'a> {
    bytes: &'a [u8],
    left: &'a [u8],
}

impl Fields<'_> {
    fn array<const N: usize>(&mut self) -> Result<[u8; N], ChangeError> {
        let (head, tail) = self
            .left
            .split_first_chunk::<N>()
            .ok_or(ChangeError::Length(self.bytes.len()))?;
        self.left = tail;
        Ok(*head)
    }

    fn u8(&mut self) -> Result<u8, ChangeError> {
        self.array::<1>().map(|[byte]| byte)
    }

    fn slot(&mut self, limit: u32) -> Result<u16, ChangeError> {
        let slot = u16::from_le_bytes(self.array()?);
        if u32::from(slot) < limit {
            Ok(slot)
        } else {
            Err(ChangeError::Range {
                field: "slot",
                value: u32::from(slot),
            })
        }
    }

    /// Reads entries up to the end of the bytes.
    fn rest<T>(
        &mut self,
        mut read: impl FnMut(&mut Self) -> Result<T, ChangeError>,
    ) -> Result<Vec<T>, ChangeError> {
        let mut entries = Vec::new();
        while !self.left.is_empty() {
            entries.push(read(self)?);
        }
        Ok(entries)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn samples() -> Vec<Change> {
        vec![
            Change::Zero,
            Change::ClearVm(vec![VmBits { slot: 0, bits: 3 }, VmBits { slot: 32671, bits: 2 }]),
            Change::TruncateVmTail { keep: 32671 },
            Change::XactStatus {
                state: XactState::Committed,
                slots: vec![3, 32767],
            },
            Change::XactStatus {
                state: XactState::SubCommitted,
                slots: vec![],
            },
            Change::CommitTs {
                time: -5,
                origin: 7,
                slots: vec![818],
            },
            Change::MultixactOffsets {
                fresh: true,
                entries: vec![MultixactOffset {
                    slot: 2047,
                    offset: u32::MAX,
                }],
            },
            Change::MultixactMembers(vec![MultixactMember {
                slot: 1635,
                xid: 0x0102_0304,
                status: 5,
            }]),
        ]
    }

    #[test]
    fn changes_round_trip() {
        for change in samples() {
            assert_eq!(Change::decode(&change.encode()), Ok(change));
        }
    }

    #[test]
    fn the_bytes_are_as_documented() {
        let bytes: Vec<Vec<u8>> = samples().iter().map(Change::encode).collect();
        assert_eq!(bytes[0], [1]);
        assert_eq!(bytes[1], [2, 0, 0, 3, 0x9f, 0x7f, 2]);
        assert_eq!(bytes[2], [3, 0x9f, 0x7f]);
        assert_eq!(bytes[3], [4, 1, 3, 0, 0xff, 0x7f]);
        assert_eq!(bytes[4], [4, 3]);
        assert_eq!(
            bytes[5],
            [5, 0xfb, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 7, 0, 0x32, 3]
        );
        assert_eq!(bytes[6], [6, 1, 0xff, 7, 0xff, 0xff, 0xff, 0xff]);
        assert_eq!(bytes[7], [7, 0x63, 6, 4, 3, 2, 1, 5]);
    }

    #[test]
    fn damaged_bytes_are_refused() {
        for change in samples() {
            let bytes = change.encode();
            let mut longer = bytes.clone();
            longer.push(0xff);
            assert!(Change::decode(&longer).is_err(), "{change:?} with a byte more");
        }
        assert_eq!(Change::decode(&[]), Err(ChangeError::Length(0)));
        assert_eq!(Change::decode(&[9]), Err(ChangeError::Tag(9)));
        assert_eq!(Change::decode(&[3, 1]), Err(ChangeError::Length(2)));
        assert!(matches!(
            Change::decode(&[4, 0]),
            Err(ChangeError::Range { value: 0, .. })
        ));
        assert!(matches!(
            Change::decode(&[4, 1, 0, 0x80]),
            Err(ChangeError::Range { value: 0x8000, .. })
        ));
        assert!(matches!(
            Change::decode(&[2, 0, 0, 4]),
            Err(ChangeError::Range { .. })
        ));
        assert_eq!(
            Change::decode(&vec![4; MAX_CHANGE_SIZE + 1]),
            Err(ChangeError::TooLong(MAX_CHANGE_SIZE + 1))
        );
    }
}
