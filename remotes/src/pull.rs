//! The client's half of a pull and of a fetch; a clone is a fetch into an empty repository.

use std::collections::HashMap;
use std::sync::Arc;

use neon_transport::Channel;
use neon_types::{CommitId, RepoId};

use crate::decide::{Decision, Descent, Direction, Situation, decide};
use crate::offer::{self, Target};
use crate::push::{count_there, hear_hello, side};
use crate::receive::{Received, accept, receive};
use crate::talk::Talk;
use crate::wire::{Flags, Hello, Listed, Message, Motion, Pull, VERSION};
use crate::{
    BranchMove, Identity, LocalError, Options, Refusal, RemoteError, Sink, Skipped, Volume, history, names,
};

/// What is to be pulled where.
#[derive(Clone, Debug)]
pub struct PullRequest {
    /// Name of the branch there: the one of the command that the channel was dialled with.
    pub branch: String,
    /// Name of our branch that is to follow it; made if it does not exist.
    pub into: String,
    /// Move our branch even if something of ours is dropped from it.
    pub force: bool,
    /// Stop after the plan.
    pub dry_run: bool,
}

/// How a pull went.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct PullOutcome {
    /// What happened to our branch; of a dry run, what would.
    pub motion: Motion,
    /// Where our branch was.
    pub before: Option<CommitId>,
    /// Where our branch is now, none after a dry run that would create it.
    pub head: Option<CommitId>,
    /// Where the branch there is: what `refs/origins/<origin>/<branch>` should say, unless `dry_run`.
    pub theirs: CommitId,
    /// Who the other repository is.
    pub peer: RepoId,
    /// Everything that the plan names, what was already here included; of a dry run an estimate.
    pub planned: Volume,
    /// What arrived; `bytes` before compression.
    pub arrived: Volume,
    /// Bytes of all our messages.
    pub wire_sent: u64,
    /// Bytes of all their messages.
    pub wire_received: u64,
}

/// Which branches a fetch brings.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum FetchRequest {
    /// All; the channel was dialled with [`crate::Command::ListBranches`].
    All {
        /// Stop after the plans.
        dry_run: bool,
    },
    /// One; the channel was dialled with [`crate::Command::Pull`] for it.
    One {
        /// Its name.
        branch: String,
        /// Stop after the plan.
        dry_run: bool,
    },
}

/// A branch that a fetch brought, or found here.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct FetchedBranch {
    /// Its name there.
    pub name: String,
    /// Its head there: what `refs/origins/<origin>/<branch>` should say.
    pub head: CommitId,
    /// What the plan named.
    pub planned: Volume,
    /// What arrived; nothing when the head was readable here.
    pub arrived: Volume,
    /// Why it was not taken in, if it was not: `head` is not here then.
    pub refused: Option<String>,
}

impl FetchedBranch {
    /// Returns a branch of which nothing had to come.
    fn here(name: String, head: CommitId) -> FetchedBranch {
        FetchedBranch {
            name,
            head,
            planned: Volume::default(),
            arrived: Volume::default(),
            refused: None,
        }
    }
}

/// How a fetch went. No ref has moved: the caller writes the remote-tracking refs, and of a clone the branches.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct FetchOutcome {
    /// Who the other repository is, with the branch that its HEAD names.
    pub peer: Identity,
    /// The branches, by name.
    pub branches: Vec<FetchedBranch>,
    /// Branches there whose names cannot be kept here.
    pub skipped: Vec<Skipped>,
    /// Bytes of all our messages.
    pub wire_sent: u64,
    /// Bytes of all their messages.
    pub wire_received: u64,
}

impl FetchOutcome {
    /// Returns the branch that a clone starts on: `wanted`, else the one that HEAD there names, `main`, or the first.
    pub fn default_branch(&self, wanted: Option<&str>) -> Result<&FetchedBranch, Refusal> {
        let named = |name: &str| self.branches.iter().find(|branch| branch.name == name);
        let found = match (wanted, &self.peer.head) {
            (Some(wanted), _) => named(wanted),
            (None, head) => head
                .as_deref()
                .and_then(named)
                .or_else(|| named("main"))
                .or(self.branches.first()),
        };
        found.ok_or_else(|| Refusal::NoBranch {
            branch: wanted.or(self.peer.head.as_deref()).unwrap_or("main").to_owned(),
        })
    }
}

/// Pulls over a channel that was dialled with [`crate::Command::Pull`].
///
/// Dropping the future leaves our branch moved or not moved, never half; what has arrived whole stays for the next attempt.
pub async fn perform_pull(
    channel: Channel,
    sink: Arc<dyn Sink>,
    request: PullRequest,
    options: Options,
) -> Result<PullOutcome, RemoteError> {
    let mut talk = Talk::new(channel, options);
    let result = pull(&mut talk, sink, &request).await;
    talk.conclude(result).await
}

/// Fetches over a channel that was dialled with the command that [`FetchRequest`] names.
pub async fn perform_fetch(
    channel: Channel,
    sink: Arc<dyn Sink>,
    request: FetchRequest,
    options: Options,
) -> Result<FetchOutcome, RemoteError> {
    let mut talk = Talk::new(channel, options);
    let result = fetch(&mut talk, sink, &request).await;
    talk.conclude(result).await
}

async fn pull(
    talk: &mut Talk,
    sink: Arc<dyn Sink>,
    request: &PullRequest,
) -> Result<PullOutcome, RemoteError> {
    let hello = hear_hello(talk).await?;
    let theirs = tip_of(&hello, &request.branch)?;
    check_claims(talk, &sink, &theirs).await?;
    let ours = {
        let (sink, into) = (Arc::clone(&sink), request.into.clone());
        talk.work(move |_| our_branch(sink.as_ref(), &into)).await?
    };
    let identity = {
        let sink = Arc::clone(&sink);
        talk.ask(move || sink.identity()).await?
    };
    let current = ours.as_ref().map(|(target, _)| target);
    let mut outcome = PullOutcome {
        motion: Motion::Stay,
        before: current.map(|current| current.id),
        head: current.map(|current| current.id),
        theirs: theirs.id,
        peer: hello.identity.repository,
        planned: Volume::default(),
        arrived: Volume::default(),
        wire_sent: 0,
        wire_received: 0,
    };
    let decision = decide(&Situation {
        direction: Direction::Pull,
        branch: &request.into,
        incoming: side(&theirs),
        current: current.map(side),
        roots_there: &identity.roots,
        running: ours.as_ref().is_some_and(|(_, running)| *running),
        force: request.force,
        descent: Descent::Unknown,
    });
    match decision {
        Decision::Nothing => {}
        Decision::Refuse(mut refusal) => {
            if let (Refusal::Diverged { divergence, .. }, Some(current)) = (&mut refusal, current) {
                let common = divergence.common;
                divergence.incoming_transactions = count_there(talk, theirs.id, common).await?;
                let commit = Arc::clone(&current.commit);
                divergence.current_transactions = talk
                    .work(move |meter| {
                        Ok(sink.transactions(&commit.path, commit.position.lsn, common, meter)?)
                    })
                    .await?;
            }
            return Err(refusal.into());
        }
        Decision::Move(motion) => {
            let received = download(talk, &sink, &theirs, identity.repository, request.dry_run).await?;
            (outcome.planned, outcome.arrived) = (received.offered(), received.arrived);
            outcome.motion = motion;
            if !request.dry_run {
                accept(talk, &sink, &theirs, received).await?;
                let step = BranchMove {
                    branch: request.into.clone(),
                    expect: outcome.before,
                    new: theirs.id,
                    direction: Direction::Pull,
                    force: request.force,
                    who: talk.options.who.clone(),
                };
                outcome.motion = talk
                    .work(move |_| move_branch(sink.as_ref(), &step, motion, || Ok(())))
                    .await?;
                if outcome.motion != Motion::Stay {
                    outcome.head = Some(theirs.id);
                }
            }
        }
    }
    (outcome.wire_sent, outcome.wire_received) = talk.traffic();
    Ok(outcome)
}

/// Moves a branch as decided; at an equal position only now is it known whether the commits descend. `last_look` is asked right before.
pub(crate) fn move_branch(
    sink: &dyn Sink,
    step: &BranchMove,
    motion: Motion,
    last_look: impl FnOnce() -> Result<(), LocalError>,
) -> Result<Motion, RemoteError> {
    if let (Motion::Recommit, Some(current)) = (motion, step.expect)
        && !history::descends(sink, step.new, current)?
    {
        return Ok(Motion::Stay);
    }
    last_look()?;
    sink.move_branch(step)?;
    Ok(motion)
}

async fn fetch(
    talk: &mut Talk,
    sink: Arc<dyn Sink>,
    request: &FetchRequest,
) -> Result<FetchOutcome, RemoteError> {
    let hello = hear_hello(talk).await?;
    let ours = {
        let sink = Arc::clone(&sink);
        talk.ask(move || sink.identity()).await?
    };
    let mut outcome = FetchOutcome {
        peer: hello.identity.clone(),
        branches: Vec::new(),
        skipped: Vec::new(),
        wire_sent: 0,
        wire_received: 0,
    };
    match request {
        FetchRequest::One { branch, dry_run } => {
            let target = tip_of(&hello, branch)?;
            outcome
                .branches
                .push(fetch_one(talk, &sink, branch, &target, &ours, *dry_run).await?);
        }
        FetchRequest::All { dry_run } => {
            let listed = match talk.expect().await? {
                Message::Branches(listed) => listed,
                other => return Err(talk.unexpected(&other)),
            };
            let (listed, skipped) = names::part(listed);
            outcome.skipped = skipped;
            outcome.branches = fetch_all(talk, &sink, listed, &ours, *dry_run).await?;
        }
    }
    (outcome.wire_sent, outcome.wire_received) = talk.traffic();
    Ok(outcome)
}

async fn fetch_all(
    talk: &mut Talk,
    sink: &Arc<dyn Sink>,
    listed: Vec<Listed>,
    ours: &Identity,
    dry_run: bool,
) -> Result<Vec<FetchedBranch>, RemoteError> {
    let mut branches = Vec::with_capacity(listed.len());
    let mut fetched: HashMap<CommitId, Volume> = HashMap::new();
    for Listed { name, head, .. } in listed {
        let here = {
            let sink = Arc::clone(sink);
            talk.work(move |_| is_readable(sink.as_ref(), head)).await?
        };
        if here || fetched.contains_key(&head) {
            branches.push(FetchedBranch::here(name, head));
            continue;
        }
        talk.say(&Message::LookUp(name.clone())).await?;
        let target = match talk.expect().await? {
            Message::Tip(Some(tip)) => Target::open(tip.commit, &tip.bytes)?,
            // Deleted since the list was made.
            Message::Tip(None) => continue,
            other => return Err(talk.unexpected(&other)),
        };
        let branch = fetch_one(talk, sink, &name, &target, ours, dry_run).await?;
        if branch.refused.is_none() {
            fetched.insert(branch.head, branch.arrived);
        }
        branches.push(branch);
    }
    Ok(branches)
}

/// Brings one branch. What of it is refused here says so, and the conversation goes on.
async fn fetch_one(
    talk: &mut Talk,
    sink: &Arc<dyn Sink>,
    name: &str,
    target: &Target,
    ours: &Identity,
    dry_run: bool,
) -> Result<FetchedBranch, RemoteError> {
    let mut branch = FetchedBranch::here(name.to_owned(), target.id);
    let decision = decide(&Situation {
        direction: Direction::Pull,
        branch: name,
        incoming: side(target),
        current: None,
        roots_there: &ours.roots,
        running: false,
        force: false,
        descent: Descent::Unknown,
    });
    if let Decision::Refuse(refusal) = decision {
        return Err(refusal.into());
    }
    match check_claims(talk, sink, target).await {
        Err(RemoteError::Refused(refusal)) => {
            branch.refused = Some(refusal.to_string());
            return Ok(branch);
        }
        result => result?,
    }
    let here = {
        let (sink, id) = (Arc::clone(sink), target.id);
        talk.work(move |_| is_readable(sink.as_ref(), id)).await?
    };
    if here {
        return Ok(branch);
    }
    let received = download(talk, sink, target, ours.repository, dry_run).await?;
    (branch.planned, branch.arrived) = (received.offered(), received.arrived);
    if !dry_run {
        match accept(talk, sink, target, received).await {
            Err(RemoteError::Refused(refusal)) => branch.refused = Some(refusal.to_string()),
            result => result?,
        }
    }
    Ok(branch)
}

async fn check_claims(talk: &mut Talk, sink: &Arc<dyn Sink>, target: &Target) -> Result<(), RemoteError> {
    let (sink, commit) = (Arc::clone(sink), Arc::clone(&target.commit));
    talk.ask(move || sink.check_claims(&commit)).await
}

/// Asks for a head and stages everything that it needs.
async fn download(
    talk: &mut Talk,
    sink: &Arc<dyn Sink>,
    target: &Target,
    ours: RepoId,
    dry_run: bool,
) -> Result<Received, RemoteError> {
    let holdings = {
        let (sink, target) = (Arc::clone(sink), target.clone());
        talk.ask(move || offer::holdings(sink.as_ref(), Some(&target.commit.path)))
            .await?
    };
    talk.say(&Message::Pull(Pull {
        version: VERSION,
        flags: Flags {
            dry_run,
            ..Flags::default()
        },
        repository: ours,
        target: target.id,
    }))
    .await?;
    talk.say(&Message::Holdings(holdings)).await?;
    receive(talk, sink, target, dry_run).await
}

/// Returns true when the commit is here and its position can be read.
fn is_readable(sink: &dyn Sink, head: CommitId) -> Result<bool, RemoteError> {
    let Some((commit, _)) = history::read(sink, head)? else {
        return Ok(false);
    };
    Ok(sink
        .possession(&commit.path, commit.position.lsn)?
        .reads(commit.position))
}

fn our_branch(sink: &dyn Sink, name: &str) -> Result<Option<(Target, bool)>, RemoteError> {
    let Some(branch) = sink.branch(name, true)? else {
        return Ok(None);
    };
    let Some((commit, _)) = history::read(sink, branch.head)? else {
        return Err(
            crate::LocalError::Missing(format!("commit {}, the head of '{name}',", branch.head)).into(),
        );
    };
    let target = Target {
        id: branch.head,
        commit: Arc::new(commit),
    };
    Ok(Some((target, branch.running)))
}

fn tip_of(hello: &Hello, branch: &str) -> Result<Target, RemoteError> {
    match &hello.tip {
        Some(tip) => Target::open(tip.commit, &tip.bytes),
        None => Err(Refusal::NoBranch {
            branch: branch.to_owned(),
        }
        .into()),
    }
}
