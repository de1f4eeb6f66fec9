//! From a record to the versions that it makes.

use std::collections::HashSet;

use neon_postgres::PgVersion;
use neon_postgres::wal::{Record, rmgr};
use neon_types::{Key, Lsn, PackedKey, RelTag};

use super::history::Mark;
use super::open::{OpenVersion, Slot};
use crate::boundaries::RecordSpan;
use crate::items::RelSize;
use crate::value::Value;
use crate::{Effect, Ingest, PageStoreError, Result, State};

/// `XLOG_XACT_COMMIT` and `XLOG_XACT_COMMIT_PREPARED`.
const COMMITS: [u8; 2] = [0x00, 0x30];
/// Bits of a transaction record's `info` that are its kind.
const XACT_OPCODE: u8 = 0x70;

/// What making versions needs between records; all of it can be looked up again.
pub(super) struct Versions {
    ingest: Ingest,
    /// Relations whose first unknown record is noted.
    marked: HashSet<RelTag>,
}

impl Versions {
    pub(super) fn new(version: PgVersion) -> Versions {
        Versions {
            ingest: Ingest::new(version),
            marked: HashSet::new(),
        }
    }

    /// Forgets which relations are marked: their marks may be in layers now.
    pub(super) fn forget_marks(&mut self) {
        self.marked.clear();
    }

    /// Returns the versions that a record makes, one for each key; `state` is what the records before it left behind.
    ///
    /// Errors: why the record cannot be taken in, as text where it is the record that makes no sense.
    pub(super) fn of(
        &mut self,
        record: &Record,
        span: RecordSpan,
        state: &dyn State,
        broken: &dyn Fn(String) -> PageStoreError,
    ) -> Result<Vec<(PackedKey, OpenVersion)>> {
        let effects = self.ingest.effects(record, span.start, span.end, state)?;
        let mut versions = Vec::with_capacity(effects.len());
        let mut blocks = false;
        for (key, effect) in effects {
            let (whole, slot) = match effect {
                Effect::Block { index } => {
                    blocks = true;
                    let whole = !neon_redo::needs_base(record, index);
                    let index = u8::try_from(index).map_err(|error| broken(error.to_string()))?;
                    let start = span.start;
                    (whole, Slot::Wal { start, index })
                }
                Effect::Put(Value::Record(_)) => {
                    return Err(broken(format!("ingest made a record of its own for {key:?}")));
                }
                Effect::Put(value) => (value.is_whole(false), Slot::of(value)),
            };
            let lsn = span.end;
            versions.push((key.pack(), OpenVersion { lsn, whole, slot }));
        }
        if blocks && !neon_redo::is_supported(record.rmid, record.info) {
            self.mark_unreadable(record, span.end, state, &mut versions)?;
        }
        Ok(versions)
    }

    /// Notes the first record of a relation, since it was created, that redo does not know.
    fn mark_unreadable(
        &mut self,
        record: &Record,
        end: Lsn,
        state: &dyn State,
        versions: &mut Vec<(PackedKey, OpenVersion)>,
    ) -> Result<()> {
        for block in &record.blocks {
            if block.image.as_ref().is_some_and(|image| image.apply) || self.marked.contains(&block.rel) {
                continue;
            }
            let size = state.item(Key::RelSize(block.rel))?;
            let size = size.map(|bytes| RelSize::decode(&bytes)).transpose();
            let created = size
                .map_err(|error| {
                    PageStoreError::damaged(format!("the size of relation {}", block.rel), error)
                })?
                .map_or(Lsn::INVALID, |size| size.floor(0));
            let key = Key::Unreadable(block.rel);
            let known = state.item(key)?;
            let known = known.map(|bytes| Mark::decode(&bytes)).transpose()?;
            if known.is_none_or(|mark| mark.lsn <= created) {
                let mark = Mark {
                    lsn: end,
                    name: rmgr::describe(record),
                };
                let version = OpenVersion {
                    lsn: end,
                    whole: true,
                    slot: Slot::of(Value::Item(mark.encode())),
                };
                versions.push((key.pack(), version));
            }
            // Oids of dropped relations come again only after the counter wrapped; the set is forgotten with each seal.
            self.marked.insert(block.rel);
        }
        Ok(())
    }
}

/// Returns the time of a commit record, in microseconds since 2000-01-01 UTC.
pub(super) fn commit_time(record: &Record) -> Option<i64> {
    if record.rmid != rmgr::XACT || !COMMITS.contains(&(record.info & XACT_OPCODE)) {
        return None;
    }
    let time = record.main_data().get(..8)?.try_into().ok()?;
    Some(i64::from_le_bytes(time))
}
