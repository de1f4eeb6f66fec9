//! The one place where time, randomness and the environment enter, so that tests repeat.

use std::env;
use std::ffi::OsString;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use neon_objects::WriterKey;
use neon_types::{RepoId, TimelineId};
use serde::{Deserialize, Serialize};

use crate::api::{Caller, Login, Secret};

/// What the repository asks of the world outside, whoever gives a command.
pub trait World: Send + Sync {
    /// Returns microseconds since 1970-01-01 UTC.
    fn now(&self) -> i64;
    /// Returns how long the machine has been up, none where that cannot be known.
    fn boot(&self) -> Option<Boot>;
    /// Returns 16 bytes that nobody else has.
    fn random(&self) -> [u8; 16];
}

/// A boot of the machine, and how long ago it was: what a clock that is set cannot change.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Boot {
    /// Which boot.
    pub id: String,
    /// Microseconds since, those in which the machine slept included.
    pub uptime: i64,
}

/// The real world: system clock, the kernel's random numbers.
#[derive(Clone, Copy, Debug, Default)]
pub struct RealWorld;

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
}

/// Returns the world of this process as that of a caller, in an absolute `directory`. `author` and `postgres` (directories of Postgres, after
/// those of `NEON_PG_DIRS`) are the user's own defaults.
pub fn caller(directory: &Path, author: Option<String>, postgres: &[PathBuf]) -> Caller {
    let set = |name: &str| env::var_os(name).filter(|value| !value.is_empty());
    let text = |name: &str| set(name).and_then(|value| value.into_string().ok());
    let named = set("NEON_PG_DIRS").unwrap_or_default();
    let named = env::split_paths(&named).filter(|path| !path.as_os_str().is_empty());
    let passfile = set("PGPASSFILE").map(PathBuf::from);
    let passfile = passfile.or_else(|| set("HOME").map(|home| Path::new(&home).join(".pgpass")));
    let user = text("USER").or_else(|| text("LOGNAME"));
    Caller {
        directory: directory.into(),
        zone: zone(),
        author: author.unwrap_or_else(|| {
            let user = user.as_deref().unwrap_or("unknown");
            let host = rustix::system::uname().nodename().to_string_lossy().into_owned();
            format!("{user} <{user}@{host}>")
        }),
        locale: locale(),
        postgres: named
            .chain(postgres.iter().cloned())
            .map(|path| directory.join(path).into_os_string())
            .collect(),
        path: env::var_os("PATH"),
        login: Login {
            user: text("PGUSER").or(user).unwrap_or_else(|| "neon".to_owned()),
            password: text("PGPASSWORD").map(Secret::new),
            passfile: passfile.map(|path| directory.join(path).into_os_string()),
        },
    }
}

/// Returns `TZ`, or what it would have to be to say the zone of the machine.
fn zone() -> String {
    if let Some(value) = env::var_os("TZ") {
        return value.to_string_lossy().into_owned();
    }
    match jiff::tz::TimeZone::system().iana_name() {
        Some(name) => name.to_owned(),
        None => ":/etc/localtime".to_owned(),
    }
}

fn locale() -> Vec<(String, OsString)> {
    let is_locale = |name: &str| matches!(name, "LANG" | "LANGUAGE") || name.starts_with("LC_");
    env::vars_os()
        .filter_map(|(name, value)| Some((name.into_string().ok()?, value)))
        .filter(|(name, _)| is_locale(name))
        .collect()
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
