//! Both halves against each other, over channels that can be cut and tampered with, between two real little repositories.

#![expect(missing_docs, reason = "names of tests say it")]

mod cuts;
mod disk;
mod gate;
mod hostile;
mod network;
mod objects;
mod relay;
mod repo;
mod rows;

use std::sync::Arc;
use std::time::Duration;

use neon_remotes::*;
use neon_transport::Channel;
use repo::Repo;

/// Patient enough for a busy machine, quick enough to find a conversation that hangs.
pub fn options() -> Options {
    Options {
        idle: Duration::from_secs(20),
        beat: Duration::from_secs(2),
        ..Options::default()
    }
}

/// What a push is asked to do.
#[derive(Clone, Copy, Default)]
pub struct How {
    pub force: bool,
    pub dry_run: bool,
}

type Both<T> = (Result<T, RemoteError>, Result<Served, RemoteError>);

/// Pushes `branch` of one repository to `other` of another.
pub async fn push_over(
    channels: (Channel, Channel),
    from: &Arc<Repo>,
    branch: &str,
    to: &Arc<Repo>,
    other: &str,
    how: How,
) -> Both<PushOutcome> {
    push_through(channels, from, branch, to, other, how, options()).await
}

/// The same with a server that has options of its own.
pub async fn push_through(
    (client, server): (Channel, Channel),
    from: &Arc<Repo>,
    branch: &str,
    to: &Arc<Repo>,
    other: &str,
    how: How,
    theirs: Options,
) -> Both<PushOutcome> {
    let head = from.head(branch);
    let timeline = from.content(head).position.timeline;
    let command = Command::Push {
        branch: other.to_owned(),
        timeline,
    }
    .to_string();
    let there = Arc::clone(to);
    let served = tokio::spawn(async move { serve(&command, server, there.clone(), there, theirs).await });
    let request = PushRequest {
        branch: other.to_owned(),
        head,
        force: how.force,
        dry_run: how.dry_run,
    };
    let result = perform_push(client, from.clone(), request, options()).await;
    (result, served.await.expect("no panic"))
}

pub async fn push(
    from: &Arc<Repo>,
    branch: &str,
    to: &Arc<Repo>,
    other: &str,
    how: How,
) -> Result<PushOutcome, RemoteError> {
    push_over(relay::straight(), from, branch, to, other, how).await.0
}

/// Pulls `other` of one repository into `branch` of another.
pub async fn pull_over(
    (client, server): (Channel, Channel),
    into: &Arc<Repo>,
    branch: &str,
    from: &Arc<Repo>,
    other: &str,
    how: How,
) -> Both<PullOutcome> {
    let timeline = into
        .try_head(branch)
        .map(|head| into.content(head).position.timeline);
    let command = Command::Pull {
        branch: other.to_owned(),
        timeline,
    }
    .to_string();
    let there = Arc::clone(from);
    let served = tokio::spawn(async move { serve(&command, server, there.clone(), there, options()).await });
    let request = PullRequest {
        branch: other.to_owned(),
        into: branch.to_owned(),
        force: how.force,
        dry_run: how.dry_run,
    };
    let result = perform_pull(client, into.clone(), request, options()).await;
    (result, served.await.expect("no panic"))
}

pub async fn pull(
    into: &Arc<Repo>,
    branch: &str,
    from: &Arc<Repo>,
    other: &str,
    how: How,
) -> Result<PullOutcome, RemoteError> {
    pull_over(relay::straight(), into, branch, from, other, how)
        .await
        .0
}

/// Fetches every branch.
pub async fn fetch_over(
    (client, server): (Channel, Channel),
    into: &Arc<Repo>,
    from: &Arc<Repo>,
) -> Both<FetchOutcome> {
    let there = Arc::clone(from);
    let served = tokio::spawn(async move {
        serve(
            &Command::ListBranches.to_string(),
            server,
            there.clone(),
            there,
            options(),
        )
        .await
    });
    let result = perform_fetch(
        client,
        into.clone(),
        FetchRequest::All { dry_run: false },
        options(),
    )
    .await;
    (result, served.await.expect("no panic"))
}

pub async fn fetch(into: &Arc<Repo>, from: &Arc<Repo>) -> Result<FetchOutcome, RemoteError> {
    fetch_over(relay::straight(), into, from).await.0
}

/// Returns what was refused.
pub fn refused<T: std::fmt::Debug>(result: Result<T, RemoteError>) -> Refusal {
    match result {
        Err(RemoteError::Refused(refusal)) => *refusal,
        other => panic!("not refused: {other:?}"),
    }
}

/// Two repositories with the same history on main, and the first one a little ahead.
pub async fn two(base: usize) -> (Arc<Repo>, Arc<Repo>) {
    let (a, b) = (Arc::new(Repo::new(1)), Arc::new(Repo::new(2)));
    a.import(base);
    a.write("main", 5_000);
    push(&a, "main", &b, "main", How::default())
        .await
        .expect("pushed");
    (a, b)
}

/// Checks that a branch of the second repository is what it is in the first, to the last byte.
pub fn assert_same(a: &Repo, branch: &str, b: &Repo, other: &str) {
    assert_eq!(a.head(branch), b.head(other));
    assert_eq!(a.read(a.head(branch)), b.read(b.head(other)));
}
