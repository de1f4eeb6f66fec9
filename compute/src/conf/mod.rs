//! Configuration files of Postgres: what they say, what of that is taken over, and how it is written.

pub mod access;
mod known;
mod line;
mod rewrite;
mod settings;
mod taken;

use std::collections::BTreeMap;
use std::fs;
use std::path::Path;

use neon_types::is_printable;

use crate::error::Result;
use crate::salvage::read_limited;

pub use line::{Line, is_setting_name};
pub use rewrite::{Rewritten, rewrite};
pub use settings::{Changes, Settings};
pub use taken::{Verdict, Why, judge};

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
            if let Line::Setting { name, value, .. } = Line::read(line) {
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
            match Line::read(line) {
                Line::Setting { name, value, .. } => {
                    self.values.insert(name, value);
                }
                Line::Include { word, target }
                    if depth > 0 && !target.split('/').any(|part| part == "..") =>
                {
                    self.add_included(pgdata, &word, &target, depth - 1)?;
                }
                _ => {}
            }
        }
        Ok(())
    }

    fn add_included(&mut self, pgdata: &Path, word: &str, target: &str, depth: usize) -> Result<()> {
        if word != "include_dir" {
            return self.add_file(pgdata, target, depth);
        }
        let entries = fs::read_dir(pgdata.join(target)).into_iter().flatten().flatten();
        let mut names: Vec<String> = entries
            .filter_map(|entry| entry.file_name().into_string().ok())
            .filter(|name| name.ends_with(".conf") && !name.starts_with('.'))
            .collect();
        names.sort();
        for name in names {
            self.add_file(pgdata, &format!("{target}/{name}"), depth)?;
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

/// Returns the entries of a list setting such as `shared_preload_libraries`.
pub fn list(value: &str) -> Vec<String> {
    value
        .split(',')
        .map(|entry| entry.trim().trim_matches('"').to_owned())
        .filter(|entry| !entry.is_empty())
        .collect()
}

/// Returns `value` as it is written into a configuration file: whatever it holds, it stays one value on one line.
pub fn quoted(value: &str) -> String {
    let mut text = String::with_capacity(value.len() + 2);
    text.push('\'');
    for c in value.chars() {
        match c {
            '\'' => text.push_str("''"),
            '\\' => text.push_str("\\\\"),
            '\n' => text.push_str("\\n"),
            '\r' => text.push_str("\\r"),
            c if c.is_ascii_control() => text.push_str(&format!("\\{:03o}", u32::from(c))),
            c => text.push(c),
        }
    }
    text.push('\'');
    text
}

/// Returns a text of others as a comment in a configuration file may hold it: a blank stands for what could end the line or is not printable.
pub(crate) fn as_comment(text: &str) -> String {
    text.chars()
        .map(|c| if c == '\t' || is_printable(c) { c } else { ' ' })
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_last_value_counts() {
        let mut conf = Conf::default();
        conf.add("port=5433\nmax_connections = 100 # x\ninclude_dir 'conf.d'\nPort = 5434\nbroken = 'no end\n=\n\n");
        assert_eq!(conf.number("port"), Some(5434));
        assert_eq!(conf.number("max_connections"), Some(100));
        assert_eq!((conf.get("include_dir"), conf.get("broken")), (None, None));
        conf.add("max_connections = '200'");
        assert_eq!(conf.number("max_connections"), Some(200));
    }

    #[test]
    fn what_is_quoted_is_read_back() {
        for value in [
            "",
            "a",
            "it's",
            "back\\slash",
            "a, b",
            "two\nlines\r\u{7f}\t",
            "'\\n",
        ] {
            let line = format!("x = {}", quoted(value));
            assert_eq!(line.lines().count(), 1);
            let mut conf = Conf::default();
            conf.add(&line);
            assert_eq!(conf.get("x"), Some(value));
        }
        assert_eq!(
            list("pg_stat_statements, \"auto_explain\",,"),
            ["pg_stat_statements", "auto_explain"]
        );
    }

    #[test]
    fn foreign_words_stay_on_their_line() {
        assert_eq!(as_comment("a\u{1b}[2Jb\nc\u{9b}d\te"), "a [2Jb c d\te");
    }
}
