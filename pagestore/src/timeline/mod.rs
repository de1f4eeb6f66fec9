//! Timelines: WAL files, an index over what is not sealed, and the layers of what is.
//!
//! ```text
//! timelines/<id>/state    TimelineState       timelines/<id>/wal/       segment files
//! timelines/<id>/ladder   digest ladder
//! ```
//! Lock order: `compacting`, `sealing`, `indexer`, `state`, `memory`; of a timeline before those of its ancestor, except that nobody waits for
//! another timeline's `sealing` while holding locks of its own.

mod accept;
pub(crate) mod attested;
mod base;
mod changes;
mod compact;
mod feed;
mod history;
mod images;
pub(crate) mod ladder;
mod open;
mod read;
mod rederive;
mod retain;
mod scan;
mod seal;
mod shrink;
mod sizes;
mod state;
mod transfer;
mod usage;
mod versions;
mod wal;

use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError, RwLock, RwLockReadGuard, RwLockWriteGuard, Weak};

use neon_objects::WalDigest;
use neon_postgres::PgVersion;
use neon_redo::Cluster;
use neon_types::{LayerMapId, Lsn, LsnRange, Position, TimelineId};

pub use accept::AcceptPart;
pub(crate) use changes::Changed;
pub use compact::Compacted;
#[cfg(test)]
pub(crate) use history::first_block_key;
pub(crate) use read::Found;
pub use read::ReadCost;
pub(crate) use rederive::Rederived;
pub use retain::Dropped;
pub(crate) use scan::Merge;
pub use shrink::Shrunk;
pub(crate) use state::NOBODY;
pub use state::{ClusterFacts, ImportFacts, ReceivedTimeline, TimelineState};
pub use transfer::{PartsPin, SlicePart, WalReader};
pub use usage::{RelationFile, Usage};
pub use wal::Pin as WalPin;
#[cfg(test)]
pub(crate) use {images::MAX_VERSIONS, read::collect_sealed, rederive::key_name};

use crate::boundaries::RecordSpan;
use crate::compact::shrink::Part;
use crate::gc::Spans;
use crate::map::LayerMap;
use crate::store::{Core, Registry};
use crate::{PageStoreError, Result};
use feed::Indexer;
use ladder::Ladder;
use open::OpenLayer;
use versions::Versions;
use wal::Wal;

pub(crate) const WAL_DIRECTORY: &str = "wal";

/// One linear WAL history: takes WAL in, gives pages out at any LSN of it and of what it forked from.
///
/// Shared between threads: reads go on during appends and seals.
pub struct Timeline {
    id: TimelineId,
    directory: PathBuf,
    start: Lsn,
    tli: u32,
    version: PgVersion,
    system_id: u64,
    segment_size: u32,
    hints_logged: bool,
    ancestor: Option<Arc<Timeline>>,
    core: Arc<Core>,
    registry: Weak<Registry>,
    state: Mutex<TimelineState>,
    memory: RwLock<Memory>,
    end: AtomicU64,
    work: AtomicU64,
    wal: Wal,
    indexer: Mutex<Indexer>,
    sealing: Mutex<()>,
    compacting: Mutex<compact::Compacting>,
    /// Runs that do not become smaller, by what is readable of them; lost when the timeline is closed.
    dense: Mutex<Vec<(LsnRange, Vec<Part>)>>,
}

/// Where versions are: newest in `open`, older in `frozen`, all others by `map` or, without one, at the ancestor's.
struct Memory {
    open: OpenLayer,
    frozen: Option<Arc<OpenLayer>>,
    map: Option<Arc<LayerMap>>,
    /// The positions that can be read; none when all can.
    readable: Option<Arc<Spans>>,
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

fn read<T>(lock: &RwLock<T>) -> RwLockReadGuard<'_, T> {
    lock.read().unwrap_or_else(PoisonError::into_inner)
}

fn write<T>(lock: &RwLock<T>) -> RwLockWriteGuard<'_, T> {
    lock.write().unwrap_or_else(PoisonError::into_inner)
}

impl Timeline {
    /// Opens a timeline: reads its state and map, and indexes its WAL beyond what is sealed.
    pub(crate) fn open(
        id: TimelineId,
        directory: PathBuf,
        core: Arc<Core>,
        registry: Weak<Registry>,
        ancestor: Option<Arc<Timeline>>,
    ) -> Result<Timeline> {
        let state = TimelineState::read(id, &directory)?;
        let map = match state.layer_map {
            Some(map) => Some(Arc::new(LayerMap::read_sharing(
                &core.objects,
                map,
                &core.chunks,
            )?)),
            None => None,
        };
        if let Some(map) = &map {
            core.live.add(map);
        }
        let fits = |sealed: Lsn| sealed == state.sealed;
        if map
            .as_ref()
            .map_or(state.sealed != state.start, |map| !fits(map.sealed()))
        {
            return Err(PageStoreError::DamagedState {
                timeline: id,
                reason: format!("its layer map does not end at {}", state.sealed),
            });
        }
        let wal = Wal::open(
            directory.join(WAL_DIRECTORY),
            &state,
            Arc::clone(&core.files),
            core.mode(),
        )?;
        let ladder = Ladder::open(&directory, state.start, state.segment_size)?;
        let timeline = Timeline {
            id,
            start: state.start,
            tli: state.tli,
            version: state.version,
            system_id: state.system_id,
            segment_size: state.segment_size,
            hints_logged: state.hints_logged,
            ancestor,
            core,
            registry,
            end: AtomicU64::new(state.sealed.0),
            work: AtomicU64::new(0),
            memory: RwLock::new(Memory {
                open: OpenLayer::new(state.sealed),
                frozen: None,
                map,
                readable: state.readable.clone().map(Arc::new),
            }),
            indexer: Mutex::new(Indexer::new(Versions::new(state.version), ladder)),
            sealing: Mutex::new(()),
            compacting: Mutex::default(),
            dense: Mutex::default(),
            state: Mutex::new(state),
            directory,
            wal,
        };
        timeline.recover()?;
        let published = lock(&timeline.state).published_end;
        if timeline.end() < published {
            tracing::error!(timeline = %id, end = %timeline.end(), %published, "less of the timeline is here than was published");
        }
        Ok(timeline)
    }

    /// Indexes what is whole in the WAL files; a torn tail stays where it is until it is received again.
    fn recover(&self) -> Result<()> {
        {
            let _sealing = lock(&self.sealing);
            self.adopt_map()?;
        }
        match self.index_and_seal(&mut || ()) {
            Err(PageStoreError::BrokenWal { lsn, reason, .. }) => {
                tracing::debug!(timeline = %self.id, %lsn, reason, "the WAL that is held ends here");
                Ok(())
            }
            result => result,
        }
    }

    /// Forgets what is indexed and neither sealed nor about to be; the caller indexes it again.
    fn forget_open(&self, indexer: &mut Indexer) -> Result<()> {
        let mut memory = write(&self.memory);
        let frozen = memory.frozen.as_ref().map(|frozen| frozen.range().end);
        let sealed = memory.map.as_ref().map_or(self.start, |map| map.sealed());
        let from = frozen.unwrap_or(sealed);
        memory.open = OpenLayer::new(from);
        self.set_end(from);
        drop(memory);
        indexer.reset(self.new_versions());
        indexer.ladder.cut(&self.wal, self.wal.received())
    }

    fn new_versions(&self) -> Versions {
        Versions::new(self.version)
    }

    fn redo_cluster(&self) -> Cluster {
        Cluster {
            version: self.version,
            hints_logged: self.hints_logged,
        }
    }

    fn set_end(&self, end: Lsn) {
        self.end.store(end.0, Ordering::Release);
    }

    fn worked(&self) {
        self.work.fetch_add(1, Ordering::Relaxed);
    }

    /// Returns a number that grows while WAL is indexed or sealed, for those who wait as long as something moves.
    pub fn work(&self) -> u64 {
        self.work.load(Ordering::Relaxed)
    }

    /// Returns its id.
    pub fn id(&self) -> TimelineId {
        self.id
    }

    /// Returns where it forks off, none for an import.
    pub fn ancestor(&self) -> Option<Position> {
        let ancestor = self.ancestor.as_ref()?;
        Some(Position {
            timeline: ancestor.id,
            lsn: self.start,
        })
    }

    /// Returns the timeline that it forks from.
    pub fn ancestor_timeline(&self) -> Option<&Arc<Timeline>> {
        self.ancestor.as_ref()
    }

    /// Returns its number for Postgres.
    pub fn tli(&self) -> u32 {
        self.tli
    }

    /// Returns the version of Postgres that writes it.
    pub fn version(&self) -> PgVersion {
        self.version
    }

    /// Returns the fork or import LSN.
    pub fn start(&self) -> Lsn {
        self.start
    }

    /// Returns the end of the last whole record that is indexed.
    pub fn end(&self) -> Lsn {
        Lsn(self.end.load(Ordering::Acquire))
    }

    /// Returns the LSN up to which the layer map serves everything.
    pub fn sealed(&self) -> Lsn {
        lock(&self.state).sealed
    }

    /// Returns a copy of its state.
    pub fn state(&self) -> TimelineState {
        lock(&self.state).clone()
    }

    /// Changes writer, branch, provisional or published end, durably. Other fields stay as they are, whatever `change` does.
    pub fn update_state(&self, change: impl FnOnce(&mut TimelineState)) -> Result<()> {
        let mut state = lock(&self.state);
        let mut changed = state.clone();
        change(&mut changed);
        let mut next = state.clone();
        next.writer = changed.writer;
        next.branch = changed.branch;
        next.provisional = changed.provisional;
        next.published_end = changed.published_end;
        if next != *state {
            next.write(&self.directory)?;
            *state = next;
        }
        Ok(())
    }

    /// Returns the directory that holds it.
    pub fn directory(&self) -> &Path {
        &self.directory
    }

    /// Returns the rungs of the digest ladder: one for each WAL segment of which this timeline's part is held whole.
    pub fn ladder(&self) -> Vec<WalDigest> {
        lock(&self.indexer).ladder.rungs().to_vec()
    }

    /// Returns what a commit at `upto` after one at `since` records: the rungs that end in between, and the digest of the open
    /// part of the last segment where its WAL is still here.
    pub fn digests(&self, since: Lsn, upto: Lsn) -> Result<Vec<WalDigest>> {
        let _pin = self.wal.pin();
        lock(&self.indexer).ladder.between(&self.wal, since, upto)
    }

    /// Returns the current layer map, none while reads go through the ancestor.
    pub fn layer_map(&self) -> Option<Arc<LayerMap>> {
        read(&self.memory).map.clone()
    }

    fn root(&self) -> &Timeline {
        let mut timeline = self;
        while let Some(ancestor) = &timeline.ancestor {
            timeline = ancestor;
        }
        timeline
    }

    /// Returns the record that the import ends with.
    fn root_record(&self) -> RecordSpan {
        let root = self.root();
        let start = lock(&root.state)
            .import
            .as_ref()
            .map_or(root.start, |import| import.prev_record);
        RecordSpan {
            start,
            end: root.start,
        }
    }

    /// Returns true when its start can be read: it has layers from the import on, or its ancestor reaches the fork.
    fn is_based(&self) -> bool {
        if read(&self.memory).map.is_some() {
            return true;
        }
        let reaches = |ancestor: &Arc<Timeline>| ancestor.end() >= self.start && ancestor.is_based();
        self.ancestor.as_ref().is_some_and(reaches)
    }

    /// Makes `map`, of that name, the one that reads use, durably; `change` does what else changes in the state, and `and_now` in memory at
    /// that moment. The caller holds `sealing`.
    fn point_to(
        &self,
        map: Arc<LayerMap>,
        id: LayerMapId,
        change: impl FnOnce(&mut TimelineState),
        and_now: impl FnOnce(&mut Memory),
    ) -> Result<()> {
        self.core.live.add(&map);
        self.core.objects.settle()?;
        let mut state = lock(&self.state);
        let mut next = state.clone();
        next.layer_map = Some(id);
        change(&mut next);
        next.write(&self.directory)?;
        *state = next;
        let mut memory = write(&self.memory);
        memory.map = Some(map);
        and_now(&mut memory);
        Ok(())
    }

    fn check_readable(&self, lsn: Lsn) -> Result<()> {
        if lsn < self.root().start || lsn > self.end() || !self.is_based() {
            return Err(self.not_readable(lsn));
        }
        self.check_position(lsn)
    }

    /// Checks that the history at a position was not dropped.
    ///
    /// Errors: [`PageStoreError::Dropped`].
    pub fn check_position(&self, lsn: Lsn) -> Result<()> {
        let memory = read(&self.memory);
        if let (None, Some(ancestor)) = (&memory.map, &self.ancestor)
            && lsn <= self.start
        {
            drop(memory);
            return ancestor.check_position(lsn);
        }
        match &memory.readable {
            Some(readable) if !readable.contains(lsn) => Err(PageStoreError::Dropped {
                timeline: self.id,
                lsn,
                from: readable.next(lsn).map(|(next, _)| next),
            }),
            _ => Ok(()),
        }
    }

    /// Returns the positions that can be read, none when nothing was dropped.
    pub fn readable(&self) -> Option<Spans> {
        read(&self.memory).readable.as_deref().cloned()
    }

    /// Returns true when something of it is held that can be read, or could before history was dropped.
    pub fn is_held(&self) -> bool {
        self.is_based()
    }

    fn not_readable(&self, lsn: Lsn) -> PageStoreError {
        PageStoreError::NotReadable {
            timeline: self.id,
            lsn,
            readable: LsnRange {
                start: self.root().start,
                end: self.end(),
            },
        }
    }
}

impl std::fmt::Debug for Timeline {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Timeline")
            .field("id", &self.id)
            .field("start", &self.start)
            .field("end", &self.end())
            .finish_non_exhaustive()
    }
}
