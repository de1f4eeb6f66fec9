//! An open repository: its stores, its lock, and who may write.

use std::ops::Deref;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::{Duration, Instant};

use jiff::tz::TimeZone;
use jiff::{Timestamp, Zoned};
use neon_objects::{Commit, Config, ObjectStore, ObjectsError, RefEdit, Refs, WriterKey, owned};
use neon_pagestore::{PageStore, Timeline};
use neon_types::{CommitId, RefName, RefNameError, RepoId, TimelineId};

use crate::api::{Caller, ProgressSink};
use crate::clock::Clock;
use crate::compaction::Compactor;
use crate::endpoint::Endpoints;
use crate::error::{RepoError, Result};
use crate::hold::Hold;
use crate::instance::Instance;
use crate::left_behind;
use crate::moment;
use crate::neighbours::Neighbours;
use crate::turns::Turns;
use crate::world::{SharedWorld, World};

/// Format of the directory that this program reads and writes.
pub const FORMAT: i64 = 1;

/// How a repository is opened.
#[derive(Clone)]
pub struct OpenOptions {
    /// What for, for those who wait for the lock: `daemon`, `push`...
    pub purpose: String,
    /// Time, randomness.
    pub world: SharedWorld,
    /// Who opens it: whose world holds for what is done without a request of somebody else.
    pub caller: Arc<Caller>,
    /// How the daemons of other repositories are reached, and that of this one, if it has the lock.
    pub neighbours: Arc<dyn Neighbours>,
    /// How long to wait for the lock.
    pub lock_wait: Duration,
    /// Whether to take it from a daemon that has endpoints running, and to go on with these.
    pub takes_over: bool,
}

/// How often a daemon is asked again that had something to do.
const LOCK_ASK: Duration = Duration::from_secs(1);
/// How often whoever waits for the lock tries.
const LOCK_POLL: Duration = Duration::from_millis(25);
/// How often a command tries whether it is its turn.
const TURN_POLL: Duration = Duration::from_millis(5);

/// An open repository as one caller sees it. One process at a time has one open; threads, and callers, share it.
#[derive(Clone)]
pub struct Repository {
    open: Arc<Open>,
    pub(crate) caller: Arc<Caller>,
}

/// What all callers of an open repository share.
pub struct Open {
    pub(crate) neon_dir: PathBuf,
    pub(crate) objects: Arc<ObjectStore>,
    pub(crate) refs: Refs,
    pub(crate) pages: PageStore,
    pub(crate) options: OpenOptions,
    pub(crate) runtime: tokio::runtime::Handle,
    pub(crate) endpoints: Endpoints,
    pub(crate) compactor: Arc<Compactor>,
    /// Who has to wait for whom.
    pub(crate) turns: Turns,
    /// Who writes: drawn for this very directory, see [`crate::instance`].
    pub(crate) key: WriterKey,
    pub(crate) hold: Hold,
}

impl OpenOptions {
    /// Takes the repository at `neon_dir`. Whoever has it is waited for; a daemon that is idle is asked to give it up.
    fn take(&self, neon_dir: &Path) -> Result<Hold> {
        let began = Instant::now();
        let mut asked: Option<Instant> = None;
        loop {
            match Hold::try_take(neon_dir, &self.purpose) {
                Err(RepoError::Objects(ObjectsError::Locked { .. })) if began.elapsed() < self.lock_wait => {}
                taken => return taken,
            }
            if asked.is_none_or(|asked| asked.elapsed() > LOCK_ASK) {
                asked = Some(Instant::now());
                self.neighbours.ask_to_yield(neon_dir, self.takes_over);
            }
            std::thread::sleep(LOCK_POLL);
        }
    }
}

impl Deref for Repository {
    type Target = Open;

    fn deref(&self) -> &Open {
        &self.open
    }
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
        let hold = options.take(neon_dir)?;
        Repository::open_held(neon_dir, hold, &options, runtime)
    }

    pub(crate) fn open_held(
        neon_dir: &Path,
        mut hold: Hold,
        options: &OpenOptions,
        runtime: &tokio::runtime::Handle,
    ) -> Result<Repository> {
        if let Hold::Writer(lock) = &mut hold
            && lock.is_after_a_death()
        {
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
        let instance = Instance::look(neon_dir, &*options.world)?;
        let objects = match &hold {
            Hold::Writer(_) => {
                // So that the daemon's hourly looks are not the only ones that a jump is told by.
                Clock::glance(neon_dir, &*options.world)?;
                let objects = ObjectStore::open(neon_dir.join("objects"))?;
                // What a process that died was writing has no name yet; we hold the lock, so nobody writes it any more.
                objects.sweep_temporaries()?;
                objects
            }
            Hold::Reader { .. } => ObjectStore::open_reading(neon_dir.join("objects")),
        };
        let objects = Arc::new(objects);
        let open = Open {
            neon_dir: neon_dir.to_owned(),
            refs: Refs::open(neon_dir)?,
            pages: PageStore::open_with(neon_dir, Arc::clone(&objects), settings(&config)?)?,
            objects,
            options: options.clone(),
            runtime: runtime.clone(),
            endpoints: Endpoints::default(),
            compactor: Arc::new(Compactor::new(neon_dir)),
            turns: Turns::default(),
            key: instance.key_of(&hold),
            hold,
        };
        let repository = Repository {
            open: Arc::new(open),
            caller: Arc::clone(&options.caller),
        };
        if !repository.is_read_only() {
            repository.take_over(&instance)?;
        }
        repository.apply_wal_windows(&config)?;
        Ok(repository)
    }

    /// Returns true as long as the repository is where it was opened: nothing may be written where it is not any more.
    pub fn is_in_place(&self) -> bool {
        self.hold.is_in_place()
    }

    /// Returns whose world this is about.
    pub fn caller(&self) -> &Caller {
        &self.caller
    }

    /// Returns where time and randomness come from.
    pub(crate) fn world(&self) -> &dyn World {
        &*self.options.world
    }

    /// Returns the repository as another caller sees it.
    pub fn seen_by(&self, caller: &Caller) -> Repository {
        Repository {
            open: Arc::clone(&self.open),
            caller: Arc::new(caller.clone()),
        }
    }

    /// Returns what time it is, in the zone of the caller; a zone that is not known here is UTC, as for every other program.
    pub(crate) fn now(&self) -> Zoned {
        let now = Timestamp::from_microsecond(self.world().now()).unwrap_or(Timestamp::UNIX_EPOCH);
        now.to_zoned(moment::of_variable(&self.caller.zone).unwrap_or(TimeZone::UTC))
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
    pub fn shared_world(&self) -> SharedWorld {
        self.options.world.clone()
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
            Some(name) => self.branch_meant(name),
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
        self.refs
            .edit(edits, &self.author(who)?, why, self.world().now())?;
        Ok(())
    }

    /// Returns the author of what is done now: as given, as configured for the repository, as the caller's own defaults say.
    pub(crate) fn author(&self, given: Option<&str>) -> Result<String> {
        if let Some(author) = given {
            return Ok(author.to_owned());
        }
        Ok(self
            .config()?
            .get("user.author")?
            .unwrap_or_else(|| self.caller.author.clone()))
    }

    /// Takes the right to move refs, timelines and endpoints.
    pub(crate) fn exclusive(&self) -> std::sync::MutexGuard<'_, ()> {
        self.turns.commands()
    }

    /// Returns the id under which this directory writes timelines.
    pub(crate) fn writer(&self) -> RepoId {
        self.key.id()
    }

    /// The same for a command that somebody waits for: others may take long.
    pub(crate) fn exclusive_unless_cancelled(
        &self,
        progress: &dyn ProgressSink,
    ) -> Result<std::sync::MutexGuard<'_, ()>> {
        loop {
            match self.turns.try_commands() {
                Some(turn) => return Ok(turn),
                None if progress.cancelled() => return Err(RepoError::Interrupted),
                None => std::thread::sleep(TURN_POLL),
            }
        }
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
