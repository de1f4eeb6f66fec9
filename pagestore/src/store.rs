//! The page store of a repository: its timelines, opened when they are asked for.

use std::collections::{BTreeMap, HashMap};
use std::fs;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use neon_objects::{Mode, ObjectStore, durable};
use neon_types::{LayerId, LayerMapId, Lsn, ObjectId, Position, RepoId, TimelineId};

use crate::gc::{LiveMaps, Spans};
use crate::layer::LayerCache;
use crate::map::{Chunks, LayerMap};
use crate::open_files::OpenFiles;
use crate::timeline::{ReceivedTimeline, TimelineState, WAL_DIRECTORY};
use crate::{PageStoreError, Result, Timeline};

const TIMELINES: &str = "timelines";
/// Longest chain of forks.
const MAX_DEPTH: usize = 1024;

/// Sizes that decide when work is done and what is kept.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Settings {
    /// Indexed WAL, in bytes, that makes a timeline want a seal.
    pub seal_wal_bytes: u64,
    /// Memory for the index over what is not sealed of a timeline, in bytes: half of it makes the timeline want a seal; when all is used up,
    /// indexing waits for one.
    pub index_memory: usize,
    /// A layer is closed at the first key after it has this many bytes.
    pub layer_bytes: u64,
    /// WAL that is kept below the end, in bytes, beyond what is not sealed.
    pub keep_wal: u64,
    /// Layers that a read of a page may have to look into because full-page images are stored as deltas; 0 stores images.
    pub delta_layers: usize,
    /// Memory for footers, indexes and filters of layers, in bytes.
    pub layer_cache: usize,
    /// Memory for decompressed blocks, in bytes.
    pub block_cache: usize,
}

impl Default for Settings {
    fn default() -> Settings {
        Settings {
            seal_wal_bytes: 64 << 20,
            index_memory: 64 << 20,
            layer_bytes: 96 << 20,
            keep_wal: 256 << 20,
            delta_layers: 8,
            layer_cache: 32 << 20,
            block_cache: 32 << 20,
        }
    }
}

/// What all timelines of a store share.
pub(crate) struct Core {
    pub objects: Arc<ObjectStore>,
    pub cache: LayerCache,
    pub files: Arc<OpenFiles>,
    pub chunks: Chunks,
    pub live: LiveMaps,
    windows: Mutex<WalWindows>,
    pub settings: Settings,
}

/// How much raw WAL is kept below the end of a timeline, in bytes, beyond what is not sealed.
struct WalWindows {
    usual: u64,
    /// Of timelines that are open for a branch.
    branches: HashMap<String, u64>,
}

impl Core {
    /// Returns whether the repository is written here, or only read.
    pub(crate) fn mode(&self) -> Mode {
        self.objects.mode()
    }

    /// Returns how much WAL a timeline keeps that is open for that branch, or for none.
    pub(crate) fn keep_wal(&self, branch: Option<&str>) -> u64 {
        let windows = lock(&self.windows);
        let said = branch.and_then(|branch| windows.branches.get(branch));
        said.copied().unwrap_or(windows.usual)
    }
}

/// Which timelines there are, how they descend, and which are open.
pub(crate) struct Registry {
    directory: PathBuf,
    core: Arc<Core>,
    known: Mutex<Known>,
    /// Held while a timeline is opened, so that none is opened twice.
    opening: Mutex<()>,
}

#[derive(Default)]
struct Known {
    /// Where each timeline forks off; none for imports and for those whose state is damaged.
    ancestors: BTreeMap<TimelineId, Option<Position>>,
    open: HashMap<TimelineId, Arc<Timeline>>,
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

impl Registry {
    pub(crate) fn path(&self, id: TimelineId) -> PathBuf {
        self.directory.join(id.to_string())
    }

    /// Returns the open timelines that fork from `id`.
    pub(crate) fn open_children(&self, id: TimelineId) -> Vec<Arc<Timeline>> {
        let known = lock(&self.known);
        let children = known
            .ancestors
            .iter()
            .filter(|(_, ancestor)| ancestor.is_some_and(|ancestor| ancestor.timeline == id));
        children
            .filter_map(|(child, _)| known.open.get(child).cloned())
            .collect()
    }

    /// Gives timelines that fork from `id` and are not open the layers of `map`, clipped, where it reaches their fork.
    pub(crate) fn closed_children_adopt(
        &self,
        id: TimelineId,
        map: &LayerMap,
        readable: Option<&Spans>,
    ) -> Result<()> {
        if self.core.mode() == Mode::Reading {
            return Ok(());
        }
        // None of them is opened meanwhile. A timeline that is just being opened may seal its ancestor: then it does not wait.
        let Ok(_opening) = self.opening.try_lock() else {
            return Ok(());
        };
        let closed: Vec<TimelineId> = {
            let known = lock(&self.known);
            let forks = known.ancestors.iter().filter(|(child, ancestor)| {
                let forks =
                    ancestor.is_some_and(|ancestor| ancestor.timeline == id && ancestor.lsn <= map.sealed());
                forks && !known.open.contains_key(child)
            });
            forks.map(|(child, _)| *child).collect()
        };
        for child in closed {
            let directory = self.path(child);
            let mut state = match TimelineState::read(child, &directory) {
                Ok(state) => state,
                Err(error) => {
                    tracing::warn!(timeline = %child, %error, "a fork cannot be read");
                    continue;
                }
            };
            if state.layer_map.is_none() {
                state.layer_map = Some(map.clipped(state.start).write(&self.core.objects)?);
                state.readable = readable.map(|readable| readable.of_fork(state.start));
                state.write(&directory)?;
            }
        }
        Ok(())
    }

    /// Returns the LSNs of the forks from `id` whose timelines are not known to have a map of their own.
    pub(crate) fn uncovered_forks(&self, id: TimelineId) -> Vec<Lsn> {
        let children: Vec<(TimelineId, Lsn, Option<Arc<Timeline>>)> = {
            let known = lock(&self.known);
            let forks = known.ancestors.iter().filter_map(|(child, ancestor)| {
                let ancestor = (*ancestor)?;
                (ancestor.timeline == id).then(|| (*child, ancestor.lsn, known.open.get(child).cloned()))
            });
            forks.collect()
        };
        let uncovered = children.into_iter().filter(|(child, _, open)| match open {
            Some(open) => open.layer_map().is_none(),
            None => TimelineState::read(*child, &self.path(*child))
                .map_or(true, |state| state.layer_map.is_none()),
        });
        uncovered.map(|(_, lsn, _)| lsn).collect()
    }

    fn get(self: &Arc<Registry>, id: TimelineId) -> Result<Arc<Timeline>> {
        if let Some(timeline) = lock(&self.known).open.get(&id) {
            return Ok(Arc::clone(timeline));
        }
        let _opening = lock(&self.opening);
        // Ancestors first; a damaged repository may have them in a circle.
        let mut chain = vec![id];
        loop {
            let Some(last) = chain.last().copied() else {
                return Err(PageStoreError::NoSuchTimeline(id));
            };
            if lock(&self.known).open.contains_key(&last) {
                chain.pop();
                break;
            }
            let state = TimelineState::read(last, &self.path(last))?;
            match state.ancestor {
                Some(ancestor) if chain.len() < MAX_DEPTH && !chain.contains(&ancestor.timeline) => {
                    chain.push(ancestor.timeline);
                }
                Some(_) => {
                    return Err(PageStoreError::DamagedState {
                        timeline: last,
                        reason: "its ancestors form a circle or an endless chain".to_owned(),
                    });
                }
                None => break,
            }
        }
        for id in chain.into_iter().rev() {
            self.open_one(id)?;
        }
        let known = lock(&self.known);
        known
            .open
            .get(&id)
            .cloned()
            .ok_or(PageStoreError::NoSuchTimeline(id))
    }

    fn open_one(self: &Arc<Registry>, id: TimelineId) -> Result<()> {
        let state = TimelineState::read(id, &self.path(id))?;
        let ancestor = match state.ancestor {
            None => None,
            Some(position) => {
                let known = lock(&self.known);
                let ancestor = known.open.get(&position.timeline).cloned();
                Some(ancestor.ok_or(PageStoreError::NoSuchTimeline(position.timeline))?)
            }
        };
        let timeline = Timeline::open(
            id,
            self.path(id),
            Arc::clone(&self.core),
            Arc::downgrade(self),
            ancestor,
        )?;
        let mut known = lock(&self.known);
        known.ancestors.insert(id, state.ancestor);
        known.open.insert(id, Arc::new(timeline));
        Ok(())
    }
}

/// A timeline to be made.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct NewTimeline {
    /// Its id: random.
    pub id: TimelineId,
    /// Where it forks off.
    pub ancestor: Position,
    /// Its number for Postgres.
    pub tli: u32,
    /// The repository that alone may extend it.
    pub writer: RepoId,
    /// The branch that it is open for.
    pub branch: Option<String>,
    /// It becomes history only with the first transaction.
    pub provisional: bool,
}

/// All timelines of one repository.
pub struct PageStore {
    registry: Arc<Registry>,
}

impl PageStore {
    /// Opens the page store of the repository in `neon_dir` (`.neon`). Timelines are opened when they are asked for.
    pub fn open(neon_dir: &Path, objects: Arc<ObjectStore>) -> Result<PageStore> {
        PageStore::open_with(neon_dir, objects, Settings::default())
    }

    /// Opens the page store with other sizes than the usual.
    pub fn open_with(neon_dir: &Path, objects: Arc<ObjectStore>, settings: Settings) -> Result<PageStore> {
        let directory = neon_dir.join(TIMELINES);
        let writes = objects.mode() == Mode::Writing;
        if writes {
            durable::create_directories(neon_dir, &directory)?;
        }
        let mut known = Known::default();
        for entry in fs::read_dir(&directory).map_err(PageStoreError::io("list", &directory))? {
            let entry = entry.map_err(PageStoreError::io("list", &directory))?;
            let name = entry.file_name().into_string().unwrap_or_default();
            let Ok(id) = name.parse::<TimelineId>() else {
                // What a dead process was making or removing.
                if writes && name.starts_with(durable::TEMPORARY_PREFIX) {
                    fs::remove_dir_all(entry.path()).map_err(PageStoreError::io("remove", entry.path()))?;
                }
                continue;
            };
            let ancestor = match TimelineState::read(id, &entry.path()) {
                Ok(state) => state.ancestor,
                Err(error) => {
                    tracing::error!(timeline = %id, %error, "a timeline cannot be read");
                    None
                }
            };
            known.ancestors.insert(id, ancestor);
        }
        let files = Arc::new(OpenFiles::new());
        let core = Arc::new(Core {
            cache: LayerCache::new(settings.layer_cache, settings.block_cache, Arc::clone(&files)),
            files,
            chunks: Chunks::default(),
            live: LiveMaps::default(),
            windows: Mutex::new(WalWindows {
                usual: settings.keep_wal,
                branches: HashMap::new(),
            }),
            objects,
            settings,
        });
        let registry = Registry {
            directory,
            core,
            known: Mutex::new(known),
            opening: Mutex::new(()),
        };
        Ok(PageStore {
            registry: Arc::new(registry),
        })
    }

    /// Returns the object store that holds the layers.
    pub fn objects(&self) -> &Arc<ObjectStore> {
        &self.registry.core.objects
    }

    /// Returns the ids of all timelines.
    pub fn list(&self) -> Vec<TimelineId> {
        lock(&self.registry.known).ancestors.keys().copied().collect()
    }

    /// Returns the timelines that are open: only of those is the WAL that is not sealed indexed.
    pub fn open_timelines(&self) -> Vec<Arc<Timeline>> {
        lock(&self.registry.known).open.values().cloned().collect()
    }

    /// Returns true when a timeline of that id is here.
    pub fn contains(&self, id: TimelineId) -> bool {
        lock(&self.registry.known).ancestors.contains_key(&id)
    }

    /// Returns the timeline, opened with those it descends from. Opening indexes the WAL that is not sealed.
    pub fn get(&self, id: TimelineId) -> Result<Arc<Timeline>> {
        self.registry.get(id)
    }

    /// Returns the state of a timeline, without opening it.
    pub fn state_of(&self, id: TimelineId) -> Result<TimelineState> {
        if let Some(timeline) = lock(&self.registry.known).open.get(&id) {
            return Ok(timeline.state());
        }
        TimelineState::read(id, &self.registry.path(id))
    }

    /// Returns the timelines that fork from `id`, with where.
    pub fn children(&self, id: TimelineId) -> Vec<(TimelineId, Lsn)> {
        let known = lock(&self.registry.known);
        let forks = known.ancestors.iter().filter_map(|(child, ancestor)| {
            let ancestor = (*ancestor)?;
            (ancestor.timeline == id).then_some((*child, ancestor.lsn))
        });
        forks.collect()
    }

    /// Makes a timeline that forks at a position that is held; it need not be sealed.
    pub fn create(&self, new: NewTimeline) -> Result<Arc<Timeline>> {
        let ancestor = self.get(new.ancestor.timeline)?;
        let lsn = new.ancestor.lsn;
        let boundary = ancestor.record_at_or_before(lsn)?;
        ancestor.check_position(lsn)?;
        if boundary.end != lsn || lsn < ancestor.start() || lsn > ancestor.end() {
            return Err(PageStoreError::NoRecord(lsn));
        }
        let mut state = TimelineState::new(new.id, new.writer, new.tli, lsn, ancestor.state().cluster());
        state.ancestor = Some(new.ancestor);
        state.branch = new.branch;
        state.provisional = new.provisional;
        // The fork must survive a crash that its ancestor's WAL would not.
        ancestor.sync_wal()?;
        self.install(&state)?;
        self.get(new.id)
    }

    /// Makes a timeline that another repository wrote, with nothing of it held yet, or returns the one that is here.
    pub fn create_received(&self, received: &ReceivedTimeline) -> Result<Arc<Timeline>> {
        let state = received.state()?;
        if self.contains(received.id) {
            let timeline = self.get(received.id)?;
            received.check_same(&timeline.state())?;
            return Ok(timeline);
        }
        if let Some(position) = state.ancestor {
            let ancestor = self.get(position.timeline)?;
            if ancestor.state().cluster() != state.cluster() {
                return Err(PageStoreError::Refused {
                    timeline: received.id,
                    reason: "it is of another cluster than its ancestor".to_owned(),
                });
            }
        }
        self.install(&state)?;
        self.get(received.id)
    }

    /// Makes a timeline's directory with its state, all or nothing.
    pub(crate) fn install(&self, state: &TimelineState) -> Result<()> {
        let temporary = self
            .registry
            .directory
            .join(format!("{}{}", durable::TEMPORARY_PREFIX, state.id));
        if temporary.exists() {
            fs::remove_dir_all(&temporary).map_err(PageStoreError::io("remove", &temporary))?;
        }
        durable::create_directories(&self.registry.directory, &temporary.join(WAL_DIRECTORY))?;
        state.write(&temporary)?;
        self.adopt(state, &temporary)
    }

    /// Makes a directory, in which everything is durable, that of the timeline with that state.
    pub(crate) fn adopt(&self, state: &TimelineState, directory: &Path) -> Result<()> {
        if self.contains(state.id) {
            return Err(PageStoreError::TimelineExists(state.id));
        }
        let path = self.registry.path(state.id);
        fs::rename(directory, &path).map_err(PageStoreError::io("rename a new timeline to", &path))?;
        // The old name goes for good before the new one stays: what lies below the old one is removed by the next opening.
        let above = directory.parent().unwrap_or(&self.registry.directory);
        let synced =
            durable::sync_directory(above).and_then(|()| durable::sync_directory(&self.registry.directory));
        if let Err(error) = synced {
            // Nobody has heard of it: it may be made again.
            let _ = fs::remove_dir_all(&path);
            return Err(error.into());
        }
        lock(&self.registry.known)
            .ancestors
            .insert(state.id, state.ancestor);
        Ok(())
    }

    /// Removes a timeline: its state and WAL. Its layers stay until nothing names them.
    ///
    /// Errors: [`PageStoreError::TimelineNeeded`] while another one forks from it.
    pub fn remove(&self, id: TimelineId) -> Result<()> {
        let aside = self.set_aside(id)?;
        fs::remove_dir_all(&aside).map_err(PageStoreError::io("remove", &aside))
    }

    /// Forgets a timeline and renames its directory, which the next opening of the store would remove.
    pub(crate) fn forget(&self, id: TimelineId) -> Result<PathBuf> {
        let directory = self.registry.path(id);
        let mut known = lock(&self.registry.known);
        if known.ancestors.remove(&id).is_none() {
            return Err(PageStoreError::NoSuchTimeline(id));
        }
        known.open.remove(&id);
        drop(known);
        let aside = self
            .registry
            .directory
            .join(format!("{}removed-{id}", durable::TEMPORARY_PREFIX));
        fs::rename(&directory, &aside).map_err(PageStoreError::io("remove", &directory))?;
        durable::sync_directory(&self.registry.directory)?;
        Ok(aside)
    }

    /// Changes how much raw WAL is kept, usually and for timelines that are open for certain branches.
    pub fn set_keep_wal(&self, usual: u64, branches: HashMap<String, u64>) {
        *lock(&self.registry.core.windows) = WalWindows { usual, branches };
    }

    /// Deletes WAL that need not be kept, of the timelines that are open here; returns how many bytes.
    pub fn trim_wal(&self) -> Result<u64> {
        let open: Vec<Arc<Timeline>> = lock(&self.registry.known).open.values().cloned().collect();
        let mut gone = 0;
        for timeline in open {
            gone += timeline.trim()?;
        }
        Ok(gone)
    }

    /// Returns how far a timeline reaches, as far as that can be told without opening it.
    pub fn known_end(&self, id: TimelineId) -> Result<Lsn> {
        if let Some(timeline) = lock(&self.registry.known).open.get(&id) {
            return Ok(timeline.end());
        }
        let state = TimelineState::read(id, &self.registry.path(id))?;
        Ok(state.sealed.max(state.published_end))
    }

    /// Forgets what is in memory of an object whose file was replaced.
    pub fn forget_object(&self, id: ObjectId) {
        self.registry.core.cache.forget(self.objects(), LayerId(id));
    }

    /// Returns the sizes that the store works with.
    pub fn settings(&self) -> &Settings {
        &self.registry.core.settings
    }

    /// Returns the layer map of that name.
    pub(crate) fn layer_map(&self, id: LayerMapId) -> Result<LayerMap> {
        let core = &self.registry.core;
        LayerMap::read_sharing(&core.objects, id, &core.chunks)
    }

    /// Returns the maps that readers in this process may hold.
    pub(crate) fn live_maps(&self) -> Vec<Arc<LayerMap>> {
        self.registry.core.live.all()
    }

    pub(crate) fn layer_cache(&self) -> &LayerCache {
        &self.registry.core.cache
    }

    pub(crate) fn core(&self) -> Arc<Core> {
        Arc::clone(&self.registry.core)
    }

    pub(crate) fn timelines_directory(&self) -> &Path {
        &self.registry.directory
    }

    pub(crate) fn directory_of(&self, id: TimelineId) -> PathBuf {
        self.registry.path(id)
    }
}
