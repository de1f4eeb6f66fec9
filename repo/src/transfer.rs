//! Push, pull and fetch: our half of the conversation, and what it leaves behind here.

use std::fmt;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

use neon_objects::{Expect, ObjectsError, RefEdit, Upstream};
use neon_remotes::uri::OriginUri;
use neon_remotes::wire::{Motion, Phase};
use neon_remotes::{
    Command, FetchOutcome, FetchRequest, NAME_HINT, PullRequest, PushRequest, Refusal, RemoteError, Sink,
    Skipped, Source, Volume, perform_fetch, perform_pull, perform_push,
};
use neon_transport::{Channel, RequireAuth, dial_with};
use neon_types::{CommitId, RefName, TimelineId};

use crate::api::{Existing, Progress, ProgressSink, Role, Secret, Transfer, Transferred};
use crate::endpoint::pgdata_of;
use crate::error::{RepoError, Result};
use crate::not_wal;
use crate::origins::hide_password;
use crate::repository::{OpenOptions, Repository, branch_ref, new_branch_ref};

/// Outcome of a branch that a fetch did not take in; a note says why.
pub const REFUSED: &str = "refused";

/// How long a repository on this machine is waited for that somebody else has open, and how long at a time.
const NEIGHBOUR_WAIT: Duration = Duration::from_secs(10);
const NEIGHBOUR_LOOK: Duration = Duration::from_millis(500);

/// Where a transfer goes: another repository, and a branch there.
#[derive(Clone, Debug, PartialEq, Eq)]
struct Destination {
    /// Its name as an origin; none when it was named by its address alone: then nothing is remembered of it.
    origin: Option<String>,
    uri: String,
    branch: String,
}

impl Destination {
    /// Returns what to call the repository.
    fn whose(&self) -> String {
        match &self.origin {
            Some(origin) => origin.clone(),
            None => hide_password(&self.uri),
        }
    }
}

impl fmt::Display for Destination {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}/{}", self.whose(), self.branch)
    }
}

/// Returns true for a text that says where a repository is, and is no name of an origin: those have one part.
fn is_address(text: &str) -> bool {
    let is_path = text.starts_with('/') || text == "." || text == ".." || text.starts_with("./");
    is_path || text.starts_with("../") || text.contains("://")
}

impl Repository {
    /// Sends a branch to an origin.
    pub(crate) fn push(
        self: &Arc<Self>,
        transfer: &Transfer,
        progress: &mut dyn ProgressSink,
    ) -> Result<Vec<Transferred>> {
        let transfer = &self.with_origin(transfer)?;
        let branch = self.branch_or_head(transfer.branch.as_deref())?;
        let destination = self.destination(&branch, transfer.target.as_deref())?;
        let (head, commit) = {
            let _exclusive = self.exclusive();
            self.head_of(&branch)?;
            if let Some(place) = self.take_in(&branch)? {
                self.commit_tail(&branch, &place, None, None)?;
            }
            self.head_of(&branch)?
        };
        let command = Command::Push {
            branch: destination.branch.clone(),
            timeline: commit.position.timeline,
        };
        let request = PushRequest {
            branch: destination.branch.clone(),
            head,
            force: transfer.force,
            dry_run: transfer.dry_run,
        };
        let source: Arc<dyn Source> = Arc::clone(self) as Arc<dyn Source>;
        let outcome = self.talk(
            &destination.uri,
            transfer.password.as_ref(),
            &command,
            progress,
            |channel, options| perform_push(channel, source, request, options),
        )?;
        if !transfer.dry_run {
            if let Some(theirs) = outcome.head {
                if outcome.motion == Motion::Stay && !transfer.force && theirs != head {
                    self.bring(&destination, theirs, transfer, progress)?;
                    self.check_settings_there(&destination.to_string(), head, theirs)?;
                }
                self.remember(&destination, theirs)?;
            }
            self.set_first_upstream(&branch, &destination)?;
        }
        let mut notes = not_wal::slots(&pgdata_of(&self.neon_dir, &branch));
        notes.push(format!(
            "{} bytes sent, {} received on the wire",
            outcome.wire_sent, outcome.wire_received
        ));
        Ok(vec![Transferred {
            branch: Some(branch),
            remote: destination.to_string(),
            outcome: word(outcome.motion).to_owned(),
            old: outcome.before,
            new: head,
            lsn: commit.position.lsn,
            bytes: volume(transfer, &outcome.planned, &outcome.sent).bytes,
            objects: volume(transfer, &outcome.planned, &outcome.sent).objects(),
            dry_run: transfer.dry_run,
            notes,
        }])
    }

    /// Brings a branch from an origin and moves ours to it.
    pub(crate) fn pull(
        self: &Arc<Self>,
        transfer: &Transfer,
        progress: &mut dyn ProgressSink,
    ) -> Result<Vec<Transferred>> {
        let transfer = &self.with_origin(transfer)?;
        let branch = self.branch_or_head(transfer.branch.as_deref())?;
        let destination = self.destination(&branch, transfer.target.as_deref())?;
        let into = transfer.as_name.clone().unwrap_or(branch);
        if self.refs.get(&branch_ref(&into)?)?.is_none() {
            new_branch_ref(&into)?;
        }
        let ran = self.endpoint_is_running(&into)?;
        if ran && !transfer.dry_run {
            if !transfer.restart {
                return Err(RepoError::refused(
                    format!("an endpoint is running on branch '{into}'"),
                    format!("stop it first: neon stop {into}; or pull and restart it: neon pull --restart"),
                ));
            }
            let _exclusive = self.exclusive();
            self.stop(Some(&into), false)?;
        }
        let timeline = self
            .head_of(&into)
            .ok()
            .map(|(_, commit)| commit.position.timeline);
        let command = Command::Pull {
            branch: destination.branch.clone(),
            timeline,
        };
        let request = PullRequest {
            branch: destination.branch.clone(),
            into: into.clone(),
            force: transfer.force,
            dry_run: transfer.dry_run,
        };
        let sink: Arc<dyn Sink> = Arc::clone(self) as Arc<dyn Sink>;
        let pulled = self.talk(
            &destination.uri,
            transfer.password.as_ref(),
            &command,
            progress,
            |channel, options| perform_pull(channel, sink, request, options),
        );
        let mut notes = Vec::new();
        let pulled = pulled.and_then(|outcome| {
            if outcome.motion == Motion::Stay && !transfer.force && !transfer.dry_run {
                self.bring(&destination, outcome.theirs, transfer, progress)?;
                notes.extend(self.take_settings(&into, outcome.theirs, &destination.to_string())?);
            }
            Ok(outcome)
        });
        if ran && transfer.restart && !transfer.dry_run {
            // Whatever became of the pull, the endpoint ran before.
            let _exclusive = self.exclusive();
            let endpoint = self.start(Some(&into), None, Existing::Use, Role::Copy, progress)?;
            notes.push(format!("restarted: {}", endpoint.uri));
        }
        let outcome = pulled.map_err(|error| pull_refusal(error, &destination, &into))?;
        if !transfer.dry_run {
            self.remember(&destination, outcome.theirs)?;
            self.set_first_upstream(&into, &destination)?;
        }
        let new = match self.head_of(&into) {
            Ok((head, _)) if !transfer.dry_run => head,
            _ => outcome.head.unwrap_or(outcome.theirs),
        };
        if outcome.motion != Motion::Stay && !transfer.dry_run && new != outcome.theirs {
            notes.push(format!(
                "what was set on {into} stays: its head is a commit of both"
            ));
        }
        let lsn = self
            .commit(new)
            .map_or(neon_types::Lsn::INVALID, |commit| commit.position.lsn);
        let moved = volume(transfer, &outcome.planned, &outcome.arrived);
        Ok(vec![Transferred {
            branch: Some(into),
            remote: destination.to_string(),
            outcome: word(outcome.motion).to_owned(),
            old: outcome.before,
            new,
            lsn,
            bytes: moved.bytes,
            objects: moved.objects(),
            dry_run: transfer.dry_run,
            notes,
        }])
    }

    /// Brings what an origin has, and remembers where its branches are.
    pub(crate) fn fetch(
        self: &Arc<Self>,
        transfer: &Transfer,
        progress: &mut dyn ProgressSink,
    ) -> Result<Vec<Transferred>> {
        let transfer = &self.with_origin(transfer)?;
        let head = self.refs.head()?;
        let branch = transfer.branch.clone();
        let destination = self.destination(branch.as_deref().unwrap_or(&head), transfer.target.as_deref())?;
        let Some(origin) = &destination.origin else {
            return Err(RepoError::refused(
                format!(
                    "no origin is at {}, so what is fetched would have no name",
                    destination.whose()
                ),
                format!(
                    "name it, then fetch: neon origin add NAME {}; or: neon pull BRANCH {} --as NAME",
                    destination.whose(),
                    destination.whose()
                ),
            ));
        };
        let one = branch.is_some()
            || transfer
                .target
                .as_deref()
                .is_some_and(|target| target.contains(':'));
        let outcome = self.fetch_from(
            &destination.uri,
            one.then_some(destination.branch.as_str()),
            transfer.dry_run,
            transfer.password.as_ref(),
            progress,
        )?;
        let mut skipped = outcome.skipped.clone();
        let mut rows = Vec::new();
        for fetched in &outcome.branches {
            let there = Destination {
                branch: fetched.name.clone(),
                ..destination.clone()
            };
            let name = RefName::origin(origin, &there.branch).map_err(bad_name)?;
            let old = self.refs.get(&name)?;
            if fetched.refused.is_none()
                && !transfer.dry_run
                && let Err(error) = self.remember(&there, fetched.head)
            {
                skipped.push(cannot_be_kept(&there.branch, error)?);
                continue;
            }
            let lsn = self
                .commit(fetched.head)
                .map_or(neon_types::Lsn::INVALID, |commit| commit.position.lsn);
            let moved = volume(transfer, &fetched.planned, &fetched.arrived);
            rows.push(Transferred {
                branch: None,
                remote: there.to_string(),
                outcome: match (&fetched.refused, old == Some(fetched.head)) {
                    (Some(_), _) => REFUSED,
                    (None, true) => "up to date",
                    (None, false) => "fetched",
                }
                .to_owned(),
                old,
                new: fetched.head,
                lsn,
                bytes: moved.bytes,
                objects: moved.objects(),
                dry_run: transfer.dry_run,
                notes: fetched.refused.iter().cloned().collect(),
            });
        }
        tell_skipped(&skipped, origin, progress);
        Ok(rows)
    }

    /// Brings one branch, or all, from a URI.
    pub(crate) fn fetch_from(
        self: &Arc<Self>,
        uri: &str,
        branch: Option<&str>,
        dry_run: bool,
        password: Option<&Secret>,
        progress: &mut dyn ProgressSink,
    ) -> Result<FetchOutcome> {
        let (command, request) = match branch {
            Some(branch) => (
                Command::Pull {
                    branch: branch.to_owned(),
                    timeline: None::<TimelineId>,
                },
                FetchRequest::One {
                    branch: branch.to_owned(),
                    dry_run,
                },
            ),
            None => (Command::ListBranches, FetchRequest::All { dry_run }),
        };
        let sink: Arc<dyn Sink> = Arc::clone(self) as Arc<dyn Sink>;
        self.talk(uri, password, &command, progress, |channel, options| {
            perform_fetch(channel, sink, request, options)
        })
    }

    /// Brings the head of a branch there, when no transfer was needed otherwise.
    fn bring(
        self: &Arc<Self>,
        destination: &Destination,
        head: CommitId,
        transfer: &Transfer,
        progress: &mut dyn ProgressSink,
    ) -> Result<()> {
        if !self.objects.contains(head.0) {
            let branch = Some(destination.branch.as_str());
            self.fetch_from(
                &destination.uri,
                branch,
                false,
                transfer.password.as_ref(),
                progress,
            )?;
        }
        Ok(())
    }

    /// Dials an origin and leads a conversation, telling `progress` and watching whether anybody still waits for the result.
    pub(crate) fn talk<T, F>(
        self: &Arc<Self>,
        uri: &str,
        password: Option<&Secret>,
        command: &Command,
        progress: &mut dyn ProgressSink,
        conversation: impl FnOnce(Channel, neon_remotes::Options) -> F,
    ) -> Result<T>
    where
        F: Future<Output = std::result::Result<T, RemoteError>>,
    {
        let newest: Arc<Mutex<Option<neon_remotes::Progress>>> = Arc::default();
        let listener = Arc::clone(&newest);
        let options = neon_remotes::Options {
            progress: Some(Arc::new(move |report| {
                *listener.lock().unwrap_or_else(PoisonError::into_inner) = Some(report);
            })),
            ..neon_remotes::Options::default()
        };
        let uri = parse(uri)?;
        if let OriginUri::Server(address) = &uri
            && address.require_auth == RequireAuth::Nothing
        {
            progress.note(&format!(
                "warning: require_auth=none: {} need not prove who it is; whoever answers there gets what is sent and is believed",
                address.place()
            ));
        }
        self.runtime.block_on(async {
            let channel = self.connect(&uri, password, command).await?;
            let conversation = conversation(channel, options);
            tokio::pin!(conversation);
            loop {
                tokio::select! {
                    result = &mut conversation => return Ok(result?),
                    () = tokio::time::sleep(Duration::from_millis(100)) => {
                        if let Some(report) = newest.lock().unwrap_or_else(PoisonError::into_inner).take() {
                            progress.report(&Progress {
                                label: label(report.phase).into(),
                                done: report.bytes_done,
                                total: report.bytes_total,
                                unit: "bytes".into(),
                            });
                        }
                        if progress.cancelled() {
                            return Err(RepoError::Interrupted);
                        }
                    }
                }
            }
        })
    }

    async fn connect(
        self: &Arc<Self>,
        uri: &OriginUri,
        password: Option<&Secret>,
        command: &Command,
    ) -> Result<Channel> {
        match uri {
            OriginUri::Server(address) => {
                let options = self.caller.dial_options(password);
                Ok(dial_with(address, &command.to_string(), &options).await?)
            }
            OriginUri::Directory(path) => {
                // As somebody wrote it into config.toml, or as we did.
                let neon_dir = neon_dir_of(&self.directory().join(path))?;
                self.connect_to_neighbour(&neon_dir, command).await
            }
        }
    }

    /// Begins a conversation with a repository on this machine: with its daemon when one runs, else both halves are in this process, and the
    /// other repository is opened as any command would.
    async fn connect_to_neighbour(&self, neon_dir: &Path, command: &Command) -> Result<Channel> {
        let began = Instant::now();
        loop {
            let opened = self
                .options
                .neighbours
                .converse(neon_dir, command, &self.caller)
                .await;
            if let Some(channel) = opened.map_err(RepoError::Neighbour)? {
                return Ok(channel);
            }
            match self.open_neighbour(neon_dir).await {
                // Somebody has it: a daemon that begins or ends, or a command.
                Err(RepoError::Objects(ObjectsError::Locked { .. })) if began.elapsed() < NEIGHBOUR_WAIT => {}
                other => {
                    let other = other?;
                    if matches!(command, Command::Push { .. }) {
                        other.check_writable()?;
                    }
                    return Ok(talk_here(Arc::new(other), command.clone()));
                }
            }
        }
    }

    async fn open_neighbour(&self, neon_dir: &Path) -> Result<Repository> {
        let options = OpenOptions {
            takes_over: false,
            purpose: "transfer".into(),
            caller: Arc::clone(&self.caller),
            lock_wait: NEIGHBOUR_LOOK,
            ..self.options.clone()
        };
        let (neon_dir, runtime) = (neon_dir.to_owned(), self.runtime.clone());
        tokio::task::spawn_blocking(move || Repository::open(&neon_dir, options, &runtime))
            .await
            .map_err(|error| RepoError::refused(error.to_string(), "report this"))?
    }

    /// Reads a lone `cloud` as the origin when there is no branch of that name, and a lone address: `neon fetch cloud`, `neon push ../other`.
    fn with_origin(&self, transfer: &Transfer) -> Result<Transfer> {
        let mut transfer = transfer.clone();
        if let (Some(word), None) = (&transfer.branch, &transfer.target) {
            let name = word.split(':').next().unwrap_or(word);
            let is_origin = self.config()?.origins()?.contains_key(name) && self.head_of(word).is_err();
            if is_origin || is_address(word) {
                transfer.target = transfer.branch.take();
            }
        }
        Ok(transfer)
    }

    fn destination(&self, branch: &str, target: Option<&str>) -> Result<Destination> {
        let config = self.config()?;
        let upstream = config.upstream(branch)?;
        if let Some(address) = target.filter(|target| is_address(target)) {
            return self.at_address(address, branch);
        }
        let (origin, other) = match target {
            Some(target) => match target.split_once(':') {
                Some((origin, other)) => (origin.to_owned(), Some(other.to_owned())),
                None => (target.to_owned(), None),
            },
            None => match &upstream {
                Some(upstream) => (upstream.origin.clone(), None),
                None => match config.origins()?.keys().collect::<Vec<_>>().as_slice() {
                    // With one origin there is nothing to choose.
                    [only] => ((*only).clone(), None),
                    _ => return Err(RepoError::NoOrigin(branch.to_owned())),
                },
            },
        };
        let kept = upstream
            .filter(|upstream| upstream.origin == origin)
            .map(|upstream| upstream.branch);
        let uri = config.origin(&origin)?.uri;
        let branch = other.or(kept).unwrap_or_else(|| branch.to_owned());
        // Before anybody is asked: it could neither be made there nor remembered here.
        RefName::origin(&origin, &branch)
            .and_then(|name| name.check_new())
            .map_err(|error| RepoError::refused(error.to_string(), NAME_HINT))?;
        Ok(Destination {
            origin: Some(origin),
            uri,
            branch,
        })
    }

    /// Returns the branch of the same name in the repository at an address: the origin that is there, when one has a name.
    fn at_address(&self, address: &str, branch: &str) -> Result<Destination> {
        parse(address)?;
        RefName::branch(branch)
            .and_then(|name| name.check_new())
            .map_err(|error| RepoError::refused(error.to_string(), NAME_HINT))?;
        let uri = absolute(address, self.caller.directory());
        let place = hide_password(&uri);
        let known = self.config()?.origins()?.into_iter();
        Ok(Destination {
            origin: known
                .filter(|(_, origin)| hide_password(&origin.uri) == place)
                .map(|(name, _)| name)
                .next(),
            uri,
            branch: branch.to_owned(),
        })
    }

    /// Writes down where a branch of an origin is.
    fn remember(&self, destination: &Destination, commit: CommitId) -> Result<()> {
        let Some(origin) = &destination.origin else {
            return Ok(());
        };
        let name = RefName::origin(origin, &destination.branch).map_err(bad_name)?;
        if self.refs.get(&name)? == Some(commit) {
            return Ok(());
        }
        self.move_refs(
            &[RefEdit {
                name,
                expect: Expect::Any,
                new: Some(commit),
            }],
            "fetch",
        )
    }

    /// The first push and a clone set where a branch goes by default.
    fn set_first_upstream(&self, branch: &str, destination: &Destination) -> Result<()> {
        let mut config = self.config()?;
        let Some(origin) = &destination.origin else {
            return Ok(());
        };
        if config.upstream(branch)?.is_some() {
            return Ok(());
        }
        let upstream = Upstream {
            origin: origin.clone(),
            branch: destination.branch.clone(),
        };
        config.set_upstream(branch, Some(&upstream))?;
        Ok(config.save()?)
    }
}

/// Leads the other half of a conversation in this process.
fn talk_here(other: Arc<Repository>, command: Command) -> Channel {
    let (ours, theirs) = Channel::pair();
    tokio::spawn(async move {
        if let Err(error) = other
            .converse(command, theirs, neon_remotes::Options::default())
            .await
        {
            tracing::debug!(%error, "the other half ended");
        }
    });
    ours
}

/// Returns the `.neon/` of a repository on this machine.
fn neon_dir_of(path: &Path) -> Result<PathBuf> {
    let neon_dir = path.join(".neon");
    if neon_dir.join("config.toml").is_file() {
        return Ok(neon_dir);
    }
    Err(RepoError::NoRepository(path.to_owned()))
}

/// Checks that a URI is one, and that a repository is there when it is on this machine.
pub(crate) fn check_reachable(uri: &str) -> Result<()> {
    match parse(uri)? {
        OriginUri::Directory(path) => neon_dir_of(&path).map(|_| ()),
        OriginUri::Server(_) => Ok(()),
    }
}

fn parse(uri: &str) -> Result<OriginUri> {
    uri.parse()
        .map_err(|error: neon_remotes::uri::UriError| RepoError::refused(error.to_string(), error.hint()))
}

/// Returns why a branch that came is not remembered, unless that is a failure.
fn cannot_be_kept(branch: &str, error: RepoError) -> Result<Skipped> {
    match error {
        RepoError::Objects(ObjectsError::NamesCollide { existing, .. }) => Ok(Skipped {
            name: branch.to_owned(),
            why: format!("it cannot exist beside '{}'", existing.short()),
        }),
        other => Err(other),
    }
}

/// Tells of branches of an origin that are not kept here.
pub(crate) fn tell_skipped(skipped: &[Skipped], origin: &str, progress: &mut dyn ProgressSink) {
    for Skipped { name, why } in skipped {
        progress.note(&format!("skipped branch '{name}' of {origin}: {why}"));
    }
}

fn bad_name(error: neon_types::RefNameError) -> RepoError {
    RepoError::refused(
        error.to_string(),
        "the other repository has a branch whose name cannot be kept here",
    )
}

/// Says a divergence as the one who pulls sees it: the branch that was to move is here.
fn pull_refusal(error: RepoError, destination: &Destination, into: &str) -> RepoError {
    let RepoError::Remote(RemoteError::Refused(refusal)) = error else {
        return error;
    };
    let Refusal::Diverged { divergence, .. } = &*refusal else {
        return RepoError::Remote(RemoteError::Refused(refusal));
    };
    let count = |count: Option<u64>| match count {
        Some(count) => neon_types::counted(count, "transaction"),
        None => "an unknown number of transactions".to_owned(),
    };
    RepoError::refused(
        format!(
            "branch '{into}' has diverged from {destination}: since {} there are {} to {} here and {} to {} there",
            divergence.common.lsn,
            count(divergence.current_transactions),
            divergence.current,
            count(divergence.incoming_transactions),
            divergence.incoming,
        ),
        format!(
            "keep both: neon pull {into} --as NAME; or drop what is here since: neon pull {into} --force (the old head {} stays in \
             the reflog)",
            divergence.current.commit.short()
        ),
    )
}

fn volume<'a>(transfer: &Transfer, planned: &'a Volume, moved: &'a Volume) -> &'a Volume {
    if transfer.dry_run { planned } else { moved }
}

fn word(motion: Motion) -> &'static str {
    match motion {
        Motion::Stay => "up to date",
        Motion::Create => "created",
        Motion::Forward => "fast-forward",
        Motion::Recommit => "new commit at the same position",
        Motion::Back => "forced back",
        Motion::Replace => "forced",
    }
}

fn label(phase: Phase) -> &'static str {
    match phase {
        Phase::Negotiating => "comparing",
        Phase::Planning => "planning",
        Phase::Transferring => "transferring",
        Phase::Accepting => "taking in",
    }
}

/// Returns the absolute form of a path origin; other URIs as they are.
pub(crate) fn absolute(uri: &str, base: &std::path::Path) -> String {
    match uri.parse() {
        Ok(OriginUri::Directory(path)) => {
            let path: PathBuf = base.join(path);
            std::fs::canonicalize(&path)
                .unwrap_or(path)
                .to_string_lossy()
                .into_owned()
        }
        _ => uri.to_owned(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_address_is_no_name_of_an_origin() {
        for address in [
            "postgresql://ada@h/shop",
            "file:///srv/shop",
            "/srv/shop",
            "./shop",
            "../shop",
            "..",
            ".",
        ] {
            assert!(is_address(address), "{address}");
        }
        for name in ["cloud", "cloud:feature/x", "a.b", "..x"] {
            assert!(!is_address(name), "{name}");
        }
    }

    #[test]
    fn a_password_in_an_address_is_not_shown() {
        let there = Destination {
            origin: None,
            uri: "postgresql://ada:hunter2@h:1/shop".to_owned(),
            branch: "main".to_owned(),
        };
        assert_eq!(there.to_string(), "postgresql://ada@h:1/shop/main");
    }
}
