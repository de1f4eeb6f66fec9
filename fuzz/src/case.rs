//! A record and a page to replay it onto, as bytes that a fuzzer can change without breaking the record's framing.
//!
//! ```text
//! u8 version | u8 1 hints logged | u8 reference to replay | u8 resource manager | u8 info | u32 xid | u8 references
//! | for each: u8 id, u8 fork (3) and WILL_INIT (0x40), u32 block, u16 data length | u16 main data length
//! | data of each | main data | page, up to 8192 bytes, the rest is zero
//! ```
//! Any bytes are a case: what is missing is zero or empty, what is out of range is taken modulo the range.

use neon_postgres::wal::{NewBlock, Record, RecordBuilder};
use neon_postgres::{BLCKSZ, Page, PgVersion};
use neon_types::{Fork, RelTag};

/// Most references that a case keeps; Postgres's own records have up to 33.
const MAX_BLOCKS: usize = 33;

/// The relation that every reference names, but for the fork.
pub const REL: RelTag = RelTag {
    spc: 1663,
    db: 5,
    rel: 16384,
    fork: Fork::Main,
};

/// A reference of the record.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Block {
    /// Number of the reference, taken modulo 33.
    pub id: u8,
    /// Fork in the low two bits, WILL_INIT as 0x40.
    pub flags: u8,
    /// Block number.
    pub block: u32,
    /// The block's data.
    pub data: Vec<u8>,
}

/// A record and a page.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Case {
    /// Index into [`PgVersion::ALL`], modulo.
    pub version: u8,
    /// 1: checksums or `wal_log_hints` are on.
    pub hints: u8,
    /// The reference to replay; one past the last is asked for too.
    pub index: u8,
    /// Index into the resource managers of the target, modulo.
    pub kind: u8,
    /// `xl_info`
    pub info: u8,
    /// `xl_xid`
    pub xid: u32,
    /// The references.
    pub blocks: Vec<Block>,
    /// The main data.
    pub main: Vec<u8>,
    /// The page before; shorter than a page, it goes on with zeros.
    pub page: Vec<u8>,
}

/// Takes fields off the front of bytes, zeros when there are no more.
struct Fields<'a>(&'a [u8]);

impl<'a> Fields<'a> {
    fn take(&mut self, count: usize) -> &'a [u8] {
        let (taken, rest) = self.0.split_at(count.min(self.0.len()));
        self.0 = rest;
        taken
    }

    fn array<const N: usize>(&mut self) -> [u8; N] {
        let mut array = [0; N];
        let taken = self.take(N);
        array[..taken.len()].copy_from_slice(taken);
        array
    }

    fn u8(&mut self) -> u8 {
        u8::from_le_bytes(self.array())
    }

    fn u16(&mut self) -> u16 {
        u16::from_le_bytes(self.array())
    }

    fn u32(&mut self) -> u32 {
        u32::from_le_bytes(self.array())
    }
}

impl Case {
    /// Returns the case that these bytes are.
    pub fn decode(bytes: &[u8]) -> Case {
        let mut from = Fields(bytes);
        let mut case = Case {
            version: from.u8(),
            hints: from.u8(),
            index: from.u8(),
            kind: from.u8(),
            info: from.u8(),
            xid: from.u32(),
            ..Case::default()
        };
        let count = usize::from(from.u8()).min(MAX_BLOCKS);
        let mut lengths = Vec::new();
        for _ in 0..count {
            case.blocks.push(Block {
                id: from.u8(),
                flags: from.u8(),
                block: from.u32(),
                data: Vec::new(),
            });
            lengths.push(from.u16());
        }
        let main = from.u16();
        for (block, length) in case.blocks.iter_mut().zip(lengths) {
            block.data = from.take(length.into()).to_vec();
        }
        case.main = from.take(main.into()).to_vec();
        case.page = from.take(BLCKSZ).to_vec();
        case
    }

    /// Returns the bytes.
    pub fn encode(&self) -> Vec<u8> {
        let mut out = vec![self.version, self.hints, self.index, self.kind, self.info];
        out.extend_from_slice(&self.xid.to_le_bytes());
        out.push(self.blocks.len() as u8);
        for block in &self.blocks {
            out.extend_from_slice(&[block.id, block.flags]);
            out.extend_from_slice(&block.block.to_le_bytes());
            out.extend_from_slice(&(block.data.len() as u16).to_le_bytes());
        }
        out.extend_from_slice(&(self.main.len() as u16).to_le_bytes());
        for block in &self.blocks {
            out.extend_from_slice(&block.data);
        }
        out.extend_from_slice(&self.main);
        out.extend_from_slice(&self.page);
        out
    }

    /// Returns the case of that reference of a record; `page` is the page before. `None` when the record's resource
    /// manager is not one of `rmids`.
    pub fn of(record: &Record, index: usize, page: &Page, hints: bool, rmids: &[u8]) -> Option<Case> {
        let kind = rmids.iter().position(|rmid| *rmid == record.rmid)?;
        let version = PgVersion::ALL.iter().position(|v| *v == record.version())?;
        let block = |(index, reference): (usize, &neon_postgres::wal::BlockRef)| Block {
            id: reference.id,
            flags: reference.rel.fork as u8 | if reference.will_init { 0x40 } else { 0 },
            block: reference.block,
            data: record.block_data(index).to_vec(),
        };
        Some(Case {
            version: version as u8,
            hints: hints.into(),
            index: index as u8,
            kind: kind as u8,
            info: record.info,
            xid: record.xid,
            blocks: record.blocks.iter().enumerate().map(block).collect(),
            main: record.main_data().to_vec(),
            page: page.as_bytes().to_vec(),
        })
    }

    /// Returns the version.
    pub fn version(&self) -> PgVersion {
        PgVersion::ALL[usize::from(self.version) % PgVersion::ALL.len()]
    }

    /// Returns the record, of one of these resource managers, with length and CRC.
    pub fn record(&self, rmids: &[u8]) -> Vec<u8> {
        let rmid = rmids[usize::from(self.kind) % rmids.len()];
        let mut references: Vec<NewBlock> = Vec::new();
        for block in &self.blocks {
            let fork = Fork::from_number(block.flags & 3).unwrap_or(Fork::Main);
            let mut new = NewBlock::new(block.id % 33, REL.with_fork(fork), block.block).data(&block.data);
            new.will_init = block.flags & 0x40 != 0;
            references.push(new);
        }
        references.sort_by_key(|reference| reference.id);
        references.dedup_by_key(|reference| reference.id);
        let record = RecordBuilder::new(self.version(), rmid, self.info)
            .xid(self.xid)
            .main(&self.main);
        references.into_iter().fold(record, RecordBuilder::block).build()
    }

    /// Returns the page before.
    pub fn page(&self) -> Page {
        let mut page = Page::zeroed();
        page.as_bytes_mut()[..self.page.len()].copy_from_slice(&self.page);
        page
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn cases_round_trip_and_any_bytes_are_one() {
        let case = Case {
            version: 3,
            index: 1,
            info: 0x10,
            xid: 7,
            blocks: vec![
                Block {
                    id: 0,
                    flags: 0x40,
                    block: 9,
                    data: vec![1, 2, 3],
                },
                Block {
                    id: 2,
                    ..Block::default()
                },
            ],
            main: vec![5; 300],
            page: vec![6; BLCKSZ],
            ..Case::default()
        };
        let bytes = case.encode();
        assert_eq!(Case::decode(&bytes), case);
        for length in 0..bytes.len() {
            let cut = Case::decode(&bytes[..length]);
            assert!(
                Record::decode(cut.version(), cut.record(&[10])).is_ok(),
                "{length} bytes"
            );
        }
    }
}
