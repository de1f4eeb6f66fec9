//! The server's halves: `branch_push` receives, `branch_pull` and `list_branches` send.

use std::collections::HashSet;
use std::sync::Arc;

use neon_transport::Channel;
use neon_types::{CommitId, Position, RepoId, TimelineId};

use crate::decide::{Decision, Descent, Direction, Situation, decide};
use crate::offer::{self, Target};
use crate::pull::move_branch;
use crate::push::side;
use crate::receive::{accept, receive};
use crate::send::Sending;
use crate::talk::Talk;
use crate::wire::{
    Hello, Holdings, Listed, MAX_BRANCHES, Message, Motion, OLDEST_VERSION, Phase, Push, Settled, Tip,
    VERSION,
};
use crate::{
    BranchMove, Catalog, Command, Identity, LocalError, Options, RemoteError, Sink, Source, Volume, history,
    objects,
};

/// What a served conversation came to, for the server's log.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Served {
    /// The other repository, if it said who it is.
    pub peer: Option<RepoId>,
    /// Of a push: what happened to the branch.
    pub motion: Option<Motion>,
    /// What was sent or received.
    pub volume: Volume,
}

/// Serves one conversation: parses the command and leads it to its end.
pub async fn serve(
    command: &str,
    channel: Channel,
    source: Arc<dyn Source>,
    sink: Arc<dyn Sink>,
    options: Options,
) -> Result<Served, RemoteError> {
    match command.parse::<Command>() {
        Ok(Command::Push { branch, timeline }) => serve_push(channel, sink, branch, timeline, options).await,
        Ok(Command::Pull { branch, .. }) => {
            serve_reads(channel, source, Reads::Branch(branch), options).await
        }
        Ok(Command::ListBranches) => serve_reads(channel, source, Reads::Branches, options).await,
        Ok(Command::FetchObjects) => serve_reads(channel, source, Reads::Objects, options).await,
        Err(error) => Talk::new(channel, options).conclude(Err(error)).await,
    }
}

/// Serves `branch_push BRANCH TIMELINE`.
///
/// Dropping the future leaves the branch moved or not moved, never half.
pub async fn serve_push(
    channel: Channel,
    sink: Arc<dyn Sink>,
    branch: String,
    timeline: TimelineId,
    options: Options,
) -> Result<Served, RemoteError> {
    let mut talk = Talk::new(channel, options);
    let result = push(&mut talk, sink, branch, timeline).await;
    talk.conclude(result).await
}

/// What a conversation that only reads begins with.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Reads {
    /// `branch_pull BRANCH TIMELINE`
    Branch(String),
    /// `list_branches`
    Branches,
    /// `fetch_objects`
    Objects,
}

/// Serves the commands that only read. Any number of look-ups, pulls and wants may follow.
pub async fn serve_reads(
    channel: Channel,
    source: Arc<dyn Source>,
    begin: Reads,
    options: Options,
) -> Result<Served, RemoteError> {
    let mut talk = Talk::new(channel, options);
    let result = reads(&mut talk, source, begin).await;
    talk.conclude(result).await
}

async fn push(
    talk: &mut Talk,
    sink: Arc<dyn Sink>,
    branch: String,
    timeline: TimelineId,
) -> Result<Served, RemoteError> {
    let mut served = Served::default();
    let (identity, tip, holdings) = {
        let (sink, branch) = (Arc::clone(&sink), branch.clone());
        talk.work(move |_| receiving_side(sink.as_ref(), &branch)).await?
    };
    let current = tip
        .as_ref()
        .map(|tip| Target::open(tip.commit, &tip.bytes))
        .transpose()?;
    let running = tip.as_ref().is_some_and(|tip| tip.running);
    say_hello(talk, &identity, tip, Some(holdings)).await?;

    let push = loop {
        match talk.hear().await? {
            None => return Ok(served),
            Some(Message::Count { commit, since }) => {
                let ours = current.as_ref().filter(|current| current.id == commit);
                let count = match ours {
                    Some(ours) => count(talk, Arc::clone(&sink), ours.clone(), since).await?,
                    None => None,
                };
                talk.say(&Message::Counted(count)).await?;
            }
            Some(Message::Push(push)) => break push,
            Some(other) => return Err(talk.unexpected(&other)),
        }
    };
    let Push {
        version,
        flags,
        repository,
        commit,
    } = push;
    check_version(version)?;
    served.peer = Some(repository);
    let id = CommitId(neon_types::ObjectId::from_bytes(
        *blake3::hash(&commit).as_bytes(),
    ));
    let target = Target::open(id, &commit)?;
    if target.commit.position.timeline != timeline {
        return Err(RemoteError::Protocol(
            "a push of another timeline than the command names".to_owned(),
        ));
    }
    {
        let (sink, commit) = (Arc::clone(&sink), Arc::clone(&target.commit));
        talk.ask(move || sink.check_claims(&commit)).await?;
    }
    let decision = decide(&Situation {
        direction: Direction::Push,
        branch: &branch,
        incoming: side(&target),
        current: current.as_ref().map(side),
        roots_there: &identity.roots,
        running,
        force: flags.force,
        descent: Descent::Unknown,
    });
    let motion = match decision {
        Decision::Refuse(refusal) => return Err(refusal.into()),
        // Nothing moves, but the conversation goes its way.
        Decision::Nothing => Motion::Stay,
        Decision::Move(motion) => motion,
    };
    if flags.extra {
        let (ours, path) = (Arc::clone(&sink), target.commit.path.clone());
        let holdings = talk
            .ask(move || offer::holdings(ours.as_ref(), Some(&path)))
            .await?;
        talk.say(&Message::Holdings(holdings)).await?;
    }
    let received = receive(talk, &sink, &target, flags.dry_run).await?;
    let arrived = received.arrived;
    served.volume = arrived;
    if !flags.dry_run {
        accept(talk, &sink, &target, received).await?;
    }
    let before = current.map(|current| current.id);
    let motion = if flags.dry_run || motion == Motion::Stay {
        motion
    } else {
        talk.enter(Phase::Accepting);
        let step = BranchMove {
            branch,
            expect: before,
            new: id,
            direction: Direction::Push,
            force: flags.force,
            who: talk.options.who.clone(),
        };
        let gate = talk.options.gate.clone();
        talk.work(move |_| {
            let last_look = || gate.map_or(Ok(()), |gate| gate.moves(&step, &arrived));
            move_branch(sink.as_ref(), &step, motion, last_look)
        })
        .await?
    };
    served.motion = Some(motion);
    let head = if flags.dry_run || motion == Motion::Stay {
        before
    } else {
        Some(id)
    };
    talk.say(&Message::Settled(Settled { motion, head })).await?;
    Ok(served)
}

fn check_version(version: u16) -> Result<(), RemoteError> {
    if (OLDEST_VERSION..=VERSION).contains(&version) {
        Ok(())
    } else {
        Err(RemoteError::Version {
            min: version,
            max: version,
            ours: VERSION,
        })
    }
}

fn receiving_side(sink: &dyn Sink, branch: &str) -> Result<(Identity, Option<Tip>, Holdings), RemoteError> {
    let tip = tip(sink, branch, true)?;
    let path = tip
        .as_ref()
        .map(|tip| Target::open(tip.commit, &tip.bytes))
        .transpose()?;
    let holdings = offer::holdings(sink, path.as_ref().map(|target| target.commit.path.as_slice()))?;
    Ok((sink.identity()?, tip, holdings))
}

fn tip<C: Catalog + ?Sized>(catalog: &C, branch: &str, receiving: bool) -> Result<Option<Tip>, LocalError> {
    let Some(branch) = catalog.branch(branch, receiving)? else {
        return Ok(None);
    };
    match catalog.commit(branch.head)? {
        Some(bytes) => Ok(Some(Tip {
            commit: branch.head,
            running: branch.running,
            bytes,
        })),
        None => Err(LocalError::Missing(format!("commit {}", branch.head))),
    }
}

async fn say_hello(
    talk: &mut Talk,
    identity: &Identity,
    tip: Option<Tip>,
    holdings: Option<Holdings>,
) -> Result<(), RemoteError> {
    let hello = Hello {
        min: OLDEST_VERSION,
        max: VERSION,
        identity: identity.clone(),
        tip,
        holdings,
    };
    talk.say(&Message::Hello(Box::new(hello))).await
}

async fn count<C: Catalog + ?Sized + 'static>(
    talk: &mut Talk,
    catalog: Arc<C>,
    target: Target,
    since: Position,
) -> Result<Option<u64>, RemoteError> {
    talk.work(move |meter| {
        let commit = &target.commit;
        if !commit.line().passes(&since) {
            return Ok(None);
        }
        Ok(catalog.transactions(&commit.path, commit.position.lsn, since, meter)?)
    })
    .await
}

async fn reads(talk: &mut Talk, source: Arc<dyn Source>, begin: Reads) -> Result<Served, RemoteError> {
    let mut served = Served::default();
    // Only heads that were named may be asked for: a commit id alone opens nothing.
    let mut named: HashSet<CommitId> = HashSet::new();
    let (identity, first, listed) = {
        let source = Arc::clone(&source);
        talk.ask(move || {
            let first = match &begin {
                Reads::Branch(name) => tip(source.as_ref(), name, false)?,
                Reads::Branches | Reads::Objects => None,
            };
            let listed = match begin {
                Reads::Branches => Some(list(source.as_ref())?),
                Reads::Branch(_) | Reads::Objects => None,
            };
            Ok((source.identity()?, first, listed))
        })
        .await?
    };
    named.extend(first.as_ref().map(|tip| tip.commit));
    say_hello(talk, &identity, first, None).await?;
    if let Some(listed) = listed {
        named.extend(listed.iter().map(|listed| listed.head));
        talk.say(&Message::Branches(listed)).await?;
    }
    let mut sending: Option<Sending> = None;
    loop {
        talk.enter(Phase::Negotiating);
        match talk.hear().await? {
            None => return Ok(served),
            Some(Message::LookUp(name)) => {
                let source = Arc::clone(&source);
                let tip = talk.ask(move || tip(source.as_ref(), &name, false)).await?;
                named.extend(tip.as_ref().map(|tip| tip.commit));
                talk.say(&Message::Tip(tip)).await?;
            }
            Some(Message::ListBranches) => {
                let source = Arc::clone(&source);
                let listed = talk.ask(move || list(source.as_ref())).await?;
                named.extend(listed.iter().map(|listed| listed.head));
                talk.say(&Message::Branches(listed)).await?;
            }
            Some(Message::Count { commit, since }) if named.contains(&commit) => {
                let target = read_target(talk, &source, commit).await?;
                let count = count(talk, Arc::clone(&source), target, since).await?;
                talk.say(&Message::Counted(count)).await?;
            }
            Some(Message::Pull(pull)) if named.contains(&pull.target) => {
                check_version(pull.version)?;
                served.peer = Some(pull.repository);
                let holdings = match talk.expect().await? {
                    Message::Holdings(holdings) => holdings,
                    other => return Err(talk.unexpected(&other)),
                };
                let target = read_target(talk, &source, pull.target).await?;
                let mut next = Sending::new(Arc::clone(&source), target, &holdings);
                let (_, sent) = next.send(talk, holdings, pull.flags.dry_run).await?;
                served.volume.add_all(&sent);
                sending = Some(next);
            }
            Some(Message::Want(want)) => {
                check_version(want.version)?;
                served.peer = Some(want.repository);
                let sent = objects::answer(talk, Arc::clone(&source), want.objects).await?;
                served.volume.add_all(&sent);
            }
            Some(other) => match &mut sending {
                Some(sending) => match sending.answer(talk, other).await? {
                    Ok(sent) => served.volume.add_all(&sent),
                    Err(other) => return Err(talk.unexpected(&other)),
                },
                None => return Err(talk.unexpected(&other)),
            },
        }
    }
}

fn list(source: &dyn Source) -> Result<Vec<Listed>, LocalError> {
    let mut listed: Vec<Listed> = source
        .branches()?
        .into_iter()
        .map(|(name, branch)| Listed {
            name,
            head: branch.head,
            running: branch.running,
        })
        .collect();
    listed.sort_by(|a, b| a.name.cmp(&b.name));
    listed.truncate(MAX_BRANCHES);
    Ok(listed)
}

async fn read_target(talk: &mut Talk, source: &Arc<dyn Source>, id: CommitId) -> Result<Target, RemoteError> {
    let source = Arc::clone(source);
    talk.ask(move || match history::read(source.as_ref(), id)? {
        Some((commit, _)) => Ok(Target {
            id,
            commit: Arc::new(commit),
        }),
        None => Err(LocalError::Missing(format!("commit {id}"))),
    })
    .await
}
