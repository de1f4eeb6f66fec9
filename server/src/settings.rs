//! What `neon serve` allows: `serve.*` of a repository's `config.toml`, or the same keys in `.neon-serve.toml` of a server root.

use std::path::Path;
use std::time::Duration;

use neon_objects::config::{SettingSpec, span};
use neon_objects::owned::{self, Access, Owner};
use neon_objects::{Config, ObjectsError};
use neon_repo::RepoError;
use neon_repo::api::ApiError;
use neon_transport::server::Options;
use toml_edit::{DocumentMut, Item, Value};

use crate::client::local;

/// The file of a server root.
const FILE: &str = ".neon-serve.toml";
/// Longest one that is read, bytes.
const MAX_FILE: u64 = 1 << 20;

/// Descriptors that a repository takes for being open.
const EACH: u64 = 8;

/// What a server allows.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Settings {
    pub login: Duration,
    pub logins: usize,
    pub sessions: usize,
    pub sessions_per_user: usize,
    pub space: Space,
    pub root: RootLimits,
}

/// What a repository may take.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Space {
    /// Bytes of history.
    pub repository: u64,
    /// Bytes on their way in.
    pub staging: u64,
}

/// What there may be below a server root.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct RootLimits {
    /// Repositories, those that are being made included.
    pub repositories: usize,
    /// Repositories that are open at one time.
    pub open: usize,
    /// How long one stays open without a session.
    pub idle: Duration,
    /// How long what an unfinished push left is kept.
    pub keep_staged: Duration,
}

impl Settings {
    /// Reads the settings of one repository.
    pub fn of_repository(neon_dir: &Path) -> Result<Settings, ApiError> {
        let config = Config::load(neon_dir).map_err(RepoError::from)?;
        Settings::read(|key| config.get(&format!("serve.{key}")))
    }

    /// Reads the settings of a server root; defaults where there is no file.
    ///
    /// Errors: also for a key that does not exist, by name.
    pub fn of_root(root: &Path) -> Result<Settings, ApiError> {
        let path = root.join(FILE);
        let text = owned::read(&path, Owner::Us, Access::Readable, MAX_FILE).map_err(RepoError::from)?;
        let document: DocumentMut = text
            .unwrap_or_default()
            .parse()
            .map_err(|error: toml_edit::TomlError| invalid(&path, error.to_string().trim_end()))?;
        for (key, item) in document.iter() {
            let known = SettingSpec::find(&format!("serve.{key}"));
            let spec = known.ok_or_else(|| invalid(&path, &format!("unknown key '{key}'")))?;
            let value =
                plain(item).ok_or_else(|| invalid(&path, &format!("'{key}' is not a single value")))?;
            spec.check(&value).map_err(RepoError::from)?;
        }
        Settings::read(|key| {
            let set = document.get(key).and_then(plain);
            let spec = SettingSpec::find(&format!("serve.{key}"));
            Ok(set.or_else(|| spec.map(|spec| spec.default.to_owned())))
        })
    }

    fn read(get: impl Fn(&str) -> Result<Option<String>, ObjectsError>) -> Result<Settings, ApiError> {
        let text = |key: &str| -> Result<String, ApiError> {
            let value = get(key).map_err(RepoError::from)?;
            Ok(value.unwrap_or_default())
        };
        let bad = |key: &str| {
            local(
                "bad_setting",
                &format!("serve.{key} cannot be used"),
                "it has no sense",
            )
        };
        let number = |key: &str| text(key)?.parse::<usize>().map_err(|_| bad(key));
        let bytes = |key: &str| span::parse_bytes(&text(key)?).ok_or_else(|| bad(key));
        let duration = |key: &str| span::parse_duration(&text(key)?).ok_or_else(|| bad(key));
        Ok(Settings {
            login: Duration::from_secs(number("login_seconds")? as u64),
            logins: number("max_logins")?,
            sessions: number("max_sessions")?,
            sessions_per_user: number("max_sessions_per_user")?,
            space: Space {
                repository: bytes("max_repository_bytes")?,
                staging: bytes("max_staging_bytes")?,
            },
            root: RootLimits {
                repositories: number("max_repositories")?,
                open: number("max_open")?,
                idle: duration("idle")?,
                keep_staged: duration("keep_staged")?,
            },
        })
    }

    /// Returns the same with so few repositories open that a quarter of `descriptors` is enough for them.
    pub fn within(mut self, descriptors: u64) -> Settings {
        let fit = usize::try_from(descriptors / 4 / EACH)
            .unwrap_or(usize::MAX)
            .max(1);
        self.root.open = self.root.open.min(fit);
        self
    }

    /// Returns how the transport runs, with so many descriptors.
    pub fn transport(&self, descriptors: u64) -> Options {
        let options = Options {
            login: self.login,
            logins: self.logins,
            sessions: self.sessions,
            sessions_per_user: self.sessions_per_user,
            ..Options::default()
        };
        options.within(descriptors)
    }
}

/// Returns a value as it would be written behind `neon config set`.
fn plain(item: &Item) -> Option<String> {
    match item {
        Item::Value(Value::String(text)) => Some(text.value().clone()),
        Item::Value(Value::Integer(number)) => Some(number.value().to_string()),
        _ => None,
    }
}

fn invalid(path: &Path, problem: &str) -> ApiError {
    ApiError {
        code: "bad_config".into(),
        message: format!("{} is not valid: {problem}", path.display()),
        caused_by: Vec::new(),
        hint: Some("its keys are those of 'serve.' in neon-config(1), without 'serve.'".into()),
    }
}

#[cfg(test)]
mod tests {
    use std::fs;

    use super::*;

    fn root(text: &str) -> Result<Settings, ApiError> {
        let root = tempfile::tempdir().expect("a directory");
        let path = root.path().join(FILE);
        fs::write(&path, text).expect("written");
        let mode = std::os::unix::fs::PermissionsExt::from_mode(0o644);
        fs::set_permissions(&path, mode).expect("our own");
        Settings::of_root(root.path())
    }

    #[test]
    fn a_root_has_defaults_and_says_what_it_wants_otherwise() {
        let empty = tempfile::tempdir().expect("a directory");
        let defaults = Settings::of_root(empty.path()).expect("read");
        assert_eq!(root("").expect("read"), defaults);
        assert_eq!((defaults.login, defaults.sessions), (Duration::from_secs(5), 100));
        assert_eq!(defaults.space.repository, 1 << 40);
        let set = root("max_repositories = 3 # not more\nmax_repository_bytes = \"10MB\"\nidle = \"2s\"\n");
        let set = set.expect("read");
        assert_eq!(set.root.repositories, 3);
        assert_eq!(set.space.repository, 10 << 20);
        assert_eq!(set.root.idle, Duration::from_secs(2));
        assert_eq!(set.sessions, defaults.sessions);
    }

    #[test]
    fn what_cannot_be_meant_is_named() {
        for (text, expected) in [
            ("max_repos = 3\n", "unknown key 'max_repos'"),
            ("max_repositories = 'many'\n", "serve.max_repositories"),
            ("max_repositories = -1\n", "serve.max_repositories"),
            ("max_repository_bytes = 10\n", "serve.max_repository_bytes"),
            ("idle = []\n", "'idle' is not a single value"),
            ("idle = ", "line 1"),
        ] {
            let error = root(text).expect_err(text);
            assert!(error.message.contains(expected), "{error:?}");
        }
    }

    #[test]
    fn few_descriptors_leave_few_places() {
        let settings = root("").expect("read");
        let options = settings.transport(256);
        assert_eq!((options.logins, options.sessions), (32, 64));
        assert_eq!(settings.transport(1 << 20).sessions, 100);
    }
}
