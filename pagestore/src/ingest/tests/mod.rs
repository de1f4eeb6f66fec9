//! Records built by hand, and what they must change.

mod relations;
mod transactions;

use std::collections::BTreeMap;
use std::sync::Arc;

use neon_postgres::PgVersion;
use neon_postgres::checkpoint::CheckpointState;
use neon_postgres::control::{CheckPoint, ControlFile};
use neon_postgres::wal::{Record, RecordBuilder};
use neon_redo::change::Change;
use neon_types::{Fork, Key, KeyRange, Lsn, PackedKey, RelTag};

use super::{Effect, Ingest, State};
use crate::items::{RelSize, SlruSegments};
use crate::{PageStoreError, Result, Value};

/// A state in memory that takes in every effect.
struct History {
    version: PgVersion,
    items: BTreeMap<PackedKey, Arc<[u8]>>,
    ingest: Ingest,
    end: Lsn,
}

impl State for BTreeMap<PackedKey, Arc<[u8]>> {
    fn item(&self, key: Key) -> Result<Option<Arc<[u8]>>> {
        Ok(self.get(&key.pack()).cloned())
    }

    fn scan_items(&self, range: KeyRange, f: &mut dyn FnMut(Key, &[u8]) -> Result<()>) -> Result<()> {
        let mut items = self.range(range.start..range.end);
        items.try_for_each(|(key, bytes)| f(Key::unpack(key).expect("a key"), bytes))
    }
}

impl History {
    /// Begins with transaction 1000 of epoch `epoch` as the next one.
    fn new(version: PgVersion, epoch: u64) -> History {
        let mut image = vec![0; if version >= PgVersion::V18 { 292 } else { 288 }];
        image[8..12].copy_from_slice(&version.control_version().to_le_bytes());
        image[12..16].copy_from_slice(&version.catalog_version().to_le_bytes());
        let state = CheckpointState {
            checkpoint: CheckPoint {
                next_xid: epoch << 32 | 1000,
                next_multi: 1,
                ..CheckPoint::default()
            },
            last_time: 0,
            last_record: Lsn(0x100),
            control: ControlFile::from_image(&image)
                .expect("a control file")
                .image()
                .to_vec(),
        };
        let mut history = History {
            version,
            items: BTreeMap::new(),
            ingest: Ingest::new(version),
            end: Lsn(0x1000),
        };
        history.set(Key::Checkpoint, &state.encode(version));
        history
    }

    fn set(&mut self, key: Key, bytes: &[u8]) {
        self.items.insert(key.pack(), bytes.into());
    }

    fn record(&self, rmid: u8, info: u8) -> RecordBuilder {
        RecordBuilder::new(self.version, rmid, info)
    }

    /// Takes a record of 0x100 bytes in; returns its effects other than that on the checkpoint.
    fn take(&mut self, record: &RecordBuilder) -> Vec<(Key, Effect)> {
        let mut effects = self.try_take(record).expect("effects");
        effects.retain(|(key, _)| *key != Key::Checkpoint);
        effects
    }

    fn try_take(&mut self, record: &RecordBuilder) -> Result<Vec<(Key, Effect)>> {
        let record = Record::decode(self.version, record.build()).expect("a record");
        let (start, end) = (self.end, Lsn(self.end.0 + 0x100));
        let effects = self.ingest.effects(&record, start, end, &self.items)?;
        self.end = end;
        for (index, (key, effect)) in effects.iter().enumerate() {
            assert!(
                effects.iter().skip(index + 1).all(|(other, _)| other != key),
                "two effects on {key:?}"
            );
            match effect {
                Effect::Put(Value::Item(bytes)) => {
                    self.items.insert(key.pack(), bytes.as_slice().into());
                }
                Effect::Put(Value::Absent) => {
                    self.items.remove(&key.pack());
                }
                _ => (),
            }
        }
        Ok(effects)
    }

    fn size(&self, rel: RelTag) -> Option<RelSize> {
        let bytes = self.items.get(&Key::RelSize(rel).pack())?;
        Some(RelSize::decode(bytes).expect("a relation size"))
    }

    fn segments(&self, kind: neon_types::SlruKind) -> SlruSegments {
        let bytes = self.items.get(&Key::SlruSegments(kind).pack());
        bytes
            .map(|bytes| SlruSegments::decode(bytes).expect("segments"))
            .unwrap_or_default()
    }

    fn checkpoint(&self) -> CheckpointState {
        let bytes = self.items.get(&Key::Checkpoint.pack()).expect("a checkpoint");
        CheckpointState::decode(bytes).expect("a checkpoint").1
    }
}

fn rel(number: u32) -> RelTag {
    RelTag {
        spc: 1663,
        db: 5,
        rel: number,
        fork: Fork::Main,
    }
}

/// Returns the changes among the effects.
fn changes(effects: &[(Key, Effect)]) -> Vec<(Key, Change)> {
    effects
        .iter()
        .filter_map(|(key, effect)| match effect {
            Effect::Put(Value::Change(bytes)) => Some((*key, Change::decode(bytes).expect("a change"))),
            _ => None,
        })
        .collect()
}

/// Returns the keys that cease to exist.
fn absent(effects: &[(Key, Effect)]) -> Vec<Key> {
    effects
        .iter()
        .filter(|(_, effect)| matches!(effect, Effect::Put(Value::Absent)))
        .map(|(key, _)| *key)
        .collect()
}

/// Returns little-endian words as bytes.
fn words(words: &[u32]) -> Vec<u8> {
    words.iter().flat_map(|word| word.to_le_bytes()).collect()
}

#[test]
fn unknown_records_are_indexed_by_their_blocks() {
    use neon_postgres::wal::NewBlock;
    let mut history = History::new(PgVersion::V15, 0);
    // A custom resource manager, and an opcode that no resource manager has.
    for (rmid, info) in [(131, 0x30), (0, 0xC0), (1, 0x70), (2, 0xF0), (6, 0x70), (4, 0x90)] {
        let record = history
            .record(rmid, info)
            .block(NewBlock::new(0, rel(rmid.into()), 2))
            .main(&[0; 16]);
        let effects = history.take(&record);
        let key = Key::Block(rel(rmid.into()), 2);
        assert_eq!(
            effects.first(),
            Some(&(key, Effect::Block { index: 0 })),
            "{rmid} {info:#x}"
        );
        assert_eq!(effects.len(), 2, "{rmid} {info:#x}");
    }
}

#[test]
fn the_checkpoint_is_a_version_only_when_it_changed() {
    let mut history = History::new(PgVersion::V15, 0);
    let record = history.record(8, 0x10).main(&[0; 24]);
    assert_eq!(history.try_take(&record).expect("effects"), []);
    let record = history.record(8, 0x10).xid(1234).main(&[0; 24]);
    let effects = history.try_take(&record).expect("effects");
    assert_eq!(effects.len(), 1);
    assert_eq!(history.checkpoint().checkpoint.next_xid, 1235);
    assert_eq!(history.checkpoint().last_record, Lsn(0x1100));
    assert_eq!(history.try_take(&record).expect("effects"), []);
}

#[test]
fn an_error_forgets_what_was_looked_up() {
    let mut history = History::new(PgVersion::V15, 0);
    // A commit that ends in the middle of its time.
    let bad = history.record(1, 0x00).xid(5000).main(&[1, 2, 3]);
    assert!(matches!(
        history.try_take(&bad),
        Err(PageStoreError::Damaged { .. })
    ));
    let good = history.record(8, 0x10).xid(1001).main(&[0; 24]);
    history.take(&good);
    assert_eq!(
        history.checkpoint().checkpoint.next_xid,
        1002,
        "the bad record left a trace"
    );
}

#[test]
fn a_history_without_checkpoint_state_is_refused() {
    let mut history = History::new(PgVersion::V15, 0);
    history.items.clear();
    let record = history.record(8, 0x10).main(&[0; 24]);
    assert!(history.try_take(&record).is_err());
}
