//! The versions of a seal as layers hold them: made by all processors, handed over in order. What comes out is the same on any machine.

use std::io;
use std::num::NonZero;
use std::sync::mpsc::{SyncSender, sync_channel};
use std::thread;

use neon_postgres::wal::Record;
use neon_types::{Lsn, PackedKey};

use super::Timeline;
use super::images::Images;
use super::open::{OpenLayer, OpenVersion, Slot};
use crate::map::LayerMap;
use crate::value::Value;
use crate::{PageStoreError, Result};

/// Most threads that make versions.
const MAX_WORKERS: usize = 8;
/// About how many versions a thread makes before it is another one's turn: few in tests, so that there are turns.
const PIECE: usize = if cfg!(test) { 16 } else { 2048 };
/// Bytes, and versions, that are handed over together.
const BATCH_BYTES: usize = 256 << 10;
const BATCH_ROWS: usize = if cfg!(test) { 5 } else { 4096 };
/// How many of them a thread may be ahead.
const BATCHES: usize = 4;

/// Takes a version: key, LSN, tag and what is stored.
type Take<'t> = dyn FnMut(&PackedKey, Lsn, (u8, &[u8])) -> Result<()> + 't;

/// Calls `take` with each version of `frozen`, which lies above the layers of `below`, by key and LSN in its stored form.
pub(super) fn in_order(
    timeline: &Timeline,
    frozen: &OpenLayer,
    below: &LayerMap,
    take: &mut Take<'_>,
) -> Result<()> {
    let pieces = &frozen.parts(PIECE);
    let workers = thread::available_parallelism()
        .map_or(1, NonZero::get)
        .min(MAX_WORKERS)
        .min(pieces.len());
    thread::scope(|scope| {
        let mut made = Vec::with_capacity(workers);
        for number in 0..workers {
            let (to, from) = sync_channel(BATCHES);
            made.push(from);
            let mut images = Images::new(timeline, frozen, below);
            let mut hand = Hand {
                timeline,
                batch: Batch::default(),
                to,
            };
            scope.spawn(move || {
                for keys in pieces.iter().skip(number).step_by(workers) {
                    match make(&mut images, frozen.within(*keys), &mut hand) {
                        Ok(()) => {}
                        Err(Ended::Unwanted) => return,
                        // Whoever takes no more has failed itself.
                        Err(Ended::Failed(error)) => return drop(hand.send(Made::Failed(error))),
                    }
                }
            });
        }
        for (from, _) in made.iter().cycle().zip(pieces) {
            loop {
                match from.recv() {
                    Ok(Made::Batch(batch)) => batch.each(take)?,
                    Ok(Made::PieceEnds) => break,
                    Ok(Made::Failed(error)) => return Err(error),
                    Err(_) => {
                        let ended = io::Error::other("a thread of it ended");
                        return Err(PageStoreError::io("seal", &timeline.directory)(ended));
                    }
                }
            }
        }
        Ok(())
    })
}

enum Made {
    Batch(Batch),
    PieceEnds,
    Failed(PageStoreError),
}

/// Versions in order.
#[derive(Default)]
struct Batch {
    /// Key, LSN, tag, and the length of what is stored.
    rows: Vec<(PackedKey, Lsn, u8, usize)>,
    /// What is stored of all of them.
    bytes: Vec<u8>,
}

impl Batch {
    fn each(&self, take: &mut Take<'_>) -> Result<()> {
        let mut rest = self.bytes.as_slice();
        for (key, lsn, tag, len) in &self.rows {
            let (stored, after) = rest.split_at_checked(*len).unwrap_or((rest, &[]));
            rest = after;
            take(key, *lsn, (*tag, stored))?;
        }
        Ok(())
    }
}

/// Why a thread made no more.
enum Ended {
    /// Nobody takes what it makes.
    Unwanted,
    Failed(PageStoreError),
}

impl From<PageStoreError> for Ended {
    fn from(error: PageStoreError) -> Ended {
        Ended::Failed(error)
    }
}

/// Versions on their way to whoever takes them.
struct Hand<'a> {
    timeline: &'a Timeline,
    batch: Batch,
    to: SyncSender<Made>,
}

impl Hand<'_> {
    fn add(
        &mut self,
        key: &PackedKey,
        lsn: Lsn,
        (tag, stored): (u8, &[u8]),
    ) -> std::result::Result<(), Ended> {
        let batch = &mut self.batch;
        batch.rows.push((*key, lsn, tag, stored.len()));
        batch.bytes.extend_from_slice(stored);
        if batch.bytes.len() >= BATCH_BYTES || batch.rows.len() >= BATCH_ROWS {
            self.over()?;
        }
        Ok(())
    }

    fn over(&mut self) -> std::result::Result<(), Ended> {
        self.timeline.worked();
        let batch = std::mem::take(&mut self.batch);
        self.send(Made::Batch(batch))
    }

    fn send(&self, made: Made) -> std::result::Result<(), Ended> {
        self.to.send(made).map_err(|_| Ended::Unwanted)
    }
}

/// Makes the versions of some keys.
fn make<'a>(
    images: &mut Images<'a>,
    keys: impl Iterator<Item = (&'a PackedKey, &'a [OpenVersion])>,
    hand: &mut Hand<'a>,
) -> std::result::Result<(), Ended> {
    let timeline = hand.timeline;
    for (key, versions) in keys {
        let mut block = images.block(key, versions);
        for OpenVersion { lsn, whole, slot } in versions {
            match slot {
                Slot::Put(value) => {
                    block.put(*lsn, *whole, value);
                    hand.add(key, *lsn, value.stored(*whole))?;
                }
                Slot::Absent => {
                    block.put(*lsn, *whole, &Value::Absent);
                    hand.add(key, *lsn, Value::Absent.stored(*whole))?;
                }
                Slot::Wal { start, index } => {
                    let bytes = timeline.wal.record(*start, *lsn)?;
                    let record = Record::decode(timeline.version, bytes)
                        .map_err(|error| PageStoreError::damaged(format!("the record at {start}"), error))?;
                    let index = usize::from(*index);
                    let slice = record.slice_for_block(index);
                    let (value, whole) = match block.record(*lsn, *whole, &record, index, slice.len()) {
                        Some(delta) => (Value::Delta(delta), false),
                        None => (Value::Record(slice), *whole),
                    };
                    hand.add(key, *lsn, value.stored(whole))?;
                }
            }
        }
    }
    hand.over()?;
    hand.send(Made::PieceEnds)
}
