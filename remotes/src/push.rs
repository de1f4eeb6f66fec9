//! The client's half of a push.

use std::sync::Arc;

use neon_transport::Channel;
use neon_types::{CommitId, Position, RepoId};

use crate::decide::{Decision, Descent, Direction, Side, Situation, decide};
use crate::offer::Target;
use crate::send::Sending;
use crate::talk::Talk;
use crate::wire::{Flags, Hello, Message, Motion, Phase, Push, Settled, VERSION};
use crate::{LocalError, Options, Refusal, RemoteError, Source, Volume, history};

/// What is to be pushed where.
#[derive(Clone, Debug)]
pub struct PushRequest {
    /// Name of the branch there: the one of the command that the channel was dialled with.
    pub branch: String,
    /// Our head: the branch's endpoint has been asked for its last word before.
    pub head: CommitId,
    /// Move the branch even if something is dropped.
    pub force: bool,
    /// Stop after the plan.
    pub dry_run: bool,
}

/// How a push went.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct PushOutcome {
    /// What happened to the branch there; of a dry run, what would.
    pub motion: Motion,
    /// Where the branch was.
    pub before: Option<CommitId>,
    /// Where it is now: what `refs/origins/<origin>/<branch>` should say, none after a dry run that would create it.
    pub head: Option<CommitId>,
    /// Who the other repository is.
    pub peer: RepoId,
    /// Everything that the plan names, what was already there included; of a dry run an estimate.
    pub planned: Volume,
    /// What was sent; `bytes` before compression.
    pub sent: Volume,
    /// Bytes of all our messages.
    pub wire_sent: u64,
    /// Bytes of all their messages.
    pub wire_received: u64,
}

/// Pushes over a channel that was dialled with [`crate::Command::Push`].
///
/// Nothing changes here. Dropping the future leaves the branch there moved or not moved, never half; what has arrived whole stays
/// there for the next attempt.
pub async fn perform_push(
    channel: Channel,
    source: Arc<dyn Source>,
    request: PushRequest,
    options: Options,
) -> Result<PushOutcome, RemoteError> {
    let mut talk = Talk::new(channel, options);
    let result = push(&mut talk, source, &request).await;
    talk.conclude(result).await
}

async fn push(
    talk: &mut Talk,
    source: Arc<dyn Source>,
    request: &PushRequest,
) -> Result<PushOutcome, RemoteError> {
    let hello = hear_hello(talk).await?;
    let Hello {
        identity,
        tip,
        holdings,
        ..
    } = hello;
    let current = tip
        .as_ref()
        .map(|tip| Target::open(tip.commit, &tip.bytes))
        .transpose()?;
    let (target, bytes, descent, ours) = {
        let (source, head, there) = (Arc::clone(&source), request.head, current.clone());
        talk.ask(move || look(source.as_ref(), head, there.as_ref()))
            .await?
    };
    let mut outcome = PushOutcome {
        motion: Motion::Stay,
        before: current.as_ref().map(|current| current.id),
        head: current.as_ref().map(|current| current.id),
        peer: identity.repository,
        planned: Volume::default(),
        sent: Volume::default(),
        wire_sent: 0,
        wire_received: 0,
    };
    let decision = decide(&Situation {
        direction: Direction::Push,
        branch: &request.branch,
        incoming: side(&target),
        current: current.as_ref().map(side),
        roots_there: &identity.roots,
        running: tip.as_ref().is_some_and(|tip| tip.running),
        force: request.force,
        descent,
    });
    outcome.motion = match decision {
        Decision::Nothing => return Ok(counted(talk, outcome)),
        Decision::Refuse(refusal) => return Err(count_both(talk, source, &target, refusal).await?.into()),
        Decision::Move(motion) => motion,
    };

    // The hello tells what is held of the branch's own path; another path has to be asked for.
    let known = current.as_ref().is_some_and(|current| {
        target
            .commit
            .path
            .iter()
            .all(|step| current.commit.path.contains(step))
    });
    let empty = identity.roots.is_empty();
    let ask = holdings.is_none() || !(known || empty);
    talk.say(&Message::Push(Push {
        version: VERSION,
        flags: Flags {
            force: request.force,
            dry_run: request.dry_run,
            extra: ask,
        },
        repository: ours,
        commit: bytes,
    }))
    .await?;
    let holdings = match holdings {
        Some(holdings) if !ask => holdings,
        _ => match talk.expect().await? {
            Message::Holdings(holdings) => holdings,
            other => return Err(talk.unexpected(&other)),
        },
    };

    let mut sending = Sending::new(source, target, &holdings);
    (outcome.planned, outcome.sent) = sending.send(talk, holdings, request.dry_run).await?;
    talk.enter(Phase::Accepting);
    let (again, last) = sending.hear(talk).await?;
    outcome.sent.add_all(&again);
    match last {
        Message::Settled(Settled { motion, head }) => {
            outcome.motion = motion;
            outcome.head = head;
            Ok(counted(talk, outcome))
        }
        other => Err(talk.unexpected(&other)),
    }
}

/// Reads our head, and how it stands to theirs by its parents.
type Look = (Target, Vec<u8>, Descent, RepoId);
fn look(source: &dyn Source, head: CommitId, there: Option<&Target>) -> Result<Look, LocalError> {
    if let Some(there) = there {
        source.check_claims(&there.commit)?;
    }
    let bytes = source
        .commit(head)?
        .ok_or_else(|| LocalError::Missing(format!("commit {head}")))?;
    let target = Target {
        id: head,
        commit: Arc::new(history::open(head, &bytes)?),
    };
    let descent = match there {
        Some(there) if history::descends(source, head, there.id)? => Descent::Yes,
        _ => Descent::No,
    };
    Ok((target, bytes, descent, source.identity()?.repository))
}

pub(crate) fn side(target: &Target) -> Side<'_> {
    Side {
        commit: target.id,
        content: &target.commit,
    }
}

fn counted(talk: &Talk, mut outcome: PushOutcome) -> PushOutcome {
    (outcome.wire_sent, outcome.wire_received) = talk.traffic();
    outcome
}

/// Hears a hello of a server that speaks our version.
pub(crate) async fn hear_hello(talk: &mut Talk) -> Result<Hello, RemoteError> {
    match talk.expect().await? {
        Message::Hello(hello) if (hello.min..=hello.max).contains(&VERSION) => Ok(*hello),
        Message::Hello(hello) => Err(RemoteError::Version {
            min: hello.min,
            max: hello.max,
            ours: VERSION,
        }),
        other => Err(talk.unexpected(&other)),
    }
}

/// Adds to a refusal for divergence how many transactions each side has of its own.
async fn count_both(
    talk: &mut Talk,
    source: Arc<dyn Source>,
    target: &Target,
    mut refusal: Refusal,
) -> Result<Refusal, RemoteError> {
    if let Refusal::Diverged { divergence, .. } = &mut refusal {
        let common = divergence.common;
        let (commit, current) = (Arc::clone(&target.commit), divergence.current.commit);
        divergence.incoming_transactions = talk
            .work(move |meter| Ok(source.transactions(&commit.path, commit.position.lsn, common, meter)?))
            .await?;
        divergence.current_transactions = count_there(talk, current, common).await?;
    }
    Ok(refusal)
}

/// Asks the server how many transactions lead from `since` to a head of its own.
pub(crate) async fn count_there(
    talk: &mut Talk,
    commit: CommitId,
    since: Position,
) -> Result<Option<u64>, RemoteError> {
    talk.say(&Message::Count { commit, since }).await?;
    match talk.expect().await? {
        Message::Counted(count) => Ok(count),
        other => Err(talk.unexpected(&other)),
    }
}
