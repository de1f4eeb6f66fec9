//! Which keys a record changes, and how.
//!
//! A record changes the blocks that it names; that is [`Effect::Block`]. What it changes beyond that, Postgres computes
//! while it replays, and so does [`Ingest`]: sizes of relations, visibility map bits, transaction status, multixacts,
//! databases, prepared transactions, the checkpoint state. Every such effect is an [`Effect::Put`] under its own key, so that a
//! read never has to know how the value came about. A record has at most one effect for each key.
//!
//! A record of an unknown resource manager, or of an unknown kind, is no error: its blocks are indexed.
//! Free space maps are dropped: Postgres mends them by itself.

mod database;
mod heap;
mod sizes;
mod slru;
mod xact;
mod xlog;

use std::collections::HashMap;
use std::sync::Arc;

use neon_postgres::PgVersion;
use neon_postgres::checkpoint::CheckpointState;
use neon_postgres::wal::{DecodeError, Record, rmgr};
use neon_types::{Fork, Key, KeyRange, Lsn, PackedKey};

use crate::items::OriginProgress;
use crate::{PageStoreError, Result, Value};

pub(crate) use xact::full_xid;

/// Effects that are compared each with each; more are sorted.
const FEW_EFFECTS: usize = 16;

/// The newest state, as ingest sees it: everything that earlier records did.
pub trait State {
    /// Returns the newest value of a metadata item, None when it does not exist.
    fn item(&self, key: Key) -> Result<Option<Arc<[u8]>>>;
    /// Calls `f` with the newest value of each metadata item that exists in a range of keys, in key order. There may be millions.
    fn scan_items(&self, range: KeyRange, f: &mut dyn FnMut(Key, &[u8]) -> Result<()>) -> Result<()>;
}

/// One effect of one record.
#[derive(Clone, Debug, PartialEq)]
pub enum Effect {
    /// The record itself is the new version of `Key::Block` of its block reference of that index.
    Block {
        /// Index in `Record::blocks`.
        index: usize,
    },
    /// A change, an item, or an absence: the new version of the key.
    Put(Value),
}

/// Turns records into effects. Keeps what it looked up, all of which can be looked up again.
pub struct Ingest {
    version: PgVersion,
    checkpoint: Option<Tracked>,
    sizes: sizes::Sizes,
    slrus: slru::Slrus,
    origins: HashMap<u16, Option<OriginProgress>>,
}

/// The checkpoint state after the last record, and what of it every commit needs.
struct Tracked {
    state: CheckpointState,
    commit_timestamps: bool,
}

/// One record on its way: what the parts of ingest share.
struct Step<'a> {
    record: &'a Record,
    start: Lsn,
    end: Lsn,
    state: &'a dyn State,
    out: Vec<(Key, Effect)>,
}

impl Step<'_> {
    fn put(&mut self, key: Key, value: Value) {
        self.out.push((key, Effect::Put(value)));
    }

    /// Returns a closure for `map_err`: the record's own data is not what its kind has.
    fn bad<E: ToString>(&self) -> impl Fn(E) -> PageStoreError + use<E> {
        let (version, rmid, info) = (self.record.version(), self.record.rmid, self.record.info);
        let start = self.start;
        move |error| {
            let name = rmgr::describe_kind(version, rmid, info);
            PageStoreError::damaged(format!("the record {name} at {start}"), error)
        }
    }
}

/// Returns None for a record of a kind that its resource manager does not have in this version: it has no effects that
/// we know of.
fn known<T>(decoded: std::result::Result<T, DecodeError>) -> std::result::Result<Option<T>, DecodeError> {
    match decoded {
        Ok(record) => Ok(Some(record)),
        Err(DecodeError::Opcode { .. }) => Ok(None),
        Err(error) => Err(error),
    }
}

/// Returns a key that has more than one effect.
fn twice(effects: &[(Key, Effect)]) -> Option<Key> {
    if effects.len() > FEW_EFFECTS {
        let mut keys: Vec<PackedKey> = effects.iter().map(|(key, _)| key.pack()).collect();
        keys.sort_unstable();
        let pair = keys.array_windows().find(|[one, other]| one == other);
        return pair.and_then(|[key, _]| Key::unpack(key).ok());
    }
    let mut rest = effects;
    while let Some(((key, _), others)) = rest.split_first() {
        if others.iter().any(|(other, _)| other == key) {
            return Some(*key);
        }
        rest = others;
    }
    None
}

impl Ingest {
    /// Begins with nothing looked up.
    pub fn new(version: PgVersion) -> Ingest {
        Ingest {
            version,
            checkpoint: None,
            sizes: sizes::Sizes::default(),
            slrus: slru::Slrus::default(),
            origins: HashMap::new(),
        }
    }

    /// Forgets everything that was looked up. To be called when effects that were returned did not become part of the
    /// state, or when the state changed in another way.
    pub fn reset(&mut self) {
        *self = Ingest::new(self.version);
    }

    /// Returns the effects of the record that begins at `start` and ends at `end`; `state` is what the records before it
    /// left behind. Records come in order, and their effects become part of the state before the next one.
    ///
    /// Errors: the record's data contradicts its kind or changes one key twice, an item of the state is damaged or the checkpoint state is
    /// missing, and whatever `state` returns. Everything that was looked up is forgotten then.
    pub fn effects(
        &mut self,
        record: &Record,
        start: Lsn,
        end: Lsn,
        state: &dyn State,
    ) -> Result<Vec<(Key, Effect)>> {
        let mut step = Step {
            record,
            start,
            end,
            state,
            out: Vec::with_capacity(record.blocks.len() + 1),
        };
        match self.take(&mut step) {
            Ok(()) => Ok(step.out),
            Err(error) => {
                self.reset();
                Err(error)
            }
        }
    }

    fn take(&mut self, step: &mut Step<'_>) -> Result<()> {
        self.blocks(step)?;
        self.track_checkpoint(step)?;
        match step.record.rmid {
            rmgr::HEAP | rmgr::HEAP2 => {
                heap::clear_map(step.record, &mut self.sizes, step.state, &mut step.out)?
            }
            rmgr::XACT => self.xact(step)?,
            rmgr::SMGR => self.smgr(step)?,
            rmgr::STANDBY => self.standby(step)?,
            rmgr::CLOG => self.clog(step)?,
            rmgr::COMMIT_TS => self.commit_ts(step)?,
            rmgr::MULTIXACT => self.multixact(step)?,
            rmgr::DBASE => self.dbase(step)?,
            rmgr::TBLSPC => self.tblspc(step)?,
            rmgr::RELMAP => self.relmap(step)?,
            rmgr::REPLORIGIN => self.replorigin(step)?,
            _ => (),
        }
        for (rel, size) in self.sizes.take_changes() {
            let value = size.map_or(Value::Absent, |size| Value::Item(size.encode()));
            step.put(Key::RelSize(rel), value);
        }
        // Two versions of one key at one LSN could not be told apart. Postgres writes no such record.
        match twice(&step.out) {
            Some(key) => Err(step.bad()(format!("it has two effects on {key:?}"))),
            None => Ok(()),
        }
    }

    /// Blocks that the record names: they change, and exist from then on.
    fn blocks(&mut self, step: &mut Step<'_>) -> Result<()> {
        for (index, block) in step.record.blocks.iter().enumerate() {
            if block.rel.fork == Fork::FreeSpaceMap || xlog::is_hint_without_image(step.record, index) {
                continue;
            }
            self.sizes.reach(block.rel, block.block, step.start, step.state)?;
            step.out
                .push((Key::Block(block.rel, block.block), Effect::Block { index }));
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests;
