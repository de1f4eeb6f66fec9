//! Choosing a few checked references of each shape.

use std::collections::HashMap;

use neon_postgres::PgVersion;
use neon_postgres::records::gin::{SegmentChange, decode_actions};
use neon_postgres::wal::{Record, rmgr};

use super::fixture::Fixture;

/// Keeps the first references of each shape: kind of record, id of the reference, flags, size class of its lists.
pub struct Sampler {
    per_shape: usize,
    found: HashMap<Vec<u8>, usize>,
    fixtures: Vec<Fixture>,
}

impl Sampler {
    /// Keeps up to `per_shape` references of each shape; 0 keeps none and costs nothing.
    pub fn new(per_shape: usize) -> Sampler {
        Sampler {
            per_shape,
            found: HashMap::new(),
            fixtures: Vec::new(),
        }
    }

    /// Returns what was kept, in the order of the log.
    pub fn into_fixtures(self) -> Vec<Fixture> {
        self.fixtures
    }

    pub(super) fn wants(&self, record: &Record, index: usize) -> bool {
        self.per_shape > 0
            && self
                .found
                .get(&shape(record, index))
                .is_none_or(|count| *count < self.per_shape)
    }

    pub(super) fn add(&mut self, fixture: Fixture) {
        *self
            .found
            .entry(shape(&fixture.record, fixture.index))
            .or_default() += 1;
        self.fixtures.push(fixture);
    }
}

/// Returns bytes that are equal for references that take the same way through replay.
fn shape(record: &Record, index: usize) -> Vec<u8> {
    let main = record.main_data();
    let byte = |at: usize| main.get(at).copied().unwrap_or(0);
    // 0, 1, 2, many: lists of up to two items are treated differently from longer ones.
    let word = |at: usize| u8::from(byte(at + 1) > 0).max(byte(at).min(3));
    let (rmid, opcode) = (record.rmid, record.opcode());
    let id = record.blocks.get(index).map_or(0, |reference| reference.id);
    let mut shape = vec![rmid, opcode, id, record.blocks.len() as u8];
    match (rmid, opcode & 0x70) {
        (rmgr::HEAP, 0x00) => shape.push(byte(2)),
        (rmgr::HEAP, 0x20 | 0x40) => shape.extend([byte(6), byte(7)]),
        (rmgr::HEAP, 0x10 | 0x60) | (rmgr::HEAP2, 0x60) => shape.extend([byte(6), byte(7)]),
        (rmgr::HEAP2, 0x10..=0x30) if record.version() >= PgVersion::V17 => shape.push(byte(1)),
        (rmgr::HEAP2, 0x10) => shape.extend([word(4), word(6)]),
        (rmgr::HEAP2, 0x20) => shape.push(word(0)),
        (rmgr::HEAP2, 0x40) => shape.push(byte(4)),
        (rmgr::HEAP2, 0x50) => shape.push(byte(0)),
        _ => {}
    }
    match (rmid, opcode) {
        (rmgr::BTREE, 0x30 | 0x40) => shape.extend([byte(0).min(1), word(8)]),
        (rmgr::BTREE, 0x60) => shape.push(word(0)),
        (rmgr::BTREE, 0x70) => shape.extend([word(4), word(6)]),
        (rmgr::BTREE, 0xC0) => shape.extend([word(0), word(2)]),
        (rmgr::GIN, 0x20 | 0x90) => shape.extend([byte(0), gin_change(record, index)]),
        // Number of tuples.
        (rmgr::GIN, 0x60) => shape.push(word(80)),
        // All pages but the first are treated alike, however many there are.
        (rmgr::GIN, 0x80) => shape = vec![rmid, opcode, id.min(1)],
        (rmgr::HASH, 0x30) => shape.push(byte(2)),
        (rmgr::HASH, 0x40) => shape.push(byte(8)),
        (rmgr::HASH, 0x70) => shape.push(word(0)),
        (rmgr::HASH, 0x80) => shape.extend([word(8), byte(10), byte(11)]),
        (rmgr::HASH, 0x90) => shape.push(byte(0)),
        (rmgr::HASH, 0xC0) => shape.push(word(4)),
        (rmgr::GIST, 0x00) => shape.extend([word(0), word(2)]),
        (rmgr::GIST, 0x10) => shape.push(word(4)),
        // A split page can become dozens: only the old left page, a first, a middle and a last one differ.
        (rmgr::GIST, 0x30) => {
            shape.truncate(2);
            let is_root = record
                .blocks
                .iter()
                .any(|reference| reference.id == 1 && reference.block == 0);
            shape.extend([
                id.min(2),
                u8::from(id < byte(18)),
                byte(16),
                byte(20),
                u8::from(is_root),
            ]);
        }
        (rmgr::SPGIST, 0x10) => {
            let replaces = main.get(2..4) == main.get(4..6);
            shape.extend([byte(0), byte(1), replaces.into(), word(4).min(1), word(6).min(1)]);
        }
        (rmgr::SPGIST, 0x20) => shape.extend([word(0), byte(2), byte(3), byte(4)]),
        (rmgr::SPGIST, 0x30 | 0x40) => shape.extend([byte(4), byte(5)]),
        (rmgr::SPGIST, 0x50) => shape.extend([byte(0), byte(6), byte(7), byte(10), byte(11), byte(12)]),
        (rmgr::SPGIST, 0x60) => shape.extend([word(0).min(1), word(2), word(4), word(6).min(1)]),
        (rmgr::SPGIST, 0x70) => shape.push(word(0)),
        (rmgr::SPGIST, 0x80) => shape.extend([word(0).min(1), word(2).min(1)]),
        _ => {}
    }
    shape
}

/// Returns what a Gin record does to the page of a tree: a bit for each kind of action on segments of a posting tree's leaf,
/// or whether a tuple is replaced.
fn gin_change(record: &Record, index: usize) -> u8 {
    const IS_DATA: u8 = 1;
    let data = record.block_data(index);
    let flags = record.main_data().first().copied();
    if record.opcode() == 0x20 && flags.is_some_and(|flags| flags & IS_DATA == 0) {
        return data.get(2).copied().unwrap_or(0);
    }
    let actions = decode_actions(data).unwrap_or_default();
    actions.iter().fold(0, |bits, action| {
        bits | match action.change {
            SegmentChange::Delete => 1,
            SegmentChange::Insert(_) => 2,
            SegmentChange::Replace(_) => 4,
            SegmentChange::AddItems(_) => 8,
        }
    })
}
