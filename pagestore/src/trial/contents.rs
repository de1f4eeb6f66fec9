//! Reading what arrived.

use std::collections::BTreeSet;

use neon_types::{Key, Lsn, PackedKey};

use super::Going;
use super::growth::Growth;
use super::replay::Replay;
use super::sample::Sample;
use super::sizes::Sizes;
use crate::items::{CarriedFile, Database, OriginProgress, RelMap, SlruSegments, Tablespace, TwoPhase};
use crate::{PageStoreError, Result, Timeline};

/// Most blocks of one timeline that are rebuilt: a gibibyte of pages.
const BLOCKS: usize = 128 << 10;
/// Versions between two looks at whether the work goes on.
const LOOK: u64 = 256;

/// What was looked at.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Examined {
    /// Items and SLRU pages that changed: all were read.
    pub items: u64,
    /// Blocks that changed.
    pub blocks: u64,
    /// Those of them of which every change was replayed.
    pub rebuilt: u64,
}

/// Looks now and then whether anybody waits.
struct Look<'a> {
    going: Going<'a>,
    looked: u64,
}

impl Look<'_> {
    fn go_on(&mut self, done: u64, total: u64) -> Result<()> {
        self.looked += 1;
        if self.looked.is_multiple_of(LOOK) && !(self.going)(done, total) {
            return Err(PageStoreError::Interrupted);
        }
        Ok(())
    }
}

/// Reads at `to` what `timeline` changed after `from`, and replays each change of as many blocks as may be.
pub(super) fn examine(
    timeline: &Timeline,
    from: Lsn,
    to: Lsn,
    examined: &mut Examined,
    going: Going<'_>,
) -> Result<()> {
    let mut look = Look { going, looked: 0 };
    let mut sample = Sample::new(BLOCKS);
    let mut growth = Growth::new(timeline, from, to);
    let mut sizes = Sizes::new(timeline, from);
    let mut last = None;
    timeline.for_each_change(from, &mut |changed| {
        look.go_on(0, 0)?;
        let key = unpack(&changed.key)?;
        if let Key::RelSize(rel) = key {
            sizes.put(rel, changed.lsn, changed.value()?.value)?;
        }
        if last.replace(changed.key) == Some(changed.key) {
            return Ok(());
        }
        match key {
            Key::Block(rel, block) => {
                sample.put(changed.key);
                growth.named(rel, block);
            }
            key => {
                examined.items += 1;
                read_item(timeline, key, to)?;
                if let Key::RelSize(rel) = key {
                    growth.sized(rel)?;
                }
            }
        }
        Ok(())
    })?;
    growth.check()?;
    examined.blocks += sample.seen();
    let chosen: BTreeSet<PackedKey> = sample.into_keys().into_iter().collect();
    let (mut done, total) = (0, chosen.len() as u64);
    let mut replay = Replay::new(timeline, from, &sizes);
    timeline.for_each_change(from, &mut |changed| {
        look.go_on(done, total)?;
        let Key::Block(rel, block) = unpack(&changed.key)? else {
            return Ok(());
        };
        if chosen.contains(&changed.key) {
            done += u64::from(replay.apply(rel, block, changed)?);
        }
        Ok(())
    })?;
    examined.rebuilt += replay.finish();
    Ok(())
}

fn unpack(packed: &PackedKey) -> Result<Key> {
    Key::unpack(packed).map_err(|error| PageStoreError::damaged("a key", error))
}

/// Reads an item or SLRU page as those do who make a data directory.
fn read_item(timeline: &Timeline, key: Key, to: Lsn) -> Result<()> {
    let Some(bytes) = timeline.value(key, to)? else {
        return Ok(());
    };
    let read = match key {
        Key::File { .. } => CarriedFile::decode(&bytes).map(drop),
        Key::Tablespace { .. } => Tablespace::decode(&bytes).map(drop),
        Key::Database { .. } => Database::decode(&bytes).map(drop),
        Key::RelMap { .. } => RelMap::decode(&bytes).map(drop),
        Key::TwoPhase { .. } => TwoPhase::decode(&bytes).map(drop),
        Key::ReplicationOrigin { .. } => OriginProgress::decode(&bytes).map(drop),
        Key::SlruSegments(_) => SlruSegments::decode(&bytes).map(drop),
        // Read by whoever asks for the size, the state or a boundary.
        Key::RelSize(_)
        | Key::Checkpoint
        | Key::Boundaries { .. }
        | Key::Unreadable(_)
        | Key::SlruPage { .. }
        | Key::Block(..) => Ok(()),
    };
    read.map_err(|error| PageStoreError::damaged(format!("{key:?}"), error))
}
