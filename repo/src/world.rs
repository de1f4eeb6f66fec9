//! The one place where time, randomness and the environment enter, so that tests repeat.

use std::path::PathBuf;
use std::sync::Arc;

use neon_compute::SearchPath;
use neon_objects::WriterKey;
use neon_types::{RepoId, TimelineId};
use serde::{Deserialize, Serialize};

/// What the repository asks of the world outside.
pub trait World: Send + Sync {
    /// Returns microseconds since 1970-01-01 UTC.
    fn now(&self) -> i64;
    /// Returns how long the machine has been up, none where that cannot be known.
    fn boot(&self) -> Option<Boot>;
    /// Returns 16 bytes that nobody else has.
    fn random(&self) -> [u8; 16];
    /// Returns the author of commits when none is configured: `name <name@host>`.
    fn default_author(&self) -> String;
    /// Returns where to look for Postgres.
    fn search_path(&self) -> SearchPath;
}

/// A boot of the machine, and how long ago it was: what a clock that is set cannot change.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Boot {
    /// Which boot.
    pub id: String,
    /// Microseconds since, those in which the machine slept included.
    pub uptime: i64,
}

/// The real world: system clock, the kernel's random numbers, the process's environment.
#[derive(Clone, Debug, Default)]
pub struct RealWorld {
    /// Author from the user's configuration.
    pub author: Option<String>,
    /// Postgres locations from the user's configuration; `NEON_PG_DIRS` comes first.
    pub postgres_directories: Vec<PathBuf>,
}

impl World for RealWorld {
    fn now(&self) -> i64 {
        jiff::Timestamp::now().as_microsecond()
    }

    fn boot(&self) -> Option<Boot> {
        let id = std::fs::read_to_string("/proc/sys/kernel/random/boot_id").ok()?;
        let uptime = std::fs::read_to_string("/proc/uptime").ok()?;
        let seconds: f64 = uptime.split(' ').next()?.parse().ok()?;
        Some(Boot {
            id: id.trim().to_owned(),
            uptime: (seconds * 1e6) as i64,
        })
    }

    fn random(&self) -> [u8; 16] {
        let mut bytes = [0; 16];
        // Without randomness two timelines could get one id: better to end than to go on.
        #[expect(
            clippy::expect_used,
            reason = "a kernel without random numbers cannot run this program"
        )]
        getrandom::fill(&mut bytes).expect("the kernel gives random numbers");
        bytes
    }

    fn default_author(&self) -> String {
        if let Some(author) = &self.author {
            return author.clone();
        }
        let user = std::env::var("USER")
            .or_else(|_| std::env::var("LOGNAME"))
            .unwrap_or_else(|_| "unknown".into());
        let host = rustix::system::uname().nodename().to_string_lossy().into_owned();
        format!("{user} <{user}@{host}>")
    }

    fn search_path(&self) -> SearchPath {
        let named = std::env::var_os("NEON_PG_DIRS");
        SearchPath::new(
            named.as_deref(),
            &self.postgres_directories,
            std::env::var_os("PATH"),
        )
    }
}

/// The world as the parts of a repository share it.
pub type SharedWorld = Arc<dyn World>;

/// Draws a timeline id.
pub fn new_timeline_id(world: &dyn World) -> TimelineId {
    TimelineId(world.random())
}

/// Draws the key of a writer.
pub fn new_writer_key(world: &dyn World) -> WriterKey {
    let mut seed = [0; 32];
    for half in seed.chunks_exact_mut(16) {
        half.copy_from_slice(&world.random());
    }
    WriterKey::from_seed(&seed)
}

/// Draws a repository id.
pub fn new_repo_id(world: &dyn World) -> RepoId {
    RepoId(world.random())
}
