//! Reading `postgresql.conf` and `postgresql.auto.conf`, as far as one needs to know what they switch on.

use std::collections::BTreeMap;
use std::fs;
use std::path::Path;

use crate::error::Result;
use crate::salvage::read_limited;

/// Longest configuration file that is read, bytes.
const LIMIT: u64 = 16 << 20;
/// How deep includes may nest, as in Postgres.
const DEEPEST: usize = 10;

/// Settings of configuration files: the last value of each name, names in lower case.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Conf {
    values: BTreeMap<String, String>,
}

impl Conf {
    /// Adds the settings of one file; they win over those added before. Include directives and lines that are no settings are passed over.
    pub fn add(&mut self, text: &str) {
        for line in text.lines() {
            if let Some((name, value)) = setting(line) {
                self.values.insert(name, value);
            }
        }
    }

    /// Adds the settings of a data directory: `postgresql.conf` with what it includes from there, then `postgresql.auto.conf`.
    pub fn add_directory(&mut self, pgdata: &Path) -> Result<()> {
        for name in ["postgresql.conf", "postgresql.auto.conf"] {
            self.add_file(pgdata, name, DEEPEST)?;
        }
        Ok(())
    }

    fn add_file(&mut self, pgdata: &Path, name: &str, depth: usize) -> Result<()> {
        let path = pgdata.join(name);
        if !path.is_file() {
            return Ok(());
        }
        let text = String::from_utf8_lossy(&read_limited(&path, LIMIT)?).into_owned();
        for line in text.lines() {
            if let Some((name, value)) = setting(line) {
                self.values.insert(name, value);
            } else if let Some((word, Some(target))) = include(line)
                && depth > 0
                && !target.split('/').any(|part| part == "..")
            {
                if word != "include_dir" {
                    self.add_file(pgdata, &target, depth - 1)?;
                    continue;
                }
                let entries = fs::read_dir(pgdata.join(&target)).into_iter().flatten().flatten();
                let mut names: Vec<String> = entries
                    .filter_map(|entry| entry.file_name().into_string().ok())
                    .filter(|name| name.ends_with(".conf") && !name.starts_with('.'))
                    .collect();
                names.sort();
                for name in names {
                    self.add_file(pgdata, &format!("{target}/{name}"), depth - 1)?;
                }
            }
        }
        Ok(())
    }

    /// Returns the value of `name`, without quotes.
    pub fn get(&self, name: &str) -> Option<&str> {
        self.values.get(name).map(String::as_str)
    }

    /// Returns the value of `name` as a whole number.
    pub fn number(&self, name: &str) -> Option<i64> {
        self.get(name)?.parse().ok()
    }
}

/// Returns name and value of a line such as `name = 'value' # comment`; `=` may be missing.
fn setting(line: &str) -> Option<(String, String)> {
    let line = line.trim_start();
    let end = line
        .find(|c: char| !(c.is_ascii_alphanumeric() || matches!(c, '_' | '.' | '$')))
        .unwrap_or(line.len());
    let (name, rest) = line.split_at_checked(end)?;
    if !name.starts_with(|c: char| c.is_ascii_alphabetic() || c == '_') {
        return None;
    }
    let rest = rest.trim_start();
    let rest = rest.strip_prefix('=').unwrap_or(rest).trim_start();
    let name = name.to_ascii_lowercase();
    if is_include(&name) {
        return None;
    }
    value(rest).map(|value| (name, value))
}

/// Returns word and target of an include directive.
fn include(line: &str) -> Option<(String, Option<String>)> {
    let line = line.trim_start();
    let end = line
        .find(|c: char| !(c.is_ascii_alphabetic() || c == '_'))
        .unwrap_or(line.len());
    let (word, rest) = line.split_at_checked(end)?;
    let rest = rest.trim_start();
    let word = word.to_ascii_lowercase();
    let target = value(rest.strip_prefix('=').unwrap_or(rest).trim_start());
    is_include(&word).then_some((word, target))
}

fn is_include(name: &str) -> bool {
    matches!(name, "include" | "include_if_exists" | "include_dir")
}

/// Returns the value at the beginning of `text`.
fn value(text: &str) -> Option<String> {
    let Some(quoted) = text.strip_prefix('\'') else {
        let end = text
            .find(|c: char| c.is_whitespace() || c == '#')
            .unwrap_or(text.len());
        return text
            .get(..end)
            .filter(|value| !value.is_empty())
            .map(str::to_owned);
    };
    let mut value = String::new();
    let mut characters = quoted.chars().peekable();
    while let Some(c) = characters.next() {
        match c {
            '\'' if characters.peek() == Some(&'\'') => {
                characters.next();
                value.push('\'');
            }
            '\'' => return Some(value),
            '\\' => value.push(match characters.next()? {
                'n' => '\n',
                't' => '\t',
                'r' => '\r',
                other => other,
            }),
            other => value.push(other),
        }
    }
    None
}

/// Returns `text` with its include directives turned into comments, and those directives. What they name is not part of a
/// repository, and a file that is missing keeps Postgres from starting.
pub fn without_includes(text: &str, keep: impl Fn(&str) -> bool) -> (String, Vec<String>) {
    let mut kept = String::with_capacity(text.len());
    let mut removed = Vec::new();
    for line in text.split_inclusive('\n') {
        if let Some((_, target)) = include(line)
            && !target.as_deref().is_some_and(&keep)
        {
            removed.push(line.trim().to_owned());
            kept.push_str("#neon: not carried: ");
        }
        kept.push_str(line);
    }
    (kept, removed)
}

/// Returns the entries of a list setting such as `shared_preload_libraries`.
pub fn list(value: &str) -> Vec<String> {
    value
        .split(',')
        .map(|entry| entry.trim().trim_matches('"').to_owned())
        .filter(|entry| !entry.is_empty())
        .collect()
}

/// Returns `value` as it is written into a configuration file.
pub fn quoted(value: &str) -> String {
    format!("'{}'", value.replace('\\', "\\\\").replace('\'', "''"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn settings_are_read_as_postgres_reads_them() {
        let mut conf = Conf::default();
        conf.add(
            "# comment\nmax_connections = 100   # (change requires restart)\nArchive_Mode on\n\
             archive_command = 'cp %p ''x''\\\\y' \nport=5433\nshared_buffers = 128MB\nmy.setting='a'\n\
             include_dir 'conf.d'\nport = 5434\nbroken = 'no end\n=\n\n",
        );
        assert_eq!(conf.number("max_connections"), Some(100));
        assert_eq!(conf.get("archive_mode"), Some("on"));
        assert_eq!(conf.get("archive_command"), Some("cp %p 'x'\\y"));
        assert_eq!(conf.number("port"), Some(5434));
        assert_eq!(conf.get("my.setting"), Some("a"));
        assert_eq!(conf.get("include_dir"), None);
        assert_eq!(conf.get("broken"), None);
        assert_eq!(conf.number("shared_buffers"), None);
        conf.add("max_connections = '200'");
        assert_eq!(conf.number("max_connections"), Some(200));
    }

    #[test]
    fn includes_become_comments() {
        let text = "a = 1\ninclude_dir 'conf.d'\n include '/etc/x.conf'\ninclude_dir = 'conf.d'\n";
        let (kept, removed) = without_includes(text, |target| target == "conf.d");
        assert_eq!(
            kept,
            "a = 1\ninclude_dir 'conf.d'\n#neon: not carried:  include '/etc/x.conf'\ninclude_dir = 'conf.d'\n"
        );
        assert_eq!(removed, ["include '/etc/x.conf'"]);
    }

    #[test]
    fn what_is_quoted_is_read_back() {
        for value in ["", "a", "it's", "back\\slash", "a, b"] {
            let mut conf = Conf::default();
            conf.add(&format!("x = {}", quoted(value)));
            assert_eq!(conf.get("x"), Some(value));
        }
        assert_eq!(
            list("pg_stat_statements, \"auto_explain\",,"),
            ["pg_stat_statements", "auto_explain"]
        );
    }
}
