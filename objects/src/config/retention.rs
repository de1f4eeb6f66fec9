//! How long history and WAL are kept: of a branch, or of all that say nothing else.

use std::time::Duration;

use neon_types::RefName;

use super::span::{bytes_text, duration_text, parse_bytes, parse_duration};
use super::{Config, text};
use crate::{ObjectsError, Result};

/// Says that nothing is dropped.
const FOREVER: &str = "forever";
const KEEP: &str = "keep";
const KEEP_WAL: &str = "keep_wal";
pub(super) const KEEP_EXPECTED: &str = "expected 'forever' or a length of time, as 36h, 7d or 2w";
pub(super) const BYTES_EXPECTED: &str = "expected an amount of bytes, as 0B, 512MB or 50GB";

/// How long history can be read.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Keep {
    /// As long as something leads to it.
    Forever,
    /// For so long after it was received; what is pinned longer.
    For(Duration),
}

impl Keep {
    /// Returns what a user writes: `forever` or a length of time.
    pub fn parse(text: &str) -> Option<Keep> {
        if text == FOREVER {
            return Some(Keep::Forever);
        }
        parse_duration(text).map(Keep::For)
    }
}

impl std::fmt::Display for Keep {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Keep::Forever => f.write_str(FOREVER),
            Keep::For(duration) => f.write_str(&duration_text(*duration)),
        }
    }
}

/// What is said of one branch.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Retention {
    /// How long its history can be read; none: as the repository says.
    pub keep: Option<Keep>,
    /// Bytes of raw WAL that are kept below its end, beyond what is not in layers; none: as the repository says.
    pub keep_wal: Option<u64>,
}

impl Config {
    /// Returns what holds where a branch says nothing else; both are there.
    pub fn retention(&self) -> Result<(Keep, u64)> {
        let bad = |key: &str, value: String, problem: &str| ObjectsError::BadSetting {
            key: key.to_owned(),
            value,
            problem: problem.to_owned(),
        };
        let keep = self.get("retention.keep")?.unwrap_or_default();
        let wal = self.get("retention.keep_wal")?.unwrap_or_default();
        Ok((
            Keep::parse(&keep).ok_or_else(|| bad("retention.keep", keep, KEEP_EXPECTED))?,
            parse_bytes(&wal).ok_or_else(|| bad("retention.keep_wal", wal, BYTES_EXPECTED))?,
        ))
    }

    /// Returns what is said of a branch.
    pub fn branch_retention(&self, branch: &str) -> Result<Retention> {
        let read = |key: &str| -> Result<Option<String>> {
            let item = self
                .document
                .get("branches")
                .and_then(|branches| branches.get(branch))
                .and_then(|branch| branch.get(key));
            let Some(item) = item else { return Ok(None) };
            item.as_str()
                .map(|text| Some(text.to_owned()))
                .ok_or_else(|| super::bad(&self.path, format!("no text under 'branches.{branch}.{key}'")))
        };
        let unclear = |key: &str, problem: &str| {
            super::bad(&self.path, format!("under 'branches.{branch}.{key}': {problem}"))
        };
        let keep = read(KEEP)?
            .map(|text| Keep::parse(&text).ok_or_else(|| unclear(KEEP, KEEP_EXPECTED)))
            .transpose()?;
        let keep_wal = read(KEEP_WAL)?
            .map(|text| parse_bytes(&text).ok_or_else(|| unclear(KEEP_WAL, BYTES_EXPECTED)))
            .transpose()?;
        Ok(Retention { keep, keep_wal })
    }

    /// Says it of a branch; what is none is as the repository says.
    pub fn set_branch_retention(&mut self, branch: &str, retention: Retention) -> Result<()> {
        RefName::branch(branch)?;
        let values = [
            (KEEP, retention.keep.map(|keep| keep.to_string())),
            (KEEP_WAL, retention.keep_wal.map(bytes_text)),
        ];
        for (key, value) in values {
            match value {
                Some(value) => {
                    self.sub_table("branches", branch).insert(key, text(&value));
                }
                None if self.has_branch(branch) => {
                    self.sub_table("branches", branch).remove(key);
                }
                None => {}
            }
        }
        self.drop_empty_branch(branch);
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::super::Upstream;
    use super::*;

    #[test]
    fn a_branch_says_it_or_the_repository_does() {
        let directory = tempfile::tempdir().expect("a directory");
        let mut config = Config::create(directory.path(), neon_types::RepoId([1; 16])).expect("made");
        assert_eq!(config.retention().expect("defaults"), (Keep::Forever, 256 << 20));
        config.set("retention.keep", Some("7d")).expect("set");
        config.set("retention.keep_wal", Some("50GB")).expect("set");
        let week = Keep::For(Duration::from_secs(7 * 86_400));
        assert_eq!(config.retention().expect("set"), (week, 50 << 30));
        for (key, bad) in [("retention.keep", "7"), ("retention.keep_wal", "lots")] {
            assert!(config.set(key, Some(bad)).is_err());
        }
        let said = Retention {
            keep: Some(Keep::Forever),
            keep_wal: Some(0),
        };
        config.set_branch_retention("a/b", said).expect("set");
        config.save().expect("saved");
        let mut config = Config::load(directory.path()).expect("loaded");
        assert_eq!(config.branch_retention("a/b").expect("read"), said);
        assert_eq!(
            config.branch_retention("other").expect("nothing"),
            Retention::default()
        );
        assert!(config.upstreams().expect("none").is_empty(), "no origin is named");

        let upstream = Upstream {
            origin: "cloud".to_owned(),
            branch: "b".to_owned(),
        };
        config.set_upstream("a/b", Some(&upstream)).expect("set");
        config.rename_branch("a/b", "c").expect("renamed");
        assert_eq!(config.branch_retention("c").expect("carried over"), said);
        assert_eq!(config.upstream("c").expect("carried over"), Some(upstream));
        assert_eq!(
            config.branch_retention("a/b").expect("gone"),
            Retention::default()
        );
        config.set_upstream("c", None).expect("taken away");
        assert_eq!(config.branch_retention("c").expect("stays"), said);
        config
            .set_branch_retention("c", Retention::default())
            .expect("taken back");
        config.save().expect("saved");
        let text = std::fs::read_to_string(config.path()).expect("read");
        assert!(!text.contains("branches"), "{text}");
    }
}
