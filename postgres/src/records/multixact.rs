//! Multixacts: sets of transactions that lock one row.

use super::{slru_page, unknown};
use crate::Cursor;
use crate::wal::{DecodeError, Record};

/// Opcode: a page of offsets begins.
pub const ZERO_OFF_PAGE: u8 = 0x00;
/// Opcode: a page of members begins.
pub const ZERO_MEM_PAGE: u8 = 0x10;
/// Opcode: a multixact is made.
pub const CREATE_ID: u8 = 0x20;
/// Opcode: old segments go.
pub const TRUNCATE_ID: u8 = 0x30;

/// A record of the multixacts.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum MultixactRecord {
    /// The page of offsets becomes zeros.
    ZeroOffsetsPage(u32),
    /// The page of members becomes zeros.
    ZeroMembersPage(u32),
    /// A multixact is made.
    Create {
        /// Its id.
        multi: u32,
        /// Where its members begin in `pg_multixact/members`, counted in members.
        offset: u32,
        /// Its members.
        members: Vec<Member>,
    },
    /// Old segments go.
    Truncate {
        /// Database that holds back the oldest multixact.
        oldest_db: u32,
        /// First multixact of the range that goes.
        start_multi: u32,
        /// First multixact that stays: the oldest from now on.
        end_multi: u32,
        /// First member of the range that goes.
        start_member: u32,
        /// First member that stays.
        end_member: u32,
    },
}

/// A transaction in a multixact.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Member {
    /// The transaction.
    pub xid: u32,
    /// What it does to the row (`MultiXactStatus`, 0 to 5).
    pub status: u32,
}

impl MultixactRecord {
    /// Reads the main data of a MultiXact record.
    pub fn decode(record: &Record) -> Result<MultixactRecord, DecodeError> {
        let mut cursor = Cursor::new(record.main_data());
        let version = record.version();
        match record.opcode() {
            ZERO_OFF_PAGE => slru_page(&mut cursor, version, "MultiXact/ZERO_OFF_PAGE")
                .map(MultixactRecord::ZeroOffsetsPage),
            ZERO_MEM_PAGE => slru_page(&mut cursor, version, "MultiXact/ZERO_MEM_PAGE")
                .map(MultixactRecord::ZeroMembersPage),
            CREATE_ID => {
                let (multi, offset) = (cursor.u32()?, cursor.u32()?);
                let members = cursor.count(8)?;
                let members = (0..members)
                    .map(|_| member(&mut cursor))
                    .collect::<Result<_, _>>()?;
                Ok(MultixactRecord::Create {
                    multi,
                    offset,
                    members,
                })
            }
            TRUNCATE_ID => Ok(MultixactRecord::Truncate {
                oldest_db: cursor.u32()?,
                start_multi: cursor.u32()?,
                end_multi: cursor.u32()?,
                start_member: cursor.u32()?,
                end_member: cursor.u32()?,
            }),
            _ => Err(unknown(record)),
        }
    }
}

fn member(cursor: &mut Cursor<'_>) -> Result<Member, DecodeError> {
    let (xid, status) = (cursor.u32()?, cursor.u32()?);
    if status > 5 {
        return Err(DecodeError::Payload {
            record: "MultiXact/CREATE_ID",
            what: "a member status that does not exist",
        });
    }
    Ok(Member { xid, status })
}

#[cfg(test)]
mod tests {
    use super::super::testing::{record, refuses_prefixes, words};
    use super::*;
    use crate::PgVersion::*;
    use crate::wal::rmgr::MULTIXACT;

    #[test]
    fn members_are_read() {
        let create = record(
            V15,
            MULTIXACT,
            CREATE_ID,
            7,
            &words(&[77, 100, 2, 740, 1, 741, 5]),
        );
        let members = vec![Member { xid: 740, status: 1 }, Member { xid: 741, status: 5 }];
        assert_eq!(
            MultixactRecord::decode(&create),
            Ok(MultixactRecord::Create {
                multi: 77,
                offset: 100,
                members
            })
        );
        refuses_prefixes(&create, MultixactRecord::decode);
        let strange = record(V15, MULTIXACT, CREATE_ID, 7, &words(&[77, 100, 1, 740, 6]));
        assert!(MultixactRecord::decode(&strange).is_err());
        let negative = record(V15, MULTIXACT, CREATE_ID, 7, &words(&[77, 100, u32::MAX]));
        assert!(MultixactRecord::decode(&negative).is_err());
    }

    #[test]
    fn truncation_names_both_ranges() {
        let truncate = record(V17, MULTIXACT, TRUNCATE_ID, 0, &words(&[5, 1, 2, 3, 4]));
        assert_eq!(
            MultixactRecord::decode(&truncate),
            Ok(MultixactRecord::Truncate {
                oldest_db: 5,
                start_multi: 1,
                end_multi: 2,
                start_member: 3,
                end_member: 4
            })
        );
        refuses_prefixes(&truncate, MultixactRecord::decode);
    }
}
