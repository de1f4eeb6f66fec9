//! The state of a local timeline at an LSN, as a [`PageSource`].

use std::ops::Range;
use std::sync::Arc;

use neon_pagestore::items::{
    CarriedFile, Database, ItemError, OriginProgress, RelMap, RelSize, SlruSegments, TwoPhase,
};
use neon_pagestore::{PageStoreError, Timeline};
use neon_postgres::Page;
use neon_postgres::checkpoint::CheckpointState;
use neon_types::{Fork, Key, KeyRange, Lsn, PackedKey, RelTag, SlruKind};

use crate::error::{ComputeError, Result, Unbuildable};
use crate::source::{Item, PageSource, Subject};

/// A position of a timeline that is held here.
#[derive(Clone)]
pub struct TimelineSource {
    timeline: Arc<Timeline>,
    lsn: Lsn,
}

impl TimelineSource {
    /// Returns the state of `timeline` at `lsn`, the end of a whole record at or below its end.
    pub fn new(timeline: Arc<Timeline>, lsn: Lsn) -> TimelineSource {
        TimelineSource { timeline, lsn }
    }

    fn scan(&self, range: KeyRange, f: &mut dyn FnMut(Key, &[u8]) -> Result<()>) -> Result<()> {
        // What the caller's function refuses must come out as it is, not as an error of the page store.
        let mut refused = None;
        let scanned = self.timeline.scan_items(range, self.lsn, &mut |key, bytes| {
            f(key, bytes).map_err(|error| stop(&mut refused, error))
        });
        finish(scanned, refused)
    }
}

impl PageSource for TimelineSource {
    fn subject(&self) -> Subject {
        let state = self.timeline.state();
        Subject {
            version: state.version,
            system_id: state.system_id,
            segment_size: state.segment_size,
            lsn: self.lsn,
        }
    }

    fn checkpoint_state(&self) -> Result<CheckpointState> {
        self.timeline.checkpoint_state(self.lsn).map_err(source)
    }

    fn items(&self, f: &mut dyn FnMut(Item) -> Result<()>) -> Result<()> {
        // Without the SLRU pages, which are read one SLRU at a time.
        let (first_page, after_pages) = (
            slru_range(SlruKind::Clog).start,
            slru_range(SlruKind::CommitTs).end,
        );
        for range in [
            KeyRange {
                start: PackedKey::MIN,
                end: first_page,
            },
            KeyRange {
                start: after_pages,
                end: PackedKey::MAX,
            },
        ] {
            self.scan(range, &mut |key, bytes| match item(key, bytes) {
                Ok(Some(item)) => f(item),
                Ok(None) => Ok(()),
                Err(error) => Err(ComputeError::Damaged(format!("{key:?}: {error}"))),
            })?;
        }
        Ok(())
    }

    fn scan_pages(
        &self,
        rel: RelTag,
        blocks: Range<u32>,
        f: &mut dyn FnMut(u32, &Page) -> Result<()>,
    ) -> Result<()> {
        let mut refused = None;
        let scanned = self
            .timeline
            .scan_pages(rel, blocks, self.lsn, &mut |block, page| {
                f(block, page).map_err(|error| stop(&mut refused, error))
            });
        finish(scanned, refused)
    }

    fn slru_pages(&self, kind: SlruKind, f: &mut dyn FnMut(u64, &[u8]) -> Result<()>) -> Result<()> {
        self.scan(slru_range(kind), &mut |key, bytes| match key {
            Key::SlruPage { page, .. } => f(page, bytes),
            _ => Ok(()),
        })
    }

    fn unbuildable(&self) -> Result<Vec<Unbuildable>> {
        let found = self.timeline.unsupported_records(self.lsn).map_err(source)?;
        Ok(found
            .into_iter()
            // Free space maps are not laid out, so they need not be rebuilt.
            .filter(|(rel, _, _)| rel.fork != Fork::FreeSpaceMap)
            .map(|(rel, record, lsn)| Unbuildable { rel, record, lsn })
            .collect())
    }
}

/// Returns the keys of all pages of an SLRU.
fn slru_range(kind: SlruKind) -> KeyRange {
    KeyRange {
        start: Key::SlruPage { kind, page: 0 }.pack(),
        end: Key::SlruPage { kind, page: u64::MAX }.pack().next(),
    }
}

fn item(key: Key, bytes: &[u8]) -> std::result::Result<Option<Item>, ItemError> {
    Ok(Some(match key {
        Key::File { .. } => Item::File(CarriedFile::decode(bytes)?),
        Key::Tablespace { spc } => Item::Tablespace { spc },
        Key::Database { spc, db } => Item::Database {
            spc,
            db,
            version_file: Database::decode(bytes)?.version_file,
        },
        Key::RelMap { spc, db } => Item::RelMap {
            spc,
            db,
            file: RelMap::decode(bytes)?.file,
        },
        Key::TwoPhase { xid } => Item::TwoPhase {
            xid,
            file: TwoPhase::decode(bytes)?.file,
        },
        Key::ReplicationOrigin { id } => Item::ReplicationOrigin {
            id,
            remote: OriginProgress::decode(bytes)?.remote,
        },
        Key::SlruSegments(kind) => Item::Slru {
            kind,
            segments: SlruSegments::decode(bytes)?,
        },
        Key::RelSize(rel) => {
            let size = RelSize::decode(bytes)?;
            Item::Relation {
                rel,
                blocks: size.size,
                creator: size.creator.filter(|xid| *xid != 0),
            }
        }
        _ => return Ok(None),
    }))
}

fn source(error: PageStoreError) -> ComputeError {
    ComputeError::Source(Box::new(error))
}

/// Keeps the caller's error and stops the scan with any other.
fn stop(refused: &mut Option<ComputeError>, error: ComputeError) -> PageStoreError {
    *refused = Some(error);
    PageStoreError::NoRecord(Lsn::INVALID)
}

fn finish(scanned: neon_pagestore::Result<()>, refused: Option<ComputeError>) -> Result<()> {
    match refused {
        Some(error) => Err(error),
        None => scanned.map_err(source),
    }
}
