//! How long history can be read, and how much raw WAL is kept: shown, set, and carried out.

pub(crate) mod received;
mod spans;

use std::collections::{BTreeMap, HashMap, HashSet};
use std::path::PathBuf;

use neon_objects::{Commit, Config, Keep, ObjectsError, Retention};
use neon_pagestore::{Dropped, Shrunk, Spans};
use neon_types::{CommitId, LayerId, Lsn, Position, RefName, TimelineId};

use crate::api::{self, ProgressSink, RetentionRow};
use crate::clock::Clock;
use crate::endpoint;
use crate::error::{RepoError, Result};
use crate::history::Place;
use crate::repository::Repository;
use received::Received;
use spans::{Line, retained};

/// Takes a setting of a branch back to that of the repository, and one of the repository to its default.
const DEFAULT: &str = "default";

impl Repository {
    /// Sets, and shows, how long history and WAL are kept.
    pub(crate) fn retention(&self, request: &api::Retain) -> Result<Vec<RetentionRow>> {
        if request.keep.is_some() || request.keep_wal.is_some() {
            self.set_retention(request)?;
        }
        let config = self.config()?;
        let (keep, keep_wal) = config.retention()?;
        let mut rows = Vec::new();
        if request.branch.is_none() {
            rows.push(RetentionRow {
                branch: None,
                keep: keep.to_string(),
                keep_wal,
                own_keep: config.get("retention.keep")?.is_some(),
                own_keep_wal: config.get("retention.keep_wal")?.is_some(),
                readable_from: None,
            });
        }
        for (branch, id) in self.heads()? {
            if request.branch.as_ref().is_some_and(|wanted| *wanted != branch) {
                continue;
            }
            let said = config.branch_retention(&branch)?;
            let readable_from = self
                .commit(id)
                .and_then(|commit| self.durable_place(&branch, &commit))
                .and_then(|place| self.readable_from(&place));
            let readable_from = match readable_from {
                Err(error) if error.is_damage() => None,
                readable_from => Some(readable_from?),
            };
            rows.push(RetentionRow {
                keep: said.keep.unwrap_or(keep).to_string(),
                keep_wal: said.keep_wal.unwrap_or(keep_wal),
                own_keep: said.keep.is_some(),
                own_keep_wal: said.keep_wal.is_some(),
                readable_from,
                branch: Some(branch),
            });
        }
        match &request.branch {
            Some(branch) if rows.is_empty() => Err(RepoError::NoBranch(branch.clone())),
            _ => Ok(rows),
        }
    }

    fn set_retention(&self, request: &api::Retain) -> Result<()> {
        let mut config = self.config()?;
        match &request.branch {
            None => {
                for (key, value) in [
                    ("retention.keep", &request.keep),
                    ("retention.keep_wal", &request.keep_wal),
                ] {
                    if let Some(value) = value {
                        config.set(key, Some(value.as_str()).filter(|value| *value != DEFAULT))?;
                    }
                }
            }
            Some(branch) => {
                self.head_of(branch)?;
                let mut said = config.branch_retention(branch)?;
                if let Some(keep) = &request.keep {
                    said.keep = own(
                        keep,
                        Keep::parse,
                        "a length of time, as 36h, 7d or 2w, or 'forever'",
                    )?;
                }
                if let Some(bytes) = &request.keep_wal {
                    said.keep_wal = own(
                        bytes,
                        crate::span::parse_bytes,
                        "an amount of bytes, as 512MB or 50GB",
                    )?;
                }
                config.set_branch_retention(branch, said)?;
            }
        }
        config.save()?;
        self.apply_wal_windows(&config)
    }

    /// Tells the page store how much raw WAL each branch keeps.
    pub(crate) fn apply_wal_windows(&self, config: &Config) -> Result<()> {
        let (_, usual) = config.retention()?;
        let mut branches = HashMap::new();
        for (branch, _) in self.heads()? {
            if let Some(bytes) = config.branch_retention(&branch)?.keep_wal {
                branches.insert(branch, bytes);
            }
        }
        self.pages.set_keep_wal(usual, branches);
        Ok(())
    }

    /// Returns the lowest LSN from which on everything up to a place can be read.
    fn readable_from(&self, place: &Place) -> Result<Lsn> {
        let mut upto = place.lsn;
        for fork in place.path.iter().rev() {
            let readable = self.timeline(fork.timeline)?.readable();
            let Some(readable) = readable else {
                upto = fork.start;
                continue;
            };
            match readable.iter().find(|span| span.from <= upto && upto <= span.to) {
                Some(span) if span.from <= fork.start => upto = fork.start,
                Some(span) => return Ok(span.from),
                None => return Ok(upto),
            }
        }
        Ok(upto)
    }

    /// Writes down how far each timeline has been received by now.
    pub(crate) fn note_received(&self, clock: Clock) -> Result<()> {
        for id in self.pages.list() {
            let Ok(lsn) = self.pages.known_end(id) else {
                // Removed since it was listed, or damaged, which others say.
                continue;
            };
            let directory = self.timeline_directory(id);
            if directory.is_dir() {
                received::note(&directory, Received { lsn, time: clock.now })?;
            }
        }
        Ok(())
    }

    pub(crate) fn timeline_directory(&self, id: TimelineId) -> PathBuf {
        self.neon_dir.join("timelines").join(id.to_string())
    }

    /// Drops history that nothing retains from the layer maps of timelines; nothing is changed with `dry_run`. Returns what went.
    pub(crate) fn drop_history(
        &self,
        clock: Clock,
        reflog: i64,
        dry_run: bool,
        progress: &dyn ProgressSink,
    ) -> Result<Vec<api::DroppedHistory>> {
        let config = self.config()?;
        let mut finite = config.retention()?.0 != Keep::Forever;
        for (branch, _) in self.heads()? {
            finite |= matches!(config.branch_retention(&branch)?.keep, Some(Keep::For(_)));
        }
        if !finite {
            return Ok(Vec::new());
        }
        let mut dropped = Vec::new();
        for (id, freed) in self.unretained(&self.retained_spans(&config, clock, reflog)?)? {
            let mut shrunk = Shrunk {
                from: freed.shrinkable,
                to: 0,
            };
            if !dry_run {
                let timeline = self.timeline(id)?;
                {
                    // No branch or tag is made meanwhile at what goes.
                    let _exclusive = self.exclusive();
                    if let Some(spans) = self.retained_spans(&config, clock, reflog)?.get(&id) {
                        timeline.retain(spans, self.can_grow(id)?, false)?;
                    }
                }
                shrunk = timeline.shrink(&|| progress.cancelled())?;
            }
            dropped.push(api::DroppedHistory {
                timeline: id,
                layers: freed.layers.len() as u64,
                bytes: freed.layers.iter().map(|(_, bytes)| bytes).sum(),
                shrunk: shrunk.from,
                left: shrunk.to,
            });
        }
        Ok(dropped)
    }

    /// Returns the layers that go when timelines retain no more than this, by timeline: those that no other timeline lists afterwards. One
    /// of which nothing would go is not worth making unreadable.
    fn unretained(&self, planned: &BTreeMap<TimelineId, Spans>) -> Result<BTreeMap<TimelineId, Dropped>> {
        let others = self.pages.named(&planned.keys().copied().collect())?;
        let mut kept: HashSet<LayerId> = HashSet::new();
        let mut gone = BTreeMap::new();
        for (id, spans) in planned {
            let timeline = self.timeline(*id)?;
            let dropped = timeline.retain(spans, self.can_grow(*id)?, true)?;
            let going: HashSet<LayerId> = dropped.layers.iter().map(|(layer, _)| *layer).collect();
            if let Some(map) = timeline.layer_map() {
                kept.extend(
                    map.entries()
                        .map(|entry| entry.layer)
                        .filter(|layer| !going.contains(layer)),
                );
            }
            gone.insert(*id, dropped);
        }
        for dropped in gone.values_mut() {
            dropped
                .layers
                .retain(|(layer, _)| !kept.contains(layer) && !others.contains(layer.0));
        }
        gone.retain(|_, dropped| !dropped.layers.is_empty() || dropped.shrinkable > 0);
        Ok(gone)
    }

    /// Returns true when more of the timeline may be written, or arrive: its end must stay readable.
    fn can_grow(&self, id: TimelineId) -> Result<bool> {
        let timeline = self.timeline(id)?;
        let state = timeline.state();
        // An import has one position. What we wrote and what no branch is open on is closed.
        let closed =
            timeline.ancestor().is_none() || (state.writer == self.writer() && state.branch.is_none());
        Ok(!closed)
    }

    /// Returns what is retained of each timeline that refs lead through.
    fn retained_spans(
        &self,
        config: &Config,
        clock: Clock,
        reflog: i64,
    ) -> Result<BTreeMap<TimelineId, Spans>> {
        let usual = config.retention()?.0;
        let mut lines: Vec<Line> = Vec::new();
        let mut seen: HashSet<(CommitId, Option<i64>, bool)> = HashSet::new();
        let (names, damaged) = self.refs.survey("refs/")?;
        if let Some(name) = damaged.into_iter().next() {
            // What it retains is not known.
            return Err(ObjectsError::DamagedRef {
                path: self.neon_dir.join(name.to_string()),
                name,
            }
            .into());
        }
        for (name, id) in names {
            let commit = self.commit(id)?;
            let (of_branch, keep) = match &name {
                RefName::Branch(branch) => (true, config.branch_retention(branch)?.keep.unwrap_or(usual)),
                _ => (false, usual),
            };
            let keep = match keep {
                Keep::Forever => None,
                Keep::For(duration) => Some(i64::try_from(duration.as_micros()).unwrap_or(i64::MAX)),
            };
            let line = |place: &Place, pinned| line(place, keep, of_branch, pinned);
            lines.push(line(&Place::of(&commit), true));
            if let RefName::Branch(branch) = &name {
                lines.push(line(&self.durable_place(branch, &commit)?, true));
            }
            for remembered in self.remembered(&name, clock, reflog)? {
                if seen.insert((remembered, keep, of_branch))
                    && let Some(commit) = self.commit_if_here(remembered)?
                {
                    lines.push(line(&Place::of(&commit), false));
                }
            }
        }
        let mut pins = Vec::new();
        for name in endpoint::names(&self.neon_dir)? {
            if let Some(file) = self.endpoint_file(&name)? {
                pins.push(Position {
                    timeline: file.timeline,
                    lsn: file.built_at,
                });
            }
        }
        let mut rows: HashMap<TimelineId, Vec<Received>> = HashMap::new();
        for (timeline, _) in lines.iter().flat_map(|line| &line.path) {
            if !rows.contains_key(timeline) {
                rows.insert(*timeline, received::read(&self.timeline_directory(*timeline))?);
            }
        }
        let mut horizon = |timeline, keep| {
            let rows: &Vec<Received> = rows.get(&timeline)?;
            let old = rows.iter().filter(|row| clock.age(row.time) >= keep);
            old.map(|row| row.lsn).max()
        };
        Ok(retained(&lines, &pins, &mut horizon))
    }

    fn commit_if_here(&self, id: CommitId) -> Result<Option<Commit>> {
        match self.objects.read_commit(id) {
            Ok(commit) => Ok(Some(commit)),
            Err(ObjectsError::Missing(_)) => Ok(None),
            Err(error) => Err(error.into()),
        }
    }

    /// Forgets what was said of a branch that is gone.
    pub(crate) fn forget_retention(&self, branch: &str) -> Result<()> {
        let mut config = self.config()?;
        if config.branch_retention(branch)? == Retention::default() {
            return Ok(());
        }
        config.set_branch_retention(branch, Retention::default())?;
        config.save()?;
        self.apply_wal_windows(&config)
    }
}

/// Reads what is said of a branch; `default` says nothing of it.
fn own<T>(text: &str, parse: impl Fn(&str) -> Option<T>, expected: &str) -> Result<Option<T>> {
    if text == DEFAULT {
        return Ok(None);
    }
    parse(text).map(Some).ok_or_else(|| {
        RepoError::refused(
            format!("'{text}' is not {expected}"),
            "or 'default', as the repository says: neon retention",
        )
    })
}

fn line(place: &Place, keep: Option<i64>, of_branch: bool, pinned: bool) -> Line {
    Line {
        path: place
            .path
            .iter()
            .map(|fork| (fork.timeline, fork.start))
            .collect(),
        end: place.lsn,
        keep,
        of_branch,
        pinned,
    }
}
