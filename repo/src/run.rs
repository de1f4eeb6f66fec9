//! Starting and stopping endpoints.

use std::fs;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use neon_compute::{ComputeError, Evidence, Purpose, Reuse, Stamp};
use neon_objects::Commit;
use neon_pagestore::{NewTimeline, Timeline};
use neon_postgres::control::DbState;
use neon_types::{Lsn, Position, with_causes};

use crate::api::{self, Existing, ProgressSink, Role};
use crate::aside::has_all_of;
use crate::catalog::Access;
use crate::directory::{Run, control_bytes, control_state, find_installation, write_configuration};
use crate::endpoint::{self, directory_of, pgdata_of, stamp_of};
use crate::endpoint_file::EndpointFile;
use crate::error::{RepoError, Result};
use crate::first_transaction::FirstTransaction;
use crate::history::Place;
use crate::not_wal;
use crate::postgres;
use crate::receiver::{self, Receiver};
use crate::repository::Repository;
use crate::resolve::Target;
use crate::revision::Step;
use crate::tail::FLUSH_WAIT;
use crate::tli;
use crate::world;

/// How long a server that shuts down gets to send the rest of its WAL.
const DRAIN_WAIT: Duration = Duration::from_secs(120);

/// How often another port is tried when somebody else is faster.
const PORT_TRIES: u32 = 8;

impl Repository {
    /// Runs Postgres on a branch head, or read-only at any other revision. Already running: says where.
    pub(crate) fn start(
        &self,
        rev: Option<&str>,
        port: Option<u16>,
        existing: Existing,
        role: Role,
        progress: &mut dyn ProgressSink,
    ) -> Result<api::Endpoint> {
        let revision = self.revision(rev)?;
        if revision.step == Step::Here
            && let Some(branch) = self.named(&revision.base)?.branch()
        {
            let notes = self.make_way(branch, port, existing, progress)?;
            let started = self.with_some_port(port, |port| {
                self.start_branch(branch, port, role, notes.clone(), progress)
            });
            return started.inspect_err(|_| {
                // It is done, also where no endpoint is there to say so.
                notes.iter().for_each(|note| progress.note(note));
            });
        }
        if existing != Existing::Use {
            return Err(RepoError::refused(
                "only a branch has a data directory that can be taken in or set aside",
                "name a branch; a read-only endpoint is made anew: neon stop, then neon start",
            ));
        }
        if role == Role::Primary {
            return Err(RepoError::refused(
                "only a branch acts as a primary: a position that is looked at writes nothing",
                "name a branch, or make one there: neon branch NAME REV",
            ));
        }
        let (target, mut notes) = self.resolve_current(rev)?;
        notes.extend(target.notes.iter().cloned());
        self.with_some_port(port, |port| {
            self.start_read_only(&target, port, notes.clone(), progress)
        })
    }

    /// Starts on the port that was asked for, or on another one when somebody takes ours between our look and Postgres's.
    fn with_some_port(
        &self,
        asked: Option<u16>,
        mut start: impl FnMut(Option<u16>) -> Result<api::Endpoint>,
    ) -> Result<api::Endpoint> {
        let mut port = asked;
        for _ in 0..PORT_TRIES {
            match start(port) {
                Err(RepoError::Compute(ComputeError::PortTaken(taken))) if asked.is_none() => {
                    port = neon_compute::free_port(taken, |port| port == taken);
                }
                result => return result,
            }
        }
        start(port)
    }

    /// Takes the data directory of a branch in, or sets it aside, as `existing` says. What can refuse the start is asked before: a start that is
    /// refused leaves the directory where it is. Returns remarks.
    fn make_way(
        &self,
        branch: &str,
        port: Option<u16>,
        existing: Existing,
        progress: &mut dyn ProgressSink,
    ) -> Result<Vec<String>> {
        if existing == Existing::Use {
            return Ok(Vec::new());
        }
        if self.endpoint_pid(branch).is_some() {
            return Err(RepoError::EndpointRuns(branch.to_owned()));
        }
        let (_, head) = self.head_of(branch)?;
        let version = self.timeline(head.position.timeline)?.state().version;
        find_installation(&self.caller, Some(version))?;
        // Where the file of the endpoint is damaged, that is why its directory is to be set aside.
        let known = self.endpoint_file(branch).ok().flatten();
        self.choose_port(branch, port, known.as_ref())?;
        self.endpoints.receivers().remove(branch);
        match existing {
            Existing::Use => Ok(Vec::new()),
            Existing::Resync => self.resync(branch, progress),
            Existing::SetAside if !pgdata_of(&self.neon_dir, branch).is_dir() => Err(RepoError::refused(
                format!("'{branch}' has no data directory"),
                format!("start it without --set-aside: neon start {branch}"),
            )),
            Existing::SetAside => Ok(vec![format!(
                "the data directory that was there is kept as {}",
                self.set_aside(branch)?.display()
            )]),
        }
    }

    fn start_branch(
        &self,
        branch: &str,
        port: Option<u16>,
        role: Role,
        mut notes: Vec<String>,
        progress: &mut dyn ProgressSink,
    ) -> Result<api::Endpoint> {
        if let Some(pid) = self.endpoint_pid(branch) {
            if role == Role::Primary {
                return Err(RepoError::EndpointRuns(branch.to_owned()));
            }
            self.adopt(branch)?;
            return self.describe(branch, pid, true, notes);
        }
        self.endpoints.receivers().remove(branch);
        if let Some(place) = self.take_in(branch)?
            && place.lsn > self.head_of(branch)?.1.position.lsn
            && self.timeline(place.position().timeline)?.state().writer != self.writer()
        {
            // A copy: what the original had written goes on as history, on which a timeline of ours forks (law 1).
            self.commit_tail(branch, &place, None, None)?;
        }
        let (_, head) = self.head_of(branch)?;
        let known = self.endpoint_file(branch)?;
        let timeline = self.timeline_to_write(branch, &head, known.as_ref())?;
        // Before anything is built: without it there is nothing to start.
        let installation = find_installation(&self.caller, Some(timeline.state().version))?;
        let position = Position {
            timeline: timeline.id(),
            lsn: timeline.end(),
        };
        // What people know of the branch: its head, unless a run that was not stopped left transactions behind it.
        let tail = crate::history::is_significant_after(
            &timeline,
            head.position.lsn.max(self.housekeeping_end(branch)?),
        );
        let shown = if tail { position.lsn } else { head.position.lsn };
        let port = self.choose_port(branch, port, known.as_ref())?;
        let boot_id = boot_id(self.world());
        let file = EndpointFile {
            branch: Some(branch.to_owned()),
            timeline: timeline.id(),
            built_at: known.as_ref().map_or(position.lsn, |file| file.built_at),
            port,
            housekeeping_end: known
                .as_ref()
                .filter(|file| file.timeline == timeline.id())
                .map_or(Lsn::INVALID, |file| file.housekeeping_end),
            boot_id: boot_id.clone(),
            pg_version_num: 0,
        };
        let reuse = self.reuse(branch, &timeline, known.as_ref())?;
        let quiet = !tail && (timeline.state().provisional || self.config()?.upstream(branch)?.is_some());
        let run = Run {
            port,
            socket_directory: self.socket_directory(branch),
            autovacuum: !quiet,
            read_only: false,
            role,
        };
        if !matches!(reuse, Reuse::Rebuild(_)) {
            notes.extend(self.follow_settings(branch, timeline.version(), &head.settings)?);
        }
        match reuse {
            Reuse::AsIs => {}
            Reuse::RecoverInPlace => {
                notes.push("the last run did not end properly: Postgres recovers in place".to_owned())
            }
            Reuse::Rebuild(_) => {
                let boot = Repository::boot_read_write(&self.path_of(&timeline)?);
                notes.extend(self.build(branch, &timeline, position.lsn, &boot, &head.settings, progress)?);
                passing("boot-after-build")?;
                if let Some(left) = known.filter(|known| known.timeline != timeline.id()) {
                    self.drop_unless_history(left.timeline)?;
                }
            }
        }
        let file = EndpointFile {
            built_at: if matches!(reuse, Reuse::Rebuild(_)) {
                position.lsn
            } else {
                file.built_at
            },
            ..file
        };
        let vouched = match reuse {
            Reuse::RecoverInPlace => None,
            Reuse::AsIs | Reuse::Rebuild(_) => control_bytes(&pgdata_of(&self.neon_dir, branch)),
        };
        // From here on the directory may change at any moment: what vouches for it says so first.
        Stamp {
            timeline: timeline.id(),
            end: timeline.end(),
            boot_id,
            clean: false,
        }
        .write(&stamp_of(&self.neon_dir, branch))?;
        self.write_endpoint_file(branch, &file)?;
        passing("boot-before-start")?;
        let started = match self.run_postgres(branch, &installation, &run, progress) {
            Ok(started) => started,
            Err(error) => {
                self.vouch_again(branch, &file, &timeline, vouched)?;
                return Err(error);
            }
        };
        passing("boot-after-start")?;
        notes.extend(started.notes);
        if role == Role::Copy {
            let way = "to apply them: neon stop, then neon start --act-as-primary";
            let access = Access::read(&timeline, timeline.end())?;
            notes.extend(not_wal::subscriptions(&access, way));
        }
        let mut file = EndpointFile {
            pg_version_num: started.version_num,
            ..file
        };
        self.write_endpoint_file(branch, &file)?;
        // A transaction of our own is no user's first one.
        let ours_comes = self.password_is_due(branch, &file)?;
        self.receive(branch, &file, &timeline, quiet && !ours_comes)?;
        if let Some(set) = self.ensure_password(branch, &file)? {
            notes.push(set.note);
            file.housekeeping_end = set.end;
            self.write_endpoint_file(branch, &file)?;
            self.receive(branch, &file, &timeline, quiet)?;
            // Whoever is told how to log in is told by what is here.
            if let Some(receiver) = self.endpoints.receiver(branch) {
                receiver.wait_for(file.housekeeping_end, FLUSH_WAIT);
            }
        }
        let mut endpoint = self.describe(branch, started.pid, false, notes)?;
        endpoint.lsn = shown;
        Ok(endpoint)
    }

    /// Runs a server that shows one position and writes nothing that anybody keeps.
    fn start_read_only(
        &self,
        target: &Target,
        port: Option<u16>,
        mut notes: Vec<String>,
        progress: &mut dyn ProgressSink,
    ) -> Result<api::Endpoint> {
        let position = target.place.position();
        let name = format!(
            "at-{}-{:X}-{:X}",
            position.timeline.short(),
            position.lsn.0 >> 32,
            position.lsn.0 & 0xffff_ffff
        );
        if let Some(pid) = self.endpoint_pid(&name) {
            return self.describe(&name, pid, true, notes);
        }
        self.check_readable_place(&target.place)?;
        let timeline = self.timeline(position.timeline)?;
        let installation = find_installation(&self.caller, Some(timeline.state().version))?;
        let known = self.endpoint_file(&name)?;
        let port = self.choose_port(&name, port, known.as_ref())?;
        let run = Run {
            port,
            socket_directory: self.socket_directory(&name),
            autovacuum: false,
            read_only: true,
            role: Role::Copy,
        };
        let (tli, history) = self.number_of_its_own(&target.place, "shown by neon")?;
        let boot = neon_compute::Boot {
            tli,
            history,
            purpose: Purpose::ReadOnly,
            slot: None,
            settings: None,
        };
        notes.extend(self.build(
            &name,
            &timeline,
            position.lsn,
            &boot,
            &target.commit.settings,
            progress,
        )?);
        let file = EndpointFile {
            branch: None,
            timeline: position.timeline,
            built_at: position.lsn,
            port,
            housekeeping_end: Lsn::INVALID,
            boot_id: boot_id(self.world()),
            pg_version_num: 0,
        };
        self.write_endpoint_file(&name, &file)?;
        match self.run_postgres(&name, &installation, &run, progress) {
            Ok(started) => {
                notes.extend(started.notes);
                self.describe(&name, started.pid, false, notes)
            }
            Err(error) => {
                // Nothing of it is anybody's.
                let directory = directory_of(&self.neon_dir, &name);
                fs::remove_dir_all(&directory).map_err(RepoError::io("remove", &directory))?;
                Err(error)
            }
        }
    }

    /// Says again that a directory is clean which a server was to run in and did not: its control file is the one from before.
    fn vouch_again(
        &self,
        name: &str,
        file: &EndpointFile,
        timeline: &Timeline,
        vouched: Option<Vec<u8>>,
    ) -> Result<()> {
        let pgdata = pgdata_of(&self.neon_dir, name);
        let untouched = vouched.is_some() && control_bytes(&pgdata) == vouched;
        if !untouched || control_state(&pgdata) != Some(DbState::ShutDowned) {
            return Ok(());
        }
        Stamp {
            timeline: file.timeline,
            end: timeline.end(),
            boot_id: file.boot_id.clone(),
            clean: true,
        }
        .write(&stamp_of(&self.neon_dir, name))?;
        Ok(())
    }

    /// Returns the timeline that the branch's endpoint writes: the one that it wrote before when that still continues the head
    /// and is ours, else a new one that forks at the head (law 1), provisional until the first transaction (law 3).
    fn timeline_to_write(
        &self,
        branch: &str,
        head: &Commit,
        known: Option<&EndpointFile>,
    ) -> Result<Arc<Timeline>> {
        if let Some(timeline) = self.open_timeline(branch, head)?
            && timeline.state().writer == self.writer()
        {
            return Ok(timeline);
        }
        let left = known.and_then(|file| self.pages.get(file.timeline).ok());
        if let Some(left) = left.filter(|left| left.state().provisional) {
            // It goes when its directory has gone.
            left.update_state(|state| state.branch = None)?;
        }
        let new = self.draw_timeline(branch, &Place::of(head).normal())?;
        Ok(self.pages.create(new)?)
    }

    /// Draws a timeline that forks at a place, for a branch to be written on.
    pub(crate) fn draw_timeline(&self, branch: &str, place: &Place) -> Result<NewTimeline> {
        let ancestor = place.position();
        let parent_tli = place.path.last().map_or(1, |fork| fork.tli);
        let siblings: Vec<u32> = self
            .pages
            .list()
            .into_iter()
            .filter_map(|id| self.pages.state_of(id).ok())
            .map(|state| state.tli)
            .collect();
        // Two of 4096 numbers meet sooner or later: another id is drawn then.
        for _ in 0..64 {
            let id = world::new_timeline_id(self.world());
            let tli = tli::fork_tli(parent_tli, id).ok_or(RepoError::NoTli)?;
            if siblings.contains(&tli) {
                continue;
            }
            return Ok(NewTimeline {
                id,
                ancestor,
                tli,
                writer: self.writer(),
                branch: Some(branch.to_owned()),
                provisional: true,
            });
        }
        Err(RepoError::NoTli)
    }

    fn reuse(&self, name: &str, timeline: &Timeline, known: Option<&EndpointFile>) -> Result<Reuse> {
        let pgdata = pgdata_of(&self.neon_dir, name);
        let stamp = Stamp::read(&stamp_of(&self.neon_dir, name)).ok().flatten();
        Ok(neon_compute::decide(&Evidence {
            stamp: stamp.as_ref().filter(|_| pgdata.is_dir()),
            boot_id: known.map_or("", |file| file.boot_id.as_str()),
            state: control_state(&pgdata),
            wanted: Position {
                timeline: timeline.id(),
                lsn: timeline.end(),
            },
            timeline_end: timeline.end(),
        }))
    }

    /// Begins to receive the endpoint's WAL, in place of a receiver that runs already.
    fn receive(&self, name: &str, file: &EndpointFile, timeline: &Arc<Timeline>, quiet: bool) -> Result<()> {
        self.endpoints.receivers().remove(name);
        let place = receiver::Place {
            socket_directory: self.socket_directory(name),
            port: file.port,
        };
        let known = self
            .head_of(name)
            .map_or(timeline.start(), |(_, head)| head.position.lsn);
        let first = quiet.then(|| {
            let pgdata = pgdata_of(&self.neon_dir, name);
            FirstTransaction::new(known.max(file.housekeeping_end), move || {
                write_configuration(&pgdata, true)?;
                postgres::reload(&pgdata)
            })
        });
        let receiver = Receiver::start(
            &self.runtime,
            Arc::clone(timeline),
            Arc::clone(&self.compactor),
            place,
            first,
        )?;
        self.endpoints
            .receivers()
            .insert(name.to_owned(), Arc::new(receiver));
        Ok(())
    }

    /// Receives again from an endpoint that runs without a receiver, after a daemon died, or whose stream ended without it.
    pub(crate) fn adopt(&self, name: &str) -> Result<()> {
        if self
            .endpoints
            .receiver(name)
            .is_some_and(|receiver| !receiver.is_over())
        {
            return Ok(());
        }
        let Some(file) = self.endpoint_file(name)? else {
            return Ok(());
        };
        if file.branch.is_none() {
            return Ok(());
        }
        let timeline = self.timeline(file.timeline)?;
        let quiet = timeline.state().provisional || self.config()?.upstream(name)?.is_some();
        self.receive(name, &file, &timeline, quiet)
    }

    /// Receives from every endpoint that runs: the first thing that a new daemon does.
    pub fn adopt_endpoints(&self) {
        let _exclusive = self.exclusive();
        for name in endpoint::names(&self.neon_dir).unwrap_or_default() {
            if self.endpoint_pid(&name).is_some()
                && let Err(error) = self.adopt(&name)
            {
                tracing::error!(endpoint = name, %error, "cannot receive from a running endpoint");
            }
        }
    }

    /// Returns true when an endpoint of this repository runs.
    pub fn has_running_endpoints(&self) -> bool {
        endpoint::any_runs(&self.neon_dir)
    }

    /// Returns the names of the endpoints that run.
    pub fn running_endpoints(&self) -> Vec<String> {
        let mut names = endpoint::names(&self.neon_dir).unwrap_or_default();
        names.retain(|name| self.endpoint_pid(name).is_some());
        names
    }

    /// Begins to compact timelines in the background, until [`Repository::stop_all`].
    pub fn compact_in_background(&self) {
        if let Err(error) = self.compactor.start() {
            tracing::warn!(error = with_causes(&error), "nothing is compacted");
        }
    }

    /// Stops every endpoint, takes in what they wrote and commits it.
    pub fn stop_all(&self) -> std::result::Result<(), api::ApiError> {
        self.compactor.stop();
        let _exclusive = self.exclusive();
        self.stop_each(endpoint::names(&self.neon_dir).unwrap_or_default())?;
        Ok(())
    }

    /// Stops those that run, also when one of them cannot be; the first error is returned then.
    fn stop_each(&self, names: Vec<String>) -> Result<Vec<api::Stopped>> {
        let (mut stopped, mut failed) = (Vec::new(), None);
        for name in names {
            if self.endpoint_pid(&name).is_none() {
                continue;
            }
            match self.stop_one(&name) {
                Ok(one) => stopped.push(one),
                Err(error) => {
                    tracing::error!(
                        endpoint = name,
                        error = with_causes(&error),
                        "stopped with an error"
                    );
                    failed.get_or_insert(error);
                }
            }
        }
        failed.map_or(Ok(stopped), Err)
    }

    /// Stops one endpoint, or all.
    pub(crate) fn stop(&self, branch: Option<&str>, all: bool) -> Result<Vec<api::Stopped>> {
        if !all {
            return Ok(vec![self.stop_one(&self.endpoint_meant(branch)?)?]);
        }
        self.stop_each(endpoint::names(&self.neon_dir)?)
    }

    /// Returns the name of the endpoint that a user means: of a branch, HEAD's when absent, or of a position, by its own name or by a revision.
    /// That it runs is the caller's to check.
    fn endpoint_meant(&self, text: Option<&str>) -> Result<String> {
        if let Some(name) = text
            && self
                .endpoint_file(name)?
                .is_some_and(|file| file.branch.is_none())
        {
            return Ok(name.to_owned());
        }
        let revision = self.revision(text)?;
        if revision.step == Step::Here
            && let Some(branch) = self.named(&revision.base)?.branch()
        {
            return Ok(branch.to_owned());
        }
        let position = self.resolve(text)?.place.position();
        for name in endpoint::names(&self.neon_dir)? {
            // One that cannot be read is not the one that is meant.
            let file = self.endpoint_file(&name).ok().flatten();
            if file.is_some_and(|file| {
                file.branch.is_none() && file.timeline == position.timeline && file.built_at == position.lsn
            }) {
                return Ok(name);
            }
        }
        Err(RepoError::NotShown {
            rev: text.unwrap_or("HEAD").to_owned(),
            lsn: position.lsn,
        })
    }

    fn stop_one(&self, name: &str) -> Result<api::Stopped> {
        let Some(file) = self.endpoint_file(name)? else {
            return Ok(api::Stopped {
                name: name.to_owned(),
                commit: None,
                lsn: None,
                was_running: false,
            });
        };
        let was_running = self.endpoint_pid(name).is_some();
        let Some(branch) = file.branch.clone() else {
            self.stop_postgres(name)?;
            let directory = directory_of(&self.neon_dir, name);
            fs::remove_dir_all(&directory).map_err(RepoError::io("remove", &directory))?;
            return Ok(api::Stopped {
                name: name.to_owned(),
                commit: None,
                lsn: Some(file.built_at),
                was_running,
            });
        };
        if was_running {
            self.adopt(name)?;
            let receiver = self.endpoints.receiver(name);
            let clean = self.stop_postgres(name)?;
            if let Some(receiver) = receiver {
                let end = receiver.drain(DRAIN_WAIT);
                self.endpoints.receivers().remove(name);
                let pgdata = pgdata_of(&self.neon_dir, name);
                if clean
                    && control_state(&pgdata) == Some(DbState::ShutDowned)
                    && self.holds_all(name, &file, end)?
                {
                    neon_compute::sync(&pgdata)?;
                    Stamp {
                        timeline: file.timeline,
                        end,
                        boot_id: file.boot_id.clone(),
                        clean: true,
                    }
                    .write(&stamp_of(&self.neon_dir, name))?;
                    self.remove_old_directory(name)?;
                }
            }
        }
        let place = self.take_in(&branch)?;
        let commit = match &place {
            Some(place) => self.commit_tail(&branch, place, None, None)?,
            None => None,
        };
        let (_, head) = self.head_of(&branch)?;
        Ok(api::Stopped {
            name: name.to_owned(),
            commit,
            lsn: Some(head.position.lsn),
            was_running,
        })
    }

    /// Returns true when `end`, up to which we hold the endpoint's WAL, is where its shutdown checkpoint ended: nothing whole
    /// follows in its `pg_wal`.
    fn holds_all(&self, name: &str, file: &EndpointFile, end: Lsn) -> Result<bool> {
        let timeline = self.timeline(file.timeline)?;
        Ok(timeline.end() == end && has_all_of(&timeline, &pgdata_of(&self.neon_dir, name)))
    }

    /// Returns where a running endpoint answers.
    pub(crate) fn uri(&self, branch: Option<&str>) -> Result<api::Endpoint> {
        let name = self.endpoint_meant(branch)?;
        let pid = self
            .endpoint_pid(&name)
            .ok_or(RepoError::NotRunning(name.clone()))?;
        self.describe(&name, pid, true, Vec::new())
    }

    fn describe(
        &self,
        name: &str,
        pid: u32,
        already_running: bool,
        notes: Vec<String>,
    ) -> Result<api::Endpoint> {
        let file = self
            .endpoint_file(name)?
            .ok_or_else(|| RepoError::NotRunning(name.to_owned()))?;
        let access = self.door(name, &file)?.access()?;
        let (uri, remark) = self.login(name, &file, &access)?;
        let mut notes = notes;
        notes.extend(remark);
        Ok(api::Endpoint {
            name: name.to_owned(),
            uri,
            user: access.superuser,
            database: access.database,
            port: file.port,
            socket_directory: self.socket_directory(name),
            read_only: file.branch.is_none(),
            already_running,
            pid,
            timeline: file.timeline,
            lsn: if file.branch.is_some() {
                self.timeline(file.timeline)?.end()
            } else {
                file.built_at
            },
            notes,
        })
    }

    /// Returns the port that an endpoint listens on: as asked, as before, or the first free one from `endpoint.first_port` up.
    pub(crate) fn choose_port(
        &self,
        name: &str,
        asked: Option<u16>,
        known: Option<&EndpointFile>,
    ) -> Result<u16> {
        if let Some(port) = asked {
            neon_compute::check_port(port)?;
            return Ok(port);
        }
        if let Some(file) = known
            && neon_compute::check_port(file.port).is_ok()
        {
            return Ok(file.port);
        }
        let mut taken = Vec::new();
        for other in endpoint::names(&self.neon_dir)? {
            if other != name {
                taken.extend(self.endpoint_file(&other).ok().flatten().map(|file| file.port));
            }
        }
        let first = self
            .config()?
            .get("endpoint.first_port")?
            .and_then(|port| port.parse::<u16>().ok());
        let first = first.unwrap_or(neon_compute::FIRST_PORT);
        neon_compute::free_port(first, |port| taken.contains(&port)).ok_or_else(|| {
            RepoError::refused(
                format!("no port is free from {first} up"),
                "name one: neon start --port P",
            )
        })
    }

    /// Returns the directory of an endpoint's socket, which only its owner enters.
    pub(crate) fn socket_directory(&self, name: &str) -> PathBuf {
        directory_of(&self.neon_dir, name).join("socket")
    }
}

/// Passes a failpoint on the way from a position to a running server.
fn passing(failpoint: &'static str) -> Result<()> {
    neon_pagestore::failpoint(failpoint).map_err(RepoError::io("pass the failpoint", failpoint))
}

fn boot_id(world: &dyn world::World) -> String {
    neon_types::RepoId(world.random()).to_string()
}
