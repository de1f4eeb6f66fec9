//! Finding Postgres on this machine.

use std::collections::BTreeSet;
use std::fmt;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use neon_postgres::PgVersion;

use crate::error::{ComputeError, Result};

/// A directory of Postgres programs that holds at least `initdb` and `postgres`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Installation {
    bin: PathBuf,
    version: PgVersion,
    minor: u32,
}

/// A place that was looked at, and what was there.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Searched {
    /// The directory.
    pub path: PathBuf,
    /// What was there, in words.
    pub found: Found,
}

/// What a place on the search path turned out to be.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Found {
    /// A usable installation.
    Installation {
        /// Its major version.
        version: PgVersion,
        /// Its minor version.
        minor: u32,
    },
    /// No `postgres` there.
    Nothing,
    /// `postgres` without `initdb`, or one that does not run, or a version that we do not know.
    Unusable(String),
}

/// No Postgres of the wanted version.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("no Postgres {} found; searched {}", wanted_text(*wanted), searched_text(searched))]
pub struct NotFound {
    /// The version that was wanted; `None` for any from 14 to 18.
    pub wanted: Option<PgVersion>,
    /// Every place that was looked at, in order.
    pub searched: Vec<Searched>,
    /// How to install one here.
    pub hint: String,
}

fn wanted_text(wanted: Option<PgVersion>) -> String {
    wanted.map_or_else(|| "14 to 18".to_owned(), |version| version.major().to_string())
}

fn searched_text(searched: &[Searched]) -> String {
    let parts: Vec<String> = searched.iter().map(Searched::to_string).collect();
    parts.join(", ")
}

impl fmt::Display for Searched {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}", self.path.display())?;
        match &self.found {
            Found::Installation { version, minor } => write!(f, " ({}.{minor})", version.major()),
            Found::Nothing => Ok(()),
            Found::Unusable(why) => write!(f, " ({why})"),
        }
    }
}

/// Where to look: directories that the user named, and `PATH`. Both are arguments, so that nothing here reads the environment.
#[derive(Clone, Debug, Default)]
pub struct SearchPath {
    /// From `NEON_PG_DIRS` and the configuration, first to last: each a `bin` directory, an installation that has one, or a
    /// directory of installations such as `/usr/lib/postgresql`.
    pub named: Vec<PathBuf>,
    /// The value of `PATH`.
    pub path: Option<std::ffi::OsString>,
    /// Whether to leave out the usual places of this system (for tests).
    pub only_named: bool,
}

impl SearchPath {
    /// Returns the search path for a value of `NEON_PG_DIRS` (separated as `PATH` is), directories of the configuration and `PATH`.
    pub fn new(
        neon_pg_dirs: Option<&std::ffi::OsStr>,
        configured: &[PathBuf],
        path: Option<std::ffi::OsString>,
    ) -> SearchPath {
        let mut named: Vec<PathBuf> = neon_pg_dirs
            .map(|dirs| {
                std::env::split_paths(dirs)
                    .filter(|p| !p.as_os_str().is_empty())
                    .collect()
            })
            .unwrap_or_default();
        named.extend(configured.iter().cloned());
        SearchPath {
            named,
            path,
            only_named: false,
        }
    }

    /// Returns every directory that may hold `postgres`, first choice first, without repetition.
    fn candidates(&self) -> Vec<PathBuf> {
        let mut all = Vec::new();
        for named in &self.named {
            all.extend(bin_directories(named));
        }
        if !self.only_named {
            for major in (14..=18).rev() {
                for pattern in [
                    "/usr/lib/postgresql/{}/bin",
                    "/usr/pgsql-{}/bin",
                    "/usr/lib64/pgsql/{}/bin",
                    "/usr/libexec/postgresql{}",
                    "/opt/postgresql/{}/bin",
                    "/opt/homebrew/opt/postgresql@{}/bin",
                    "/usr/local/opt/postgresql@{}/bin",
                    "/home/linuxbrew/.linuxbrew/opt/postgresql@{}/bin",
                    "/Applications/Postgres.app/Contents/Versions/{}/bin",
                ] {
                    all.push(PathBuf::from(pattern.replace("{}", &major.to_string())));
                }
            }
            all.push(PathBuf::from("/usr/local/pgsql/bin"));
            if let Some(path) = &self.path {
                all.extend(std::env::split_paths(path).filter(|p| p.is_absolute()));
            }
        }
        let mut seen = BTreeSet::new();
        all.retain(|path| seen.insert(path.clone()));
        all
    }
}

/// Returns the directories below `named` that may hold programs; `named` itself when nothing better is there.
fn bin_directories(named: &Path) -> Vec<PathBuf> {
    if named.join("postgres").is_file() {
        return vec![named.to_owned()];
    }
    if named.join("bin").is_dir() {
        return vec![named.join("bin")];
    }
    let mut nested: Vec<PathBuf> = std::fs::read_dir(named)
        .map(|entries| {
            entries
                .filter_map(|entry| Some(entry.ok()?.path().join("bin")))
                .filter(|bin| bin.join("postgres").is_file())
                .collect()
        })
        .unwrap_or_default();
    nested.sort();
    nested.reverse();
    if nested.is_empty() {
        nested.push(named.to_owned());
    }
    nested
}

/// Returns major and minor of `postgres (PostgreSQL) 15.18 (Debian 15.18-0+deb12u1)`; a pre-release has minor 0.
pub fn parse_version(text: &str) -> Option<(u16, u32)> {
    let rest = text
        .split_once("(PostgreSQL) ")
        .map_or(text, |(_, rest)| rest)
        .trim();
    let number = |text: &str| -> String { text.chars().take_while(char::is_ascii_digit).collect() };
    let major = number(rest);
    let after = rest.get(major.len()..)?;
    let minor = after.strip_prefix('.').map(number).unwrap_or_default();
    Some((
        major.parse().ok()?,
        if minor.is_empty() { 0 } else { minor.parse().ok()? },
    ))
}

fn inspect(bin: &Path) -> Found {
    let postgres = bin.join("postgres");
    if !postgres.is_file() {
        return Found::Nothing;
    }
    if !bin.join("initdb").is_file() {
        return Found::Unusable("no initdb".to_owned());
    }
    let output = match Command::new(&postgres)
        .arg("--version")
        .stdin(Stdio::null())
        .output()
    {
        Ok(output) if output.status.success() => output,
        Ok(output) => return Found::Unusable(format!("postgres --version failed: {}", output.status)),
        Err(error) => return Found::Unusable(format!("postgres does not run: {error}")),
    };
    let text = String::from_utf8_lossy(&output.stdout);
    match parse_version(&text) {
        Some((major, minor)) => match PgVersion::from_major(major) {
            Some(version) => Found::Installation { version, minor },
            None => Found::Unusable(format!("version {major} is not supported")),
        },
        None => Found::Unusable("postgres --version said nothing that we know".to_owned()),
    }
}

impl Installation {
    /// Returns the first installation of `wanted`; of any version when `None`: the newest among the usual places, but the first of
    /// those that were named.
    pub fn find(wanted: Option<PgVersion>, search: &SearchPath) -> Result<Installation, NotFound> {
        let mut searched = Vec::new();
        for path in search.candidates() {
            let found = inspect(&path);
            if let Found::Installation { version, minor } = found
                && wanted.is_none_or(|wanted| wanted == version)
            {
                return Ok(Installation {
                    bin: path,
                    version,
                    minor,
                });
            }
            searched.push(Searched { path, found });
        }
        Err(NotFound {
            wanted,
            hint: install_hint(wanted, &os_release()),
            searched,
        })
    }

    /// Returns every place on the search path with what is there.
    pub fn search(search: &SearchPath) -> Vec<Searched> {
        search
            .candidates()
            .into_iter()
            .map(|path| Searched {
                found: inspect(&path),
                path,
            })
            .collect()
    }

    /// Returns the installation in the directory `bin`.
    pub fn at(bin: &Path) -> Result<Installation, NotFound> {
        let search = SearchPath {
            named: vec![bin.to_owned()],
            path: None,
            only_named: true,
        };
        Installation::find(None, &search)
    }

    /// Returns the directory of the programs.
    pub fn bin(&self) -> &Path {
        &self.bin
    }

    /// Returns the path of one program; that it exists is certain only for `postgres` and `initdb`.
    pub fn program(&self, name: &str) -> PathBuf {
        self.bin.join(name)
    }

    /// Returns the major version.
    pub fn version(&self) -> PgVersion {
        self.version
    }

    /// Returns the minor version, 0 for a pre-release.
    pub fn minor(&self) -> u32 {
        self.minor
    }

    /// Returns the number that Postgres calls `server_version_num`, such as 150018.
    pub fn version_num(&self) -> u32 {
        u32::from(self.version.major()) * 10_000 + self.minor
    }
}

/// Returns a client program (`psql`, `pg_dump`...): beside `installation`, else of the newest other installation that has it, else on `PATH`.
///
/// Server-only installations have no clients, so the client is looked for apart from the server.
pub fn find_client(name: &str, installation: Option<&Installation>, search: &SearchPath) -> Option<PathBuf> {
    let beside = installation.map(|installation| installation.program(name));
    let others = search.candidates().into_iter().map(|bin| bin.join(name));
    beside.into_iter().chain(others).find(|path| path.is_file())
}

fn os_release() -> String {
    std::fs::read_to_string("/etc/os-release").unwrap_or_default()
}

/// Returns one line that says how to install `wanted` (15 when any will do) on the system of that `/etc/os-release`.
fn install_hint(wanted: Option<PgVersion>, os_release: &str) -> String {
    let major = wanted.map_or(15, PgVersion::major);
    let ids: Vec<&str> = os_release
        .lines()
        .filter_map(|line| line.strip_prefix("ID=").or_else(|| line.strip_prefix("ID_LIKE=")))
        .flat_map(|value| value.trim_matches('"').split_whitespace())
        .collect();
    let how = if ids.iter().any(|id| matches!(*id, "debian" | "ubuntu")) {
        format!("install it with `sudo apt-get install postgresql-{major}`")
    } else if ids.iter().any(|id| matches!(*id, "rhel" | "fedora" | "centos")) {
        format!("install it with `sudo dnf install postgresql{major}-server`")
    } else if ids.contains(&"alpine") {
        format!("install it with `sudo apk add postgresql{major}`")
    } else if cfg!(target_os = "macos") {
        format!("install it with `brew install postgresql@{major}`")
    } else {
        format!("install PostgreSQL {major}")
    };
    format!("{how}, or name its directory in NEON_PG_DIRS")
}

/// Refuses to go on as root: Postgres would refuse too, later and less clearly.
pub fn refuse_root() -> Result<()> {
    if rustix::process::geteuid().is_root() {
        return Err(ComputeError::Root);
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn versions_as_packagers_print_them() {
        for (text, version) in [
            (
                "postgres (PostgreSQL) 15.18 (Debian 15.18-0+deb12u1)\n",
                Some((15, 18)),
            ),
            ("postgres (PostgreSQL) 17.11\n", Some((17, 11))),
            ("postgres (PostgreSQL) 18beta1\n", Some((18, 0))),
            ("postgres (PostgreSQL) 9.6.24\n", Some((9, 6))),
            ("something else", None),
            ("", None),
        ] {
            assert_eq!(parse_version(text), version, "{text:?}");
        }
    }

    #[test]
    fn what_is_missing_is_told_with_every_place() {
        let empty = tempfile::tempdir().expect("temporary directory");
        let search = SearchPath {
            named: vec![empty.path().to_owned()],
            path: None,
            only_named: true,
        };
        let error = Installation::find(Some(PgVersion::V17), &search).expect_err("nothing is there");
        assert_eq!(error.searched.len(), 1);
        assert_eq!(error.searched[0].found, Found::Nothing);
        assert!(error.to_string().contains("no Postgres 17 found"), "{error}");
        assert!(
            error.to_string().contains(&empty.path().display().to_string()),
            "{error}"
        );
    }

    #[test]
    fn a_postgres_without_initdb_is_named_as_such() {
        let directory = tempfile::tempdir().expect("temporary directory");
        std::fs::write(directory.path().join("postgres"), "").expect("write");
        let search = SearchPath {
            named: vec![directory.path().to_owned()],
            path: None,
            only_named: true,
        };
        let error = Installation::find(None, &search).expect_err("not usable");
        assert_eq!(error.searched[0].found, Found::Unusable("no initdb".to_owned()));
    }

    #[test]
    fn hints_fit_the_system() {
        let hint = install_hint(Some(PgVersion::V17), "NAME=x\nID=ubuntu\nID_LIKE=debian\n");
        assert!(hint.contains("apt-get install postgresql-17"), "{hint}");
        let hint = install_hint(None, "ID=\"rocky\"\nID_LIKE=\"rhel centos fedora\"\n");
        assert!(hint.contains("dnf install postgresql15-server"), "{hint}");
    }

    #[test]
    fn a_directory_of_installations_may_be_named() {
        let root = tempfile::tempdir().expect("temporary directory");
        for major in ["15", "17"] {
            let bin = root.path().join(major).join("bin");
            std::fs::create_dir_all(&bin).expect("mkdir");
            std::fs::write(bin.join("postgres"), "").expect("write");
        }
        assert_eq!(
            bin_directories(root.path()),
            [root.path().join("17/bin"), root.path().join("15/bin")]
        );
        assert_eq!(
            bin_directories(&root.path().join("15")),
            [root.path().join("15/bin")]
        );
    }
}
