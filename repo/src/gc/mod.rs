//! Garbage: what no ref, reflog, endpoint or branch leads to. Found, condemned, and deleted when its grace is over (two phases).
//!
//! Reads, ingest, pushes and pulls go on meanwhile. What they put or rely on before something names it is held (`neon_objects::Uses`);
//! deleting commits and timelines waits for the commands that move refs, and holds them up for that moment only. A crash at any
//! step leaves garbage that the next run finds again.

pub(crate) mod condemned;
mod plan;
mod reach;
mod roots;

use std::collections::{BTreeSet, HashMap};
use std::fs;
use std::os::unix::fs::MetadataExt;
use std::path::PathBuf;
use std::time::Duration;

use neon_objects::{COMMIT_MAGIC, StoredFile, Sweep, Used};
use neon_pagestore::{PageStoreError, StoredKind};
use neon_types::{CommitId, ObjectId, TimelineId, with_causes};

use crate::api::{self, Progress, ProgressSink};
use crate::clock::Clock;
use crate::error::{RepoError, Result};
use crate::repository::Repository;
use condemned::{Condemned, Kind, Thing};
use plan::Plan;
use reach::Reached;
use roots::Commits;

/// When it is not known how often a daemon collects.
const USUAL_INTERVAL: Duration = Duration::from_secs(60 * 60);
const LEAST_INTERVAL: Duration = Duration::from_secs(1);

impl Repository {
    /// Collects garbage: condemns what is new, deletes what has been condemned for the grace and still is garbage.
    pub(crate) fn gc(&self, request: &api::Gc, progress: &mut dyn ProgressSink) -> Result<api::Collected> {
        // Two runs at once would write one list.
        let _running = self.turns.collecting();
        let config = self.config()?;
        let configured = config.get_duration("gc.grace")?.unwrap_or_default();
        let grace = request.grace_seconds.map_or(configured, Duration::from_secs);
        let reflog = micros(config.get_duration("gc.reflog")?.unwrap_or_default());
        let clock = Clock::look(&self.neon_dir, self.world())?;
        if !request.dry_run {
            unless_full(self.note_received(clock))?;
            unless_full(self.pages.trim_wal().map_err(RepoError::from))?;
        }
        let dropped = unless_full(self.drop_history(clock, reflog, request.dry_run, progress));
        let mut commits = Commits::default();
        let found = dropped.and_then(|dropped| {
            let reached = self.reached(clock, reflog, &mut commits)?;
            Ok((dropped, self.garbage(&reached, progress)?))
        });
        let (dropped, garbage) = match found {
            Err(error) if error.is_damage() => return Ok(nothing_is_known(&error, request.dry_run, grace)),
            found => found?,
        };
        let plan = plan::plan(&condemned::read(&self.neon_dir), garbage, clock, micros(grace));
        let mut collected = api::Collected {
            dry_run: request.dry_run,
            grace_seconds: grace.as_secs(),
            condemned: plan.fresh.iter().map(described).collect(),
            deleted: plan.due.iter().map(described).collect(),
            waiting: plan.waiting.iter().map(described).collect(),
            dropped,
            interrupted: false,
            suspended: suspension(&plan, clock),
        };
        if request.dry_run {
            return Ok(collected);
        }
        unless_full(condemned::write(&self.neon_dir, &plan.list()))?;
        passing("gc-after-list")?;
        if plan.due.is_empty() {
            return Ok(collected);
        }
        self.turns.count_collection();
        let (gone, kept) = self.delete(&plan, clock, reflog, &mut commits, progress)?;
        collected.interrupted = progress.cancelled();
        collected.deleted = gone.iter().map(described).collect();
        // What is used again is condemned anew when it is garbage again; what could not be reached in time stays condemned.
        let left: Vec<Condemned> = plan.waiting.iter().chain(&kept).copied().collect();
        unless_full(condemned::write(&self.neon_dir, &left))?;
        Ok(collected)
    }

    /// Returns how long a daemon waits between collections.
    pub fn gc_interval(&self) -> Duration {
        let interval = self
            .config()
            .and_then(|config| Ok(config.get_duration("gc.interval")?));
        match interval {
            Ok(interval) => interval.unwrap_or(USUAL_INTERVAL).max(LEAST_INTERVAL),
            Err(error) => {
                tracing::warn!(
                    error = with_causes(&error),
                    "how often garbage is collected is not known"
                );
                USUAL_INTERVAL
            }
        }
    }

    /// Collects garbage as a daemon does now and then, unless `gc.auto` is off.
    pub fn collect_in_background(&self) {
        let run = || -> Result<Option<api::Collected>> {
            if self.config()?.get("gc.auto")?.as_deref() == Some("off") {
                return Ok(None);
            }
            self.gc(&api::Gc::default(), &mut api::Quiet).map(Some)
        };
        match run() {
            Ok(Some(collected)) if !collected.deleted.is_empty() => {
                let bytes: u64 = collected.deleted.iter().map(|garbage| garbage.bytes).sum();
                tracing::info!(things = collected.deleted.len(), bytes, "collected garbage");
            }
            Ok(_) => {}
            Err(error) => {
                tracing::warn!(error = with_causes(&error), "garbage could not be collected");
            }
        }
    }

    /// Returns everything that nothing reachable names, as it is now.
    fn garbage(&self, reached: &Reached, progress: &mut dyn ProgressSink) -> Result<Vec<Condemned>> {
        let mut garbage = Vec::new();
        let mut unneeded = BTreeSet::new();
        for id in self.pages.list() {
            if !reached.timelines.contains(&id)
                && let Some(file) = self.timeline_file(id)?
            {
                unneeded.insert(id);
                garbage.push(found(Thing::Timeline(id), file));
            }
        }
        let references = self.pages.named(&unneeded)?;
        let ids: Vec<ObjectId> = self.objects.iter()?.collect();
        let total = ids.len() as u64;
        for (done, id) in (0u64..).zip(ids) {
            progress.report(&counted("looking at objects", done, total));
            if reached.commits.contains(&CommitId(id)) || references.contains(id) {
                continue;
            }
            if let Some(file) = self.objects.stored_file(id)? {
                garbage.push(found(Thing::Object(self.kind_of(id)?, id), file));
            }
        }
        progress.report(&counted("looking at objects", total, total));
        for incoming in self.objects.incoming()? {
            if let Some(file) = self.objects.incoming_file(incoming.id)? {
                garbage.push(found(Thing::Incoming(incoming.id), file));
            }
        }
        Ok(garbage)
    }

    fn kind_of(&self, id: ObjectId) -> Result<Kind> {
        let magic = match self.objects.peek(id, COMMIT_MAGIC.len()) {
            Ok(magic) => magic,
            // WAL that was taken in just now.
            Err(neon_objects::ObjectsError::Missing(_)) => Vec::new(),
            Err(error) => return Err(error.into()),
        };
        if magic == COMMIT_MAGIC {
            return Ok(Kind::Commit);
        }
        Ok(match StoredKind::of(&magic) {
            Some(StoredKind::Layer) => Kind::Layer,
            Some(StoredKind::Map) => Kind::Map,
            None => Kind::Other,
        })
    }

    /// Returns the directory of a timeline as a file, with the bytes below it; none when it is gone.
    fn timeline_file(&self, id: TimelineId) -> Result<Option<StoredFile>> {
        let directory = self.neon_dir.join("timelines").join(id.to_string());
        match fs::metadata(&directory) {
            Ok(metadata) => Ok(Some(StoredFile {
                len: crate::status::bytes_below(&directory),
                inode: metadata.ino(),
            })),
            Err(error) if error.kind() == std::io::ErrorKind::NotFound => Ok(None),
            Err(error) => Err(RepoError::io("look at", directory)(error)),
        }
    }

    /// Deletes what is due and still garbage. Returns what went, and what stays condemned.
    fn delete(
        &self,
        plan: &Plan,
        clock: Clock,
        reflog: i64,
        commits: &mut Commits,
        progress: &mut dyn ProgressSink,
    ) -> Result<(Vec<Condemned>, Vec<Condemned>)> {
        // Begins before the roots are read again: what is named or used later is not touched.
        let sweep = self.objects.uses().sweep();
        let mut gone = Vec::new();
        let (aside, mut kept) = {
            let _exclusive = self.exclusive();
            let reached = self.reached(clock, reflog, commits)?;
            self.delete_commits(&sweep, &plan.due, &reached, &mut gone)?;
            self.set_timelines_aside(&sweep, &plan.due, &reached, &mut gone)?
        };
        passing("gc-timelines-aside")?;
        for directory in aside {
            fs::remove_dir_all(&directory).map_err(RepoError::io("remove", &directory))?;
        }
        kept.extend(self.delete_objects(&sweep, &plan.due, &mut gone, progress)?);
        Ok((gone, kept))
    }

    fn delete_commits(
        &self,
        sweep: &Sweep,
        due: &[Condemned],
        reached: &Reached,
        gone: &mut Vec<Condemned>,
    ) -> Result<()> {
        let first = gone.len();
        for condemned in due {
            let Thing::Object(Kind::Commit, id) = condemned.thing else {
                continue;
            };
            if !reached.commits.contains(&CommitId(id))
                && self.objects.remove_unused(sweep, id, condemned.file)?
            {
                gone.push(*condemned);
                passing("gc-after-commit")?;
            }
        }
        self.sync_removals(gone.get(first..).unwrap_or_default())
    }

    /// Takes timelines out of the page store, those that fork from others before these; returns the directories that are left, and the
    /// timelines that have to wait for others.
    fn set_timelines_aside(
        &self,
        sweep: &Sweep,
        due: &[Condemned],
        reached: &Reached,
        gone: &mut Vec<Condemned>,
    ) -> Result<(Vec<PathBuf>, Vec<Condemned>)> {
        let mut left: HashMap<TimelineId, Condemned> = due
            .iter()
            .filter_map(|condemned| match condemned.thing {
                Thing::Timeline(id) if !reached.timelines.contains(&id) => Some((id, *condemned)),
                _ => None,
            })
            .collect();
        let mut aside = Vec::new();
        loop {
            let leaf = left
                .keys()
                .find(|id| self.pages.children(**id).is_empty())
                .copied();
            let Some((id, condemned)) = leaf.and_then(|id| left.remove_entry(&id)) else {
                return Ok((aside, left.into_values().collect()));
            };
            let now = self.timeline_file(id)?;
            if now.is_none_or(|now| now.inode != condemned.file.inode) {
                continue;
            }
            match sweep.unless_used(Used::Timeline(id), || self.pages.set_aside(id)) {
                Some(Ok(directory)) => {
                    aside.push(directory);
                    gone.push(condemned);
                    passing("gc-after-timeline")?;
                }
                None | Some(Err(PageStoreError::TimelineNeeded { .. })) => {}
                Some(Err(error)) => return Err(error.into()),
            }
        }
    }

    /// Deletes layers, layer maps and what else no timeline names, that is: none that is left. Returns what it did not come to.
    fn delete_objects(
        &self,
        sweep: &Sweep,
        due: &[Condemned],
        gone: &mut Vec<Condemned>,
        progress: &mut dyn ProgressSink,
    ) -> Result<Vec<Condemned>> {
        let first = gone.len();
        let references = self.pages.needed()?;
        let mut kept = Vec::new();
        let total = due.len() as u64;
        for (done, condemned) in (0u64..).zip(due) {
            if progress.cancelled() {
                kept.push(*condemned);
                continue;
            }
            progress.report(&counted("deleting", done, total));
            let went = match condemned.thing {
                Thing::Object(Kind::Commit, _) | Thing::Timeline(_) => false,
                Thing::Object(_, id) if references.contains(id) => false,
                Thing::Object(_, id) => {
                    let went = self.objects.remove_unused(sweep, id, condemned.file)?;
                    if went {
                        self.pages.forget_layer(id);
                    }
                    went
                }
                Thing::Incoming(id) => self.objects.remove_idle_incoming(id, condemned.file)?,
            };
            if went {
                gone.push(*condemned);
                passing("gc-after-object")?;
            }
        }
        progress.report(&counted("deleting", total, total));
        self.sync_removals(gone.get(first..).unwrap_or_default())?;
        Ok(kept)
    }

    fn sync_removals(&self, gone: &[Condemned]) -> Result<()> {
        let objects = gone.iter().filter_map(|condemned| match condemned.thing {
            Thing::Object(_, id) => Some(id),
            Thing::Incoming(_) | Thing::Timeline(_) => None,
        });
        Ok(self.objects.sync_removals(objects)?)
    }
}

/// What a full disk refuses is left for the next time: collecting is what makes room.
fn unless_full<T: Default>(result: Result<T>) -> Result<T> {
    match result {
        Err(error) if error.is_full_disk() => {
            tracing::warn!(
                error = with_causes(&error),
                "the disk is full: collecting without it"
            );
            Ok(T::default())
        }
        result => result,
    }
}

/// While something that leads to others cannot be read, everything may be needed.
fn nothing_is_known(error: &RepoError, dry_run: bool, grace: Duration) -> api::Collected {
    api::Collected {
        dry_run,
        grace_seconds: grace.as_secs(),
        condemned: Vec::new(),
        deleted: Vec::new(),
        waiting: Vec::new(),
        dropped: Vec::new(),
        interrupted: false,
        suspended: Some(format!(
            "nothing is deleted as long as it is not known what is needed: {}; 'neon fsck' lists what is damaged, 'neon fsck --repair' asks \
             origins, and 'neon branch -D' removes a branch that leads there",
            with_causes(error)
        )),
    }
}

fn micros(duration: Duration) -> i64 {
    i64::try_from(duration.as_micros()).unwrap_or(i64::MAX)
}

fn found(thing: Thing, file: StoredFile) -> Condemned {
    Condemned { thing, time: 0, file }
}

fn described(condemned: &Condemned) -> api::Garbage {
    api::Garbage {
        kind: condemned.thing.kind().to_owned(),
        id: condemned.thing.id(),
        bytes: condemned.file.len,
        since: jiff::Timestamp::from_microsecond(condemned.time)
            .map(|time| time.to_string())
            .unwrap_or_default(),
    }
}

fn suspension(plan: &Plan, clock: Clock) -> Option<String> {
    let since = jiff::Timestamp::from_microsecond(clock.since).ok()?;
    (plan.suspended > 0).then(|| {
        format!(
            "the clock jumped by more than a day, or the machine was off for longer; kept as if found at {since}: {}",
            neon_types::counted(plan.suspended, "thing")
        )
    })
}

fn counted(label: &str, done: u64, total: u64) -> Progress {
    Progress {
        label: label.into(),
        done,
        total,
        unit: "objects".into(),
    }
}

/// Passes a failpoint between two steps.
fn passing(failpoint: &'static str) -> Result<()> {
    neon_pagestore::failpoint(failpoint).map_err(RepoError::io("pass the failpoint", failpoint))
}
