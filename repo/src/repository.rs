//! An open repository: its stores, its lock, and who may write.

use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use neon_objects::{Commit, Config, ObjectStore, RefEdit, Refs, RepoLock, owned};
use neon_pagestore::{PageStore, Timeline};
use neon_types::{CommitId, RefName, RefNameError, RepoId, TimelineId};

use crate::clock::Clock;
use crate::compaction::Compactor;
use crate::endpoint::Endpoints;
use crate::error::{RepoError, Result};
use crate::instance;
use crate::left_behind;
use crate::world::SharedWorld;

/// Format of the directory that this program reads and writes.
pub const FORMAT: i64 = 1;

/// How a repository is opened.
#[derive(Clone)]
pub struct OpenOptions {
    /// What for, for those who wait for the lock: `daemon`, `push`...
    pub purpose: String,
    /// Time, randomness, environment.
    pub world: SharedWorld,
    /// How long to wait for the lock.
    pub lock_wait: Duration,
}

/// An open repository. One process at a time has one open; threads share it.
pub struct Repository {
    pub(crate) neon_dir: PathBuf,
    pub(crate) objects: Arc<ObjectStore>,
    pub(crate) refs: Refs,
    pub(crate) pages: PageStore,
    pub(crate) world: SharedWorld,
    pub(crate) runtime: tokio::runtime::Handle,
    pub(crate) endpoints: Endpoints,
    pub(crate) compactor: Arc<Compactor>,
    /// Held by every command that moves refs, timelines or endpoints.
    pub(crate) commands: Mutex<()>,
    /// Held by the one that collects garbage.
    pub(crate) collecting: Mutex<()>,
    /// Who writes: drawn for this very directory, see [`crate::instance`].
    pub(crate) writer: RepoId,
    _lock: RepoLock,
}

impl Repository {
    /// Opens the repository at `neon_dir` (a `.neon/`), waiting for its lock.
    ///
    /// Work on endpoints and connections runs on `runtime`; methods must be called from outside of its async threads.
    pub fn open(
        neon_dir: &Path,
        options: OpenOptions,
        runtime: &tokio::runtime::Handle,
    ) -> Result<Repository> {
        check_ours(neon_dir)?;
        let lock = RepoLock::acquire_within(neon_dir, &options.purpose, options.lock_wait)?;
        Repository::open_locked(neon_dir, lock, options.world, runtime)
    }

    pub(crate) fn open_locked(
        neon_dir: &Path,
        mut lock: RepoLock,
        world: SharedWorld,
        runtime: &tokio::runtime::Handle,
    ) -> Result<Repository> {
        if lock.is_after_a_death() {
            left_behind::make_durable(neon_dir)?;
            lock.settled();
        }
        let config = Config::load(neon_dir)?;
        if config.format() != FORMAT {
            return Err(RepoError::Format {
                found: config.format(),
                known: FORMAT,
            });
        }
        let writer = instance::writer(neon_dir, &*world)?;
        // So that the daemon's hourly looks are not the only ones that a jump is told by.
        Clock::glance(neon_dir, &*world)?;
        let objects = Arc::new(ObjectStore::open(neon_dir.join("objects"))?);
        // What a process that died was writing has no name yet; we hold the lock, so nobody writes it any more.
        objects.sweep_temporaries()?;
        let repository = Repository {
            neon_dir: neon_dir.to_owned(),
            refs: Refs::open(neon_dir)?,
            pages: PageStore::open_with(neon_dir, Arc::clone(&objects), settings(&config)?)?,
            objects,
            world,
            runtime: runtime.clone(),
            endpoints: Endpoints::default(),
            compactor: Arc::new(Compactor::new(neon_dir)),
            commands: Mutex::new(()),
            collecting: Mutex::new(()),
            writer,
            _lock: lock,
        };
        repository.apply_wal_windows(&config)?;
        Ok(repository)
    }

    /// Returns the directory that holds `.neon/`.
    pub fn directory(&self) -> PathBuf {
        self.neon_dir.parent().unwrap_or(&self.neon_dir).to_owned()
    }

    /// Returns the `.neon/` itself.
    pub fn neon_dir(&self) -> &Path {
        &self.neon_dir
    }

    /// Returns the world that it sees.
    pub fn world(&self) -> SharedWorld {
        self.world.clone()
    }

    /// Returns the page store: its timelines take in WAL that arrives by other ways than an endpoint's stream.
    pub fn pages(&self) -> &PageStore {
        &self.pages
    }

    /// Returns the configuration as it is on disk now.
    pub(crate) fn config(&self) -> Result<Config> {
        Ok(Config::load(&self.neon_dir)?)
    }

    /// Returns the given branch, or HEAD's.
    pub(crate) fn branch_or_head(&self, branch: Option<&str>) -> Result<String> {
        match branch {
            Some(name) => Ok(name.to_owned()),
            None => Ok(self.refs.head()?),
        }
    }

    /// Returns the commit that a branch names.
    pub(crate) fn head_of(&self, branch: &str) -> Result<(CommitId, Commit)> {
        let name = branch_ref(branch)?;
        let id = self.refs.get(&name)?.ok_or_else(|| self.no_branch(branch))?;
        Ok((id, self.commit(id)?))
    }

    fn no_branch(&self, branch: &str) -> RepoError {
        match self.refs.list("refs/heads/") {
            Ok(branches) if branches.is_empty() => RepoError::Empty,
            _ => RepoError::NoBranch(branch.to_owned()),
        }
    }

    /// Reads a commit.
    pub(crate) fn commit(&self, id: CommitId) -> Result<Commit> {
        Ok(self.objects.read_commit(id)?)
    }

    /// Opens a timeline.
    pub(crate) fn timeline(&self, id: TimelineId) -> Result<Arc<Timeline>> {
        Ok(self.pages.get(id)?)
    }

    /// Moves refs, all or none, and writes the reflog.
    pub(crate) fn move_refs(&self, edits: &[RefEdit], why: &str) -> Result<()> {
        self.move_refs_as(None, edits, why)
    }

    /// The same as somebody, absent the author of what is done here.
    pub(crate) fn move_refs_as(&self, who: Option<&str>, edits: &[RefEdit], why: &str) -> Result<()> {
        self.refs.edit(edits, &self.author(who)?, why, self.world.now())?;
        Ok(())
    }

    /// Returns the author of what is done now: as given, as configured for the repository, as the world says.
    pub(crate) fn author(&self, given: Option<&str>) -> Result<String> {
        if let Some(author) = given {
            return Ok(author.to_owned());
        }
        Ok(self
            .config()?
            .get("user.author")?
            .unwrap_or_else(|| self.world.default_author()))
    }

    /// Takes the right to move refs, timelines and endpoints.
    pub(crate) fn exclusive(&self) -> std::sync::MutexGuard<'_, ()> {
        // A command that panicked left nothing half-made: every step of a command is durable or absent by itself.
        self.commands
            .lock()
            .unwrap_or_else(std::sync::PoisonError::into_inner)
    }
}

/// Refuses a repository that another user owns or may change: its settings decide which programs run (law 16).
pub fn check_ours(neon_dir: &Path) -> Result<()> {
    owned::open_directory(neon_dir)?;
    let around = neon_dir.parent().filter(|around| !around.as_os_str().is_empty());
    owned::check_around(around.unwrap_or(Path::new(".")))?;
    Ok(())
}

/// Returns the page store's sizes as configured.
fn settings(config: &Config) -> Result<neon_pagestore::Settings> {
    let mut settings = neon_pagestore::Settings::default();
    let bytes = |key: &str| -> Result<Option<u64>> {
        let megabytes = config.get(key)?.and_then(|number| number.parse::<u64>().ok());
        Ok(megabytes.map(|megabytes| megabytes.max(1) << 20))
    };
    let memory = |key: &str| -> Result<Option<usize>> {
        Ok(bytes(key)?.map(|bytes| usize::try_from(bytes).unwrap_or(usize::MAX)))
    };
    if let Some(wal) = bytes("pagestore.seal_megabytes")? {
        settings.seal_wal_bytes = wal;
    }
    if let Some(index) = memory("pagestore.index_megabytes")? {
        settings.index_memory = index;
    }
    if let Some(layers) = memory("pagestore.layer_cache_megabytes")? {
        settings.layer_cache = layers;
    }
    if let Some(blocks) = memory("pagestore.block_cache_megabytes")? {
        settings.block_cache = blocks;
    }
    Ok(settings)
}

/// Returns the ref of a branch, or why its name cannot be one.
pub(crate) fn branch_ref(name: &str) -> Result<RefName> {
    RefName::branch(name).map_err(bad_name)
}

/// Returns the ref of a branch that is to be made, or why it may not have that name.
pub(crate) fn new_branch_ref(name: &str) -> Result<RefName> {
    new_ref(branch_ref(name)?)
}

/// Returns the ref of a tag, or why its name cannot be one.
pub(crate) fn tag_ref(name: &str) -> Result<RefName> {
    RefName::tag(name).map_err(bad_name)
}

/// Returns the ref of a tag that is to be made, or why it may not have that name.
pub(crate) fn new_tag_ref(name: &str) -> Result<RefName> {
    new_ref(tag_ref(name)?)
}

fn new_ref(name: RefName) -> Result<RefName> {
    name.check_new().map_err(bad_name)?;
    Ok(name)
}

fn bad_name(error: RefNameError) -> RepoError {
    RepoError::refused(error.to_string(), "choose another name")
}
