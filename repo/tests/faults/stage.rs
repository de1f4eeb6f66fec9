//! Where the course is played: a directory with the repositories `a`, `b` and `c`, a world that repeats itself, and open repositories.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use neon_objects::WriterKey;
use neon_pagestore::Timeline;
use neon_repo::api::{ApiError, Caller, Quiet, Request, Response};
use neon_repo::neighbours::Alone;
use neon_repo::world::{Boot, World};
use neon_repo::{OpenOptions, Repository};
use neon_tests_kit::TestPostgres;
use neon_types::{Lsn, ObjectId, RepoId, TimelineId, with_causes};

use crate::material::{MAJOR, Material};

/// How long a repository may be held by the other half of a conversation that has ended.
const LOCK_WAIT: Duration = Duration::from_secs(20);

/// Time moves on by a second with each look, and what is random follows from a seed.
struct Repeating {
    seed: u64,
    looks: AtomicU64,
    draws: AtomicU64,
}

impl World for Repeating {
    fn now(&self) -> i64 {
        let seconds = self.seed * 3600 + self.looks.fetch_add(1, Ordering::Relaxed);
        i64::try_from((1_800_000_000 + seconds) * 1_000_000).expect("a time")
    }

    fn boot(&self) -> Option<Boot> {
        None
    }

    fn random(&self) -> [u8; 16] {
        let draw = self.draws.fetch_add(1, Ordering::Relaxed);
        let hash = blake3::hash(format!("{} {draw}", self.seed).as_bytes());
        *hash.as_bytes().first_chunk().expect("32 bytes")
    }
}

/// Returns who gives the commands.
pub fn caller() -> Caller {
    Caller {
        directory: "/".into(),
        zone: "UTC".into(),
        author: "test <test@localhost>".into(),
        postgres: vec![TestPostgres::find(MAJOR).bin("").into()],
        ..Caller::default()
    }
}

/// Returns how repositories are opened.
pub fn options(seed: u64) -> OpenOptions {
    OpenOptions {
        takes_over: false,
        purpose: "test".into(),
        world: Arc::new(Repeating {
            seed,
            looks: AtomicU64::new(0),
            draws: AtomicU64::new(0),
        }),
        caller: Arc::new(caller()),
        neighbours: Arc::new(Alone),
        lock_wait: LOCK_WAIT,
    }
}

/// An error as a user sees it.
#[derive(Debug)]
pub struct Trouble(pub String);

impl From<ApiError> for Trouble {
    fn from(error: ApiError) -> Trouble {
        Trouble(format!(
            "[{}] {}: {}",
            error.code,
            error.message,
            error.caused_by.join(": ")
        ))
    }
}

impl From<neon_pagestore::PageStoreError> for Trouble {
    fn from(error: neon_pagestore::PageStoreError) -> Trouble {
        Trouble(with_causes(&error))
    }
}

/// That the WAL of a timeline is kept up to there, in the repository of that name.
pub type Acknowledged = BTreeMap<(&'static str, TimelineId), Lsn>;

/// One process's worth of open repositories, and what was acknowledged.
pub struct Stage<'a> {
    pub root: PathBuf,
    pub material: &'a Material,
    pub runtime: tokio::runtime::Handle,
    pub acknowledged: Acknowledged,
    pub seed: u64,
    open: BTreeMap<&'static str, Arc<Repository>>,
}

impl<'a> Stage<'a> {
    pub fn new(
        root: &Path,
        material: &'a Material,
        runtime: &tokio::runtime::Handle,
        seed: u64,
    ) -> Stage<'a> {
        Stage {
            root: root.to_owned(),
            material,
            runtime: runtime.clone(),
            acknowledged: Acknowledged::new(),
            seed,
            open: BTreeMap::new(),
        }
    }

    /// Ends the process, as far as repositories can tell: what is open is closed, nothing is said to them.
    pub fn close(&mut self) {
        self.open.clear();
        self.seed += 1;
    }

    pub fn directory(&self, name: &str) -> PathBuf {
        self.root.join(name)
    }

    pub fn neon_dir(&self, name: &str) -> PathBuf {
        self.directory(name).join(".neon")
    }

    /// Returns the repository of that name, opened.
    pub fn repository(&mut self, name: &'static str) -> Result<Arc<Repository>, Trouble> {
        if let Some(repository) = self.open.get(name) {
            return Ok(Arc::clone(repository));
        }
        self.seed += 1;
        let opened = Repository::open(&self.neon_dir(name), options(self.seed), &self.runtime);
        let repository = Arc::new(opened.map_err(ApiError::from)?);
        self.open.insert(name, Arc::clone(&repository));
        Ok(repository)
    }

    /// Closes one repository, so that a conversation can open it.
    pub fn leave(&mut self, name: &str) {
        self.open.remove(name);
    }

    pub fn ask(&mut self, name: &'static str, request: Request) -> Result<Response, Trouble> {
        Ok(self.repository(name)?.handle(request, &caller(), &mut Quiet)?)
    }

    pub fn timeline(&mut self, name: &'static str, id: TimelineId) -> Result<Arc<Timeline>, Trouble> {
        Ok(self.repository(name)?.pages().get(id)?)
    }

    /// Returns who writes in a repository.
    pub fn writer(&self, name: &str) -> RepoId {
        let text =
            std::fs::read_to_string(self.neon_dir(name).join("instance")).expect("an opened repository");
        let seed: ObjectId = text
            .split(' ')
            .next()
            .and_then(|seed| seed.parse().ok())
            .expect("the seed of a key");
        WriterKey::from_seed(&seed.to_bytes()).id()
    }

    pub fn acknowledge(&mut self, name: &'static str, timeline: TimelineId, lsn: Lsn) {
        let known = self.acknowledged.entry((name, timeline)).or_insert(lsn);
        *known = lsn.max(*known);
    }

    /// Says that a timeline is not needed any more.
    pub fn forget(&mut self, name: &'static str, timeline: TimelineId) {
        self.acknowledged.remove(&(name, timeline));
    }
}
