//! The user's defaults: `config.toml` in `$NEON_HOME`, else in `neon/` of the configuration directory of the system.
//!
//! ```toml
//! author = "Ada Lovelace <ada@example.org>"     # of commits
//! pg_version = 17                               # for `neon init`
//! pg_dirs = ["/opt/pgsql-17/bin"]               # where else to look for Postgres
//! ```

use std::env;
use std::path::{Path, PathBuf};

use neon_repo::RepoError;
use neon_repo::api::ApiError;
use neon_repo::owned::{self, Access, Owner};
use neon_server::context::UserDefaults;
use toml_edit::{DocumentMut, Item};

use crate::failure::Failure;

/// Longest file that is read, bytes.
const MAX_FILE: u64 = 1 << 20;

/// Reads the defaults; there are none when there is no file.
pub fn load() -> Result<UserDefaults, Failure> {
    let Some(config_dir) = config_dir() else {
        return Ok(UserDefaults::default());
    };
    let path = config_dir.join("config.toml");
    // It names programs that we run: whoever may write it decides what happens.
    let text = owned::read(&path, Owner::UsOrRoot, Access::Readable, MAX_FILE).map_err(RepoError::from);
    let mut defaults = match text.map_err(ApiError::from)? {
        Some(text) => parse(&text).map_err(|problem| invalid(&path, problem))?,
        None => UserDefaults::default(),
    };
    defaults.config_dir = config_dir;
    Ok(defaults)
}

fn config_dir() -> Option<PathBuf> {
    match env::var_os("NEON_HOME").filter(|home| !home.is_empty()) {
        Some(home) => Some(PathBuf::from(home)),
        None => dirs::config_dir().map(|directory| directory.join("neon")),
    }
}

fn parse(text: &str) -> Result<UserDefaults, String> {
    let document: DocumentMut = text
        .parse()
        .map_err(|error: toml_edit::TomlError| error.to_string().trim_end().to_owned())?;
    let mut defaults = UserDefaults::default();
    for (key, item) in document.iter() {
        match key {
            "author" => defaults.author = Some(author(item)?),
            "pg_version" => {
                let version = item.as_integer().and_then(|version| u16::try_from(version).ok());
                defaults.pg_version =
                    Some(version.ok_or("'pg_version' is not a major version of Postgres, as 17")?);
            }
            "pg_dirs" => defaults.pg_dirs = directories(item)?,
            other => {
                return Err(format!(
                    "unknown key '{other}'; keys are author, pg_version, pg_dirs"
                ));
            }
        }
    }
    Ok(defaults)
}

fn author(item: &Item) -> Result<String, String> {
    item.as_str()
        .filter(|text| text.ends_with('>') && text.contains(" <") && !text.contains(char::is_control))
        .map(str::to_owned)
        .ok_or_else(|| "'author' is not of the form 'Name <mail>'".to_owned())
}

fn directories(item: &Item) -> Result<Vec<PathBuf>, String> {
    let wrong = || "'pg_dirs' is not a list of absolute directories".to_owned();
    item.as_array()
        .ok_or_else(wrong)?
        .iter()
        .map(|value| {
            value
                .as_str()
                .map(PathBuf::from)
                .filter(|path| path.is_absolute())
                .ok_or_else(wrong)
        })
        .collect()
}

fn invalid(path: &Path, problem: String) -> Failure {
    Failure::Api(ApiError {
        code: "user_config".to_owned(),
        message: format!("{} is not valid", path.display()),
        caused_by: vec![problem],
        hint: Some("repair it with an editor, or name another directory with NEON_HOME".to_owned()),
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn defaults_are_read() {
        let text =
            "author = \"Ada <ada@example.org>\"\npg_version = 17 # newest\npg_dirs = [\"/opt/pg17/bin\"]\n";
        let defaults = parse(text).expect("read");
        assert_eq!(defaults.author.as_deref(), Some("Ada <ada@example.org>"));
        assert_eq!(defaults.pg_version, Some(17));
        assert_eq!(defaults.pg_dirs, [PathBuf::from("/opt/pg17/bin")]);
        assert!(parse("").expect("read").author.is_none());
    }

    #[test]
    fn what_cannot_be_meant_is_named() {
        for (text, expected) in [
            ("athor = \"x\"", "unknown key 'athor'"),
            ("author = \"Ada\"", "'author' is not"),
            ("pg_version = \"17\"", "'pg_version' is not"),
            ("pg_dirs = [\"bin\"]", "'pg_dirs' is not"),
            ("pg_dirs = ", "line 1"),
        ] {
            let problem = parse(text).expect_err(text);
            assert!(problem.contains(expected), "{problem}");
        }
    }
}
