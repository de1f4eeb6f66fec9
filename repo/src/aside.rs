//! Data directories that go: what is here already is removed, what is nowhere else is kept under another name.

use std::fs;
use std::io::ErrorKind;
use std::path::{Path, PathBuf};

use neon_compute::{Stamp, read_control, whole_records};
use neon_objects::durable;
use neon_pagestore::Timeline;
use neon_postgres::control::{ControlFile, DbState};
use neon_types::{Lsn, Position};

use crate::directory::remove_tree;
use crate::endpoint::{pgdata_of, stamp_of};
use crate::error::{RepoError, Result};
use crate::repository::Repository;
use crate::tail::stream_params;

/// Where directories are kept that nobody may lose.
const ASIDE: &str = "aside";
/// How many of one endpoint are kept at most.
const MOST: u32 = 1000;
/// In place of a boot's name, in the stamp of a directory that was taken in as it was.
const TAKEN_IN: &str = "taken in";

impl Repository {
    /// Returns true when everything that the server of an endpoint's data directory wrote is here. Nothing may run in it.
    pub(crate) fn is_drained(&self, name: &str) -> bool {
        let pgdata = &pgdata_of(&self.neon_dir, name);
        let Ok(control) = read_control(pgdata) else {
            return false;
        };
        if self.was_taken_in(name, &control) {
            return true;
        }
        let number = control.checkpoint().tli;
        let same = |id| {
            self.pages
                .state_of(id)
                .is_ok_and(|state| state.tli == number && state.system_id == control.system_id())
        };
        let timelines = self.pages.list().into_iter().filter(|id| same(*id));
        timelines
            .filter_map(|id| self.timeline(id).ok())
            .any(|timeline| has_all_of(&timeline, pgdata))
    }

    /// Returns true when the stamp says that the directory, as it was stopped, was taken in anew.
    fn was_taken_in(&self, name: &str, control: &ControlFile) -> bool {
        let stamp = Stamp::read(&stamp_of(&self.neon_dir, name)).ok().flatten();
        stamp.is_some_and(|stamp| {
            let last = self
                .timeline(stamp.timeline)
                .and_then(|timeline| Ok(timeline.record_at_or_before(stamp.end)?));
            stamp.clean
                && stamp.boot_id == TAKEN_IN
                && control.state() == Some(DbState::ShutDowned)
                && last.is_ok_and(|last| last.end == stamp.end && last.start == control.checkpoint_lsn())
        })
    }

    /// Says that the directory, as it was stopped, is what a position is.
    pub(crate) fn stamp_as_taken_in(&self, name: &str, position: Position) -> Result<()> {
        let stamp = Stamp {
            timeline: position.timeline,
            end: position.lsn,
            // Of no boot: nobody goes on in it.
            boot_id: TAKEN_IN.to_owned(),
            clean: true,
        };
        Ok(stamp.write(&stamp_of(&self.neon_dir, name))?)
    }

    /// Takes the data directory of an endpoint out of the way, and keeps it. Returns where.
    pub(crate) fn set_aside(&self, name: &str) -> Result<PathBuf> {
        let pgdata = pgdata_of(&self.neon_dir, name);
        neon_compute::kill_everything(&pgdata)?;
        let directory = self.neon_dir.join(ASIDE);
        durable::create_directories(&self.neon_dir, &directory)?;
        let base = name.replace('/', "%");
        for number in 1..=MOST {
            let kept = directory.join(format!("{base}-{number}"));
            // Renamed over an empty directory it would be lost among others; an existing one is never replaced.
            if kept.exists() {
                continue;
            }
            fs::rename(&pgdata, &kept).map_err(RepoError::io("rename", &pgdata))?;
            durable::sync_directory(&directory)?;
            if let Some(parent) = pgdata.parent() {
                durable::sync_directory(parent)?;
            }
            let _ = fs::remove_file(stamp_of(&self.neon_dir, name));
            return Ok(kept);
        }
        Err(RepoError::refused(
            format!("{} holds {MOST} directories of {name}", directory.display()),
            "remove those that you do not need",
        ))
    }

    /// Removes the data directory of an endpoint, or sets it aside when something of it is nowhere else: then a remark says where.
    pub(crate) fn discard_directory(&self, name: &str) -> Result<Option<String>> {
        let pgdata = pgdata_of(&self.neon_dir, name);
        if !pgdata.is_dir() {
            return Ok(None);
        }
        neon_compute::kill_everything(&pgdata)?;
        if self.is_drained(name) {
            remove_tree(&pgdata)?;
            return Ok(None);
        }
        self.set_aside(name).map(|kept| Some(kept_remark(&kept)))
    }

    /// Returns the directories that are kept aside.
    pub(crate) fn kept_aside(&self) -> Result<Vec<PathBuf>> {
        let directory = self.neon_dir.join(ASIDE);
        let entries = match fs::read_dir(&directory) {
            Err(error) if error.kind() == ErrorKind::NotFound => return Ok(Vec::new()),
            entries => entries.map_err(RepoError::io("read", &directory))?,
        };
        let mut kept: Vec<PathBuf> = entries.flatten().map(|entry| entry.path()).collect();
        kept.sort();
        Ok(kept)
    }
}

/// Says where a directory is that was set aside.
pub(crate) fn kept_remark(kept: &Path) -> String {
    format!(
        "what its data directory holds is not all here: it is kept as {}; remove it when you do not need it",
        kept.display()
    )
}

/// Returns true when no whole record of the directory's WAL lies beyond the end of the timeline, and nothing shows that there was one.
pub(crate) fn has_all_of(timeline: &Timeline, pgdata: &Path) -> bool {
    reach_of(timeline, pgdata) == Some((timeline.end(), None))
}

/// Returns how far whole records of the directory's WAL lead on from the end of the timeline, and a position beyond that when the directory
/// shows that its server came there. None: it cannot be read.
pub(crate) fn reach_of(timeline: &Timeline, pgdata: &Path) -> Option<(Lsn, Option<Lsn>)> {
    let end = timeline.end();
    let last = timeline.record_at_or_before(end).ok()?;
    let rest = whole_records(pgdata, end, Some(last.start), &stream_params(timeline)).ok()?;
    Some((rest.range.end, rest.beyond))
}
