//! The password file of libpq: `host:port:database:user:password`, one entry a line.
//!
//! `*` alone matches anything, `\` takes the next character as it is, `#` begins a comment line, the first line that
//! matches wins. A file that group or others may read is not used.

use std::io::{ErrorKind, Read};
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};

use crate::Password;

/// Bytes of a password file that are read.
const MAX_SIZE: u64 = 1 << 20;

/// A password file is there and cannot be used.
#[derive(Debug, thiserror::Error)]
pub(crate) enum PassfileError {
    #[error("password file {path} was ignored: group or others may read it (mode {mode:o}), chmod 600 it")]
    TooOpen { path: PathBuf, mode: u32 },
    #[error("password file {path} was ignored: it is not a plain file")]
    NotAFile { path: PathBuf },
    #[error("password file {path} was ignored: {source}")]
    Unreadable { path: PathBuf, source: std::io::Error },
}

/// Returns the password of the first line whose four fields match `wanted`; `None` also when there is no file.
pub(crate) fn find(path: &Path, wanted: &[&str; 4]) -> Result<Option<Password>, PassfileError> {
    let unreadable = |source| PassfileError::Unreadable {
        path: path.to_owned(),
        source,
    };
    // Asked before it is opened: opening a named pipe would wait for ever.
    let metadata = match std::fs::metadata(path) {
        Err(error) if matches!(error.kind(), ErrorKind::NotFound | ErrorKind::NotADirectory) => {
            return Ok(None);
        }
        other => other.map_err(unreadable)?,
    };
    if !metadata.is_file() {
        return Err(PassfileError::NotAFile {
            path: path.to_owned(),
        });
    }
    if metadata.mode() & 0o077 != 0 {
        return Err(PassfileError::TooOpen {
            path: path.to_owned(),
            mode: metadata.mode() & 0o777,
        });
    }
    let mut bytes = Vec::new();
    let file = std::fs::File::open(path).map_err(unreadable)?;
    file.take(MAX_SIZE).read_to_end(&mut bytes).map_err(unreadable)?;
    Ok(search(&String::from_utf8_lossy(&bytes), wanted))
}

fn search(text: &str, wanted: &[&str; 4]) -> Option<Password> {
    text.lines()
        .filter(|line| !line.starts_with('#'))
        .find_map(|line| match_line(line, wanted))
}

fn match_line(line: &str, wanted: &[&str; 4]) -> Option<Password> {
    let mut rest = line;
    for value in wanted {
        let (raw, unescaped, after) = field(rest)?;
        if raw != "*" && unescaped != *value {
            return None;
        }
        rest = after?;
    }
    let (_, password, _) = field(rest)?;
    (!password.is_empty()).then(|| Password::new(password))
}

/// Takes one field: as written, unescaped, and what follows the colon (`None` at the end of the line).
fn field(line: &str) -> Option<(&str, String, Option<&str>)> {
    let mut unescaped = String::new();
    let mut chars = line.char_indices();
    while let Some((at, c)) = chars.next() {
        match c {
            '\\' => match chars.next() {
                Some((_, next)) => unescaped.push(next),
                None => unescaped.push('\\'),
            },
            ':' => return Some((line.get(..at)?, unescaped, line.get(at + 1..))),
            c => unescaped.push(c),
        }
    }
    Some((line, unescaped, None))
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::PermissionsExt;

    use super::*;

    fn look(text: &str, wanted: [&str; 4]) -> Option<String> {
        search(text, &wanted).map(|password| password.reveal().to_owned())
    }

    const SHOP: [&str; 4] = ["db.example", "6543", "shop", "alice"];

    #[test]
    fn the_first_line_that_matches_wins() {
        let text =
            "# comment\ndb.example:5432:shop:alice:wrong port\n*:6543:shop:alice:right\n*:*:*:*:late\n";
        assert_eq!(look(text, SHOP).as_deref(), Some("right"));
        assert_eq!(look(text, ["h", "1", "d", "u"]).as_deref(), Some("late"));
        assert_eq!(look("#*:*:*:*:x\n", SHOP), None);
    }

    #[test]
    fn colons_and_backslashes_are_escaped() {
        assert_eq!(
            look(r"\:\:1:6543:shop:a\\b:p\:w\\d", ["::1", "6543", "shop", r"a\b"]).as_deref(),
            Some(r"p:w\d")
        );
        // An escaped star is a star, not a wildcard.
        assert_eq!(look(r"\*:6543:shop:alice:x", SHOP), None);
        assert_eq!(
            look(r"\*:6543:shop:alice:x", ["*", "6543", "shop", "alice"]).as_deref(),
            Some("x")
        );
    }

    #[test]
    fn short_lines_do_not_match() {
        for text in ["", "*", "*:*:*:*", "*:*:*:*:", "db.example:6543:shop:alice"] {
            assert_eq!(look(text, SHOP), None, "{text:?}");
        }
        assert_eq!(
            look("*:*:*:*:pw\r\n", SHOP).as_deref(),
            Some("pw"),
            "a file from Windows"
        );
    }

    #[test]
    fn a_file_that_others_may_read_is_ignored_and_named() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("pgpass");
        assert!(find(&path, &SHOP).unwrap().is_none());
        std::fs::write(&path, "*:*:*:*:secret\n").unwrap();
        std::fs::set_permissions(&path, std::fs::Permissions::from_mode(0o640)).unwrap();
        let error = find(&path, &SHOP).unwrap_err().to_string();
        assert!(
            error.contains("640") && error.contains("chmod 600") && !error.contains("secret"),
            "{error}"
        );
        std::fs::set_permissions(&path, std::fs::Permissions::from_mode(0o600)).unwrap();
        assert_eq!(find(&path, &SHOP).unwrap(), Some(Password::new("secret")));
        assert!(matches!(
            find(dir.path(), &SHOP),
            Err(PassfileError::NotAFile { .. })
        ));
    }
}
