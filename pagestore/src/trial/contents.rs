//! Reading what arrived.

use neon_postgres::Page;
use neon_types::{Key, Lsn, PackedKey};

use super::Going;
use super::growth::Growth;
use super::sample::Sample;
use crate::items::{CarriedFile, Database, OriginProgress, RelMap, SlruSegments, Tablespace, TwoPhase};
use crate::{PageStoreError, Result, Timeline};

/// Most blocks of one timeline that are rebuilt: a gibibyte of pages.
const BLOCKS: usize = 128 << 10;
/// Keys between two looks at whether the work goes on.
const LOOK: u64 = 256;
/// The flags that a page may have (`PD_VALID_FLAG_BITS`).
const PAGE_FLAGS: u16 = 7;

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

/// Reads at `to` what `timeline` changed after `from`.
pub(super) fn examine(
    timeline: &Timeline,
    from: Lsn,
    to: Lsn,
    examined: &mut Examined,
    going: Going<'_>,
) -> Result<()> {
    let mut sample = Sample::new(BLOCKS);
    let mut growth = Growth::new(timeline, from, to);
    let mut looked = 0_u64;
    let mut go_on = |going: &mut dyn FnMut(u64, u64) -> bool, done: u64, total: u64| {
        looked += 1;
        if looked.is_multiple_of(LOOK) && !going(done, total) {
            return Err(PageStoreError::Interrupted);
        }
        Ok(())
    };
    timeline.for_each_touched(from, &mut |packed| {
        go_on(going, 0, 0)?;
        match unpack(&packed)? {
            Key::Block(rel, block) => {
                sample.put(packed);
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
        Ok(true)
    })?;
    growth.check()?;
    examined.blocks += sample.seen();
    let blocks = sample.into_keys();
    let total = blocks.len() as u64;
    for (packed, done) in blocks.iter().zip(0..) {
        go_on(going, done, total)?;
        examined.rebuilt += u64::from(read_block(timeline, unpack(packed)?, from, to)?);
    }
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

/// Replays everything that changed a block; false when redo does not know one of its records.
fn read_block(timeline: &Timeline, key: Key, from: Lsn, to: Lsn) -> Result<bool> {
    let Key::Block(rel, block) = key else {
        return Ok(false);
    };
    let replayed = timeline.replay(rel, block, from, to, &mut |at, page| match is_plausible(page) {
        true => Ok(()),
        false => Err(PageStoreError::damaged(
            format!("block {block} of relation {rel} at {at}"),
            "Postgres would not take it for a page",
        )),
    });
    match replayed {
        Ok(()) => Ok(true),
        Err(PageStoreError::Unsupported { .. }) => Ok(false),
        Err(error) => Err(error),
    }
}

/// Returns true for a page whose header Postgres accepts when it reads it (`PageIsVerified`).
fn is_plausible(page: &Page) -> bool {
    let header = || page.is_sane() && page.flags() & !PAGE_FLAGS == 0 && page.special().is_multiple_of(8);
    page.is_all_zero() || header()
}
