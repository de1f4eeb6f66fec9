//! Settings by dotted key: which exist, what they may be, and their defaults.

use neon_types::RefName;
use toml_edit::{Item, Key, Value};

use super::Config;
use crate::{ObjectsError, Result};

/// What a setting may be.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum SettingKind {
    /// A whole number in that range.
    Number {
        /// Least.
        min: i64,
        /// Greatest.
        max: i64,
    },
    /// `Name <mail>`
    Author,
    /// A length of time, as `36h`; see [`super::span::parse_duration`].
    Duration,
    /// `on` or `off`
    Switch,
    /// `forever` or a length of time; see [`super::Keep`].
    Keep,
    /// An amount of bytes, as `50GB`; see [`super::span::parse_bytes`].
    Bytes,
}

/// One setting of a repository.
#[derive(Clone, Copy, Debug)]
pub struct SettingSpec {
    /// Dotted key.
    pub key: &'static str,
    /// What it may be.
    pub kind: SettingKind,
    /// What holds when it is not set; empty: nothing.
    pub default: &'static str,
    /// What it does, in one sentence.
    pub doc: &'static str,
}

/// Every setting, by key. `endpoint.settings.NAME` (a Postgres setting of all endpoints) and `branches.NAME.origin` and `.branch`
/// exist besides.
pub const SETTINGS: &[SettingSpec] = &[
    SettingSpec {
        key: "user.author",
        kind: SettingKind::Author,
        default: "",
        doc: "Author of commits made in this repository, as 'Name <mail>'; overrides the user's own",
    },
    SettingSpec {
        key: "endpoint.first_port",
        kind: SettingKind::Number {
            min: 1024,
            max: 65535,
        },
        default: "55432",
        doc: "First TCP port that is tried for an endpoint",
    },
    SettingSpec {
        key: "pagestore.seal_megabytes",
        kind: SettingKind::Number { min: 1, max: 65536 },
        default: "256",
        doc: "Megabytes of WAL after which a timeline is sealed in the background",
    },
    SettingSpec {
        key: "pagestore.index_megabytes",
        kind: SettingKind::Number { min: 1, max: 65536 },
        default: "64",
        doc: "Memory for the index over WAL of a timeline that is not sealed: with half of it the timeline is sealed, with all of it indexing waits",
    },
    SettingSpec {
        key: "pagestore.layer_cache_megabytes",
        kind: SettingKind::Number { min: 1, max: 65536 },
        default: "32",
        doc: "Memory for block indexes and filters of layers",
    },
    SettingSpec {
        key: "pagestore.block_cache_megabytes",
        kind: SettingKind::Number { min: 1, max: 65536 },
        default: "32",
        doc: "Memory for decompressed blocks of layers",
    },
    SettingSpec {
        key: "pagestore.seal_seconds",
        kind: SettingKind::Number {
            min: 1,
            max: 31_536_000,
        },
        default: "600",
        doc: "Seconds after which WAL of an open timeline is sealed in the background, however little it is",
    },
    SettingSpec {
        key: "pagestore.compaction",
        kind: SettingKind::Switch,
        default: "on",
        doc: "Whether a running daemon merges layers and writes image layers, so that reads stay short",
    },
    SettingSpec {
        key: "gc.auto",
        kind: SettingKind::Switch,
        default: "on",
        doc: "Whether a running daemon collects garbage",
    },
    SettingSpec {
        key: "gc.interval",
        kind: SettingKind::Duration,
        default: "1h",
        doc: "How long a running daemon waits between collections of garbage",
    },
    SettingSpec {
        key: "gc.grace",
        kind: SettingKind::Duration,
        default: "24h",
        doc: "How long garbage is kept after it was found; longer than any transfer takes",
    },
    SettingSpec {
        key: "gc.reflog",
        kind: SettingKind::Duration,
        default: "90d",
        doc: "How long commits are kept that a branch or tag, which still exists, named before",
    },
    SettingSpec {
        key: "retention.keep",
        kind: SettingKind::Keep,
        default: "forever",
        doc: "How long after it was received history can be read, where a branch says nothing else",
    },
    SettingSpec {
        key: "retention.keep_wal",
        kind: SettingKind::Bytes,
        default: "256MB",
        doc: "Raw WAL that is kept below the end of a branch, where it says nothing else, beyond what is not in layers",
    },
    SettingSpec {
        key: "serve.login_seconds",
        kind: SettingKind::Number { min: 1, max: 300 },
        default: "5",
        doc: "Seconds that a client of 'neon serve' may take to log in",
    },
    SettingSpec {
        key: "serve.max_logins",
        kind: SettingKind::Number { min: 2, max: 10_000 },
        default: "128",
        doc: "Clients that log in to 'neon serve' at one time, half of them from one address; who does least gives way",
    },
    SettingSpec {
        key: "serve.max_sessions",
        kind: SettingKind::Number { min: 1, max: 10_000 },
        default: "100",
        doc: "Sessions of 'neon serve' at one time",
    },
    SettingSpec {
        key: "serve.max_sessions_per_user",
        kind: SettingKind::Number { min: 1, max: 10_000 },
        default: "50",
        doc: "Sessions of one user of 'neon serve' at one time",
    },
    SettingSpec {
        key: "serve.max_repository_bytes",
        kind: SettingKind::Bytes,
        default: "1TB",
        doc: "Bytes of history that a repository may have through pushes to 'neon serve'",
    },
    SettingSpec {
        key: "serve.max_staging_bytes",
        kind: SettingKind::Bytes,
        default: "1TB",
        doc: "Bytes of a repository that may be on their way in at one time, those that unfinished pushes left included",
    },
    SettingSpec {
        key: "serve.keep_staged",
        kind: SettingKind::Duration,
        default: "24h",
        doc: "How long 'neon serve --root' keeps what an unfinished push left, for the next attempt",
    },
    SettingSpec {
        key: "serve.max_repositories",
        kind: SettingKind::Number {
            min: 0,
            max: 1_000_000,
        },
        default: "1000",
        doc: "Repositories below 'neon serve --root'; a push to another name is refused then",
    },
    SettingSpec {
        key: "serve.max_open",
        kind: SettingKind::Number { min: 1, max: 10_000 },
        default: "32",
        doc: "Repositories that 'neon serve --root' has open at one time; one that is idle gives way",
    },
    SettingSpec {
        key: "serve.idle",
        kind: SettingKind::Duration,
        default: "1m",
        doc: "After how long without a session 'neon serve --root' closes a repository",
    },
];

impl SettingSpec {
    /// Returns the setting of that key.
    pub fn find(key: &str) -> Option<&'static SettingSpec> {
        SETTINGS.iter().find(|spec| spec.key == key)
    }

    /// Returns why the setting cannot have this value, if so.
    pub fn check(&self, value: &str) -> Result<()> {
        parse(self, value).map(|_| ())
    }
}

const ENDPOINT_SETTINGS: &str = "settings";

impl Config {
    /// Returns the value of a setting, its default when it is not set; absent when there is neither.
    pub fn get(&self, key: &str) -> Result<Option<String>> {
        match place(key)? {
            Place::Format => Ok(Some(super::FORMAT.to_string())),
            Place::Repository => Ok(Some(self.repository().to_string())),
            Place::Branch { branch, part } => Ok(self.upstream(&branch)?.map(|upstream| match part {
                Part::Origin => upstream.origin,
                Part::Branch => upstream.branch,
            })),
            Place::Setting(spec) => {
                let set = self.lookup(&parts_of(spec.key)).map(|item| plain(spec.key, item));
                match set {
                    Some(value) => value.map(Some),
                    None => Ok(Some(spec.default.to_owned()).filter(|default| !default.is_empty())),
                }
            }
            Place::Postgres(name) => self
                .lookup(&["endpoint".to_owned(), ENDPOINT_SETTINGS.to_owned(), name])
                .map(|item| plain(key, item))
                .transpose(),
        }
    }

    /// Returns the number of a setting, its default when it is not set; an error when somebody wrote something else there.
    pub fn get_number(&self, key: &str) -> Result<Option<i64>> {
        let Some(value) = self.get(key)? else {
            return Ok(None);
        };
        value.parse().map(Some).map_err(|_| ObjectsError::BadSetting {
            key: key.to_owned(),
            value,
            problem: "expected a number".to_owned(),
        })
    }

    /// Returns the length of time of a setting, its default when it is not set; an error when somebody wrote something else there.
    pub fn get_duration(&self, key: &str) -> Result<Option<std::time::Duration>> {
        let Some(value) = self.get(key)? else {
            return Ok(None);
        };
        let duration = super::span::parse_duration(&value);
        duration.map(Some).ok_or_else(|| ObjectsError::BadSetting {
            key: key.to_owned(),
            value,
            problem: "expected a length of time, as 90s, 15m, 36h, 7d or 2w".to_owned(),
        })
    }

    /// Returns the Postgres settings that every endpoint gets, in the order of the file.
    pub fn postgres_settings(&self) -> Result<Vec<(String, String)>> {
        let place = ["endpoint".to_owned(), ENDPOINT_SETTINGS.to_owned()];
        let Some(table) = self.lookup(&place).and_then(Item::as_table_like) else {
            return Ok(Vec::new());
        };
        table
            .iter()
            .map(|(name, item)| {
                let key = format!("endpoint.settings.{name}");
                Ok((name.to_owned(), plain(&key, item)?))
            })
            .collect()
    }

    /// Sets, or with `None` takes back to its default, a setting. Nothing is written before [`Config::save`].
    pub fn set(&mut self, key: &str, value: Option<&str>) -> Result<()> {
        match place(key)? {
            Place::Format => Err(fixed(key, "it says which programs can read the repository")),
            Place::Repository => Err(fixed(key, "a repository keeps its id")),
            Place::Branch { .. } => Err(fixed(key, "the first push of a branch sets it")),
            Place::Setting(spec) => {
                let value = value.map(|value| parse(spec, value)).transpose()?;
                self.put(&parts_of(spec.key), value);
                Ok(())
            }
            Place::Postgres(name) => {
                let value = value.map(|value| one_line(key, value)).transpose()?;
                self.put(
                    &["endpoint".to_owned(), ENDPOINT_SETTINGS.to_owned(), name],
                    value.map(Value::from),
                );
                Ok(())
            }
        }
    }

    fn lookup(&self, parts: &[String]) -> Option<&Item> {
        let mut item = self.document.as_item();
        for part in parts {
            item = item.get(part.as_str())?;
        }
        Some(item)
    }

    fn put(&mut self, parts: &[String], value: Option<Value>) {
        let Some((last, tables)) = parts.split_last() else {
            return;
        };
        let mut item = self.document.as_item_mut();
        match value {
            Some(value) => {
                for part in tables {
                    item = super::table_item(item, part, false);
                }
                if let Some(table) = item.as_table_like_mut() {
                    match table.get_mut(last) {
                        // Keep the comment behind the old value.
                        Some(Item::Value(old)) => {
                            let decor = old.decor().clone();
                            *old = value;
                            *old.decor_mut() = decor;
                        }
                        _ => {
                            table.insert(last, Item::Value(value));
                        }
                    }
                }
            }
            None => {
                for part in tables {
                    match item.get_mut(part.as_str()) {
                        Some(next) => item = next,
                        None => return,
                    }
                }
                if let Some(table) = item.as_table_like_mut() {
                    table.remove(last);
                }
            }
        }
    }
}

/// Returns the name of the Postgres setting that a dotted key stands for, if it does.
pub fn postgres_setting(key: &str) -> Option<String> {
    match place(key) {
        Ok(Place::Postgres(name)) => Some(name),
        _ => None,
    }
}

enum Part {
    Origin,
    Branch,
}

enum Place {
    Format,
    Repository,
    Branch { branch: String, part: Part },
    Setting(&'static SettingSpec),
    Postgres(String),
}

/// Says what a dotted key means; parts with dots or slashes are quoted as in TOML.
fn place(key: &str) -> Result<Place> {
    let parts: Vec<String> = Key::parse(key)
        .map_err(|_| unknown(key))?
        .iter()
        .map(|part| part.get().to_owned())
        .collect();
    let words: Vec<&str> = parts.iter().map(String::as_str).collect();
    match words.as_slice() {
        ["format"] => Ok(Place::Format),
        ["repository", "id"] => Ok(Place::Repository),
        ["origins", ..] => Err(fixed(key, "use 'neon origin'")),
        ["branches", branch, part] if RefName::branch(branch).is_ok() => {
            let part = match *part {
                "origin" => Part::Origin,
                "branch" => Part::Branch,
                _ => return Err(unknown(key)),
            };
            Ok(Place::Branch {
                branch: (*branch).to_owned(),
                part,
            })
        }
        ["endpoint", ENDPOINT_SETTINGS, name] if is_postgres_name(name) => {
            Ok(Place::Postgres((*name).to_owned()))
        }
        _ => SettingSpec::find(key)
            .map(Place::Setting)
            .ok_or_else(|| unknown(key)),
    }
}

fn parts_of(key: &str) -> Vec<String> {
    key.split('.').map(str::to_owned).collect()
}

/// Names of Postgres settings: letters, digits, underscore, and one dot in those of extensions.
fn is_postgres_name(name: &str) -> bool {
    name.split('.').count() <= 2
        && name.split('.').all(|part| {
            part.starts_with(|c: char| c.is_ascii_alphabetic() || c == '_')
                && part.bytes().all(|b| b.is_ascii_alphanumeric() || b == b'_')
        })
}

fn parse(spec: &SettingSpec, value: &str) -> Result<Value> {
    let bad = |problem: String| ObjectsError::BadSetting {
        key: spec.key.to_owned(),
        value: value.to_owned(),
        problem,
    };
    match spec.kind {
        SettingKind::Number { min, max } => value
            .parse::<i64>()
            .ok()
            .filter(|number| (min..=max).contains(number))
            .map(Value::from)
            .ok_or_else(|| bad(format!("expected a number from {min} to {max}"))),
        SettingKind::Duration => super::span::parse_duration(value)
            .map(|_| Value::from(value))
            .ok_or_else(|| bad("expected a length of time, as 90s, 15m, 36h, 7d or 2w".to_owned())),
        SettingKind::Switch => match value {
            "on" | "off" => Ok(Value::from(value)),
            _ => Err(bad("expected on or off".to_owned())),
        },
        SettingKind::Keep => super::Keep::parse(value)
            .map(|_| Value::from(value))
            .ok_or_else(|| bad(super::retention::KEEP_EXPECTED.to_owned())),
        SettingKind::Bytes => super::span::parse_bytes(value)
            .map(|_| Value::from(value))
            .ok_or_else(|| bad(super::retention::BYTES_EXPECTED.to_owned())),
        SettingKind::Author => {
            let text = one_line(spec.key, value)?;
            let well_formed = text
                .strip_suffix('>')
                .and_then(|rest| rest.split_once(" <"))
                .is_some_and(|(name, mail)| !name.is_empty() && !mail.contains(['<', '>']));
            if well_formed {
                Ok(Value::from(text))
            } else {
                Err(bad("expected 'Name <mail>'".to_owned()))
            }
        }
    }
}

fn one_line(key: &str, value: &str) -> Result<String> {
    if value.len() <= 1000 && !value.chars().any(char::is_control) {
        Ok(value.to_owned())
    } else {
        Err(ObjectsError::BadSetting {
            key: key.to_owned(),
            value: value.escape_debug().take(60).collect(),
            problem: "expected one line of at most 1000 bytes".to_owned(),
        })
    }
}

/// Returns a TOML value as a user writes it on the command line.
fn plain(key: &str, item: &Item) -> Result<String> {
    match item {
        Item::Value(Value::String(text)) => Ok(text.value().clone()),
        Item::Value(Value::Integer(number)) => Ok(number.value().to_string()),
        Item::Value(Value::Float(number)) => Ok(number.value().to_string()),
        Item::Value(Value::Boolean(flag)) => Ok(flag.value().to_string()),
        _ => Err(ObjectsError::BadSetting {
            key: key.to_owned(),
            value: item.to_string().trim().chars().take(60).collect(),
            problem: "expected a single value".to_owned(),
        }),
    }
}

fn unknown(key: &str) -> ObjectsError {
    let first = key.split('.').next().unwrap_or_default();
    let mut known: Vec<String> = SETTINGS.iter().map(|spec| spec.key.to_owned()).collect();
    known.push("endpoint.settings.NAME".to_owned());
    let alike: Vec<String> = known
        .iter()
        .filter(|other| other.split('.').next() == Some(first))
        .cloned()
        .collect();
    ObjectsError::UnknownSetting {
        key: key.to_owned(),
        known: if alike.is_empty() { known } else { alike },
    }
}

fn fixed(key: &str, reason: &'static str) -> ObjectsError {
    ObjectsError::FixedSetting {
        key: key.to_owned(),
        reason,
    }
}
