//! What `ALTER SYSTEM` changed in a data directory since a commit had its settings.
//!
//! Two files of ours tell that apart from what a commit brought: `neon.committed.conf` holds the settings of the commit that the directory goes
//! by, `neon.seen.conf` what `postgresql.auto.conf` said then. The two differ by what is not taken over from a commit.

use std::path::Path;

use neon_postgres::PgVersion;

use super::carried::AUTO;
use super::skeleton;
use crate::conf::{Changes, Settings};
use crate::durable;
use crate::error::Result;
use crate::settings::SwitchedOff;

const COMMITTED: &str = "neon.committed.conf";
const SEEN: &str = "neon.seen.conf";

/// The settings of a data directory.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct LocalSettings {
    now: Settings,
    seen: Settings,
}

impl LocalSettings {
    /// Reads them; none where there is no `postgresql.auto.conf`.
    pub fn read(pgdata: &Path) -> Result<Option<LocalSettings>> {
        let Some(now) = Settings::read_file(&pgdata.join(AUTO))? else {
            return Ok(None);
        };
        let seen = Settings::read_file(&pgdata.join(SEEN))?.unwrap_or_default();
        Ok(Some(LocalSettings { now, seen }))
    }

    /// Returns what was set here.
    pub fn changes(&self) -> Changes {
        self.now.changes_since(&self.seen)
    }

    /// Writes the files of a new directory, which has `taken` of the settings of its commit.
    pub(super) fn begin(root: &Path, committed: &Settings, taken: &Settings) -> Result<()> {
        for (name, settings) in [(COMMITTED, committed), (SEEN, taken), (AUTO, taken)] {
            skeleton::file(&root.join(name), settings.text().as_bytes(), 0o600)?;
        }
        Ok(())
    }

    /// Says that a commit with these settings has what was set here.
    pub fn settle(&self, pgdata: &Path, committed: &Settings) -> Result<()> {
        replace(pgdata, COMMITTED, committed)?;
        replace(pgdata, SEEN, &self.now)
    }

    /// Takes over what became different in the branch's settings since the directory went by them; what was set here stays. Nothing may run in
    /// it. Returns what is not taken over.
    pub fn follow(version: PgVersion, pgdata: &Path, head: &Settings) -> Result<Vec<SwitchedOff>> {
        let (Some(local), Some(committed)) = (
            LocalSettings::read(pgdata)?,
            Settings::read_file(&pgdata.join(COMMITTED))?,
        ) else {
            return Ok(Vec::new());
        };
        if committed == *head {
            return Ok(Vec::new());
        }
        let (taken, off) = head.taken(version);
        let theirs = taken.changes_since(&committed.taken(version).0);
        replace(pgdata, AUTO, &local.now.with(&theirs).with(&local.changes()))?;
        replace(pgdata, SEEN, &local.seen.with(&theirs))?;
        replace(pgdata, COMMITTED, head)?;
        Ok(off)
    }

    /// Makes the changes of the directory `from` in the new directory `to`; true when there were some.
    pub(super) fn carry(from: &Path, to: &Path) -> Result<bool> {
        let (Some(old), Some(new)) = (LocalSettings::read(from)?, LocalSettings::read(to)?) else {
            return Ok(false);
        };
        let changes = old.changes();
        if !changes.is_empty() {
            replace(to, AUTO, &new.now.with(&changes))?;
        }
        Ok(!changes.is_empty())
    }
}

fn replace(pgdata: &Path, name: &str, settings: &Settings) -> Result<()> {
    durable::replace(&pgdata.join(name), settings.text().as_bytes(), 0o600)
}

#[cfg(test)]
mod tests {
    use std::fs;

    use super::*;

    const VERSION: PgVersion = PgVersion::V15;

    fn directory(committed: &str) -> tempfile::TempDir {
        let root = tempfile::tempdir().expect("temporary directory");
        let committed = Settings::read(committed);
        LocalSettings::begin(root.path(), &committed, &committed.taken(VERSION).0).expect("written");
        root
    }

    fn set(root: &tempfile::TempDir, text: &str) {
        fs::write(root.path().join(AUTO), text).expect("write");
    }

    fn local(root: &tempfile::TempDir) -> LocalSettings {
        LocalSettings::read(root.path())
            .expect("readable")
            .expect("there")
    }

    #[test]
    fn only_what_was_set_here_is_a_change() {
        let root = directory("archive_command = 'theirs'\nwork_mem = 5MB\n");
        assert!(
            local(&root).changes().is_empty(),
            "what was not taken over is no change"
        );
        set(&root, "work_mem = 6MB\narchive_command = 'ours'\n");
        let committed =
            Settings::read("archive_command = 'theirs'\nwork_mem = 5MB\n").with(&local(&root).changes());
        assert_eq!(
            committed,
            Settings::read("archive_command = 'ours'\nwork_mem = 6MB\n")
        );
        local(&root).settle(root.path(), &committed).expect("written");
        assert!(local(&root).changes().is_empty());
        set(&root, "work_mem = 6MB\n");
        assert_eq!(
            committed.with(&local(&root).changes()),
            Settings::read("work_mem = 6MB\n")
        );
    }

    #[test]
    fn a_directory_follows_its_branch_and_keeps_what_was_set() {
        let root = directory("a.a = 1\nb.b = 1\nc.c = 1\n");
        set(&root, "a.a = 1\nb.b = 2\nc.c = 1\n");
        let head = Settings::read("a.a = 3\nb.b = 3\nrestore_command = 'x'\n");
        let off = LocalSettings::follow(VERSION, root.path(), &head).expect("written");
        assert_eq!(off.len(), 1);
        assert_eq!(local(&root).now, Settings::read("a.a = 3\nb.b = 2\n"));
        assert_eq!(
            head.with(&local(&root).changes()),
            head.with(&Settings::read("b.b = 2\n").changes_since(&Settings::default()))
        );
        assert!(
            LocalSettings::follow(VERSION, root.path(), &head)
                .expect("nothing to do")
                .is_empty()
        );
    }
}
