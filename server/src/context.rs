//! Where a command was given, by whom, and which repository that means.

use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use neon_repo::OpenOptions;
use neon_repo::api::{ApiError, Caller};
use neon_repo::world::{self, RealWorld};

use crate::client::local;
use crate::talk::Sockets;

/// How long a command waits for the lock of a repository.
const LOCK_WAIT: Duration = Duration::from_secs(10);

/// Defaults of a user, from `config.toml` in the configuration directory.
#[derive(Clone, Debug, Default)]
pub struct UserDefaults {
    /// `Name <mail>` for commits.
    pub author: Option<String>,
    /// Postgres major version for `init`.
    pub pg_version: Option<u16>,
    /// Directories to search for Postgres.
    pub pg_dirs: Vec<PathBuf>,
    /// The configuration directory itself.
    pub config_dir: PathBuf,
}

/// Where a command was given, and by whom.
#[derive(Clone, Debug)]
pub struct Context {
    /// The caller's world; its directory is the one of `-C`, if that was given.
    pub caller: Caller,
    /// Postgres major version for `init`.
    pub pg_version: Option<u16>,
    /// `-C` says where to look for the repository, whatever `NEON_DIR` says.
    chosen: bool,
}

impl Context {
    /// Returns the context of this process; `directory` is that of `-C`.
    pub fn new(directory: Option<&Path>, user: UserDefaults) -> Result<Context, ApiError> {
        let here = match directory {
            Some(directory) if directory.is_absolute() => PathBuf::new(),
            _ => std::env::current_dir().map_err(|error| ApiError {
                hint: Some("change into one that exists, or name one: -C DIR".into()),
                ..local("cwd", "there is no current directory", error)
            })?,
        };
        let place = here.join(directory.unwrap_or(Path::new("")));
        if !place.is_dir() {
            return Err(ApiError {
                code: "no_directory".into(),
                message: format!("there is no directory {}", place.display()),
                caused_by: Vec::new(),
                hint: Some("-C takes a directory that exists; 'neon init DIR' makes one".into()),
            });
        }
        Ok(Context {
            caller: world::caller(&place, user.author, &user.pg_dirs),
            pg_version: user.pg_version,
            chosen: directory.is_some(),
        })
    }

    /// Returns how a repository is opened here.
    pub(crate) fn options(&self, purpose: &str) -> OpenOptions {
        OpenOptions {
            takes_over: false,
            purpose: purpose.to_owned(),
            world: Arc::new(RealWorld),
            caller: Arc::new(self.caller.clone()),
            neighbours: Arc::new(Sockets),
            lock_wait: LOCK_WAIT,
        }
    }

    /// Returns the `.neon/` that commands given here work on: `NEON_DIR`, else the nearest one from `-C` or the current
    /// directory upward. One that another user owns is refused.
    pub fn find(&self) -> Result<PathBuf, ApiError> {
        let place = self.caller.directory();
        let named = std::env::var_os("NEON_DIR").filter(|named| !self.chosen && !named.is_empty());
        let neon_dir = match named {
            Some(named) => named_by_variable(&place.join(named))?,
            None => place
                .ancestors()
                .map(|above| above.join(".neon"))
                .find(|inside| is_repository(inside))
                .ok_or_else(|| no_repository(place))?,
        };
        neon_repo::check_ours(&neon_dir)?;
        // By its own name: a link on the way may lead elsewhere while a daemon or a Postgres works here.
        Ok(std::fs::canonicalize(&neon_dir).unwrap_or(neon_dir))
    }
}

fn is_repository(neon_dir: &Path) -> bool {
    neon_dir.join("config.toml").is_file()
}

/// Returns the `.neon/` that `NEON_DIR` names, itself or by the directory that holds it.
fn named_by_variable(named: &Path) -> Result<PathBuf, ApiError> {
    [named.to_owned(), named.join(".neon")]
        .into_iter()
        .find(|candidate| is_repository(candidate))
        .ok_or_else(|| ApiError {
            code: "not_a_repository".into(),
            message: format!("NEON_DIR names {}, where no repository is", named.display()),
            caused_by: Vec::new(),
            hint: Some("name the directory that holds .neon/, or unset NEON_DIR".into()),
        })
}

fn no_repository(place: &Path) -> ApiError {
    let hint = match place
        .ancestors()
        .find(|above| neon_repo::is_data_directory(above))
    {
        Some(pgdata) => format!(
            "this is a data directory of Postgres: 'neon init DIR --from {}' takes it in",
            pgdata.display()
        ),
        None => "'neon init' makes one here, 'neon clone URI' copies one, '-C DIR' or NEON_DIR names one"
            .to_owned(),
    };
    ApiError {
        code: "not_a_repository".into(),
        message: format!("not a repository (nor any directory above): {}", place.display()),
        caused_by: Vec::new(),
        hint: Some(hint),
    }
}
